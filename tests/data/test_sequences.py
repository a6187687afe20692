from __future__ import annotations

import numpy as np
import pytest

from scenepalette.data.sequences import blocks_of, sequences_of


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


@pytest.mark.parametrize("form", ["{n}_cam0", "{n:05d}_640x480", "1718{n:06d}.{other}", "a-{n}_jpg.rf.{other}f{n}c"])
def test_a_number_behind_that_of_the_frame_makes_no_recordings_of_single_frames(form: str) -> None:
    ids = [form.format(n=n, other=7919 * n % 1000 + 1) for n in range(12)]
    assert sequences_of(ids[::-1]) == [list(range(11, -1, -1))]


def test_two_cameras_of_each_frame_are_one_recording_in_the_order_of_the_frames() -> None:
    ids = [f"{n:04d}_cam{camera}" for camera in range(2) for n in range(6)]
    assert sequences_of(ids) == [[0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11]]


def test_copies_of_one_image_that_roboflow_made_are_one_recording() -> None:
    ids = ["street_jpg.rf.0a1b", "yard_jpg.rf.2c3d", "street_jpg.rf.4e5f"]
    assert sequences_of(ids) == [[0, 2], [1]]


def test_a_part_of_some_recordings_has_the_recordings_of_the_whole() -> None:
    ids = [f"drive{drive}_{2 * n + drive:04d}" for drive in range(2) for n in range(12)]
    assert sequences_of(ids) == [[*range(12)], [*range(12, 24)]]
    assert sequences_of([ids[4], ids[5], ids[16], ids[17]]) == [[0, 1], [2, 3]]
