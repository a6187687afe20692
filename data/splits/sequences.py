"""Which samples are consecutive frames of one recording: neighbours in time look alike and are not independent."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

BLOCK_FRAMES = 10
"""Frames of a recording that count as one observation where intervals are computed."""

_LAST_NUMBER = re.compile(r"\d+(?=\D*$)")


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
    """Return which block of consecutive frames each sample belongs to.

    Args:
        ids: N ids of samples.
        frames: Largest number of frames in a block; a recording is divided evenly.

    Returns:
        int64 [N], numbers of blocks from 0.
    """
    blocks = np.zeros(len(ids), dtype=np.int64)
    number = itertools.count()
    for recording in sequences_of(ids):
        for part in np.array_split(recording, -(-len(recording) // frames)):
            blocks[part] = next(number)
    return blocks
