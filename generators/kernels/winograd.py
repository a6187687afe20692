"""3x3 convolutions with a quarter of the multiplications, for float32 on CPUs.

A 3x3 convolution of a tile of 4x4 pixels is a product of polynomials in two variables; evaluated at 6x6 points it takes
36 multiplications in place of 144 (Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016, F(4x4,
3x3) of section 4.3). The result is the convolution up to rounding. Their points of each variable, 0, 1, -1, 2, -2 and
infinity, round off four times as much as those here, 0, 3/4, -3/4, 3/2, -3/2 and infinity, with which the rounding is
about that of adding the products one after the other.

Shapes: B batch, C features in, O features out, H x W pixels, N tiles.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from scenepalette.generators.kernels.dispatch import TUNING, Least

SIDE = 4  # of a tile
POINTS = 6  # of each variable
# Tiles whose points are multiplied at once: enough to read the weights seldom, few enough to stay in cache.
TILES_AT_ONCE = 256

_FOR_INPUTS = ContextVar("gradients of inputs alone", default=False)

# The finite points but 0, each with both signs; they and their powers are exact in binary.
NEAR, FAR = 3 / 4, 3 / 2


def _kernel_rows() -> Tensor:
    """Return what the three weights of a row of the kernel give at each point, [6, 3]."""
    rows = [[1 / (NEAR * FAR) ** 2, 0, 0]]
    for point, other in ((NEAR, FAR), (FAR, NEAR)):
        scale = 2 * point**2 * (point**2 - other**2)
        rows += [[1 / scale, sign * point / scale, point**2 / scale] for sign in (1, -1)]
    return torch.tensor([*rows, [0, 0, 1]], dtype=torch.float64)


def _both_variables(dtype: torch.dtype) -> Tensor:
    """Return what the nine weights of a kernel give at all points, [36, 9]."""
    return torch.kron(_kernel_rows(), _kernel_rows()).to(dtype)


def kernel_points(weight: Tensor) -> Tensor:
    """Evaluate the kernels OC33 at all points, those of columns first: [36, O, C]."""
    return torch.mm(_both_variables(weight.dtype), weight.transpose(2, 3).flatten(2).flatten(0, 1).T).view(
        POINTS**2, *weight.shape[:2]
    )


def points_of(weight: Tensor) -> Tensor | None:
    """Return the points of kernels OC33 that do not change any more, or None where they are of no use."""
    suits = weight.device.type == "cpu" and weight.dtype == torch.float32 and _has_channels(weight, TUNING.inference)
    return kernel_points(weight.detach()) if suits else None


def _has_channels(weight: Tensor, least: Least) -> bool:
    return min(weight.shape[:2]) >= least.channels


def convolve_3x3(
    x: Tensor, weight: Tensor, bias: Tensor | None, points: Tensor | None = None, second_order: bool = False
) -> Tensor:
    """Convolve with zeros outside, in the way that takes less time.

    Args:
        x: BCHW.
        weight: OC33.
        bias: [O] or None.
        points: [36, O, C] of `weight` if they are known; then no gradient passes.
        second_order: Whether gradients will be differentiated, as a gradient penalty does.

    Returns:
        BOHW.
    """
    pixels = len(x) * x.shape[2] * x.shape[3]
    on_cpu = x.device.type == "cpu"
    if on_cpu and _in_float32(x, weight) and points is not None and pixels >= TUNING.inference.pixels:
        return convolve(x, points, bias)
    fewer = multiplies_less(x, weight, pixels)
    if not on_cpu or not (fewer or (second_order and torch.is_grad_enabled())):
        return F.conv2d(x, weight, bias, padding=1)
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    return _Convolution.apply(x, weight, bias, fewer)


def multiplies_less(x: Tensor, weight: Tensor, pixels: int) -> bool:
    """Return whether a convolution of so many pixels is trained with fewer multiplications."""
    suits = _in_float32(x, weight) and _has_channels(weight, TUNING.training)
    return suits and x.device.type == "cpu" and pixels >= TUNING.training.pixels


def _in_float32(x: Tensor, weight: Tensor) -> bool:
    return x.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")


@contextmanager
def input_gradients_alone() -> Iterator[None]:
    """Say that gradients computed in a block are those of inputs, as of a gradient penalty, none of weights.

    Torch's own operations leave out what `torch.autograd.grad` is not asked for; a `torch.autograd.Function` is not
    told, and would compute gradients of weights that nobody takes.
    """
    token = _FOR_INPUTS.set(True)
    try:
        yield
    finally:
        _FOR_INPUTS.reset(token)


class _Convolution(torch.autograd.Function):
    """The convolution with gradients of any order, by fewer multiplications or as torch computes it.

    Torch differentiates the gradient of the weights by a convolution whose kernels are whole images, which takes ten
    times as long.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, fewer: bool) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.fewer = fewer
        if fewer:
            return convolve(x, kernel_points(weight), bias)
        return F.conv2d(x, weight, bias, padding=1)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        (gradient,) = gradients
        needs = ctx.needs_input_grad
        if _FOR_INPUTS.get():
            needs = (needs[0], False, False, False)
        if not ctx.fewer and not torch.is_grad_enabled():  # no one asks for gradients of the gradients
            return (*_gradients(gradient, x, weight, needs[:3]), None)
        return (
            _Convolution.apply(gradient, _transposed(weight), None, ctx.fewer) if needs[0] else None,
            _WeightGradient.apply(x, gradient, ctx.fewer) if needs[1] else None,
            gradient.sum((0, 2, 3)) if needs[2] else None,
            None,
        )


class _WeightGradient(torch.autograd.Function):
    """The gradient OC33 of the weights, from the input BCHW and the gradient BOHW of the output."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gradient: Tensor, fewer: bool) -> Tensor:
        ctx.save_for_backward(x, gradient)
        ctx.fewer = fewer
        if fewer:
            return weight_gradient(x, gradient)
        weight = x.new_empty(gradient.shape[1], x.shape[1], 3, 3)  # only its shape is read
        return _gradients(gradient, x, weight, (False, True, False))[1]

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        x, gradient = ctx.saved_tensors
        (weight,) = gradients
        needs = ctx.needs_input_grad
        return (
            _Convolution.apply(gradient, _transposed(weight), None, ctx.fewer) if needs[0] else None,
            _Convolution.apply(x, weight, None, ctx.fewer) if needs[1] else None,
            None,
        )


def _gradients(gradient: Tensor, x: Tensor, weight: Tensor, wanted: Sequence[bool]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of input, weights and bias that are wanted, as torch computes them; None for others."""
    sides = [1, 1]
    return torch.ops.aten.convolution_backward(
        gradient, x, weight, [len(weight)], sides, sides, sides, False, [0, 0], 1, list(wanted)
    )


def _transposed(weight: Tensor) -> Tensor:
    """Return the kernels that take gradients from the output back to the input."""
    return weight.flip(2, 3).transpose(0, 1)


def convolve(x: Tensor, points: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve with zeros outside.

    Args:
        x: BCHW.
        points: [36, O, C], from `kernel_points`.
        bias: [O] or None.

    Returns:
        BOHW, channels last in memory. No gradient passes.
    """
    height, width = x.shape[2:]
    rows, columns = -(-height // SIDE), -(-width // SIDE)
    out_channels = points.shape[1]
    padded = _padded(x, rows, columns)
    out = x.new_empty(len(x), SIDE * rows, SIDE * columns, out_channels)
    kernels = points.transpose(1, 2)
    for images, first, last in _parts(len(x), rows, columns):
        values = _values(padded[images, SIDE * first : SIDE * last + 2], last - first, columns)
        products = torch.bmm(values.view(POINTS**2, -1, values.shape[-1]), kernels)
        products = products.view(POINTS, POINTS, *values.shape[2:5], out_channels)
        half = products.new_empty(SIDE, *products.shape[1:])
        _to_pixels(products.unbind(0), half.unbind(0))
        part = out[images, SIDE * first : SIDE * last]
        tiles = part.view(-1, last - first, SIDE, columns, SIDE, out_channels)
        _to_pixels(half.unbind(1), tiles.permute(4, 2, 0, 1, 3, 5).unbind(1))
        if bias is not None:
            part += bias
    return out[:, :height, :width].permute(0, 3, 1, 2)


def weight_gradient(x: Tensor, gradient: Tensor) -> Tensor:
    """Return the gradient OC33 of the weights of a convolution with zeros outside.

    Args:
        x: BCHW, the input.
        gradient: BOHW, of the output.
    """
    height, width = x.shape[2:]
    rows, columns = -(-height // SIDE), -(-width // SIDE)
    padded = _padded(x, rows, columns)
    right, below = SIDE * columns - width, SIDE * rows - height
    outer = F.pad(gradient.permute(0, 2, 3, 1), (0, 0, 0, right, 0, below)).contiguous()
    points = x.new_zeros(POINTS**2, gradient.shape[1], x.shape[1])
    for images, first, last in _parts(len(x), rows, columns):
        values = _values(padded[images, SIDE * first : SIDE * last + 2], last - first, columns)
        part = outer[images, SIDE * first : SIDE * last]
        tiles = part.view(-1, last - first, SIDE, columns, SIDE, part.shape[-1]).permute(4, 2, 0, 1, 3, 5)
        half = tiles.new_empty(POINTS, *tiles.shape[1:])
        _from_pixels(tiles.unbind(0), half.unbind(0))
        spread = half.new_empty(POINTS, POINTS, *half.shape[2:])
        _from_pixels(half.unbind(1), spread.unbind(1))
        both = [part.view(POINTS**2, -1, part.shape[-1]) for part in (spread, values)]
        torch.baddbmm(points, both[0].transpose(1, 2), both[1], out=points)
    rows_of_both = _both_variables(x.dtype)
    return torch.mm(rows_of_both.T, points.flatten(1)).view(3, 3, *points.shape[1:]).permute(2, 3, 1, 0)


def _padded(x: Tensor, rows: int, columns: int) -> Tensor:
    """Return x with zeros around, [B, 4 rows + 2, 4, columns + 1, C]: every fourth column of pixels together."""
    height = x.shape[2]
    pixels = x.permute(0, 2, 3, 1)
    padded = x.new_empty(len(x), SIDE * rows + 2, SIDE, columns + 1, x.shape[1])
    padded[:, 0] = 0
    padded[:, height + 1 :] = 0
    for phase in range(SIDE):
        taken = pixels[:, :, (phase - 1) % SIDE :: SIDE]
        start = 1 if phase == 0 else 0
        there = padded[:, 1 : height + 1, phase]
        there[:, :, :start] = 0
        there[:, :, start : start + taken.shape[2]] = taken
        there[:, :, start + taken.shape[2] :] = 0
    return padded


def _parts(batch: int, rows: int, columns: int) -> Iterator[tuple[slice, int, int]]:
    """Yield the images, and the first and last row of tiles, that are computed at once."""
    count = max(1, TILES_AT_ONCE // columns)
    if count >= rows:
        step = count // rows
        yield from ((slice(image, image + step), 0, rows) for image in range(0, batch, step))
    else:
        for image in range(batch):
            yield from ((slice(image, image + 1), row, min(row + count, rows)) for row in range(0, rows, count))


def _values(padded: Tensor, rows: int, columns: int) -> Tensor:
    """Return the values of tiles at the points, [6, 6, B, rows, columns, C] (the points of columns first)."""
    half = padded.new_empty(POINTS, len(padded), rows, *padded.shape[2:])
    last = SIDE * (rows - 1) + 1
    _to_points([padded[:, i : i + last : SIDE] for i in range(POINTS)], half.unbind(0))
    values = half.new_empty(POINTS, POINTS, len(padded), rows, columns, padded.shape[-1])
    within = [half[:, :, :, i % SIDE, i // SIDE : i // SIDE + columns] for i in range(POINTS)]
    _to_points(within, values.unbind(0))
    return values


def _to_points(pixels: Sequence[Tensor], points: Sequence[Tensor]) -> None:
    """Evaluate six neighbours at the points of one variable."""
    x0, x1, x2, x3, x4, x5 = pixels
    even = torch.add(x4, x2, alpha=-(FAR**2))
    odd = torch.add(x3, x1, alpha=-(FAR**2))
    torch.add(even, odd, alpha=NEAR, out=points[1])
    torch.add(even, odd, alpha=-NEAR, out=points[2])
    torch.add(x4, x2, alpha=-(NEAR**2), out=even)
    torch.add(x3, x1, alpha=-(NEAR**2), out=odd)
    torch.add(even, odd, alpha=FAR, out=points[3])
    torch.add(even, odd, alpha=-FAR, out=points[4])
    even.add_(x2, alpha=-(FAR**2))
    torch.add(even, x0, alpha=(NEAR * FAR) ** 2, out=points[0])
    torch.add(x5, odd, alpha=-(FAR**2), out=odd)
    torch.add(odd, x3, alpha=-(NEAR**2), out=points[5])


def _to_pixels(points: Sequence[Tensor], pixels: Sequence[Tensor]) -> None:
    """Return from the points of one variable to four neighbours."""
    p0, p1, p2, p3, p4, p5 = points
    near, far = p1 + p2, p3 + p4
    torch.add(p0, near.add_(far), out=pixels[0])
    near.add_(far, alpha=(FAR / NEAR) ** 2 - 1)
    torch.mul(near, NEAR**2, out=pixels[2])
    torch.sub(p1, p2, out=near).mul_(NEAR)
    torch.sub(p3, p4, out=far)
    torch.add(near, far, alpha=FAR, out=pixels[1])
    near.mul_(NEAR**2).add_(far, alpha=FAR**3)
    torch.add(near, p5, out=pixels[3])


def _from_pixels(pixels: Sequence[Tensor], points: Sequence[Tensor]) -> None:
    """Do the transpose of `_to_pixels`: spread the gradients of four neighbours over the points of one variable."""
    y0, y1, y2, y3 = pixels
    points[0].copy_(y0)
    points[5].copy_(y3)
    for point, (plus, minus) in ((NEAR, (1, 2)), (FAR, (3, 4))):
        even = torch.add(y0, y2, alpha=point**2)
        odd = torch.add(y1, y3, alpha=point**2)
        torch.add(even, odd, alpha=point, out=points[plus])
        torch.add(even, odd, alpha=-point, out=points[minus])
