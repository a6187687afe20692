from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from scenepalette.data.classes import ClassTable
from scenepalette.generators.kernels.passes import accelerate, prepare_for_inference
from scenepalette.generators.layouts.registry import layout_system
from scenepalette.generators.layouts.settings import LayoutSettings
from scenepalette.generators.nn.blocks import EqualizedConv2d, SpatiallyAdaptiveNorm
from scenepalette.generators.nn.padding import replicate_borders
from scenepalette.generators.nn.resampling import UpsampledConv2d, upsample

TABLE = ClassTable.unnamed(4)
LAYOUTS = LayoutSettings(
    noise_features=4,
    max_width=8,
    base_width=16,
    hidden_channels=4,
    fade_steps=(0, 1),
    stable_steps=(1, 1),
    batch_sizes=(2, 2),
    padding_mode="replicate",
)


def images(count: int = 2, channels: int = 3) -> torch.Tensor:
    return torch.randn(count, channels, 5, 7, generator=torch.Generator().manual_seed(0))


def test_a_convolution_is_that_of_torch_with_replicated_borders() -> None:
    convolution = nn.Conv2d(3, 2, 3, padding=1)
    expected = nn.Conv2d(3, 2, 3, padding=1, padding_mode="replicate")
    expected.load_state_dict(convolution.state_dict())
    before = convolution(images())
    replicate_borders(convolution)
    torch.testing.assert_close(convolution(images()), expected(images()))
    torch.testing.assert_close(convolution(images())[..., 1:-1, 1:-1], before[..., 1:-1, 1:-1])


def test_pixels_are_doubled_with_their_borders() -> None:
    convolution = UpsampledConv2d(3, 2)
    replicate_borders(convolution)
    padded = F.pad(upsample(images()), (1, 1, 1, 1), mode="replicate")
    torch.testing.assert_close(convolution(images()), F.conv2d(padded, convolution.weight, convolution.bias))


def test_what_is_the_same_everywhere_stays_so() -> None:
    network = nn.Sequential(EqualizedConv2d(3, 2, 3, padding=1), nn.LeakyReLU(), nn.Conv2d(2, 1, 1))
    even = torch.ones(1, 3, 5, 7)
    assert network(even).std() > 1e-3
    replicate_borders(network)
    assert network(even).std() < 1e-6


@pytest.mark.parametrize("options", [{"stride": 2}, {"dilation": 2}, {"padding": 0}, {"padding_mode": "circular"}])
def test_other_convolutions_are_left_alone(options: dict[str, Any]) -> None:
    convolution = nn.Conv2d(3, 2, 3, **{"padding": 1, **options})
    before = convolution(images())
    replicate_borders(convolution)
    assert torch.equal(convolution(images()), before)


def test_modulations_keep_their_zeros() -> None:
    norm = SpatiallyAdaptiveNorm(3, 4, 5).eval()
    before = norm(images(), images(channels=4))
    replicate_borders(norm)
    assert torch.equal(norm(images(), images(channels=4)), before)


@pytest.mark.parametrize("system", ["semantic-palette", "semantic-palette-partial", "sb-gan"])
def test_layout_generators_have_the_padding_of_their_settings(system: str) -> None:
    def hooks(settings: LayoutSettings) -> int:
        network = layout_system(system).build_generator(TABLE, (8, 8), settings)
        return sum(len(module._forward_hooks) for module in network.modules())

    assert hooks(replace(LAYOUTS, padding_mode="zeros")) == 0 < hooks(LAYOUTS)


@pytest.mark.parametrize("system", ["semantic-palette", "sb-gan"])
def test_faster_generators_make_the_same_layouts_and_gradients(system: str) -> None:
    generator = torch.Generator().manual_seed(1)
    plain = layout_system(system).build_generator(TABLE, (32, 64), LAYOUTS).eval()
    noise, palette = torch.randn(2, 4, generator=generator), torch.full((2, 4), 0.25)
    faster = copy.deepcopy(plain)
    accelerate(faster)
    gradients = []
    for network in (plain, faster):
        network(noise, palette).soft.square().mean().backward()
        gradients.append([part.grad for part in network.parameters()])
    largest = max(float(gradient.abs().max()) for gradient in gradients[0] if gradient is not None)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-3, atol=1e-4 * largest)
    expected = plain(noise, palette).soft
    torch.testing.assert_close(prepare_for_inference(faster)(noise, palette).soft, expected, rtol=1e-4, atol=1e-5)
    zeros = layout_system(system).build_generator(TABLE, (32, 64), replace(LAYOUTS, padding_mode="zeros")).eval()
    zeros.load_state_dict(plain.state_dict())
    assert (zeros(noise, palette).soft - expected).abs().max() > 1e-4
