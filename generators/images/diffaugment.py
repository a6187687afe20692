"""Differentiable augmentation of what the image discriminator sees, for small data sets.

Zhao et al., 2020: colour, translation and cutout, of real and generated images alike. Since discriminators label pixels
or look at label maps, these are moved along, and pixels without an image are ignored.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from scenepalette.data.classes import IGNORE_ID
from scenepalette.data.device.transfer import to_device

Policy = Literal["colour", "translation", "cutout"]
POLICIES: tuple[Policy, ...] = get_args(Policy)
SHIFT = 1 / 8  # of the side, as published
CUTOUT = 1 / 3  # side of the box; published: 1/2, but a scene needs its context


class Augmentation(NamedTuple):
    """Parameters of one batch, drawn once and applied to images, labels and their gradients alike.

    Attributes:
        brightness: [B, 1, 1, 1], added.
        saturation: [B, 1, 1, 1], factor on the distance from grey.
        contrast: [B, 1, 1, 1], factor on the distance from the mean.
        rows: [B, H] source row of each row; -1 for none.
        columns: [B, W] source column of each column; -1 for none.
        kept: [B, H, W] bool, false where a box is cut out.
    """

    brightness: Tensor
    saturation: Tensor
    contrast: Tensor
    rows: Tensor
    columns: Tensor
    kept: Tensor


def draw_augmentation(
    count: int, size: tuple[int, int], device: torch.device, policies: Collection[Policy] = POLICIES
) -> Augmentation:
    """Draw numbers from torch's global CPU generator, the same for every choice of policies; the device expands them.

    Args:
        count: B.
        size: Height and width in pixels.
        device: Where they are used.
        policies: What is changed; the rest stays as it is.
    """
    height, width = size
    brightness, saturation, contrast = to_device(torch.rand(3, count, 1, 1, 1), device)
    rows = _shifted(count, height, device)
    columns = _shifted(count, width, device)
    box_height, box_width = int(height * CUTOUT), int(width * CUTOUT)
    top = to_device(torch.randint(1 - box_height, height, (count, 1)), device)
    left = to_device(torch.randint(1 - box_width, width, (count, 1)), device)
    ys, xs = torch.arange(height, device=device), torch.arange(width, device=device)
    cut_rows = (ys >= top) & (ys < top + box_height)
    cut_columns = (xs >= left) & (xs < left + box_width)
    kept = ~(cut_rows[:, :, None] & cut_columns[:, None, :])
    if "colour" not in policies:
        brightness, saturation, contrast = (torch.full_like(brightness, 0.5) for _ in range(3))
    if "translation" not in policies:
        rows, columns = (torch.arange(side, device=device).repeat(count, 1) for side in size)
    if "cutout" not in policies:
        kept = torch.ones_like(kept)
    kept &= (rows >= 0)[:, :, None] & (columns >= 0)[:, None, :]
    return Augmentation(brightness - 0.5, saturation * 2, contrast + 0.5, rows, columns, kept)


def _shifted(count: int, side: int, device: torch.device) -> Tensor:
    reach = int(side * SHIFT)
    source = torch.arange(side, device=device) - to_device(torch.randint(-reach, reach + 1, (count, 1)), device)
    return torch.where((source >= 0) & (source < side), source, -1)


def augment_image(image: Tensor, augmentation: Augmentation) -> Tensor:
    """Apply an augmentation to images, differentiably.

    Args:
        image: B3HW in [-1, 1].
        augmentation: From `draw_augmentation`.

    Returns:
        B3HW, 0 where no pixel of the image is left.
    """
    image = image + augmentation.brightness
    grey = image.mean(dim=1, keepdim=True)
    image = grey + (image - grey) * augmentation.saturation
    mean = image.mean(dim=(1, 2, 3), keepdim=True)
    image = mean + (image - mean) * augmentation.contrast
    return _move(image, augmentation) * augmentation.kept[:, None]


def augment_label(label: Tensor, augmentation: Augmentation) -> Tensor:
    """Apply an augmentation's geometry to label maps BHW; pixels without an image become 255."""
    moved = _move(label[:, None], augmentation)[:, 0]
    return torch.where(augmentation.kept, moved, IGNORE_ID)


def _move(x: Tensor, augmentation: Augmentation) -> Tensor:
    rows = augmentation.rows.clamp(min=0)[:, None, :, None].expand(-1, x.shape[1], -1, x.shape[3])
    columns = augmentation.columns.clamp(min=0)[:, None, None, :].expand(-1, x.shape[1], x.shape[2], -1)
    return x.gather(2, rows).gather(3, columns)
