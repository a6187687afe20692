"""Convolutions of small maps: weights that meet no pixel, and matrix products over fewer pixels than channels.

DeepLabV3's dilations are made for large images: 24 or 36 pixels to either side of a map of 12x16 there is nothing but
the zeros around it, and a kernel of 3x3 is the weight in its middle.

An encoder for photographs leaves a few pixels of a small image: 2x3 of 64x96. A convolution there is little more than
reading its weights, which torch's kernels reorder first, and their gradients once more. Laid out as rows of a matrix,
the pixels under the kernel are multiplied by the weights as they lie (channels last).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


class _Convolution(torch.autograd.Function):
    """A convolution of zero-padded features, with gradients of features and weights."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
        framed = F.pad(x.permute(0, 2, 3, 1), (0, 0, padding[1], padding[1], padding[0], padding[0]))  # B H W C
        outputs, channels, *kernel = weight.shape
        rows, columns = ((n - k) // s + 1 for n, k, s in zip(framed.shape[1:3], kernel, stride, strict=True))
        taps = _taps(kernel, stride, (rows, columns))
        under = torch.stack([framed[:, row, column] for row, column in taps], dim=3).view(-1, len(taps) * channels)
        matrix = weight.permute(0, 2, 3, 1).reshape(outputs, -1)
        ctx.save_for_backward(under, matrix)
        ctx.shape, ctx.framed, ctx.kernel, ctx.padding, ctx.taps = x.shape, framed.shape, kernel, padding, taps
        return (under @ matrix.T).view(len(x), rows, columns, outputs).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        under, matrix = ctx.saved_tensors
        _, channels, height, width = ctx.shape
        batch, outputs, rows, columns = gradient.shape
        gradient = gradient.permute(0, 2, 3, 1).reshape(-1, outputs)
        of_x = of_weight = None
        if ctx.needs_input_grad[1]:
            of_weight = (gradient.T @ under).view(outputs, *ctx.kernel, channels).permute(0, 3, 1, 2)
        if ctx.needs_input_grad[0]:
            parts = (gradient @ matrix).view(batch, rows, columns, len(ctx.taps), channels)
            framed = gradient.new_zeros(ctx.framed)
            for number, (row, column) in enumerate(ctx.taps):
                framed[:, row, column] += parts[:, :, :, number]
            top, left = ctx.padding
            of_x = framed[:, top : top + height, left : left + width].permute(0, 3, 1, 2)
        return of_x, of_weight, None, None


def _taps(kernel: list[int], stride: tuple[int, int], size: tuple[int, int]) -> list[tuple[slice, slice]]:
    """Return, for each weight of a kernel, the rows and columns of the features that it is multiplied by."""

    def along(axis: int) -> list[slice]:
        return [slice(tap, tap + stride[axis] * (size[axis] - 1) + 1, stride[axis]) for tap in range(kernel[axis])]

    return [(row, column) for row in along(0) for column in along(1)]


def convolve_small(x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
    """Convolve features, with first derivatives, as one matrix product.

    Args:
        x: BCHW.
        weight: OC and the kernel's height and width, of the same type; fastest with channels last.
        stride: Of rows and columns.
        padding: Rows of zeros above and below, columns of zeros on the left and right.

    Returns:
        BO and the result's height and width, channels last.
    """
    result: Any = _Convolution.apply(x, weight, stride, padding)
    return result


def idle_taps(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """Return how many weights at either end of a kernel meet no pixel along one side, at no place.

    Args:
        size: Pixels of the side.
        kernel: Weights along it.
        stride: Pixels from one place of the kernel to the next.
        padding: Zeros at either end of the side.
        dilation: Pixels from one weight to the next.
    """
    last = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride  # the last place, from 0
    first = sum(tap * dilation - padding + last * stride < 0 for tap in range(kernel))
    end = sum(tap * dilation - padding >= size for tap in range(kernel))
    count = min(first, end, (kernel - 1) // 2)
    return count if count * dilation <= padding else 0


def pays(features: torch.Size, weight: torch.Size, stride: tuple[int, int], padding: tuple[int, int]) -> bool:
    """Tell whether features are convolved faster as one matrix product (measured: see docs/results/speed.md).

    Args:
        features: Shape BCHW.
        weight: Shape OC and the kernel's height and width.
        stride: As of `convolve_small`.
        padding: As of `convolve_small`.
    """
    pixels = features[0]
    for side, kernel, step, zeros in zip(features[2:], weight[2:], stride, padding, strict=True):
        pixels *= (side + 2 * zeros - kernel) // step + 1
    return max(weight[2:]) > 1 and pixels < weight[0]
