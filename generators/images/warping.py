"""Random warps of layouts and images together, so that a small data set shows more shapes than it holds.

Katiyar and Khoreva, 2020, warp the layouts alone that a generator is conditioned on, for discriminators that
look at an image beside its layout. A discriminator that labels pixels, and losses that compare a generated image with
the real one, need the image to move along, as it does here: label maps by the nearest pixel, images bilinearly, by one
field of displacements.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

WARPED = 0.5  # share of samples; bilinear images are softer, and a generator should also see sharp ones
GRID = 4  # control points of the smooth displacements, each way


def draw_warp(strength: float, size: tuple[int, int], generators: Sequence[torch.Generator]) -> Tensor:
    """Draw where each pixel comes from: an affine map near the identity and smooth displacements on top of it.

    About half the samples stay as they are.

    Args:
        strength: Typical displacement as a share of the shorter side: 0.05 moves pixels of 96 rows by about 5.
        size: Height and width, pixels.
        generators: One CPU generator per sample, so that a sample's warp does not depend on its batch.

    Returns:
        float32 [B, H, W, 2], x and y of the source of each pixel, -1 and 1 being the outer edges of the outermost
        pixels, as `torch.nn.functional.grid_sample` has them.
    """
    height, width = size
    # Displacements are lengths in pixels, and a side is 2 long.
    reach = strength * min(size) * torch.tensor([2 / width, 2 / height])
    fields = []
    for generator in generators:
        moved = float(torch.rand((), generator=generator) < WARPED)
        turn, grow_x, grow_y, *shift = torch.rand(5, generator=generator) * 2 - 1
        angle = strength * math.pi / 2 * turn
        # A turn that keeps lengths in pixels, whatever the sides are.
        ratio = height / width
        matrix = torch.stack(
            [
                torch.stack([angle.cos() / (1 + strength * grow_x), -angle.sin() * ratio, shift[0] * reach[0]]),
                torch.stack([angle.sin() / ratio, angle.cos() / (1 + strength * grow_y), shift[1] * reach[1]]),
            ]
        )
        affine = F.affine_grid(matrix[None], [1, 1, height, width], align_corners=False)
        control = torch.rand(1, 2, GRID, GRID, generator=generator) * 2 - 1
        smooth = F.interpolate(control, size=size, mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
        identity = F.affine_grid(torch.eye(2, 3)[None], [1, 1, height, width], align_corners=False)
        fields.append(identity + moved * (affine + smooth * reach - identity))
    return torch.cat(fields)


def warp_image(image: Tensor, field: Tensor) -> Tensor:
    """Warp images B3HW by a field of `draw_warp`; what lies outside is mirrored at the edge."""
    return F.grid_sample(image, field, mode="bilinear", padding_mode="reflection", align_corners=False)


def warp_label(label: Tensor, field: Tensor) -> Tensor:
    """Warp label maps BHW by a field of `draw_warp`; every pixel has the id of one pixel of its label map."""
    moved = F.grid_sample(label[:, None].float(), field, mode="nearest", padding_mode="reflection", align_corners=False)
    return moved[:, 0].to(label.dtype)
