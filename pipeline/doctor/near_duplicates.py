"""Pictures that are the same or nearly the same, found by their thumbnails and by laying them over each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

NEARLY = 0.9985
"""Correlation of two thumbnails from which one picture counts as a copy of the other.

In CamVid, copies that were stored as JPEG of quality 30, halved or lightened by 20 % reach 0.9986 in the median, and
neighbouring frames of the slowest drive 0.9978.
"""
ADJACENT = 0.985
"""Correlation from which two pictures show the same scene, as neighbouring frames of a video do."""
ALIKE = 0.9
"""Correlation of thumbnails from which two pictures are worth laying over each other.

Copies of CamVid's pictures that were shifted by 3 of 240 rows and 320 columns, cropped by 5 %, or changed by a gamma
of 0.4 to 1.6 are above 0.93.
"""
ALIGNED, DETAILED = 0.985, 0.8
"""Correlations of two pictures that lie over each other, of all and of their detail, from which one is a copy.

Of such copies of CamVid's pictures, all are above 0.9888 and 0.88; its most alike neighbouring frames reach 0.9797.
"""
FLATTEST = 2.0
"""Least standard deviation of a thumbnail that is compared; flat ones all look alike."""
MOST_COMPARED = 30_000
"""Most pictures of a split that are compared; more would take minutes."""
_BLOCK = 2048
_MARGIN = 0.1
"""Part of a picture's sides that is left out when it is laid over another: copies may be shifted or cropped so far."""
_SIDE = 192
_ALIGNMENT = ((16, 6), (32, 5), (80, 4))
"""Pixels of a side, and most steps, coarse to fine."""
_FARTHEST_STEP = 0.1


@dataclass(frozen=True)
class SimilarPair:
    """Two pictures that look alike.

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


def similar_pairs(
    first: np.ndarray, second: np.ndarray | None = None, *, threshold: float = NEARLY, mirrored: bool = True
) -> list[SimilarPair]:
    """Return all pairs of pictures whose thumbnails correlate, the most alike first.

    Brightness and contrast do not matter, as correlation takes no notice of them. Pictures without any structure are
    left out, and of very many only some are compared (MOST_COMPARED, evenly spread). Memory is bounded.

    Args:
        first: uint8 [N, H, W], grey thumbnails.
        second: uint8 [M, H, W] that are compared with them, or None to compare the first among themselves.
        threshold: Least correlation.
        mirrored: Whether mirrored copies are looked for as well.

    Returns:
        The pairs; among themselves, each once with first < second.
    """
    a_places, b_places = _compared(first), _compared(first if second is None else second)
    b_thumbnails = (first if second is None else second)[b_places]
    a = _normalised(first[a_places])
    found: dict[tuple[int, int], SimilarPair] = {}
    for flipped in (False, True) if mirrored else (False,):
        b = _normalised(b_thumbnails[:, :, ::-1] if flipped else b_thumbnails)
        for start in range(0, len(a), _BLOCK):
            for other in range(0, len(b), _BLOCK):
                block = a[start : start + _BLOCK] @ b[other : other + _BLOCK].T
                for row, column in zip(*np.nonzero(block >= threshold), strict=True):
                    i, j = int(a_places[start + row]), int(b_places[other + column])
                    if second is None and i >= j:
                        continue
                    pair = SimilarPair(i, j, float(min(1.0, block[row, column])), flipped)
                    if (i, j) not in found or found[i, j].correlation < pair.correlation:
                        found[i, j] = pair
    return sorted(found.values(), key=lambda pair: (-pair.correlation, pair.first, pair.second))


def candidates(first: np.ndarray, second: np.ndarray, *, per_picture: int = 3) -> list[SimilarPair]:
    """Return pairs of pictures that may be copies of each other in some way, the most alike first.

    Args:
        first: uint8 [N, H, W], grey thumbnails.
        second: uint8 [M, H, W] that are compared with them.
        per_picture: Most pairs that each picture of the first is in.

    Returns:
        For each of the first, those of the second, upright or mirrored in either direction, whose thumbnails correlate
        by at least ALIKE.
    """
    a_places, b_places = _compared(first), _compared(second)
    a = _normalised(first[a_places])
    found: dict[int, list[SimilarPair]] = {}
    for mirrored in (False, True):
        for upside_down in (False, True):
            turned = second[b_places][:, :: -1 if upside_down else 1, :: -1 if mirrored else 1]
            b = _normalised(turned)
            for start in range(0, len(a), _BLOCK):
                for other in range(0, len(b), _BLOCK):
                    block = a[start : start + _BLOCK] @ b[other : other + _BLOCK].T
                    for row in np.flatnonzero(block.max(axis=1, initial=-1.0) >= ALIKE):
                        nearest = np.argsort(-block[row], kind="stable")[:per_picture]
                        i = int(a_places[start + row])
                        pairs = found.get(i, []) + [
                            SimilarPair(
                                i,
                                int(b_places[other + column]),
                                float(min(1.0, block[row, column])),
                                mirrored,
                                upside_down,
                            )
                            for column in nearest
                            if block[row, column] >= ALIKE
                        ]
                        found[i] = sorted(pairs, key=lambda pair: (-pair.correlation, pair.second))[:per_picture]
    return sorted(
        (pair for pairs in found.values() for pair in pairs),
        key=lambda pair: (-pair.correlation, pair.first, pair.second),
    )


def comparable(picture: np.ndarray) -> Image.Image:
    """Return a picture as `overlay` compares it: grey, 192 x 192, every grey as frequent as any other.

    Equal frequencies take away what gamma, brightness and contrast change.

    Args:
        picture: uint8 [H, W, 3].
    """
    grey = Image.fromarray(picture).convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    return ImageOps.equalize(grey)


def overlay(first: Image.Image, second: Image.Image) -> tuple[float, float]:
    """Lay one picture over another as well as it fits, and return how alike they are then.

    The second is shifted and stretched in small steps (Lucas and Kanade 1981), coarse to fine, until its pixels
    differ least from the first's middle part. Frames next to each other in a video do not fit each other so, as what is
    near moves more than what is far.

    Args:
        first: A picture from `comparable`.
        second: Another.

    Returns:
        Their correlation there, and that of their detail: what differs from the mean of 5 x 5 pixels of 80 x 80.
    """
    best = np.array([0.5, 0.5, 1.0, 1.0])  # the middle's y and x, and height and width against the first's
    for side, steps in _ALIGNMENT:
        fixed = _middle(first, side, np.array([0.5, 0.5, 1.0, 1.0]))
        assert fixed is not None
        fixed -= fixed.mean()
        place, highest = best, -1.0
        for _ in range(steps + 1):
            moving = _middle(second, side, place)
            if moving is None:
                break  # it would lie outside of the second picture
            moving -= moving.mean()
            correlation = _correlation(fixed, moving)
            if correlation > highest:
                best, highest = place, correlation
            step = _step(fixed, moving)
            if step is None:
                break
            place = np.concatenate([place[:2] + step[:2], place[2:] * (1 + step[2:])])
    fixed, moving = (
        _middle(first, _ALIGNMENT[-1][0], np.array([0.5, 0.5, 1.0, 1.0])),
        _middle(second, _ALIGNMENT[-1][0], best),
    )
    assert fixed is not None and moving is not None
    return _correlation(fixed, moving), _correlation(_detail(fixed), _detail(moving))


def are_copies(first: Image.Image, second: Image.Image) -> bool:
    """Tell whether two pictures from `comparable` show the same once one is laid over the other."""
    alike, detailed = overlay(first, second)
    return alike >= ALIGNED and detailed >= DETAILED


def _middle(image: Image.Image, side: int, place: np.ndarray) -> np.ndarray | None:
    """Return a part of a picture, float32 [side, side], or None if it lies outside."""
    y, x, height, width = place * np.array([_SIDE, _SIDE, *2 * [_SIDE * (0.5 - _MARGIN)]])
    box = (x - width, y - height, x + width, y + height)
    if min(box) < 0 or max(box) > _SIDE:
        return None
    return np.array(image.resize((side, side), Image.Resampling.BILINEAR, box=box), np.float32)


def _step(fixed: np.ndarray, moving: np.ndarray) -> np.ndarray | None:
    """Return the shift down and right, in sides, and the stretches that make one part look more like the other."""
    side = len(fixed)
    down, right = np.gradient(moving)
    place = (np.arange(side, dtype=np.float32) + 0.5) / side - 0.5
    # Shifts count in sides of the picture, of which a part has 1 - 2 * margin.
    per_side = side / (1 - 2 * _MARGIN)
    columns = [moving, down * per_side, right * per_side, down * place[:, None] * side, right * place * side]
    design = np.stack([column.ravel() for column in columns], axis=1)
    weights = np.linalg.lstsq(design.T @ design, design.T @ fixed.ravel(), rcond=None)[0]
    if weights[0] < 0.05:
        return None  # what is left of the likeness says nothing about where it lies
    return np.clip(weights[1:] / weights[0], -_FARTHEST_STEP, _FARTHEST_STEP)


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    a, b = first - first.mean(), second - second.mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / norm if norm > 0 else 0.0


def _detail(part: np.ndarray) -> np.ndarray:
    means = np.lib.stride_tricks.sliding_window_view(part, (5, 5)).mean(axis=(2, 3))
    return part[2:-2, 2:-2] - means


def _compared(thumbnails: np.ndarray) -> np.ndarray:
    """Return the indices of the pictures that are compared."""
    structured = np.flatnonzero(thumbnails.reshape(len(thumbnails), -1).std(axis=1) >= FLATTEST)
    if len(structured) <= MOST_COMPARED:
        return structured
    return structured[np.linspace(0, len(structured) - 1, MOST_COMPARED).astype(np.int64)]


def _normalised(thumbnails: np.ndarray) -> np.ndarray:
    """Return each thumbnail as a vector of mean 0 and length 1, float32 [N, H * W]."""
    vectors = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    vectors -= vectors.mean(axis=1, keepdims=True)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
