"""Parts of a training split that are nested: what 25 % of the pairs hold, 50 % hold as well.

A part takes the beginning of every recording, since frames that are spread over it would show nearly as much of its
scenes as all of them do, with far fewer labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scenepalette.common.randomness import numpy_generator
from scenepalette.data.splits.sequences import sequences_of


def size_of_part(count: int, fraction: float) -> int:
    """Return how many of `count` samples a fraction is: the nearest whole number, the upper one of two, 1 or more."""
    return max(1, int(fraction * count + 0.5))


def order_of_parts(ids: Sequence[str], seed: int, *, recordings: bool) -> np.ndarray:
    """Return samples in the order in which growing parts take them.

    Frame i (from 0) of a recording of n frames has the place (i + u) / n, with one random u in [0, 1) for each
    recording (systematic sampling). Hence a part takes the same fraction of every recording, whole frames aside, from
    its beginning on; and of recordings of a single frame, or of independent images, a random choice.

    Args:
        ids: N ids of samples.
        seed: Decides the random numbers.
        recordings: Whether samples may be frames of recordings, as their ids tell; else each is one by itself.

    Returns:
        int64 [N], indices into `ids`; each occurs once.
    """
    found = sequences_of(ids) if recordings else [[index] for index in range(len(ids))]
    places = np.zeros(len(ids))
    for frames, shift in zip(found, numpy_generator(seed, "parts of training").random(len(found)), strict=True):
        places[frames] = (np.arange(len(frames)) + shift) / len(frames)
    return np.argsort(places, kind="stable").astype(np.int64)


def part_of(ids: Sequence[str], fraction: float, seed: int, *, recordings: bool) -> np.ndarray:
    """Return the samples of a part, which are among those of every larger part of the same seed.

    Args:
        ids: N ids of samples.
        fraction: Above 0, up to 1 for all.
        seed: See `order_of_parts`.
        recordings: See `order_of_parts`.

    Returns:
        int64, indices into `ids`, ascending; see `size_of_part` for their number.
    """
    return np.sort(order_of_parts(ids, seed, recordings=recordings)[: size_of_part(len(ids), fraction)])
