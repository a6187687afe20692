"""What every verb requires of a data set: the doctor and the stage data say it in the same words."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from scenepalette.common.errors import DataError
from scenepalette.common.progress import NO_PROGRESS
from scenepalette.data.classes import ClassTable, SemanticClass
from scenepalette.pipeline.checks.requirements import amount_problems, requirement_problems
from scenepalette.pipeline.config import DataConfig
from scenepalette.pipeline.doctor.examine import examine
from scenepalette.pipeline.doctor.scan import Scan
from scenepalette.pipeline.request import Request
from scenepalette.pipeline.stages.inputs.data import prepare_data
from scenepalette.pipeline.stages.inputs.opened_splits import open_splits

TABLE = ClassTable("mine", tuple(SemanticClass(name, (1, 2, 3)) for name in ("sky", "road", "car")))
SIZE = (32, 48)


def write_split(
    root: Path, split: str, count: int, label: Callable[[int], np.ndarray], shape: tuple[int, int] = SIZE
) -> None:
    """Write images of noise with labels."""
    for kind in ("images", "labels"):
        (root / split / kind).mkdir(parents=True, exist_ok=True)
    for index in range(count):
        random = np.random.default_rng([index, len(split)])
        image = random.integers(0, 256, (*shape, 3), dtype=np.uint8)
        Image.fromarray(image).save(root / split / "images" / f"{index:03d}.png")
        Image.fromarray(label(index).astype(np.uint8)).save(root / split / "labels" / f"{index:03d}.png")


def halves(first: int, second: int, shape: tuple[int, int] = SIZE) -> Callable[[int], np.ndarray]:
    def label(index: int) -> np.ndarray:
        result = np.full(shape, first)
        result[shape[0] // 2 :] = second
        return result

    return label


GOOD = halves(0, 1)
WHOLE = {"train": (4, GOOD, SIZE), "val": (4, GOOD, SIZE)}
# What differs from the whole data set, and how each sentence begins.
Case = tuple[dict[str, tuple[int, Callable[[int], np.ndarray], tuple[int, int]]], list[str]]
CASES: dict[str, Case] = {
    "one training sample": ({"train": (1, GOOD, SIZE)}, ["data.root: there is 1 training image with a label"]),
    "one validation sample": ({"val": (1, GOOD, SIZE)}, ["data.root: there is 1 validation image with a label"]),
    "one of each": (
        {"train": (1, GOOD, SIZE), "val": (1, GOOD, SIZE)},
        ["data.root: there is 1 training image", "data.root: there is 1 validation image"],
    ),
    "one class in training": (
        {"train": (4, halves(1, 1), SIZE)},
        ["data.root: the training labels show 1 of 3 classes (road); at least 2"],
    ),
    "one class and ignored pixels": (
        {"train": (4, halves(0, 255), SIZE)},
        ["data.root: the training labels show 1 of 3 classes (sky), and 50 % of the pixels are ignored"],
    ),
    "one class in validation": (
        {"val": (4, halves(2, 2), SIZE)},
        ["data.root: the validation labels show 1 of 3 classes (car)"],
    ),
    "one class in each label": (
        {"train": (4, lambda index: np.full(SIZE, index % 2), SIZE)},
        ["data.root: each training label shows a single class;"],
    ),
    "images of a pixel": (
        {"train": (4, lambda index: np.full((1, 1), index % 2), (1, 1))},
        ["data.root: each training label", "data.root: 4 training images (000 of 1 x 1, 001 of 1 x 1, "],
    ),
    "images of three rows": (
        {"val": (4, halves(0, 1, (3, 4)), (3, 4))},
        ["data.root: 4 validation images (000 of 3 x 4, 001 of 3 x 4, 002 of 3 x 4, ...) have fewer than 4 rows"],
    ),
    "a strip": (
        {"train": (2, halves(0, 1, (8, 800)), (8, 800))},
        ["data.root: 2 training images (000 of 8 x 800, 001 of 8 x 800) have an aspect ratio that data.size 32 x 48"],
    ),
    "a column": (
        {"train": (2, halves(0, 1, (800, 8)), (800, 8))},
        ["data.root: 2 training images (000 of 800 x 8, 001 of 800 x 8) have an aspect ratio"],
    ),
}


def write_case(root: Path, name: str) -> list[str]:
    changes, expected = CASES[name]
    for split, (count, label, shape) in {**WHOLE, **changes}.items():
        write_split(root, split, count, label, shape)
    (root / "classes.csv").write_text("name,red,green,blue\nsky,1,2,3\nroad,1,2,3\ncar,1,2,3\n")
    return expected


def details_of(root: Path, recipe: Path) -> tuple[str, ...]:
    values = yaml.safe_load(recipe.read_text())
    mine = root.parent / "mine.yaml"
    data = {"name": "folder", "root": str(root), "size": list(SIZE)}
    mine.write_text(yaml.safe_dump({**values, "data": data}))
    diagnosis = examine(Request(str(mine), (), root.parent / "run"), measured=False)
    (check,) = [check for check in diagnosis.of("problem") if check.name == "enough to learn from"]
    assert check.summary == "The data set cannot be learned from; nothing was trained."
    return check.details


@pytest.mark.parametrize("name", CASES)
def test_doctor_and_verbs_refuse_a_data_set_with_the_same_sentences(
    name: str, tmp_path: Path, tiny_recipe: Path
) -> None:
    expected = write_case(tmp_path / "data", name)
    with pytest.raises(DataError) as raised:
        prepare_data(tmp_path / "out", DataConfig(name="folder", root=tmp_path / "data", size=SIZE), 0, NO_PROGRESS)
    assert raised.value.summary == "The data set cannot be learned from; nothing was trained."
    assert details_of(tmp_path / "data", tiny_recipe) == raised.value.problems
    assert len(raised.value.problems) == len(expected)
    for text, beginning in zip(raised.value.problems, expected, strict=True):
        assert text.startswith(beginning)


def test_labels_that_are_too_fine_for_the_size_are_listed_together(tmp_path: Path) -> None:
    def fine(index: int) -> np.ndarray:
        label = np.full((64, 96), 255)
        label[0, :2] = [0, 1]
        return label

    write_split(tmp_path / "data", "train", 3, fine, (64, 96))
    write_split(tmp_path / "data", "val", 2, fine, (64, 96))
    (tmp_path / "data/classes.csv").write_text("name,red,green,blue\nsky,1,2,3\nroad,1,2,3\n")
    with pytest.raises(DataError) as raised:
        prepare_data(tmp_path / "out", DataConfig(name="folder", root=tmp_path / "data", size=SIZE), 0, NO_PROGRESS)
    assert [text[:15] for text in raised.value.problems] == ["The label of '0"] * 5
    assert not list((tmp_path / "out").glob("*-train.npy"))


@pytest.mark.parametrize(("train", "validation", "count"), [(2, 2, 0), (1, 2, 1), (2, 1, 1), (0, 0, 2), (10, 10, 0)])
def test_two_samples_of_each_split_are_required(train: int, validation: int, count: int) -> None:
    assert len(amount_problems(train, validation)) == count


def scan_of(split: str, pixels: Iterable[Iterable[int]], sizes: Iterable[tuple[int, int]] | None = None) -> Scan:
    counts = np.array([list(row) for row in pixels], np.int64)
    count = len(counts)
    return Scan(
        split=split,
        ids=tuple(map(str, range(count))),
        sizes=np.array(list(sizes) if sizes is not None else [(32, 48)] * count),
        hashes=("",) * count,
        thumbnails=np.zeros((count, 32, 32), np.uint8),
        spread=np.ones(count, np.float32),
        pixels=counts,
        resized_pixels=counts,
        edges=np.full((count, 2), np.nan, np.float32),
    )


BOTH = [[50, 50, 0, 0]] * 2


@pytest.mark.parametrize(
    "splits",
    [
        [scan_of("train", BOTH), scan_of("val", BOTH)],
        # A single label of two classes says where one meets the other.
        [scan_of("train", [[50, 50, 0, 0], [100, 0, 0, 0]]), scan_of("val", BOTH)],
        # Validation may show whole images of a class each, and lack classes.
        [scan_of("train", BOTH), scan_of("val", [[100, 0, 0, 0], [0, 100, 0, 0]])],
        [scan_of("train", BOTH), scan_of("val", [[0, 0, 10, 90], [0, 1, 0, 99]])],
        # A test split has rules of its own.
        [scan_of("train", BOTH), scan_of("val", BOTH), scan_of("test", [[100, 0, 0, 0]])],
        # The smallest, and the most stretched.
        [scan_of("train", BOTH, [(4, 4), (4, 12)]), scan_of("val", BOTH, [(100, 16), (8, 119)])],
        # What could not be read any more is reported elsewhere.
        [scan_of("train", [*BOTH, [0, 0, 0, 0]], [(32, 48), (32, 48), (0, 0)]), scan_of("val", BOTH)],
    ],
)
def test_what_can_be_learned_from_is_not_refused(splits: list[Scan]) -> None:
    assert requirement_problems(TABLE, SIZE, splits) == []


def test_both_splits_problems_are_told_at_once(tmp_path: Path, tiny_recipe: Path) -> None:
    root = tmp_path / "data"
    for split in ("train", "val"):
        write_split(root, split, 8, GOOD)
        for index in range(5):
            (root / split / "images" / f"00{index}.png").write_bytes(b"no image")
        (root / split / "labels" / "005.png").unlink()
    (root / "classes.csv").write_text("name,red,green,blue\nsky,1,2,3\nroad,1,2,3\n")
    with pytest.raises(DataError) as raised:
        open_splits(DataConfig(name="folder", root=root, size=SIZE), 0)
    assert len(raised.value.found) == 12
    paths = {problem.path for problem in raised.value.found}
    assert {"train/images/000.png", "val/images/000.png", "train/images/005.png", "val/images/005.png"} <= paths
    # Three of each kind, and how many more there are.
    lines = str(raised.value).splitlines()
    assert len(lines) == 1 + 3 + 1 + 2 and "and 7 more of the kind 'files'" in str(raised.value)


@pytest.mark.parametrize("split", ["train", "val"])
def test_an_empty_split_is_named(split: str, tmp_path: Path) -> None:
    for name in ("train", "val"):
        write_split(tmp_path, name, 0 if name == split else 3, GOOD)
    (tmp_path / "classes.csv").write_text("name,red,green,blue\nsky,1,2,3\nroad,1,2,3\n")
    with pytest.raises(DataError, match=f"the split '{split}' is empty"):
        open_splits(DataConfig(name="folder", root=tmp_path, size=SIZE), 0)


@pytest.mark.parametrize("lacking", ["train", "val", "both"])
def test_what_is_missing_of_both_splits_is_told_once(lacking: str, tmp_path: Path) -> None:
    for name in ("train", "val"):
        write_split(tmp_path, name, 3, GOOD)
        if lacking in (name, "both"):
            shutil.rmtree(tmp_path / name / "labels")
    (tmp_path / "classes.csv").write_text("name,red,green,blue\nsky,1,2,3\nroad,1,2,3\n")
    with pytest.raises(DataError) as raised:
        open_splits(DataConfig(name="folder", root=tmp_path, size=SIZE), 0)
    for name in ("train", "val"):
        assert str(raised.value).count(f"{name}/labels/") == (lacking in (name, "both"))
    (tmp_path / "classes.csv").unlink()
    for name in ("train", "val"):
        (tmp_path / name / "labels").mkdir(exist_ok=True)
    with pytest.raises(DataError) as raised:
        open_splits(DataConfig(name="folder", root=tmp_path, size=SIZE), 0)
    assert str(raised.value).count("needs exactly one class file") == 1
