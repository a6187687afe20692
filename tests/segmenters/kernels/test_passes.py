"""Segmenters made faster, against the same networks as they were."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scenepalette.segmenters.kernels import passes
from scenepalette.segmenters.kernels.enlarging import enlarge
from scenepalette.segmenters.kernels.passes import accelerate
from scenepalette.segmenters.kernels.small_maps import convolve_small, idle_taps, pays
from scenepalette.segmenters.model import build_network


def relative_difference(measured: Tensor, expected: Tensor) -> float:
    return float(((measured.double() - expected.double()).norm() / expected.double().norm()).detach())


@pytest.mark.parametrize("stride", [(1, 1), (2, 2)])
@pytest.mark.parametrize("kernel", [(3, 3), (1, 3), (2, 5)])
@pytest.mark.parametrize("size", [(2, 3), (4, 6), (5, 7)])
def test_small_convolutions_and_their_gradients(
    size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int]
) -> None:
    padding = (kernel[0] // 2, kernel[1] // 2)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 5, *size, generator=generator, dtype=torch.float64).requires_grad_()
    weight = torch.randn(7, 5, *kernel, generator=generator, dtype=torch.float64).requires_grad_()
    expected = F.conv2d(x, weight, stride=stride, padding=padding)
    measured = convolve_small(x, weight, stride, padding)
    torch.testing.assert_close(measured, expected)
    given = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    gradients = (torch.autograd.grad(result, [x, weight], given) for result in (measured, expected))
    for ours, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, plain)


def test_no_gradient_is_computed_of_what_needs_none() -> None:
    x, weight = torch.randn(2, 3, 2, 2), torch.randn(4, 3, 3, 3, requires_grad=True)
    convolve_small(x, weight, (1, 1), (1, 1)).sum().backward()
    assert x.grad is None and weight.grad is not None
    x.requires_grad_()
    convolve_small(x, weight.detach(), (1, 1), (1, 1)).sum().backward()
    assert x.grad is not None


def test_small_convolutions_pay_where_pixels_are_fewer_than_channels() -> None:
    def pay(features: tuple[int, ...], weight: tuple[int, ...], stride: int, padding: int) -> bool:
        return pays(torch.Size(features), torch.Size(weight), (stride, stride), (padding, padding))

    assert pay((16, 512, 2, 3), (512, 512, 3, 3), 1, 1)
    assert pay((16, 256, 4, 6), (512, 256, 3, 3), 2, 1)
    assert not pay((16, 256, 4, 6), (256, 256, 3, 3), 1, 1)
    assert not pay((16, 512, 2, 3), (512, 512, 1, 1), 1, 0)


@pytest.mark.parametrize("dilation", [1, 3, 5, 12, 40])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("size", [1, 4, 5, 12])
def test_idle_weights_are_those_without_gradient(size: int, kernel: int, stride: int, dilation: int) -> None:
    padding = dilation * (kernel // 2)
    weight = torch.ones(1, 1, kernel, requires_grad=True)
    F.conv1d(torch.ones(1, 1, size), weight, stride=stride, padding=padding, dilation=dilation).sum().backward()
    met = (weight.grad != 0).flatten().tolist()  # type: ignore[union-attr]
    count = idle_taps(size, kernel, stride, padding, dilation)
    assert not any(met[:count]) and not any(met[kernel - count :])
    assert count == min(met.index(True), met[::-1].index(True))


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("dilation", [(1, 1), (4, 4), (12, 12), (5, 9)])
@pytest.mark.parametrize("stride", [1, 2])
def test_convolutions_without_idle_weights_are_the_same(stride: int, dilation: tuple[int, int], groups: int) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(4, 6, 3, stride, dilation, dilation, groups=groups, dtype=torch.float64)
    faster = copy.deepcopy(plain)
    accelerate(faster)
    x = torch.randn(2, 4, 4, 9, dtype=torch.float64)
    expected, measured = plain(x), faster(x)
    torch.testing.assert_close(measured, expected)
    for result in (expected, measured):
        result.square().sum().backward()
    torch.testing.assert_close(faster.weight.grad, plain.weight.grad)
    torch.testing.assert_close(faster.bias.grad, plain.bias.grad)  # type: ignore[union-attr]


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (6, 4)])
def test_enlarging_and_its_gradient(size: tuple[int, int], factor: int) -> None:
    scores = torch.randn(2, 5, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    expected = F.interpolate(scores, scale_factor=float(factor), mode="bilinear", align_corners=True)
    measured = enlarge(scores, factor)
    torch.testing.assert_close(measured, expected)
    given = torch.randn_like(expected)
    torch.testing.assert_close(
        torch.autograd.grad(measured, scores, given), torch.autograd.grad(expected, scores, given)
    )


def test_enlarging_is_differentiable_after_it_was_first_used_in_inference() -> None:
    with torch.inference_mode():
        enlarge(torch.ones(1, 1, 11, 13), 2)
    scores = torch.ones(1, 1, 11, 13, requires_grad=True)
    enlarge(scores, 2).sum().backward()
    assert float(scores.grad.sum()) == pytest.approx(11 * 13 * 4)  # type: ignore[union-attr]


def test_enlarging_bfloat16_computes_in_float32() -> None:
    scores = torch.randn(2, 3, 4, 4).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        measured = enlarge(scores, 4)
    assert measured.dtype == torch.float32
    torch.testing.assert_close(measured, enlarge(scores.double(), 4).float())


ARCHITECTURES: dict[str, dict[str, Any]] = {
    "fpn": {"encoder": "tu-resnet10t", "decoder_channels": 64},
    "deeplabv3": {"decoder_channels": 32},  # the dilations reach beyond maps of 8x8
    "unet": {"decoder_channels": 32},
}


@pytest.mark.parametrize("bfloat16", [False, True], ids=["double", "bfloat16"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_accelerated_segmenter_computes_the_same(architecture: str, bfloat16: bool) -> None:
    torch.manual_seed(0)
    plain = build_network(architecture, 5, **ARCHITECTURES[architecture])
    for module in plain.modules():
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.p = 0.0
    plain.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    faster = copy.deepcopy(plain)
    accelerate(faster)
    images, given = torch.rand(4, 3, 64, 64) * 2 - 1, torch.randn(4, 5, 64, 64)
    exact = copy.deepcopy(plain).double()(images.double())
    if not bfloat16:
        measured = faster.double()(images.double())
        torch.testing.assert_close(measured, exact)
        measured.backward(given.double())
        (expected := plain.double()(images.double())).backward(given.double())
        for (name, ours), theirs in zip(faster.named_parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(ours.grad, theirs.grad, msg=lambda text, name=name: f"{name}: {text}")
        assert expected.shape == measured.shape
        return
    with torch.autocast("cpu", torch.bfloat16):
        measured, rounded = faster(images), plain(images)
    # No further from the exact result than the plain network in bfloat16 is.
    assert relative_difference(measured, exact) < 1.5 * relative_difference(rounded, exact) + 1e-3
    assert relative_difference(measured, rounded) < 0.1


@pytest.mark.parametrize("type_", [torch.float32, torch.bfloat16], ids=str)
def test_convolutions_of_few_pixels_are_products(type_: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    convolution = nn.Conv2d(8, 64, 3, padding=1, bias=False)
    expected, used = convolution(x := torch.randn(2, 8, 4, 6)), list[torch.dtype]()
    accelerate(nn.Sequential(convolution))
    convolve = passes.convolve_small
    monkeypatch.setattr(passes, "convolve_small", lambda x, *rest: used.append(x.dtype) or convolve(x, *rest))
    with torch.autocast("cpu", torch.bfloat16, enabled=type_ == torch.bfloat16):
        measured = convolution(x)
    assert used == [type_] and measured.dtype == type_
    torch.testing.assert_close(measured.float(), expected, atol=1e-5 if type_ == torch.float32 else 2e-2, rtol=1e-5)


def test_state_and_copies_are_as_ever() -> None:
    network = build_network("fpn", 5, **ARCHITECTURES["fpn"])
    names = list(network.state_dict())
    accelerate(network)
    assert list(network.state_dict()) == names
    duplicate = copy.deepcopy(network)
    norm = next(module for module in duplicate.modules() if isinstance(module, nn.GroupNorm))
    # A copy computes with its own weights.
    assert norm.forward.__self__ is norm  # type: ignore[attr-defined]


def test_what_is_not_known_is_left_alone() -> None:
    class Other(nn.GroupNorm):
        pass

    network = nn.Sequential(
        Other(2, 4),
        nn.GroupNorm(2, 4, affine=False),
        nn.Conv2d(4, 4, 1, bias=False),
        nn.Conv2d(4, 4, 3, padding="same"),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.UpsamplingBilinear2d(scale_factor=2),  # which belongs to no head
    )
    accelerate(network)
    assert not any("forward" in vars(module) for module in network)
