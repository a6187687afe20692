"""SPADE's scaling and shifting in training, with as few passes over the features as it takes.

Shapes: B batch, C features, H x W pixels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def modulated(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return x * (1 + scale) + shift, differentiable once.

    Args:
        x: BCHW, normalised.
        scale: BCHW.
        shift: BCHW.
    """
    return _Modulated.apply(x, scale, shift)


class _Modulated(torch.autograd.Function):
    """Torch would write down 1 + scale and the product as well."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        ctx.save_for_backward(x, scale)
        ctx.dtype = shift.dtype
        return torch.addcmul(shift, x, scale).add_(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        x, scale = ctx.saved_tensors
        (gradient,) = gradients
        needs = ctx.needs_input_grad
        return (
            torch.addcmul(gradient, gradient, scale).to(x.dtype) if needs[0] else None,
            (gradient * x).to(scale.dtype) if needs[1] else None,
            gradient.to(ctx.dtype) if needs[2] else None,
        )
