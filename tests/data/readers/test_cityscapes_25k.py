"""Cityscapes-25k: Cityscapes with scenes whose labels a network predicted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from scenepalette.common.errors import DataError
from scenepalette.data.readers.cityscapes import open_cityscapes
from scenepalette.data.readers.cityscapes_25k import open_cityscapes_25k

Write = Callable[[Path, np.ndarray], None]
EXTRA_LABEL = "refinement_final/train_extra/bad-honnef/bad-honnef_000000_000000_leftImg8bit.png"
EXTRA_IMAGE = "leftImg8bit/train_extra/bad-honnef/bad-honnef_000000_000000_leftImg8bit.png"


def problems_of(root: Path) -> tuple[str, ...]:
    """Open the training split, which must fail, and return the listed problems."""
    with pytest.raises(DataError) as caught:
        open_cityscapes_25k(root, "train")
    return caught.value.problems


def test_machine_labelled_samples_come_last_and_are_marked(cityscapes_25k_root: Path) -> None:
    dataset = open_cityscapes_25k(cityscapes_25k_root, "train")
    assert dataset.ids == (
        "aachen_000003_000019",
        "ulm_000000_000019",
        "ulm_000001_000019",
        "train_extra_bad-honnef_000000_000000",
        "train_extra_konigswinter_000000_000001",
    )
    assert "machine-made" in dataset.licence
    assert dataset.label_origins == {
        "train": "3 samples, annotated by people",
        "train_extra": "2 samples, ids train_extra_*: machine-made labels, predicted by a pretrained network; only the "
        "19 evaluated classes are annotated",
    }


def test_0_is_unlabeled_in_annotated_labels_and_ignored_in_predicted_ones(
    cityscapes_25k_root: Path, write: Write
) -> None:
    write(
        cityscapes_25k_root / "gtFine/train/aachen/aachen_000003_000019_gtFine_labelIds.png",
        np.zeros((6, 8), dtype=np.uint8),
    )
    dataset = open_cityscapes_25k(cityscapes_25k_root, "train")
    assert set(dataset[0].label.flatten().tolist()) == {0}
    assert dataset[3].label[0].tolist() == [26, 255, 255, 33, 7, 7, 7, 7]
    assert (dataset[3].label[1:] == 7).all()


def test_validation_is_that_of_cityscapes(cityscapes_25k_root: Path) -> None:
    for folder in ("leftImg8bit", "gtFine"):
        (cityscapes_25k_root / folder / "train").rename(cityscapes_25k_root / folder / "val")
    dataset = open_cityscapes_25k(cityscapes_25k_root, "val")
    assert dataset.ids == open_cityscapes(cityscapes_25k_root, "val").ids
    assert list(dataset.label_origins) == ["val"]


def test_labels_without_an_image_and_the_archives_scratch_folder_are_passed_over(
    cityscapes_25k_root: Path, write: Write
) -> None:
    for place in ("tmp/bad-honnef_000000_000000", "troisdorf/troisdorf_000000_000073"):
        write(
            cityscapes_25k_root / f"refinement_final/train_extra/{place}_leftImg8bit.png",
            np.zeros((1, 1), dtype=np.uint8),
        )
    assert len(open_cityscapes_25k(cityscapes_25k_root, "train")) == 5


def test_train_ids_and_classes_that_are_not_evaluated_are_refused_in_predicted_labels(
    cityscapes_25k_root: Path, write: Write
) -> None:
    write(cityscapes_25k_root / EXTRA_LABEL, np.array([[0, 1, 2, 5, 18, 7, 8, 11]] * 6, dtype=np.uint8))
    assert problems_of(cityscapes_25k_root) == (
        f"{EXTRA_LABEL}: label values 1, 2, 5, 18 in 24 pixels; allowed are the class ids 7 to 8, 11 to 13, 17, 19 to "
        "28, 31 to 33 and, as ignored, 0, 255",
    )


def test_missing_labels_wrong_sizes_and_cut_off_files_of_both_parts_are_all_listed(
    cityscapes_25k_root: Path, write: Write
) -> None:
    (cityscapes_25k_root / "gtFine/train/ulm/ulm_000000_000019_gtFine_labelIds.png").unlink()
    (cityscapes_25k_root / EXTRA_LABEL).unlink()
    write(
        cityscapes_25k_root / "gtFine/train/ulm/ulm_000001_000019_gtFine_labelIds.png", np.zeros((6, 9), dtype=np.uint8)
    )
    cut = "refinement_final/train_extra/konigswinter/konigswinter_000000_000001_leftImg8bit.png"
    path = cityscapes_25k_root / cut
    path.write_bytes(path.read_bytes()[:-20])
    problems = problems_of(cityscapes_25k_root)
    assert problems[:2] == (
        "leftImg8bit/train/ulm/ulm_000000_000019_leftImg8bit.png: no label for it, "
        "gtFine/train/ulm/ulm_000000_000019_gtFine_labelIds.png is missing",
        f"{EXTRA_IMAGE}: no label for it, {EXTRA_LABEL} is missing",
    )
    assert "ulm_000001_000019_gtFine_labelIds.png: 6 x 9 pixels" in problems[2]
    assert problems[3].startswith(f"{cut}: it is damaged")
    assert len(problems) == 4


def test_missing_folders_are_all_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="refinement_final/train_extra/CITY") as caught:
        open_cityscapes_25k(tmp_path, "train")
    assert caught.value.problems == (
        "leftImg8bit/train/",
        "gtFine/train/",
        "leftImg8bit/train_extra/",
        "refinement_final/train_extra/",
    )
