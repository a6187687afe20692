"""Spectral norm of convolutions in training (Miyato et al., "Spectral normalization for GANs", 2018), in fewer passes.

The same function as torch's parametrization, with the same state. Torch copies weights that lie channels last into
rows, three times with gradients, and divides them through a dozen small operations.

Shapes: O outputs, C inputs, h x w kernels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def spectrally_normalised(weight: Tensor, u: Tensor, v: Tensor, eps: float, *, moves: bool) -> Tensor:
    """Return a weight divided by its largest singular value, differentiable once.

    Args:
        weight: OChw.
        u: [O], the left singular vector, changed in place by a power iteration.
        v: [Chw], the right one, likewise.
        eps: Least norm of a vector that is normalised.
        moves: Whether there is a power iteration, as in training.
    """
    return _Normalised.apply(weight, u, v, eps, moves)


def _by_columns(v: Tensor, weight: Tensor) -> Tensor:
    """Return a vector [Chw] in the order of `_rows`, [hwC]."""
    return v.view(weight.shape[1], -1).T.reshape(-1)


def _rows(weight: Tensor) -> Tensor:
    """Return OChw as [O, hwC], a view if the channels are last in memory."""
    return weight.permute(0, 2, 3, 1).reshape(len(weight), -1)


class _Normalised(torch.autograd.Function):
    @staticmethod
    @torch.amp.custom_fwd(device_type="cuda", cast_inputs=torch.float32)  # where autocast would round the vectors
    def forward(ctx: Any, weight: Tensor, u: Tensor, v: Tensor, eps: float, moves: bool) -> Tensor:
        rows, right = _rows(weight), _by_columns(v, weight)
        if moves:
            left = _unit(torch.mv(rows, right), eps)
            along = torch.mv(rows.T, left)
            right = _unit(along, eps)
            u.copy_(left)
            v.view(weight.shape[1], -1).copy_(right.view(-1, weight.shape[1]).T)
            largest = torch.dot(along, right)
        else:
            left = u.clone()
            largest = torch.dot(left, torch.mv(rows, right))
        scale = largest.reciprocal()
        ctx.save_for_backward(weight, left, right, scale)
        return weight * scale

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        weight, left, right, scale = ctx.saved_tensors
        (gradient,) = gradients
        rows = _rows(gradient)
        # The singular value's own gradient is the outer product of its vectors.
        along = torch.dot(rows.reshape(-1), _rows(weight).reshape(-1)) * scale
        of_rows = torch.addr(rows, left * along, right, alpha=-1).mul_(scale)
        height, width = weight.shape[2:]
        return of_rows.view(len(weight), height, width, -1).permute(0, 3, 1, 2), None, None, None, None


def _unit(vector: Tensor, eps: float) -> Tensor:
    return vector / torch.linalg.vector_norm(vector).clamp_min(eps)
