"""GTA-5's layout and its MATLAB split file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from scenepalette.common.errors import DataError
from scenepalette.data.readers.gta5 import open_gta5

Write = Callable[[Path, np.ndarray], None]


def write_split(root: Path, train: list[int], val: list[int], test: list[int]) -> None:
    """Write split.mat as published: a column of numbers per split."""
    columns = {"trainIds": train, "valIds": val, "testIds": test}
    savemat(root / "split.mat", {key: np.array(ids, dtype=np.float64)[:, None] for key, ids in columns.items()})


def test_palette_indices_are_cityscapes_ids(gta5_root: Path) -> None:
    dataset = open_gta5(gta5_root, "train")
    with Image.open(gta5_root / "labels/00001.png") as stored:
        assert stored.mode == "P"
        assert np.array_equal(dataset[0].label, np.asarray(stored))
    assert dataset[0].label.max() > 2


def test_the_split_file_decides_and_test_images_are_left_out(gta5_root: Path) -> None:
    write_split(gta5_root, [9, 2, 3], [1, 8], [4, 5, 6, 7, 24966])
    assert open_gta5(gta5_root, "train").ids == ("00002", "00003", "00009")
    assert open_gta5(gta5_root, "val").ids == ("00001", "00008")


def test_without_the_split_file_the_last_quarter_is_for_validation(gta5_root: Path) -> None:
    assert open_gta5(gta5_root, "train").ids == tuple(f"{number:05d}" for number in range(1, 8))
    assert open_gta5(gta5_root, "val").ids == ("00008", "00009")


def test_images_in_no_split_or_in_two_are_listed(gta5_root: Path) -> None:
    write_split(gta5_root, [1, 2, 3, 4], [4, 5, 6], [7, 8])
    with pytest.raises(DataError) as caught:
        open_gta5(gta5_root, "train")
    assert caught.value.problems == (
        "images/00004.png: split.mat has it in train and val; exactly one is required",
        "images/00009.png: split.mat has it in no split; exactly one is required",
    )


@pytest.mark.parametrize("kept", [0, 60, 300])
def test_a_cut_off_split_file_is_explained(gta5_root: Path, kept: int) -> None:
    write_split(gta5_root, [1, 2, 3, 4, 5], [6, 7], [8, 9])
    path = gta5_root / "split.mat"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"split\.mat cannot be used .*trainIds, valIds, testIds"):
        open_gta5(gta5_root, "train")


def test_a_split_file_without_a_split_is_explained(gta5_root: Path) -> None:
    savemat(gta5_root / "split.mat", {"trainIds": np.arange(1, 10)})
    with pytest.raises(DataError, match="KeyError: 'valIds'"):
        open_gta5(gta5_root, "train")


def test_every_kind_of_damage_is_listed_with_its_file(gta5_root: Path, write: Write) -> None:
    (gta5_root / "labels/00001.png").unlink()
    (gta5_root / "images/00002.png").unlink()
    write(gta5_root / "labels/00003.png", np.zeros((5, 8), dtype=np.uint8))
    write(gta5_root / "labels/00004.png", np.full((6, 8), 35, dtype=np.uint8))
    write(gta5_root / "labels/mapping.png", np.zeros((6, 8), dtype=np.uint8))
    cut = gta5_root / "images/00005.png"
    cut.write_bytes(cut.read_bytes()[:100])
    with pytest.raises(DataError) as caught:
        open_gta5(gta5_root, "train")
    *others, last = caught.value.problems
    assert others == [
        "labels/mapping.png: the name is not a number, as all published ones are",
        "images/00001.png: no label for it, labels/00001.png is missing",
        "labels/00002.png: no image for it",
        "labels/00003.png: 5 x 8 pixels (height x width), but its image images/00003.png has 6 x 8; both must be equal",
        "labels/00004.png: label values 35 in 48 pixels; allowed are the class ids 0 to 34 and, as ignored, 255",
    ]
    assert last.startswith("images/00005.png: it is damaged")


def test_a_pair_that_was_taken_out_does_not_offend_the_split_file(gta5_root: Path) -> None:
    write_split(gta5_root, [1, 2, 3, 4, 5], [6, 7], [8, 9])
    for folder in ("images", "labels"):
        (gta5_root / folder / "00003.png").unlink()
    assert open_gta5(gta5_root, "train").ids == ("00001", "00002", "00004", "00005")


def test_missing_folders_are_all_named(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        open_gta5(tmp_path, "val")
    assert caught.value.problems == ("images/", "labels/")
