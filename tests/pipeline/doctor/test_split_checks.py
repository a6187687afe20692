"""The doctor's words on test splits and extra test sets."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from labelled_folders import random_image, random_label, write_pixels
from scenepalette.pipeline.doctor.examine import examine
from scenepalette.pipeline.doctor.findings import Check
from scenepalette.pipeline.request import Request


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """CamVid's layout with one recording of 60 training frames, and one of 12 for validation."""
    root = tmp_path / "camvid"
    for split, count in (("train", 60), ("val", 12)):
        for number in range(count):
            name, seed = f"{split}1_{number:03d}.png", 1000 * len(split) + number
            write_pixels(root / split / name, random_image(seed, 24, 32))
            write_pixels(root / f"{split}annot" / name, random_label(seed, 11, 24, 32))
    return root


def checks_of(root: Path, *changes: str) -> dict[str, Check]:
    request = Request("camvid-cpu", (f"data.root={root}", *changes), root.parent / "run")
    return {check.name: check for check in examine(request, measured=False).checks}


def test_a_held_out_split_is_counted_and_looked_for_in_training(root: Path) -> None:
    checks = checks_of(root, "data.holdout=0.25")
    assert checks["test split"].status == "ok"
    assert checks["test split"].summary == "15 images of 1 recording are for testing alone (data.holdout, held out)."
    assert "15 test images are of recordings that training has as well" in checks["leakage into the test split"].summary
    assert checks["amount"].summary.startswith("Only 35 training and 12 validation samples")


def test_what_cannot_be_held_out_is_a_problem(root: Path) -> None:
    checks = checks_of(root, "data.holdout=0.25", "data.holdout_gap=20")
    assert checks["data set"].status == "problem" and "no recording is long enough" in checks["data set"].summary
    checks = checks_of(root, "data.holdout=0.15")
    assert checks["test split"].status == "problem" and "9 images are 1 block" in checks["test split"].details[0]


def test_a_published_split_with_a_training_image_is_a_problem(root: Path) -> None:
    for folder in ("", "annot"):
        shutil.copytree(root / f"val{folder}", root / f"test{folder}")
        shutil.copy(root / f"train{folder}" / "train1_007.png", root / f"test{folder}" / "val1_003.png")
    checks = checks_of(root, "data.holdout=0.25")
    leakage = checks["leakage into the test split"]
    assert leakage.status == "problem" and leakage.details[0] == "identical: val1_003 (test) and train1_007 (train)"
    assert checks["holdout"].status == "note" and checks["test split"].status == "ok"


def test_extra_sets_are_opened_and_compared(root: Path, tmp_path: Path) -> None:
    night = tmp_path / "night"
    for folder in ("val", "valannot"):
        shutil.copytree(root / folder, night / folder)
    for path in (night / "val").iterdir():
        write_pixels(path, random_image(sum(map(ord, path.name)) + int(path.stem[-3:]) * 7919, 24, 32))
    other = tmp_path / "other"
    write_pixels(other / "val/images/a.png", random_image(1))
    write_pixels(other / "val/labels/a.png", np.zeros((6, 8), np.uint8))
    (other / "classes.csv").write_text("name,red,green,blue\nsky,1,2,3\ncar,4,5,6\n")
    sets = f"report.extra_test={{night: {night}, other: {other}, gone: {tmp_path / 'gone'}}}"
    with pytest.raises(KeyError):  # a folder that is not there keeps the configuration from being run
        checks_of(root, sets)["extra test set night"]
    (tmp_path / "gone").mkdir()
    checks = checks_of(root, sets)
    assert checks["extra test set night"].status == "ok" and checks["leakage into extra test set night"].status == "ok"
    assert "its 2 classes are not the 11" in checks["extra test set other"].summary
    assert checks["extra test set gone"].status == "problem"


@pytest.mark.parametrize(
    ("folder", "status", "text"),
    [
        ("val", "warning", "1 of them are also validation or test images (such as val1_003.png)"),
        ("valannot", "problem", "1 of them are labels of the data set (such as val1_003.png)"),
        ("train", "ok", "2 unlabelled images were found."),
    ],
)
def test_unlabelled_images_are_none_that_are_measured_on(
    root: Path, tmp_path: Path, folder: str, status: str, text: str
) -> None:
    write_pixels(tmp_path / "drives/new.png", random_image(7, 24, 32))
    shutil.copy(next((root / folder).glob("*_003.png")), tmp_path / "drives")
    check = checks_of(root, f"data.unlabelled={tmp_path / 'drives'}")["unlabelled images"]
    assert check.status == status and text in check.summary
