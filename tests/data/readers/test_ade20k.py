"""ADE20K's layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scenepalette.common.errors import DataError
from scenepalette.data.readers.ade20k import open_ade20k

Write = Callable[[Path, np.ndarray], None]


def problems_of(root: Path) -> tuple[str, ...]:
    """Open the training split, which must fail, and return the listed problems."""
    with pytest.raises(DataError) as caught:
        open_ade20k(root, "train")
    return caught.value.problems


def test_values_are_one_above_the_class_ids_and_0_is_ignored(ade20k_root: Path) -> None:
    dataset = open_ade20k(ade20k_root, "train")
    assert dataset.ids == tuple(f"ADE_train_{number:08d}" for number in (1, 2, 3, 4))
    for index in range(4):
        path = ade20k_root / "annotations/training" / f"{dataset.ids[index]}.png"
        stored = np.asarray(Image.open(path)).astype(int)
        assert dataset[index].label[0, :3].tolist() == [255, 0, 149]
        assert np.array_equal(dataset[index].label, np.where(stored == 0, 255, stored - 1))
    assert dataset.label_origins == {}


def test_val_is_the_folder_validation(ade20k_root: Path) -> None:
    assert open_ade20k(ade20k_root, "val").ids == ("ADE_val_00000001", "ADE_val_00000002")


def test_every_kind_of_damage_is_listed_with_its_file(ade20k_root: Path, write: Write) -> None:
    labels = ade20k_root / "annotations/training"
    (labels / "ADE_train_00000001.png").unlink()
    write(labels / "ADE_train_00000002.png", np.full((8, 20), 151, dtype=np.uint8))
    write(labels / "ADE_train_00000003.png", np.ones((20, 8), dtype=np.uint8))
    write(labels / "ADE_train_00000009.png", np.ones((8, 20), dtype=np.uint8))
    image = ade20k_root / "images/training/ADE_train_00000004.jpg"
    image.write_bytes(image.read_bytes()[:-200])
    *others, last = problems_of(ade20k_root)
    assert others == [
        "images/training/ADE_train_00000001.jpg: no label for it, "
        "annotations/training/ADE_train_00000001.png is missing",
        "annotations/training/ADE_train_00000009.png: no image for it",
        "annotations/training/ADE_train_00000002.png: label values 151 in 160 pixels; allowed are the class ids 1 to "
        "150 and, as ignored, 0, 255",
        "annotations/training/ADE_train_00000003.png: 20 x 8 pixels (height x width), but its image "
        "images/training/ADE_train_00000003.jpg has 8 x 20; both must be equal",
    ]
    assert last.startswith("images/training/ADE_train_00000004.jpg: it is damaged")


def test_a_label_of_nothing_but_0_is_left_out_with_a_note(ade20k_root: Path, write: Write) -> None:
    write(ade20k_root / "annotations/training/ADE_train_00000001.png", np.zeros((8, 20), dtype=np.uint8))
    dataset = open_ade20k(ade20k_root, "train")
    assert len(dataset) == 3 and "ADE_train_00000001" not in dataset.ids
    assert dataset.notes == (
        "left out, because every pixel of the label is ignored: 1 (annotations/training/ADE_train_00000001.png)",
    )


def test_missing_folders_are_all_named(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        open_ade20k(tmp_path, "val")
    assert caught.value.problems == ("images/validation/", "annotations/validation/")


def test_the_full_release_is_told_from_the_benchmark(tmp_path: Path, write: Write) -> None:
    write(tmp_path / "images/ADE/training/urban/street/ADE_train_00000001_seg.png", np.zeros((8, 20, 3), np.uint8))
    with pytest.raises(DataError, match="full release, which has other classes; required is the scene parsing"):
        open_ade20k(tmp_path, "train")
