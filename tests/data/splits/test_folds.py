"""Folds are contiguous blocks of recordings, and no teacher judges what it learned from."""

from __future__ import annotations

import numpy as np
import pytest

from scenepalette.data.arrays import Pairs
from scenepalette.data.classes import ClassTable
from scenepalette.data.shards.pairs import ChosenPairs
from scenepalette.data.splits.folds import classes_by_fold, folds_of, judges_of


def test_each_recording_gives_each_fold_a_block_of_consecutive_frames() -> None:
    ids = [f"a_{frame:03d}" for frame in range(7)] + [f"b_{frame:03d}" for frame in range(5)]
    folds = folds_of(ids, 2)
    # The longer part of b goes to the fold that is smaller after a.
    assert folds.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0]


def test_blocks_follow_frame_numbers_and_not_the_order_of_the_list() -> None:
    assert folds_of(["a_4", "a_1", "a_3", "a_2"], 2).tolist() == [1, 0, 1, 0]


def test_images_without_numbers_are_spread_evenly() -> None:
    ids = [f"scene-{letter}" for letter in "abcdefg"]
    assert np.bincount(folds_of(ids, 3)).tolist() == [3, 2, 2]


@pytest.mark.parametrize("count", [2, 3, 5])
def test_a_judge_was_trained_on_no_source_of_what_it_judges(count: int) -> None:
    ids = [f"r{recording}_{frame}" for recording in range(3) for frame in range(11)]
    folds = folds_of(ids, count)
    by_id = dict(zip(ids, folds.tolist(), strict=True))
    trained_on = {k: {name for name, fold in by_id.items() if fold != k} for k in range(count)}
    random = np.random.default_rng(0)
    for _ in range(200):
        sources = random.choice(ids, size=random.integers(1, 4)).tolist()
        judges = judges_of(sources, by_id, count)
        assert all(trained_on[judge].isdisjoint(sources) for judge in judges)
        assert set(judges) == {k for k in trained_on if trained_on[k].isdisjoint(sources)}


def test_what_has_no_source_among_the_training_images_is_judged_by_all() -> None:
    assert judges_of([], {"a": 0, "b": 1}, 2) == (0, 1)
    assert judges_of(["elsewhere"], {"a": 0, "b": 1}, 2) == (0, 1)
    assert judges_of(["a", "b"], {"a": 0, "b": 1}, 2) == ()


def test_chosen_pairs_are_those_of_the_indices() -> None:
    labels = np.arange(4, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 2), np.uint8)
    images = labels[..., None] * np.ones(3, np.uint8)
    pairs = Pairs(images, labels, ["a", "b", "c", "d"], ClassTable.unnamed(4), "four", "none")
    chosen = ChosenPairs(pairs, [3, 1])
    assert (len(chosen), chosen.ids) == (2, ["d", "b"])
    assert chosen.batch([1, 0])[1][:, 0, 0].tolist() == [1, 3]
    assert classes_by_fold(labels, np.array([0, 0, 1, 1]), 2, 4).tolist() == [
        [True, True, False, False],
        [False, False, True, True],
    ]
