"""Cityscapes' layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scenepalette.common.errors import DataError
from scenepalette.data.decoding.class_files import CITYSCAPES
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


@pytest.mark.parametrize("mode", ["RGBA", "RGB", "P"])
def test_labels_in_the_published_colours_are_decoded(cityscapes_root: Path, mode: str) -> None:
    """The published *_color.png are opaque RGBA; of classes of one colour the evaluated one is read."""
    colours = np.array([entry.color for entry in CITYSCAPES.classes], np.uint8)
    first = {}
    for class_id, entry in enumerate(CITYSCAPES.classes):
        if entry.color not in first or (entry.evaluated and not CITYSCAPES.classes[first[entry.color]].evaluated):
            first[entry.color] = class_id
    read_as = np.array([first[entry.color] for entry in CITYSCAPES.classes])
    assert read_as[34] == 26  # a licence plate is drawn as the car that it belongs to
    drawn = {}
    for number, path in enumerate(sorted(cityscapes_root.glob("gtFine/*/*/*_labelIds.png"))):
        with Image.open(path) as image:
            shape = (image.height, image.width)
        drawn[path.name.removesuffix("_gtFine_labelIds.png")] = label = np.roll(np.resize(np.arange(35), shape), number)
        image = Image.fromarray(colours[label])
        (image.quantize(35) if mode == "P" else image.convert(mode)).save(path)
    dataset = open_cityscapes(cityscapes_root, "train")
    assert len(dataset.notes) == 1 and "decoded by" in dataset.notes[0]
    for index, name in enumerate(dataset.ids):
        assert np.array_equal(dataset[index].label, read_as[drawn[name]])


def test_annotations_without_label_ids_are_told_with_what_to_do(cityscapes_root: Path) -> None:
    for path in cityscapes_root.glob("gtFine/train/*/*_labelIds.png"):
        path.rename(path.with_name(path.name.replace("labelIds", "labelTrainIds")))
    with pytest.raises(
        DataError, match=r"but no label files \*_gtFine_labelIds\.png.* data\.label_encoding to train-ids"
    ):
        open_cityscapes(cityscapes_root, "train")


def test_a_colour_that_cityscapes_does_not_have_is_refused(cityscapes_root: Path) -> None:
    path = next(iter(sorted(cityscapes_root.glob("gtFine/train/*/*_labelIds.png"))))
    with Image.open(path) as image:
        pixels = np.full((image.height, image.width, 3), (128, 64, 128), np.uint8)
    pixels[0, 0] = (1, 2, 3)
    Image.fromarray(pixels).save(path)
    with pytest.raises(DataError, match=r"colours \(1, 2, 3\) in 1 pixel are no class's"):
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
