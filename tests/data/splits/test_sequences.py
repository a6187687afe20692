from __future__ import annotations

import numpy as np
import pytest

from scenepalette.data.splits.sequences import blocks_of, sequences_of


def test_frames_of_a_recording_are_in_order_of_their_numbers() -> None:
    ids = ["b_9", "a_2", "b_10", "a_1", "alone", "b_8_left"]
    assert sequences_of(ids) == [[0, 2], [3, 1], [4], [5]]


def test_no_sample_is_lost_and_no_block_crosses_recordings() -> None:
    ids = [f"first_{n:03d}" for n in range(23)] + [f"second_{n:03d}" for n in range(7)]
    blocks = blocks_of(ids, frames=10)
    assert np.bincount(blocks).tolist() == [8, 8, 7, 7]
    assert not set(blocks[:23]) & set(blocks[23:])
    assert (np.diff(blocks[:23]) >= 0).all()


@pytest.mark.parametrize("ids", [[], ["a"], ["a", "b"]])
def test_samples_without_numbers_are_blocks_of_their_own(ids: list[str]) -> None:
    assert blocks_of(ids).tolist() == list(range(len(ids)))
