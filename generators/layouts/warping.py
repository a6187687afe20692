"""Small random warps of real layouts, so that few of them show more shapes (Katiyar and Khoreva, 2020)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from scenepalette.data.device.transfer import to_device

GRID = 4  # control points a side of the elastic part
ELASTIC_PART = 0.5  # of the largest shift; the rest is affine


def warp_labels(
    label: Tensor, largest: float, random: torch.Generator, ranks: int = 1, part: slice = slice(None)
) -> Tensor:
    """Scale, shear, shift and bend label maps a little, each in its own way.

    A pixel takes the class of the pixel that it comes from (nearest); the border is repeated beyond the frame. Half of
    the shift is affine, half bends on a grid of 4x4 control points.

    Args:
        label: BHW class ids.
        largest: Largest shift of a pixel along each side, as a fraction of that side.
        random: A CPU generator; the warps are a function of it and of the position in the whole batch.
        ranks: Processes that share the batch, of which `label` is a part of the same size in each.
        part: This process's part of the whole batch.

    Returns:
        BHW, on the device of `label`.
    """
    height, width = label.shape[1:]
    count = len(label) * ranks
    affine = to_device(torch.rand(count, 2, 3, generator=random)[part], label.device) * 2 - 1
    bend = to_device(torch.rand(count, 2, GRID, GRID, generator=random)[part], label.device) * 2 - 1
    y = torch.linspace(-1, 1, height, device=label.device)[:, None].expand(height, width)
    x = torch.linspace(-1, 1, width, device=label.device)[None].expand(height, width)
    basis = torch.stack([y, x, torch.ones_like(x)])  # each at most 1, so that a third of each adds up to at most 1
    smooth = F.interpolate(bend, size=(height, width), mode="bilinear", align_corners=True)
    shift = (1 - ELASTIC_PART) * torch.einsum("bij,jhw->bihw", affine, basis) / 3 + ELASTIC_PART * smooth
    rows = (torch.arange(height, device=label.device)[:, None] + largest * height * shift[:, 0]).round().long()
    columns = (torch.arange(width, device=label.device) + largest * width * shift[:, 1]).round().long()
    source = rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)
    return label.flatten(1).gather(1, source.flatten(1)).view_as(label)
