"""Cityscapes' layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scenepalette.common.errors import DataError
from scenepalette.data.readers.cityscapes import open_cityscapes


def test_pairs_are_found_across_cities_and_ids_are_kept(cityscapes_root: Path) -> None:
    dataset = open_cityscapes(cityscapes_root, "train")
    assert dataset.ids == ("aachen_000003_000019", "ulm_000000_000019", "ulm_000001_000019")
    stored = np.asarray(Image.open(cityscapes_root / "gtFine/train/aachen/aachen_000003_000019_gtFine_labelIds.png"))
    assert np.array_equal(dataset[0].label, stored)


def test_value_34_is_license_plate_and_255_is_ignored(
    cityscapes_root: Path, write: Callable[[Path, np.ndarray], None]
) -> None:
    label = np.full((6, 8), 34, dtype=np.uint8)
    label[0] = 255
    path = cityscapes_root / "gtFine/train/aachen/aachen_000003_000019_gtFine_labelIds.png"
    write(path, label)
    assert np.array_equal(open_cityscapes(cityscapes_root, "train")[0].label, label)
    write(path, np.full((6, 8), 35, dtype=np.uint8))
    with pytest.raises(DataError, match=r"aachen_000003_000019_gtFine_labelIds\.png: label values 35"):
        open_cityscapes(cityscapes_root, "train")


def test_unpaired_files_are_named_from_both_sides(cityscapes_root: Path) -> None:
    (cityscapes_root / "gtFine/train/ulm/ulm_000000_000019_gtFine_labelIds.png").unlink()
    (cityscapes_root / "leftImg8bit/train/aachen/aachen_000003_000019_leftImg8bit.png").unlink()
    with pytest.raises(DataError) as caught:
        open_cityscapes(cityscapes_root, "train")
    assert caught.value.problems == (
        "leftImg8bit/train/ulm/ulm_000000_000019_leftImg8bit.png: no label for it, "
        "gtFine/train/ulm/ulm_000000_000019_gtFine_labelIds.png is missing",
        "gtFine/train/aachen/aachen_000003_000019_gtFine_labelIds.png: no image for it",
    )


def test_missing_folders_are_all_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="leftImg8bit/SPLIT/CITY") as caught:
        open_cityscapes(tmp_path, "val")
    assert caught.value.problems == ("leftImg8bit/val/", "gtFine/val/")
