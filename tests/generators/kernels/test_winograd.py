from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from scenepalette.generators.kernels import winograd
from scenepalette.generators.kernels.dispatch import Least, Tuning
from scenepalette.generators.kernels.winograd import convolve, convolve_3x3, kernel_points

CHANNELS = 64
LEAST = Tuning(inference=Least(CHANNELS, 128), training=Least(CHANNELS, 1024), multiplies_by_mm=True)


@pytest.fixture(autouse=True)
def tuning(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same choices on all processors."""
    monkeypatch.setattr(winograd, "TUNING", LEAST)


def example(batch: int, inputs: int, outputs: int, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    x = torch.randn(batch, inputs, *size)
    return x, torch.randn(outputs, inputs, 3, 3) / (9 * inputs) ** 0.5, torch.randn(outputs)


@pytest.mark.parametrize("size", [(4, 8), (1, 1), (5, 7), (33, 18), (8, 70)])
@pytest.mark.parametrize("tiles", [1, 7, 256])
def test_it_is_the_convolution_at_all_sizes(size: tuple[int, int], tiles: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd, "TILES_AT_ONCE", tiles)
    x, weight, bias = example(3, 5, 6, size)
    for memory in (torch.contiguous_format, torch.channels_last):
        result = convolve(x.to(memory_format=memory), kernel_points(weight), bias)
        assert torch.allclose(result, F.conv2d(x, weight, bias, padding=1), atol=1e-5)
    assert torch.allclose(convolve(x, kernel_points(weight), None), F.conv2d(x, weight, None, padding=1), atol=1e-5)


def test_it_rounds_like_the_sum_of_products() -> None:
    x, weight, bias = example(1, 256, 64, (32, 32))
    exact = F.conv2d(x.double(), weight.double(), bias.double(), padding=1)
    ours = (convolve(x, kernel_points(weight), bias) - exact).abs().max()
    one_by_one = torch.zeros_like(exact, dtype=torch.float32)
    columns = F.unfold(x, 3, padding=1)
    for row, factor in zip(columns[0], weight.flatten(1).T, strict=True):
        one_by_one += (factor[:, None] * row).view_as(one_by_one)
    theirs = (one_by_one + bias[:, None, None] - exact).abs().max()
    assert ours < 2 * theirs


@pytest.mark.parametrize(
    ("channels", "size"),
    [(CHANNELS, (36, 40)), (CHANNELS, (33, 34)), (5, (7, 8))],
    ids=["fewer multiplications", "odd sizes", "directly"],
)
def test_gradients_of_first_and_second_order_are_the_convolutions(channels: int, size: tuple[int, int]) -> None:
    tensors = [tensor.requires_grad_() for tensor in example(1, channels, channels + 3, size)]
    x, weight, bias = tensors

    def derivatives(convolution: Callable[[], Tensor]) -> list[Tensor]:
        y = convolution()
        loss = (y.square() * torch.linspace(0, 1, y.numel()).view_as(y)).mean()
        alone = torch.autograd.grad(loss, tensors, retain_graph=True)
        first = torch.autograd.grad(loss, tensors, create_graph=True)
        penalty = (first[0].square().sum().sqrt() + first[1].square().sum()).log()
        return [y, *alone, *first, *torch.autograd.grad(penalty, tensors)]

    ours = derivatives(lambda: convolve_3x3(x, weight, bias, second_order=True))
    assert "_Convolution" in str(convolve_3x3(x, weight, bias, second_order=True).grad_fn)
    expected = derivatives(lambda: F.conv2d(x, weight, bias, padding=1))
    for a, b in zip(ours, expected, strict=True):
        assert (a - b).abs().max() < 1e-5 * b.abs().max()


def test_a_penalty_under_autocast_has_the_gradients_of_torchs_convolution() -> None:
    x, weight, bias = (tensor.requires_grad_() for tensor in example(2, 5, 6, (9, 12)))
    gradients = []
    for convolution in (
        lambda: convolve_3x3(x, weight, bias, second_order=True),
        lambda: F.conv2d(x, weight, bias, padding=1),
    ):
        with torch.autocast("cpu", torch.bfloat16):
            y = convolution()
        assert y.dtype == torch.bfloat16
        (slope,) = torch.autograd.grad(y.float().square().mean(), x, create_graph=True)
        gradients.append(torch.autograd.grad(slope.square().sum().sqrt(), [x, weight, bias]))
    for ours, theirs in zip(*gradients, strict=True):
        assert ours.dtype == torch.float32
        assert (ours - theirs).abs().max() < 0.03 * theirs.abs().max()


def test_few_channels_and_other_types_are_convolved_directly() -> None:
    few = example(1, CHANNELS - 1, CHANNELS, (40, 40))
    assert torch.equal(convolve_3x3(*few), F.conv2d(*few, padding=1))
    x, weight, bias = example(1, CHANNELS, CHANNELS, (40, 40))
    double = convolve_3x3(x.double(), weight.double(), bias.double())
    assert torch.equal(double, F.conv2d(x.double(), weight.double(), bias.double(), padding=1))
    with torch.autocast("cpu", torch.bfloat16):
        assert convolve_3x3(x, weight, bias).dtype == torch.bfloat16
