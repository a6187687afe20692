from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.nn.utils.parametrizations import spectral_norm

from scenepalette.generators.images.systems.oasis import OasisDiscriminator
from scenepalette.generators.kernels import passes
from scenepalette.generators.kernels.modulation import modulated
from scenepalette.generators.kernels.passes import accelerate
from scenepalette.generators.kernels.resampled import upsample_and_convolve
from scenepalette.generators.kernels.spectral import spectrally_normalised
from scenepalette.generators.kernels.winograd import convolve_3x3, input_gradients_alone
from scenepalette.generators.layouts.losses import gradient_penalty
from scenepalette.generators.layouts.networks.progressive import LayoutBatch, LayoutDiscriminator, LayoutGenerator
from scenepalette.generators.nn.resampling import PooledConv2d, UpsampledConv2d, UpsampledEqualizedConv2d


def results(network: nn.Module, *inputs: Any) -> list[Tensor]:
    """Return a network's output for inputs, the gradients of these and those of its parameters."""
    inputs = tuple(x.clone().requires_grad_() if isinstance(x, Tensor) else x for x in inputs)
    output = network(*inputs)
    output = output.layout if isinstance(output, LayoutBatch) else output
    weight = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    wanted = [x for x in (*inputs, *network.parameters()) if isinstance(x, Tensor)]
    gradients = torch.autograd.grad((output * weight).sum(), wanted, allow_unused=True)
    return [output.detach(), *(gradient for gradient in gradients if gradient is not None)]


def assert_equal(network: nn.Module, *inputs: Any, tolerance: float = 1e-9) -> None:
    """Compare a network with its accelerated copy, and the buffers that they leave behind."""
    fast = copy.deepcopy(network)
    accelerate(fast)
    for ours, theirs in zip(results(fast, *inputs), results(network, *inputs), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
    for key, value in network.state_dict().items():
        torch.testing.assert_close(fast.state_dict()[key], value, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [(6, 8), (2, 2), (5, 7)], ids=["even", "one pixel", "odd"])
@pytest.mark.parametrize("layer", [PooledConv2d, UpsampledConv2d, UpsampledEqualizedConv2d])
def test_resampling_convolutions_are_the_plain_ones_with_their_gradients(
    layer: Callable[[int, int], nn.Module], size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    taken: list[str] = []
    for name in ("convolve_and_pool", "upsample_and_convolve"):
        original = getattr(passes, name)
        monkeypatch.setattr(passes, name, lambda *a, f=original, n=name: (taken.append(n), f(*a))[1])
    assert_equal(layer(3, 5).double(), torch.randn(2, 3, *size, dtype=torch.float64))
    assert taken == ["convolve_and_pool" if layer is PooledConv2d else "upsample_and_convolve"]


def test_modules_may_be_imported_while_networks_are_built_without_numbers() -> None:
    spec = importlib.util.find_spec(upsample_and_convolve.__module__)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with torch.device("meta"):
        spec.loader.exec_module(module)
    x, weight = torch.randn(1, 2, 4, 4), torch.randn(3, 2, 3, 3)
    torch.testing.assert_close(
        module.upsample_and_convolve(x, weight, None), upsample_and_convolve(x, weight, None), rtol=0, atol=0
    )


def test_spectral_norms_move_and_pass_gradients_as_those_of_torch() -> None:
    torch.manual_seed(0)
    for _ in range(2):
        for layer in (nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(4, 2, 1, bias=False), nn.Conv2d(2, 2, (1, 3))):
            assert_equal(spectral_norm(layer.double()), torch.randn(2, layer.in_channels, 4, 6, dtype=torch.float64))
    evaluated = spectral_norm(nn.Conv2d(3, 6, 3, padding=1).double()).eval()
    assert_equal(evaluated, torch.randn(2, 3, 4, 6, dtype=torch.float64))


def test_spectral_norms_are_found_in_float32_under_autocast_of_a_gpu() -> None:
    # Without a GPU: shapes and types alone are computed.
    before = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    torch.set_autocast_enabled("cuda", True)
    torch.set_autocast_dtype("cuda", torch.bfloat16)
    try:
        with FakeTensorMode():
            weight, u, v = (torch.randn(shape, device="cuda") for shape in ((4, 2, 3, 3), (4,), (18,)))
            assert torch.mv(weight.flatten(1), v).dtype == torch.bfloat16
            weight.requires_grad_(True)
            normalised: Any = spectrally_normalised(weight, u, v, 1e-12, moves=True)
            _, left, right, scale = normalised.grad_fn.saved_tensors
            assert {value.dtype for value in (normalised, left, right, scale)} == {torch.float32}
    finally:
        torch.set_autocast_enabled("cuda", before[0])
        torch.set_autocast_dtype("cuda", before[1])


def test_discriminator_of_oasis_is_the_plain_one() -> None:
    torch.manual_seed(0)
    assert_equal(OasisDiscriminator(4, (16, 32), width=4).double(), torch.randn(3, 3, 16, 32, dtype=torch.float64))


@pytest.mark.parametrize("fade", [0.4, 1.0])
def test_generator_of_layouts_is_the_plain_one(fade: float) -> None:
    torch.manual_seed(0)
    generator = LayoutGenerator(4, (3, 4), 2, noise_features=5, max_width=8, base_width=32).double()
    palette = torch.softmax(torch.randn(2, 4), dim=1).double()
    assert_equal(generator, torch.randn(2, 5, dtype=torch.float64), palette, 2, fade, tolerance=1e-5)  # SAA: float32


def test_modulation_is_the_plain_one() -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    x, scale, shift = inputs
    weight = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    plain, ours = x * (1 + scale) + shift, modulated(*inputs)
    torch.testing.assert_close(ours, plain)
    expected = torch.autograd.grad((plain * weight).sum(), inputs)
    for gradient, wanted in zip(torch.autograd.grad((ours * weight).sum(), inputs), expected, strict=True):
        torch.testing.assert_close(gradient, wanted)


def test_the_gradient_of_the_penalty_is_that_of_plain_convolutions_without_gradients_of_weights_in_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    plain = LayoutDiscriminator(4, (3, 4), 2, max_width=8, base_width=32).double()
    fast = copy.deepcopy(plain)
    accelerate(fast)
    real, fake = (torch.softmax(torch.randn(3, 4, 12, 16), dim=1).double() for _ in range(2))
    share = torch.rand(3).double()
    made: list[int] = []
    monkeypatch.setattr(
        "scenepalette.generators.kernels.winograd._WeightGradient.apply", lambda *_: made.append(1) or None
    )
    gradients = []
    for network in (fast, plain):
        penalty = gradient_penalty(lambda x, network=network: network(x, 2, 1.0), real, fake, share)
        gradients.append(torch.autograd.grad(penalty, list(network.parameters()), allow_unused=True))
    assert not made
    compared = [pair for pair in zip(*gradients, strict=True) if pair[1] is not None and pair[1].abs().sum() > 0]
    assert len(compared) > 6
    for ours, theirs in compared:
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-12)


def test_gradients_of_weights_are_there_again_after_a_penalty() -> None:
    x, weight = torch.randn(1, 2, 4, 4, requires_grad=True), torch.randn(3, 2, 3, 3, requires_grad=True)
    output = convolve_3x3(x, weight, None, second_order=True).square().sum()
    with input_gradients_alone():
        torch.autograd.grad(output, x, create_graph=True)
    (gradient,) = torch.autograd.grad(output, weight)
    (wanted,) = torch.autograd.grad(F.conv2d(x, weight, padding=1).square().sum(), weight)
    torch.testing.assert_close(gradient, wanted)
