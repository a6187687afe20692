from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scenepalette.generators.kernels import passes
from scenepalette.generators.kernels.activations import activated_pixel_norm, average_2x2, leaky_relu
from scenepalette.generators.kernels.passes import accelerate
from scenepalette.generators.nn.blocks import PIXEL_NORM_EPSILON, SLOPE, ActivatedPixelNorm

SHAPES = [(3, 5, 4, 6), (2, 16, 8, 8), (1, 1, 1, 1)]


def features(shape: tuple[int, ...], dtype: torch.dtype = torch.float32, channels_last: bool = True) -> Tensor:
    torch.manual_seed(0)
    x = torch.randn(shape).to(dtype)
    x.view(-1)[0] = 0  # where the slope is that of the negative side
    return x.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_leaky_relus_and_all_their_gradients_are_those_of_torch(shape: tuple[int, ...], channels_last: bool) -> None:
    found = []
    for function in (leaky_relu, F.leaky_relu):
        x = features(shape, torch.float64, channels_last).requires_grad_()
        weight = torch.linspace(-1, 2, x.numel(), dtype=x.dtype).view(shape).requires_grad_()
        # The square lets a gradient of the gradient reach what was put in, beside what the slope lets through.
        (slope,) = torch.autograd.grad((function(x * x.sin(), SLOPE).square() * weight).sum(), x, create_graph=True)
        found.append([slope.detach(), *torch.autograd.grad(slope.square().sum(), [x, weight])])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("shape", [(2, 8, 8, 6), (1, 3, 5, 7)], ids=["even", "odd"])
def test_averages_and_all_their_gradients_are_those_of_torch(shape: tuple[int, ...], channels_last: bool) -> None:
    plain, fast = nn.AvgPool2d(2), nn.AvgPool2d(2)
    accelerate(fast)
    found = []
    for layer in (fast, plain):
        x = features(shape, torch.float64, channels_last).requires_grad_()
        result = layer(x)
        (slope,) = torch.autograd.grad(result.pow(3).sum(), x, create_graph=True)
        found.append([result.detach(), slope.detach(), *torch.autograd.grad(slope.square().sum(), x)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_gradients_lie_in_memory_as_features_do() -> None:
    x = features((2, 8, 4, 6)).requires_grad_()
    for result in (leaky_relu(x, SLOPE), activated_pixel_norm(x, SLOPE, PIXEL_NORM_EPSILON), average_2x2(x)):
        upper = torch.ones(result.shape)  # lies otherwise
        if result.shape != x.shape:
            upper = upper.contiguous(memory_format=torch.channels_last)
        (gradient,) = torch.autograd.grad(result, x, upper)
        assert gradient.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_pixel_norms_and_their_gradients_are_those_of_the_plain_layer(
    shape: tuple[int, ...], channels_last: bool
) -> None:
    plain, fast = ActivatedPixelNorm(), ActivatedPixelNorm()
    accelerate(fast)
    found = []
    for layer in (fast, plain):
        x = features(shape, channels_last=channels_last).requires_grad_()
        result = layer(x)
        weight = torch.linspace(-1, 2, x.numel()).view(shape)
        found.append([result.detach(), *torch.autograd.grad((result * weight).sum(), x)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_pixel_norms_of_bfloat16_are_as_exact_as_plain_ones() -> None:
    shape = (2, 16, 8, 8)
    weight = torch.linspace(-1, 2, 2048).view(shape)
    found = {}
    for name, layer, dtype in (
        ("exact", ActivatedPixelNorm(), torch.float32),
        ("plain", ActivatedPixelNorm(), torch.bfloat16),
        ("fast", ActivatedPixelNorm(), torch.bfloat16),
    ):
        if name == "fast":
            accelerate(layer)
        x = features(shape, torch.bfloat16).to(dtype).requires_grad_()
        result = layer(x)
        (gradient,) = torch.autograd.grad((result * weight.to(dtype)).sum(), x)
        found[name] = (result.detach().float(), gradient.float())
    for exact, plain, fast in zip(*(found[name] for name in ("exact", "plain", "fast")), strict=True):
        assert (fast - exact).abs().mean() < 1.5 * (plain - exact).abs().mean()


@pytest.mark.parametrize(
    ("make", "way"),
    [
        (lambda: nn.LeakyReLU(SLOPE), "leaky_relu"),
        (lambda: nn.AvgPool2d(2), "average_2x2"),
        (ActivatedPixelNorm, "activated_pixel_norm"),
    ],
    ids=["leaky ReLU", "average", "pixel norm"],
)
def test_other_devices_and_layers_that_write_in_place_keep_torchs_way(
    make: Callable[[], nn.Module], way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []
    original = getattr(passes, way)
    monkeypatch.setattr(passes, way, lambda *a: (taken.append(way), original(*a))[1])
    layer = copy.deepcopy(make())
    accelerate(layer)
    assert layer(torch.zeros(1, 2, 2, 2, device="meta")).device.type == "meta"
    assert not taken
    layer(features((1, 2, 2, 2)).requires_grad_())
    assert taken == [way]
    if isinstance(layer, nn.LeakyReLU):
        layer.inplace = True
        x = features((1, 2, 2, 2))
        assert layer(x) is x and taken == [way]
