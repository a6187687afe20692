"""Bilinear enlargement of class scores as two matrix products, one for the columns and one for the rows."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor


@functools.cache
def enlarging_matrix(size: int, factor: int, dtype: torch.dtype) -> Tensor:
    """Return what each pixel of an enlarged side takes of those of the side, [factor * size, size]; corners align."""
    # Outside inference, in which tensors are made that nothing can be differentiated by.
    with torch.inference_mode(False):
        identity = torch.eye(size, dtype=torch.float64)[None]
        weights = F.interpolate(identity, scale_factor=float(factor), mode="linear", align_corners=True)
        return weights[0].T.contiguous().to(dtype)


def enlarge(scores: Tensor, factor: int) -> Tensor:
    """Enlarge maps bilinearly, corners aligned, as `torch.nn.functional.interpolate` does.

    Args:
        scores: BKHW float on the CPU; float32 is computed with at least.
        factor: Of both sides.

    Returns:
        BK(factor H)(factor W), class after class in memory, as a loss over classes is computed fastest.
    """
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32)).contiguous()
    rows, columns = (enlarging_matrix(side, factor, scores.dtype) for side in scores.shape[2:])
    with torch.autocast("cpu", enabled=False):
        return rows @ (scores @ columns.T)
