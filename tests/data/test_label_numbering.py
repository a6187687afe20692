"""Published data sets whose labels were renumbered: asked about, and read as the user says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from label_situations import scene

from labelled_folders import write_pixels
from scenepalette.common.errors import DataError
from scenepalette.data.decoding.class_files import CITYSCAPES, packaged_table
from scenepalette.data.decoding.label_reading import AS_FOUND, LabelSettings
from scenepalette.data.files.image_files import PairedFiles
from scenepalette.data.readers.ade20k import open_ade20k
from scenepalette.data.readers.cityscapes import open_cityscapes
from scenepalette.data.readers.coco_stuff import open_coco_stuff

COUNTS = {"train": 8, "val": 4}
ADE = {"sky": 2, "road": 6, "car": 20, "tree": 4}
COCO = {"sky": 156, "road": 148, "car": 2, "tree": 168}
CITY = {"sky": 23, "road": 7, "car": 26, "tree": 21}
NUMBER = 1_000


def classes_of(ids: Mapping[str, int], index: int) -> np.ndarray:
    return np.array(list(ids.values()), np.uint8)[scene(index)]


def write_ade20k(root: Path, change: Callable[[np.ndarray], np.ndarray], ignored: int | None = None) -> Path:
    for index in range(12):
        folder = "training" if index < COUNTS["train"] else "validation"
        name = f"ADE_{folder[:5]}_{index:08d}"
        label = change(classes_of(ADE, index))
        if ignored is not None:
            label[:2, :6] = ignored
        write_pixels(root / "annotations" / folder / f"{name}.png", label.astype(np.uint8))
        write_pixels(root / "images" / folder / f"{name}.jpg", np.full((24, 32, 3), 9 * index, np.uint8))
    return root


def write_coco(root: Path, change: Callable[[np.ndarray], np.ndarray]) -> Path:
    for index in range(12):
        split = "train2017" if index < COUNTS["train"] else "val2017"
        label = change(classes_of(COCO, index))
        write_pixels(root / "annotations" / split / f"{NUMBER + index}.png", label.astype(np.uint8))
        write_pixels(root / "images" / split / f"{NUMBER + index}.jpg", np.full((24, 32, 3), 9 * index, np.uint8))
    return root


def write_cityscapes(root: Path, ids: Mapping[int, int]) -> Path:
    lookup = np.full(256, 255, np.uint8)
    lookup[list(ids)] = list(ids.values())
    for index in range(12):
        split = "train" if index < COUNTS["train"] else "val"
        label = lookup[classes_of(CITY, index)]
        label[0, :4] = ids.get(0, 255)
        write_pixels(root / "gtFine" / split / "ulm" / f"ulm_{index:02d}_gtFine_labelIds.png", label)
        image = np.full((24, 32, 3), 9 * index, np.uint8)
        write_pixels(root / "leftImg8bit" / split / "ulm" / f"ulm_{index:02d}_leftImg8bit.png", image)
    return root


def labels_read(
    open_it: Callable[..., PairedFiles], root: Path, settings: LabelSettings = AS_FOUND
) -> tuple[list[np.ndarray], list[PairedFiles]]:
    datasets = [open_it(root, split, labels=settings) for split in COUNTS]
    return [dataset[place].label for dataset in datasets for place in range(len(dataset))], datasets


def refusal(open_it: Callable[..., PairedFiles], root: Path, settings: LabelSettings = AS_FOUND) -> str:
    texts = []
    for split in COUNTS:
        with pytest.raises(DataError) as caught:
            open_it(root, split, labels=settings)
        texts.append(str(caught.value))
    return texts[0]


def assert_classes(labels: list[np.ndarray], ids: Mapping[str, int], ignored: tuple[int, int] = (0, 0)) -> None:
    for index, label in enumerate(labels):
        expected = classes_of(ids, index)
        expected[: ignored[0], : ignored[1]] = 255
        assert np.array_equal(label, expected)


def test_ade20k_as_published(tmp_path: Path) -> None:
    root = write_ade20k(tmp_path, lambda label: label + 1, ignored=0)
    labels, datasets = labels_read(open_ade20k, root)
    assert_classes(labels, ADE, (2, 6))
    assert datasets[0].notes == ()


@pytest.mark.parametrize("ignored", [255, None], ids=["with 255", "without"])
def test_ade20k_reduced_by_one_is_asked_about(tmp_path: Path, ignored: int | None) -> None:
    """Of labels without 255, sky and road are where the class before them is not to be expected."""
    root = write_ade20k(tmp_path, lambda label: label, ignored)
    text = refusal(open_ade20k, root)
    assert "seem reduced by one" in text and "data.label_offset to 1" in text
    assert ("255 occurs" in text) == (ignored is not None)
    labels, _ = labels_read(open_ade20k, root, LabelSettings(offset=1))
    assert_classes(labels, ADE, (2, 6) if ignored else (0, 0))
    labels, _ = labels_read(open_ade20k, root, LabelSettings(offset=0))
    assert packaged_table("ade20k").names[labels[0][20, 0]] == "ceiling"


def test_ade20k_with_255_and_its_last_class_is_read_as_published(tmp_path: Path) -> None:
    root = write_ade20k(tmp_path, lambda label: np.where(label == ADE["tree"], 150, label + 1), ignored=255)
    labels, _ = labels_read(open_ade20k, root)
    assert_classes(labels, {**ADE, "tree": 149}, (2, 6))


def test_255_of_ade20k_that_the_user_ignores_is_no_question(tmp_path: Path) -> None:
    root = write_ade20k(tmp_path, lambda label: label + 1, ignored=255)
    labels, _ = labels_read(open_ade20k, root, LabelSettings(ignore_ids=(255,)))
    assert_classes(labels, ADE, (2, 6))


def test_coco_stuff_as_published(tmp_path: Path) -> None:
    labels, datasets = labels_read(open_coco_stuff, write_coco(tmp_path, lambda label: label))
    assert_classes(labels, COCO)
    assert datasets[0].notes == ()


@pytest.mark.parametrize("other", [67, 44, 11], ids=["dining table", "bottle", "fire hydrant"])
def test_coco_stuff_from_1_holds_ids_that_are_never_annotated(tmp_path: Path, other: int) -> None:
    root = write_coco(tmp_path, lambda label: np.where(label == COCO["tree"], other, label + 1))
    text = refusal(open_coco_stuff, root)
    assert f"they hold {other}, which the published labels never do" in text
    assert "data.label_offset to -1" in text
    labels, _ = labels_read(open_coco_stuff, root, LabelSettings(offset=-1))
    assert_classes(labels, {**COCO, "tree": other - 1})


def test_coco_stuff_from_1_without_these_is_told_by_where_classes_lie(tmp_path: Path) -> None:
    root = write_coco(tmp_path, lambda label: label + 1)
    text = refusal(open_coco_stuff, root)
    assert "seem raised by one" in text and "sky-other and road" in text.replace(
        "road and sky-other", "sky-other and road"
    )
    labels, _ = labels_read(open_coco_stuff, root, LabelSettings(offset=-1))
    assert_classes(labels, COCO)


def test_cityscapes_as_published(tmp_path: Path) -> None:
    root = write_cityscapes(tmp_path, {0: 0, **{value: value for value in CITY.values()}})
    _, datasets = labels_read(open_cityscapes, root)
    assert datasets[0].notes == ()


def test_cityscapes_train_ids_are_asked_about_and_can_be_read(tmp_path: Path) -> None:
    root = write_cityscapes(tmp_path, {value: place for place, value in enumerate(CITYSCAPES.eval_ids)})
    text = refusal(open_cityscapes, root)
    assert "seem to hold train ids" in text and "data.label_encoding to train-ids" in text
    labels, _ = labels_read(open_cityscapes, root, LabelSettings("train-ids"))
    assert_classes(labels, CITY, (1, 4))
    labels, _ = labels_read(open_cityscapes, root, LabelSettings("ids"))
    assert CITYSCAPES.names[labels[0][20, 0]] == "unlabeled"
