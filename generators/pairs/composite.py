"""Generated parts of real images: painted inside boxes, faded into the real pixels around them.

Outside the dilated boxes an image keeps its pixels bit by bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from scenepalette.generators.layouts.crops import EditBox

_LEAST_MATCHED = 16  # pixels from which colours are compared
_CONTRAST = (2 / 3, 3 / 2)  # bounds of the factor by which contrast is matched


class RealPart(NamedTuple):
    """What a row keeps of a real image.

    Attributes:
        image: uint8 [H, W, 3], the real image.
        boxes: Parts that are painted; several may overlap.
        unchanged: bool [H, W], where the layout that is painted is still that of the image.
    """

    image: np.ndarray
    boxes: Sequence[EditBox]
    unchanged: np.ndarray


def usual_feather(size: tuple[int, int]) -> int:
    """Return over how many pixels painted parts fade out unless a number is chosen: a sixteenth of the shorter side."""
    return max(1, round(min(size) / 16))


def box_around(boxes: Sequence[EditBox]) -> EditBox:
    """Return the smallest box that holds some boxes, one or more."""
    top, left = min(box[0] for box in boxes), min(box[1] for box in boxes)
    bottom, right = max(box[0] + box[2] for box in boxes), max(box[1] + box[3] for box in boxes)
    return top, left, bottom - top, right - left


def opacity(boxes: Sequence[EditBox], feather: int, size: tuple[int, int]) -> np.ndarray:
    """Return how much of each pixel is painted: 1 in the boxes, 0 from `feather` pixels beyond them, float64 [H, W].

    It falls evenly with the distance from the nearest box, the larger one of that across and that along.

    Args:
        boxes: Parts that are painted.
        feather: Pixels, at least 1.
        size: Height and width.
    """
    result = np.zeros(size)
    rows, columns = np.arange(size[0])[:, None], np.arange(size[1])[None]
    for top, left, height, width in boxes:
        above = np.maximum(top - rows, rows - (top + height - 1))
        beside = np.maximum(left - columns, columns - (left + width - 1))
        distance = np.maximum(0, np.maximum(above, beside))
        # One step more than pixels: the last pixel within reach still has some paint, the next has none.
        result = np.maximum(result, 1 - distance / (feather + 1))
    return np.maximum(0.0, result)


def composite(real: RealPart, painted: np.ndarray, feather: int) -> np.ndarray:
    """Return a real image with parts of a painted one.

    Mean and standard deviation of each colour of the painted image are first matched to the real ones: over the pixels
    in reach of each box where both show the same layout.

    Args:
        real: The real image, and where it is painted.
        painted: uint8 [H, W, 3], an image of the whole edited layout.
        feather: Pixels over which each part fades out, at least 1.

    Returns:
        uint8 [H, W, 3]; where nothing is painted exactly the real pixels.
    """
    size = (real.image.shape[0], real.image.shape[1])
    before, after = real.image.astype(np.float64), painted.astype(np.float64)
    # Each pixel takes the box that paints it most; among equals the later one.
    strongest, colours = np.zeros(size), before.copy()
    for box in real.boxes:
        alpha = opacity([box], feather, size)
        shared = (alpha > 0) & real.unchanged
        matched = _matched(after, before[shared], after[shared]) if shared.sum() >= _LEAST_MATCHED else after
        here = (alpha > 0) & (alpha >= strongest)
        colours[here], strongest[here] = matched[here], alpha[here]
    mixed = before + strongest[..., None] * (colours - before)
    return np.where(strongest[..., None] > 0, mixed.round().clip(0, 255), real.image).astype(np.uint8)


def _matched(image: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return an image [H, W, 3] with colours shifted and stretched as takes pixels `after` [N, 3] to `before`."""
    factor = np.clip((before.std(axis=0) + 1) / (after.std(axis=0) + 1), *_CONTRAST)
    return (image - after.mean(axis=0)) * factor + before.mean(axis=0)
