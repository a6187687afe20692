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
_FEWEST_FRAMES, _MOST_CAMERAS = 2, 2
"""Frames that recordings have on average at least, and different last numbers that may be those of cameras."""
_NUMBER = re.compile(r"(\d+)")
_EXPORT_HASH = re.compile(r"\.rf\.\w+$")
"""What Roboflow adds to the name of each image and of each augmented copy of it."""


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
    are. Where hardly any are, or the last number has no more than two values, it is not that of a frame, as in
    `07959_cam0` and `07961_cam0` or behind the second of a time: then the number before it counts with it, and so on.
    An id without a number is a recording by itself.

    Args:
        ids: N ids of samples.

    Returns:
        Indices into `ids`; each occurs once. Recordings are in order of their first sample.
    """
    alike: dict[tuple[str, ...], list[tuple[tuple[int, ...], int]]] = defaultdict(list)
    for index, name in enumerate(ids):
        words = _NUMBER.split(_EXPORT_HASH.sub("", name))
        alike[tuple(words[::2])].append((tuple(map(int, words[1::2])), index))
    recordings = [recording for frames in alike.values() for recording in _divided(sorted(frames))]
    return sorted(recordings, key=min)


def _divided(frames: Sequence[tuple[tuple[int, ...], int]]) -> list[list[int]]:
    """Return the recordings of samples whose names differ in their numbers alone; sorted by these."""
    recordings: dict[tuple[int, ...], list[int]] = {}
    for kept in range(max(0, len(frames[0][0]) - 1), -1, -1):
        recordings = defaultdict(list)
        for numbers, index in frames:
            recordings[numbers[:kept]].append(index)
        last = {numbers[kept] for numbers, _ in frames if kept < len(numbers)}
        if len(last) > _MOST_CAMERAS and _FEWEST_FRAMES * len(recordings) <= len(frames):
            break
    return list(recordings.values())


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
