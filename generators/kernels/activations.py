"""Activations, averages and pixel norms between convolutions, for training on CPUs in few passes over the features.

Leaky ReLUs are linear between their kinks and averages over pixels everywhere, so that their second derivative is zero.
Where gradients are differentiated again, as for a gradient penalty, torch nevertheless writes these zeros and adds them
to other gradients. Its gradient of a pixel norm passes over the features nine times, four of them in float32.

Shapes: B batch, C features, H x W pixels.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def leaky_relu(x: Tensor, slope: float) -> Tensor:
    """Return x where it is positive and slope * x elsewhere, differentiable any number of times.

    Args:
        x: Of any shape.
        slope: Positive, so that results have the signs of x.
    """
    return _LeakyReLU.apply(x, slope)


def average_2x2(x: Tensor) -> Tensor:
    """Return the averages of 2x2 pixels, B C (H//2) (W//2), differentiable any number of times.

    Args:
        x: BCHW; the last row or column of an odd number is left out.
    """
    return _Average.apply(x)


def activated_pixel_norm(x: Tensor, slope: float, eps: float) -> Tensor:
    """Return a leaky ReLU of x, divided by its root mean square over features; differentiable once.

    Args:
        x: BCHW.
        slope: Positive.
        eps: Added to the mean square.
    """
    return _ActivatedPixelNorm.apply(x, slope, eps)


def _gradient(gradient: Tensor, activated: Tensor, slope: float) -> Tensor:
    """Return the gradient with respect to the input of a leaky ReLU, in the memory format of its output."""
    if activated.ndim == 4 and activated.is_contiguous(memory_format=torch.channels_last):
        gradient = gradient.contiguous(memory_format=torch.channels_last)
    return torch.ops.aten.leaky_relu_backward(gradient, activated, slope, True)


def _summed_type(x: Tensor) -> torch.dtype:
    """Return the type to sum values in: float32, or their own if it is more exact."""
    return torch.promote_types(x.dtype, torch.float32)


def _at_each_feature(values: Tensor, x: Tensor) -> Tensor:
    """Return B1HW values as a factor of x, BCHW: repeated for each feature if x is channels last, else as they are.

    Torch broadcasts over the innermost dimension pixel by pixel, which takes five times as long.
    """
    batch, channels, height, width = x.shape
    if not x.is_contiguous(memory_format=torch.channels_last):
        return values
    with torch.autocast("cpu", enabled=False):
        rows = torch.mm(values.reshape(-1, 1), values.new_ones(1, channels))
    return rows.view(batch, height, width, channels).permute(0, 3, 1, 2)


class _LeakyReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: float) -> Tensor:
        activated = F.leaky_relu(x, slope)
        ctx.save_for_backward(activated)
        ctx.slope = slope
        return activated

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        # Detached: the slope is constant in the input, and torch would write zeros for its gradient.
        return _Sloped.apply(gradients[0], ctx.saved_tensors[0].detach(), ctx.slope), None


class _Sloped(torch.autograd.Function):
    """A gradient times the slopes of a leaky ReLU; linear in the gradient, and so is its own gradient."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, activated: Tensor, slope: float) -> Tensor:
        ctx.save_for_backward(activated)
        ctx.slope = slope
        return _gradient(gradient, activated, slope)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        return _Sloped.apply(gradients[0], ctx.saved_tensors[0], ctx.slope), None, None


class _Average(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.size = x.shape[2:]
        return F.avg_pool2d(x, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Tensor:
        return _Spread.apply(gradients[0], ctx.size)


class _Spread(torch.autograd.Function):
    """The gradient of averages, which is linear, as is its own."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, size: torch.Size) -> Tensor:
        last = gradient.is_contiguous(memory_format=torch.channels_last)
        x = torch.empty(
            (*gradient.shape[:2], *size),
            dtype=gradient.dtype,
            device=gradient.device,
            memory_format=torch.channels_last if last else torch.contiguous_format,
        )  # only its shape and layout are read
        return torch.ops.aten.avg_pool2d_backward(gradient, x, [2, 2], [2, 2], [0, 0], False, True, None)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None]:
        return _Average.apply(gradients[0]), None


class _ActivatedPixelNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: float, eps: float) -> Tensor:
        activated = F.leaky_relu(x, slope)
        length = torch.linalg.vector_norm(activated, dim=1, keepdim=True, dtype=_summed_type(x))
        scale = length.square_().div_(x.shape[1]).add_(eps).rsqrt_().to(x.dtype)
        normalised = activated.mul_(_at_each_feature(scale, x))
        ctx.save_for_backward(normalised, scale)
        ctx.slope = slope
        return normalised

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        normalised, scale = ctx.saved_tensors
        (gradient,) = gradients
        # To scale a pixel's features does not change the result: the part of the gradient along them is taken out.
        along = (gradient * normalised).sum(dim=1, keepdim=True, dtype=_summed_type(gradient))
        along = _at_each_feature(along.div_(-normalised.shape[1]).to(normalised.dtype), normalised)
        before = torch.addcmul(gradient, normalised, along).mul_(_at_each_feature(scale, normalised))
        return _gradient(before, normalised, ctx.slope), None, None
