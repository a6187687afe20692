"""Where partial edits happen: random rectangles and full-height vertical bands."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from scenepalette.data.labels import one_hot

CropMode = Literal["rectangle", "band"]
EditBox = tuple[int, int, int, int]


def sample_crop(generator: np.random.Generator, size: tuple[int, int], mode: CropMode) -> EditBox:
    """Draw the box that a partial edit replaces.

    Args:
        generator: Source of randomness.
        size: Height and width in pixels.
        mode: "rectangle": sides uniform in a quarter to three quarters of the frame's (Le Moing et al., 2021, 4.2 says
            a random rectangle); "band": full height, width uniform in half to the whole frame.

    Returns:
        Top, left, height, width in pixels.
    """
    height, width = size
    if mode == "band":
        box_height, box_width = height, round(width * generator.uniform(0.5, 1.0))
    else:
        box_height = round(height * generator.uniform(0.25, 0.75))
        box_width = round(width * generator.uniform(0.25, 0.75))
    top = int(generator.integers(0, height - box_height + 1))
    left = int(generator.integers(0, width - box_width + 1))
    return top, left, box_height, box_width


def boxes_to_crop(boxes: list[EditBox], size: tuple[int, int]) -> Tensor:
    """Return BHW bool, true inside each sample's box."""
    crop = torch.zeros(len(boxes), *size, dtype=torch.bool)
    for sample, (top, left, height, width) in enumerate(boxes):
        crop[sample, top : top + height, left : left + width] = True
    return crop


def crop_palette(label: Tensor, crop: Tensor, num_classes: int, *, checked: bool = False) -> Tensor:
    """Return each layout's class shares inside its crop.

    Args:
        label: BHW class ids without ignored pixels.
        crop: BHW bool, true somewhere in each sample.
        num_classes: K.
        checked: As of `one_hot`.

    Returns:
        BK, rows summing to 1.
    """
    inside = one_hot(label, num_classes, checked=checked) * crop[:, None]
    return inside.sum(dim=(2, 3)) / crop.sum(dim=(1, 2))[:, None]
