from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from own_data import write_own_data

from labelled_folders import write_pixels
from scenepalette.common.errors import DataError
from scenepalette.common.progress import NO_PROGRESS
from scenepalette.data.datasets import open_dataset
from scenepalette.data.splits.holdout import divide_recordings
from scenepalette.pipeline.starting import survey as module
from scenepalette.pipeline.starting.survey import GAP, absent_from, holdout_of, rare_at, survey


def test_sizes_are_medians_and_other_aspects_are_counted(tmp_path: Path) -> None:
    root = write_own_data(tmp_path, train=5, val=2)
    write_pixels(root / "train/images/z.png", np.zeros((128, 64, 3), np.uint8))
    write_pixels(root / "train/labels/z.png", np.zeros((128, 64), np.uint8))
    seen = survey(open_dataset("folder", "train", root), NO_PROGRESS)
    assert (seen.size, seen.ratio, seen.indices) == ((96, 128), pytest.approx(4 / 3), tuple(range(6)))
    assert seen.stretched((96, 128), 1.35) == 1 and seen.stretched((96, 96), 1.35) == 1


def test_a_single_class_is_refused_with_its_name(tmp_path: Path) -> None:
    root = write_own_data(tmp_path, train=4, val=2)
    for path in (root / "train" / "labels").iterdir():
        write_pixels(path, np.full((96, 128), 1, np.uint8))
    with pytest.raises(DataError, match="The 4 training labels show only the class road; at least 2 classes"):
        survey(open_dataset("folder", "train", root), NO_PROGRESS)


def test_a_class_in_one_label_is_found_however_few_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_own_data(tmp_path, train=6, val=2)
    labels = sorted((root / "train" / "labels").iterdir())
    for path in labels:
        write_pixels(path, np.full((96, 128), 1, np.uint8))
    write_pixels(labels[3], np.full((96, 128), 2, np.uint8))
    monkeypatch.setattr(module, "MOST_LOOKED_AT", 2)
    assert survey(open_dataset("folder", "train", root), NO_PROGRESS).indices == (0, 5)


def test_rare_classes_are_named_with_what_is_seen_of_them(tmp_path: Path) -> None:
    train = open_dataset("folder", "train", write_own_data(tmp_path, train=40, val=2))
    assert rare_at(train, range(40), (96, 128), NO_PROGRESS) == ["lamp: in 5 of 40 images"]
    # Of every second image of a larger set, half as many are seen.
    assert rare_at(train, range(0, 40, 2), (96, 128), NO_PROGRESS) == ["lamp: in 3 of 20 images"]
    assert len(rare_at(train, range(40), (8, 8), NO_PROGRESS)) > 1


def test_a_class_is_absent_only_if_no_label_shows_it(tmp_path: Path) -> None:
    train = open_dataset("folder", "train", write_own_data(tmp_path, train=10, val=2))
    assert absent_from(train, [1, 2], None, NO_PROGRESS) == []  # lamps are in labels 0 and 9
    assert absent_from(train, [1, 2], (8, 8), NO_PROGRESS) == ["lamp"]
    for path in (tmp_path / "train/labels").glob("*[09].png"):
        write_pixels(path, np.full((96, 128), 1, np.uint8))
    assert absent_from(open_dataset("folder", "train", tmp_path), [1], None, NO_PROGRESS) == ["lamp"]


def test_recordings_give_a_test_split_where_enough_remains() -> None:
    long = [f"drive{k}_{frame:04}" for k in range(2) for frame in range(200)]
    fraction = holdout_of(long, True)
    assert fraction == 0.2 and len(divide_recordings(long, fraction, GAP).test) >= 20
    assert holdout_of([f"a_{frame}" for frame in range(60)], True) == 0
    assert holdout_of([f"{'x' * k}" for k in range(1, 300)], True) == 0  # no recordings of more than an image


def test_independent_images_give_a_test_split_by_number() -> None:
    assert holdout_of([f"{k}" for k in range(200)], False) == 0.2
    assert holdout_of([f"{k}" for k in range(50)], False) == 0
