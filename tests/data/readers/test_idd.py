"""The India Driving Dataset's layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from scenepalette.common.errors import DataError
from scenepalette.data.readers.idd import open_idd


def test_equal_frame_names_of_different_sequences_stay_apart(idd_root: Path) -> None:
    dataset = open_idd(idd_root, "train")
    assert dataset.ids == ("12_0001", "400_0001")
    assert dataset[1].label.max() <= 39


def test_two_images_for_one_label_are_refused(idd_root: Path, write: Callable[[Path, np.ndarray], None]) -> None:
    write(idd_root / "leftImg8bit/train/12/0001_leftImg8bit.jpg", np.zeros((6, 8, 3), np.uint8))
    with pytest.raises(
        DataError, match=r"a second image named 12/0001 beside leftImg8bit/train/12/0001_leftImg8bit\.jpg"
    ):
        open_idd(idd_root, "train")


def test_labels_that_were_not_prepared_are_explained(idd_root: Path) -> None:
    for path in idd_root.glob("gtFine/train/*/*.png"):
        path.rename(path.with_name("0001_gtFine_polygons.json"))
    with pytest.raises(DataError, match="--id-type id"):
        open_idd(idd_root, "train")
