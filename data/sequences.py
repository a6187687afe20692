"""Which samples are consecutive frames of one recording: neighbours in time look alike and are not independent."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

BLOCK_FRAMES = 10
"""Frames of a recording that count as one observation where intervals are computed."""

TILE_MARK = "#tile"
"""Between the id of an image and the number of a tile of it, in the ids of tiles."""

_TILE = re.compile(re.escape(TILE_MARK) + r"\d+$")
_LAST_NUMBER = re.compile(r"\d+(?=\D*$)")


def sources_of(ids: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Return the images that samples are, or are tiles of.

    Args:
        ids: N ids of samples.

    Returns:
        Ids of the images, each once in the order of their first sample, and int64 [N], the image of each sample.
    """
    names = [_TILE.sub("", name) for name in ids]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return list(numbers), np.array([numbers[name] for name in names], dtype=np.int64)


def evenly_spread(count: int, most: int) -> list[int]:
    """Return some of `count` samples, at most so many and evenly spread, as neighbouring frames look alike."""
    return np.linspace(0, count - 1, min(most, count)).round().astype(int).tolist()


def sequences_of(ids: Sequence[str]) -> list[list[int]]:
    """Return the samples of each recording, in order of their frames.

    Ids that are equal except for their last number are frames of one recording, as `0016E5_07959` and `0016E5_07961`
    are. An id without a number is a recording by itself.

    Args:
        ids: N ids of samples.

    Returns:
        Indices into `ids`; each occurs once. Recordings are in order of their first sample.
    """
    recordings: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for index, name in enumerate(ids):
        found = _LAST_NUMBER.search(name)
        around = (name[: found.start()], name[found.end() :]) if found else (name, "")
        recordings[around].append((int(found[0]) if found else 0, index))
    return [[index for _, index in sorted(frames)] for frames in recordings.values()]


def blocks_of(ids: Sequence[str], frames: int = BLOCK_FRAMES) -> np.ndarray:
    """Return which block of consecutive frames each sample belongs to; tiles of one image belong to the same.

    Args:
        ids: N ids of samples.
        frames: Largest number of frames in a block; a recording is divided evenly.

    Returns:
        int64 [N], numbers of blocks from 0.
    """
    images, places = sources_of(ids)
    blocks = np.zeros(len(images), dtype=np.int64)
    number = itertools.count()
    for recording in sequences_of(images):
        for part in np.array_split(recording, -(-len(recording) // frames)):
            blocks[part] = next(number)
    return blocks[places]
