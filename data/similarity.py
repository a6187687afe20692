"""Pictures that are the same or nearly the same, found by their thumbnails."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NEARLY = 0.9985
"""Correlation of two thumbnails from which one picture counts as a copy of the other.

In CamVid, copies that were stored as JPEG of quality 30, halved or lightened by 20 % reach 0.9986 in the median, and
neighbouring frames of the slowest drive 0.9978.
"""
ADJACENT = 0.985
"""Correlation from which two pictures show the same scene, as neighbouring frames of a video do."""
FLATTEST = 2.0
"""Least standard deviation of a thumbnail that is compared; flat ones all look alike."""
MOST_COMPARED = 30_000
"""Most pictures of a split that are compared; more would take minutes."""
_BLOCK = 2048


@dataclass(frozen=True)
class SimilarPair:
    """Two pictures that look alike.

    Attributes:
        first: Index of one.
        second: Index of the other.
        correlation: Of their thumbnails, up to 1.
        mirrored: Whether one of them is mirrored.
    """

    first: int
    second: int
    correlation: float
    mirrored: bool


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
