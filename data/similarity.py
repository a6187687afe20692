"""Images that are the same or nearly the same, found by their thumbnails and by laying them over each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageOps

NEARLY = 0.9985
"""Correlation of two thumbnails from which one image counts as a copy of the other.

In CamVid, copies that were stored as JPEG of quality 30, halved or lightened by 20 % reach 0.9986 in the median, and
neighbouring frames of the slowest drive 0.9978.
"""
ADJACENT = 0.985
"""Correlation from which two images show the same scene, as neighbouring frames of a video do."""
ALIKE = 0.9
"""Correlation of thumbnails from which two images are worth laying over each other.

Copies of CamVid's images that were shifted by 3 of 240 rows and 320 columns, cropped by 5 %, or changed by a gamma
of 0.4 to 1.6 are above 0.93.
"""
ALIGNED, DETAILED = 0.985, 0.8
"""Correlations of two images that lie over each other, of all and of their detail, from which one is a copy.

Of such copies of CamVid's images, all are above 0.9888 and 0.88; its most alike neighbouring frames reach 0.9797.
"""
FLATTEST = 2.0
"""Least standard deviation of a thumbnail that is compared; flat ones all look alike."""
MOST_COMPARED = 30_000
"""Most images of a split that are compared; more would take minutes."""
THUMBNAIL = 32
"""Side of the grey thumbnails by which images are compared, pixels."""
_BLOCK = 2048
_SIDE = 192
_MARGIN = 0.1
"""Part of an image's sides that is left out when it is laid over another: copies may be shifted or cropped so far."""
_UNMOVED = np.array([0.5, 0.5, 1.0, 1.0])
_ALIGNMENT = ((16, 0.04), (32, 0.02), (80, 0.01))
"""Pixels of a side and first steps, coarse to fine."""

Turn = tuple[bool, bool]
"""Whether an image is mirrored, left to right, and upside down."""
UPRIGHT: Turn = (False, False)
MIRRORED: Turn = (True, False)
TURNS: tuple[Turn, ...] = (UPRIGHT, (False, True), MIRRORED, (True, True))


@dataclass(frozen=True)
class SimilarPair:
    """Two images that look alike.

    Attributes:
        first: Index of one.
        second: Index of the other.
        correlation: Of their thumbnails, up to 1.
        mirrored: Whether one of them is mirrored, left to right.
        upside_down: Whether one of them is mirrored, top to bottom; with `mirrored`, it is turned by 180 degrees.
    """

    first: int
    second: int
    correlation: float
    mirrored: bool
    upside_down: bool = False


def thumbnail_of(image: np.ndarray | Image.Image) -> np.ndarray:
    """Return the thumbnail by which an image is compared, uint8 [32, 32].

    Args:
        image: uint8 [H, W, 3], or an image of Pillow.
    """
    grey = (image if isinstance(image, Image.Image) else Image.fromarray(image)).convert("L")
    return np.asarray(grey.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX))


def thumbnail_of_blocks(means: np.ndarray, height: float, width: float) -> np.ndarray:
    """Return nearly the same of an image whose pixels were averaged in blocks, uint8 [32, 32].

    Where a thumbnail's pixel covers a part of a block, that part of the block's mean counts.

    Args:
        means: Mean grey of each block, 0 to 255, [H, W].
        height: Blocks from the image's top to its bottom, of which the last may be cut off: more than H - 1, at most H.
        width: The same from left to right.
    """
    return np.rint(_parts(means.shape[0], height) @ means @ _parts(means.shape[1], width).T).astype(np.uint8)


@lru_cache(64)
def _parts(blocks: int, length: float) -> np.ndarray:
    """Return the part of each block in the mean of each pixel of a thumbnail, float32 [32, blocks]."""
    edges, starts = np.linspace(0, length, THUMBNAIL + 1), np.arange(blocks)
    shared = np.minimum(edges[1:, None], np.minimum(starts + 1, length)) - np.maximum(edges[:-1, None], starts)
    shared = np.maximum(shared, 0)
    return (shared / shared.sum(1, keepdims=True)).astype(np.float32)


def similar_pairs(
    first: np.ndarray,
    second: np.ndarray | None = None,
    *,
    threshold: float = NEARLY,
    turns: Sequence[Turn] = (UPRIGHT, MIRRORED),
    most: int | None = None,
) -> list[SimilarPair]:
    """Return pairs of images whose thumbnails correlate, the most alike first.

    Correlation ignores brightness and contrast. Images without any structure are left out, and of very many only some
    are compared (MOST_COMPARED, evenly spread). Memory is bounded.

    Args:
        first: uint8 [N, H, W], grey thumbnails.
        second: uint8 [M, H, W] that are compared with them, or None to compare the first among themselves.
        threshold: Least correlation.
        turns: How the second are turned to be compared.
        most: Most pairs that each of the first is in; None for all.

    Returns:
        The pairs; among themselves, each once with first < second.
    """
    others = first if second is None else second
    a_places, b_places = _compared(first), _compared(others)
    a = _normalised(first[a_places])
    found: dict[int, dict[int, SimilarPair]] = {}
    for mirrored, upside_down in turns:
        b = _normalised(others[b_places][:, :: -1 if upside_down else 1, :: -1 if mirrored else 1])
        for start in range(0, len(a), _BLOCK):
            for other in range(0, len(b), _BLOCK):
                block = a[start : start + _BLOCK] @ b[other : other + _BLOCK].T
                for row in np.flatnonzero(block.max(axis=1, initial=-1.0) >= threshold):
                    i = int(a_places[start + row])
                    pairs = found.setdefault(i, {})
                    for column in np.flatnonzero(block[row] >= threshold):
                        j, correlation = int(b_places[other + column]), float(min(1.0, block[row, column]))
                        if (second is None and i >= j) or (j in pairs and pairs[j].correlation >= correlation):
                            continue
                        pairs[j] = SimilarPair(i, j, correlation, mirrored, upside_down)
                    if most is not None:
                        found[i] = {pair.second: pair for pair in sorted(pairs.values(), key=_order)[:most]}
    return sorted((pair for pairs in found.values() for pair in pairs.values()), key=_order)


def candidates(first: np.ndarray, second: np.ndarray, *, most: int = 3) -> list[SimilarPair]:
    """Return pairs of images that may be copies of each other in some way; see `similar_pairs`."""
    return similar_pairs(first, second, threshold=ALIKE, turns=TURNS, most=most)


def comparable(image: np.ndarray) -> Image.Image:
    """Return an image as `overlay` compares it: grey, 192 x 192, every grey as frequent as any other.

    Equal frequencies take away what gamma, brightness and contrast change.

    Args:
        image: uint8 [H, W, 3].
    """
    grey = Image.fromarray(image).convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    return ImageOps.equalize(grey)


def overlay(first: Image.Image, second: Image.Image) -> tuple[float, float]:
    """Lay one image over another as well as it fits, and return how alike they are then.

    The second is shifted and stretched, coarse to fine, until it correlates best with the first's middle part. Frames
    next to each other in a video do not fit each other so, as what is near moves more than what is far.

    Args:
        first: An image from `comparable`.
        second: Another.

    Returns:
        Their correlation there, and that of their detail: what differs from the mean of 5 x 5 pixels of 80 x 80.
    """
    from scipy.optimize import minimize  # slow to import

    place, fixed, moving = _UNMOVED, _part(first, _UNMOVED, 80), _part(second, _UNMOVED, 80)
    for side, step in _ALIGNMENT:
        fixed = _part(first, _UNMOVED, side)
        start = np.vstack([place, place + step * np.eye(4)])
        options = {"initial_simplex": start, "maxfev": 60, "xatol": 1e-3, "fatol": 1e-4}

        def unlike(tried: np.ndarray, fixed: np.ndarray = fixed) -> float:
            return -_correlation(fixed, _part(second, tried, len(fixed)))

        place = minimize(unlike, place, method="Nelder-Mead", options=options).x
        moving = _part(second, place, side)
    return _correlation(fixed, moving), _correlation(_detail(fixed), _detail(moving))


def are_copies(first: Image.Image, second: Image.Image) -> bool:
    """Tell whether two images from `comparable` show the same once one is laid over the other."""
    alike, detailed = overlay(first, second)
    return alike >= ALIGNED and detailed >= DETAILED


def _part(image: Image.Image, place: np.ndarray, side: int) -> np.ndarray:
    """Return a part of an image, float32 [side, side], zeros if it lies outside.

    Args:
        image: Square.
        place: Its middle, y and x in sides of the image, and its height and width, 1 for all but the margins.
        side: Pixels.
    """
    y, x, height, width = place * [_SIDE, _SIDE, *2 * [_SIDE * (0.5 - _MARGIN)]]
    box = (x - width, y - height, x + width, y + height)
    if min(box) < 0 or max(box) > _SIDE or min(height, width) < 1:
        return np.zeros((side, side), np.float32)
    return np.array(image.resize((side, side), Image.Resampling.BILINEAR, box=box), np.float32)


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    a, b = first - first.mean(), second - second.mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / norm if norm > 0 else 0.0


def _detail(part: np.ndarray) -> np.ndarray:
    means = np.lib.stride_tricks.sliding_window_view(part, (5, 5)).mean(axis=(2, 3))
    return part[2:-2, 2:-2] - means


def _compared(thumbnails: np.ndarray) -> np.ndarray:
    """Return the indices of the images that are compared."""
    structured = np.flatnonzero(thumbnails.reshape(len(thumbnails), -1).std(axis=1) >= FLATTEST)
    if len(structured) <= MOST_COMPARED:
        return structured
    return structured[np.linspace(0, len(structured) - 1, MOST_COMPARED).astype(np.int64)]


def _normalised(thumbnails: np.ndarray) -> np.ndarray:
    """Return each thumbnail as a vector of mean 0 and length 1, float32 [N, H * W]."""
    vectors = thumbnails.reshape(len(thumbnails), math.prod(thumbnails.shape[1:])).astype(np.float32)
    vectors -= vectors.mean(axis=1, keepdims=True)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _order(pair: SimilarPair) -> tuple[float, int, int]:
    return -pair.correlation, pair.first, pair.second
