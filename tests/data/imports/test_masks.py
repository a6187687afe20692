"""VOC's palettes and colour masks, decided on by the reader `folder`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from annotated_sources import HEIGHT, WIDTH, imported, labels_of, names_of, write_images
from labelled_folders import write_pixels
from scenepalette.common.errors import ConfigError, DataError
from scenepalette.data.decoding.label_images import colour_of, voc_colour

LABEL = np.zeros((HEIGHT, WIDTH), np.uint8)
LABEL[5:12, 4:20] = 7
LABEL[12:, 4:20] = 15
LABEL[4, 4:20] = 255
CLASSES = "name,red,green,blue\nroad,128,64,128\ncar,0,0,142\nsky,70,130,180\n"
COLOURS = np.array([(128, 64, 128), (0, 0, 142), (70, 130, 180)], np.uint8)


def write_palette(path: Path, label: np.ndarray, colours: list[tuple[int, int, int]] | None = None) -> None:
    image = Image.fromarray(label)
    palette = colours or [*(colour_of(voc_colour(k)) for k in range(255)), (224, 224, 192)]
    image.putpalette([part for colour in palette for part in colour])
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def voc(root: Path, *, lists: bool = True, names: tuple[str, ...] = ("2007_a", "2007_b")) -> Path:
    write_images(root / "JPEGImages", [f"{name}.png" for name in (*names, "2008_unlabelled")])
    for name in names:
        write_palette(root / f"SegmentationClass/{name}.png", LABEL)
        write_palette(root / f"SegmentationObject/{name}.png", LABEL // 2)
        (root / "Annotations").mkdir(exist_ok=True)
        (root / f"Annotations/{name}.xml").write_text("<annotation/>")
    if lists:
        folder = root / "ImageSets/Segmentation"
        folder.mkdir(parents=True)
        (folder / "train.txt").write_text("2007_a\n")
        (folder / "val.txt").write_text("2007_b\n")
        (folder / "trainval.txt").write_text("2007_a\n2007_b\n")
    return root


@pytest.mark.parametrize("around", ["", "VOC2012", "VOCdevkit/VOC2012"])
def test_voc_is_read_by_its_palette_with_ignored_borders(around: str, tmp_path: Path) -> None:
    voc(tmp_path / "in" / around)
    made = imported(tmp_path / "in", "voc", tmp_path / "out")
    assert made.pairs == {"train": 1, "val": 1} and len(made.classes) == 21
    np.testing.assert_array_equal(labels_of(tmp_path / "out")["2007_a"], LABEL)
    assert names_of(tmp_path / "out")[7] == "car"
    assert any("PASCAL VOC's 21" in note for note in made.notes)


def test_voc_in_its_colours_is_read_too(tmp_path: Path) -> None:
    root = voc(tmp_path / "in")
    for name in ("2007_a", "2007_b"):
        path = root / f"SegmentationClass/{name}.png"
        Image.open(path).convert("RGB").save(path)
    imported(root, "voc", tmp_path / "out")
    np.testing.assert_array_equal(labels_of(tmp_path / "out")["2007_a"], LABEL)


def test_a_labelmap_of_cvat_names_classes_and_colours(tmp_path: Path) -> None:
    root = voc(tmp_path / "in")
    lines = "# label:color_rgb:parts:actions\nbackground:0,0,0::\nroad:128,64,128::\ncar:0,0,142::\n"
    (root / "labelmap.txt").write_text(lines)
    colours = np.array([(0, 0, 0), *COLOURS[:2]], np.uint8)
    for name in ("2007_a", "2007_b"):
        write_pixels(root / f"SegmentationClass/{name}.png", colours[LABEL % 3])
    made = imported(root, "voc", tmp_path / "out")
    assert made.classes == ["background", "road", "car"]
    np.testing.assert_array_equal(labels_of(tmp_path / "out")["2007_a"], LABEL % 3)
    (root / "labelmap.txt").write_text("background:0,0,0::\ncar;1;2;3\n")
    with pytest.raises(DataError, match=r"labelmap.txt cannot be used: 'car;1;2;3' is no class"):
        imported(root, "voc", tmp_path / "other")


def test_class_names_of_labelme_name_classes(tmp_path: Path) -> None:
    root = voc(tmp_path / "in")
    (root / "class_names.txt").write_text("".join(f"{n}\n" for n in ["__ignore__", "_background_", *"abcdefghijklmno"]))
    imported(root, "voc", tmp_path / "out")
    assert names_of(tmp_path / "out")[:3] == ("_background_", "a", "b")


def test_values_of_no_class_are_refused(tmp_path: Path) -> None:
    root = voc(tmp_path / "in")
    write_palette(root / "SegmentationClass/2007_a.png", np.where(LABEL == 7, 99, LABEL).astype(np.uint8))
    with pytest.raises(DataError, match="99"):
        imported(root, "voc", tmp_path / "out")


def test_voc_without_masks_or_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in/Annotations").mkdir(parents=True)
    with pytest.raises(DataError, match="no folder SegmentationClass"):
        imported(tmp_path / "in", "voc", tmp_path / "out")
    for year in (2007, 2012):
        voc(tmp_path / f"both/VOC{year}")
    with pytest.raises(ConfigError, match="data sets of their own"):
        imported(tmp_path / "both", "voc", tmp_path / "out")


def colours(root: Path, masks: dict[str, np.ndarray] | None = None) -> Path:
    for split in ("train", "val"):
        for seed in range(3):
            ids = np.random.default_rng(seed).integers(0, 3, (HEIGHT, WIDTH))
            write_images(root / split / "images", [f"{split}{seed}.png"])
            write_pixels(root / split / f"masks/{split}{seed}.png", COLOURS[ids])
    for name, pixels in (masks or {}).items():
        write_pixels(root / name, pixels)
    (root.parent / "mine.csv").write_text(CLASSES)
    return root


def test_colour_masks_by_a_class_file(tmp_path: Path) -> None:
    made = imported(colours(tmp_path / "in"), "colours", tmp_path / "out", classes=tmp_path / "mine.csv")
    assert made.pairs == {"train": 3, "val": 3}
    wanted = np.random.default_rng(1).integers(0, 3, (HEIGHT, WIDTH))
    np.testing.assert_array_equal(labels_of(tmp_path / "out")["train1"], wanted)


def test_missing_folders_are_said_to_be_missing_with_the_layout(tmp_path: Path) -> None:
    write_images(tmp_path / "in/train/images", ["a.png"], 6, 8)
    write_pixels(tmp_path / "in/train/labels/a.png", COLOURS[np.zeros((6, 8), np.uint8)])
    (tmp_path / "classes.csv").write_text(CLASSES)
    with pytest.raises(DataError) as caught:
        imported(tmp_path / "in", "colours", tmp_path / "out", classes=tmp_path / "classes.csv")
    (problem,) = caught.value.problems
    assert "Correct SOURCE" in problem and problem.endswith("Missing are: val/images/, val/labels/")


def test_colours_need_a_class_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs --classes FILE"):
        imported(colours(tmp_path / "in"), "colours", tmp_path / "out")


@pytest.mark.parametrize(
    ("pixels", "text"),
    [
        (np.full((HEIGHT, WIDTH, 3), 9, np.uint8), r"colours \(9, 9, 9\)"),
        (np.zeros((5, 5, 3), np.uint8) + COLOURS[0], "5 x 5|5x5"),
    ],
)
def test_masks_that_do_not_fit_are_refused(pixels: np.ndarray, text: str, tmp_path: Path) -> None:
    root = colours(tmp_path / "in", {"train/masks/train0.png": pixels})
    with pytest.raises(DataError, match=text) as caught:
        imported(root, "colours", tmp_path / "out", classes=tmp_path / "mine.csv")
    assert not any("data.colour" in text for text in caught.value.problems)


def test_near_colours_need_a_tolerance(tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(0, 3, (HEIGHT, WIDTH))
    noisy = COLOURS[ids] + np.random.default_rng(1).integers(0, 4, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    root = colours(tmp_path / "in", {"train/masks/train0.png": noisy})
    options: dict[str, Any] = {"classes": tmp_path / "mine.csv"}
    with pytest.raises(DataError, match="--colour-tolerance"):
        imported(root, "colours", tmp_path / "out", **options)
    imported(root, "colours", tmp_path / "out", **options, colour_tolerance=6)
    np.testing.assert_array_equal(labels_of(tmp_path / "out")["train0"], ids)


def test_of_two_folders_of_label_maps_an_option_names_the_right_one(tmp_path: Path) -> None:
    root, ids = tmp_path / "in", np.zeros((HEIGHT, WIDTH), np.uint8)
    ids[6:] = 1
    for split in ("train", "val"):
        write_images(root / split / "images", [f"{split}.png"])
        write_pixels(root / split / f"masks/{split}.png", COLOURS[ids + 1])
        write_pixels(root / split / f"gt/{split}_gt.png", COLOURS[ids])
    (tmp_path / "classes.csv").write_text(CLASSES)
    with pytest.raises(DataError, match=r"could both be meant.* or set --label-folder to the right one"):
        imported(root, "colours", tmp_path / "out", classes=tmp_path / "classes.csv")
    made = imported(root, "colours", tmp_path / "out", classes=tmp_path / "classes.csv", label_folder="gt")
    np.testing.assert_array_equal(labels_of(tmp_path / "out")["train"], ids)
    assert any("with '_gt' added; --label-suffix overrules it" in note for note in made.notes)
    with pytest.raises(ConfigError, match="--orientation is 'up'; required is one of by size, stored, upright"):
        imported(root, "colours", tmp_path / "other", classes=tmp_path / "classes.csv", orientation="up")
