"""Test splits taken from training: whole runs of frames with gaps around them, the same ones every time."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from scenepalette.common.errors import DataError
from scenepalette.data.datasets import DATASETS, open_dataset
from scenepalette.data.splits.holdout import PartOfDataset, divide_images, divide_recordings, divide_whole
from scenepalette.data.splits.sequences import sequences_of
from scenepalette.data.streets.dataset import Streets


def frames(name: str, count: int) -> list[str]:
    return [f"{name}_{30 * number:05d}" for number in range(count)]


def test_the_middle_of_each_recording_is_tested_on_and_its_neighbours_are_left_out() -> None:
    train, test = divide_recordings(frames("a", 20), 0.2, 3)
    assert test == [8, 9, 10, 11]
    assert train == [0, 1, 2, 3, 4, 15, 16, 17, 18, 19]


def test_frames_count_in_their_order_and_not_in_that_of_the_files() -> None:
    ids = frames("a", 20)
    shuffled = [ids[index] for index in np.random.default_rng(0).permutation(20)]
    train, test = divide_recordings(shuffled, 0.2, 3)
    assert sorted(shuffled[index] for index in test) == ids[8:12]
    assert sorted(shuffled[index] for index in train) == ids[:5] + ids[15:]
    assert train == sorted(train) and test == sorted(test)


@pytest.mark.parametrize(
    ("count", "gap", "divided"),
    # 0.25 of 7 images are 2; 2 + 2 x 1 leave 3, 2 + 2 x 2 leave 1.
    [(7, 1, True), (7, 2, False), (5, 0, False), (8, 2, True), (6, 0, True)],
)
def test_short_recordings_stay_whole_in_training(count: int, gap: int, divided: bool) -> None:
    long = frames("long", 100)
    train, test = divide_recordings([*long, *frames("short", count)], 0.25, gap)
    short = set(range(100, 100 + count))
    assert bool(short & set(test)) is divided
    assert (short <= set(train)) is not divided


@pytest.mark.parametrize("gap", [0, 1, 5, 9])
@pytest.mark.parametrize("fraction", [0.15, 0.25, 1 / 3, 0.4])
def test_no_frame_for_training_is_within_the_gap_of_one_for_testing(fraction: float, gap: int) -> None:
    ids = [*frames("a", 62), *frames("b", 101), *frames("c", 204), *frames("d", 9)]
    train, test = divide_recordings(ids, fraction, gap)
    assert test and not set(train) & set(test)
    for recording in sequences_of(ids):
        place = {index: position for position, index in enumerate(recording)}
        tested = [place[index] for index in test if index in place]
        assert tested == list(range(tested[0], tested[0] + len(tested))) if tested else True
        for index in train:
            if index in place and tested:
                assert min(abs(place[index] - other) for other in tested) > gap
    kept = len(ids) - len(train) - len(test)
    assert kept == 2 * gap * len([1 for recording in sequences_of(ids) if set(recording) & set(test)])


def test_recordings_that_are_all_too_short_are_refused_with_the_longest_named() -> None:
    with pytest.raises(DataError, match=r"Of 2 recordings.*the longest has 9 images.*lower data\.holdout_gap"):
        divide_recordings([*frames("a", 9), *frames("b", 4)], 0.2, 5)


def test_independent_images_are_chosen_by_the_seed_alone() -> None:
    first, again, other = (divide_images(40, 0.25, seed) for seed in (1, 1, 2))
    assert first == again and first.test != other.test
    assert len(first.test) == 10 and sorted(first.train + first.test) == list(range(40))
    assert first.test != list(range(first.test[0], first.test[0] + 10))
    with pytest.raises(DataError, match="3 training images leave fewer"):
        divide_images(3, 0.25, 0)


def test_a_part_is_a_data_set_of_its_own_content() -> None:
    whole = Streets("train", 6, (16, 24))
    part, same, other = (PartOfDataset(whole, "test", chosen) for chosen in ([1, 4], [1, 4], [1, 5]))
    assert (part.split, part.ids, len(part)) == ("test", ("train-00001", "train-00004"), 2)
    assert np.array_equal(part[1].image, whole[4].image) and part[1].id == "train-00004"
    assert part.content == same.content
    assert len({part.content, other.content, whole.content, PartOfDataset(whole, "train", [1, 4]).content}) == 4


def test_the_data_sets_of_independent_images_are_known() -> None:
    independent = {name for name in DATASETS if not DATASETS.get(name).recordings}
    assert independent == {"streets", "ade20k", "ade-indoor", "coco-stuff", "celebamask-hq"}


def test_a_third_of_camvid_is_the_protocol_of_its_evaluation(camvid: Path) -> None:
    ids = open_dataset("camvid", "train", camvid).ids
    train, test = divide_recordings(ids, 1 / 3, 5)
    assert Counter(ids[index].split("_")[0] for index in test) == {"0001TP": 21, "0006R0": 34, "0016E5": 68}
    assert len(train) == 214


@pytest.mark.parametrize(
    ("ids", "validate", "left_out"),
    [
        (frames("a", 100), 20, 10),
        (frames("a", 18), 4, 4),
        (frames("a", 8), 2, 2),
        (frames("a", 30) + frames("b", 30) + ["c"], 12, 12),
        ([f"{name}{number}" for name in "abcdefghijkl" for number in range(5)], 10, 0),
        (["abcdefgh"[number % 8] * (1 + number // 8) for number in range(50)], 10, 0),
        ([f"{name}{number}" for name in "abcde" for number in range(4)], 4, 0),
    ],
)
def test_a_whole_is_divided_by_recordings(ids: list[str], validate: int, left_out: int) -> None:
    train, test, _ = divide_whole(ids, 0.2, 0)
    assert len(test) == validate and len(ids) - len(train) - len(test) == left_out
    assert not set(train) & set(test) and divide_whole(ids, 0.2, 0) == divide_whole(ids, 0.2, 0)
    cut = [recording for recording in sequences_of(ids) if set(recording) & set(test) and set(recording) & set(train)]
    assert bool(cut) == (len(sequences_of(ids)) < 5)


def test_another_seed_draws_others_and_too_few_are_refused() -> None:
    ids = list("abcdefghijklmnopqrstuvwxyz")
    assert divide_whole(ids, 0.2, 0).test != divide_whole(ids, 0.2, 1).test
    for few in (ids[:1], ids[:3], frames("a", 3), frames("a", 2) + frames("b", 1)):
        with pytest.raises(DataError, match=r"too few to divide with data\.val_share=0\.2"):
            divide_whole(few, 0.2, 0)
