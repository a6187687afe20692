"""Cityscapes' polygons: drawn as its scripts draw them, by its ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from annotated_sources import (
    HEIGHT,
    SQUARE,
    WIDTH,
    imported,
    labels_of,
    names_of,
    stored,
    write_images,
    write_json_file,
)
from scenepalette.common.errors import DataError
from scenepalette.data.decoding.class_files import CITYSCAPES

WHOLE = [[0, 0], [WIDTH, 0], [WIDTH, HEIGHT], [0, HEIGHT]]
ROAD, CAR, SKY = 7, 26, 23


def found(label: str, polygon: Any = SQUARE, **more: Any) -> dict[str, Any]:
    return {"label": label, "polygon": polygon, **more}


SCENE = (found("road", WHOLE), found("sky", [[0, 0], [WIDTH, 0], [WIDTH, 4], [0, 4]]), found("car"))


def make(root: Path, *objects: Any, split: str = "train", **more: Any) -> Path:
    for part, shown in (("train", SCENE), ("val", SCENE), (split, objects)):
        write_images(root / f"leftImg8bit/{part}/aachen", ["aachen_000000_000019_leftImg8bit.png"])
        content = {"imgHeight": HEIGHT, "imgWidth": WIDTH, "objects": list(shown)}
        name = f"gtFine/{part}/aachen/aachen_000000_000019_gtFine_polygons.json"
        write_json_file(root / name, content | (more if part == split and shown is objects else {}))
        write_images(root / f"gtFine/{part}/aachen", ["aachen_000000_000019_gtFine_color.png"])
    return root


def drawn(tmp_path: Path, *objects: Any) -> np.ndarray:
    imported(make(tmp_path / "in", *objects), "cityscapes-json", tmp_path / "out")
    return stored(tmp_path / "out", "train", "aachen_000000_000019")


def test_objects_are_drawn_in_their_order_with_the_published_ids(tmp_path: Path) -> None:
    label = drawn(tmp_path, *SCENE)
    assert (label[0, 0], label[15, 0], label[6, 5]) == (SKY, ROAD, CAR)
    assert names_of(tmp_path / "out") == CITYSCAPES.names
    assert list(labels_of(tmp_path / "out")) == ["aachen_000000_000019"]


@pytest.mark.parametrize(
    ("last", "value"),
    [
        (found("car", deleted=1), ROAD),
        (found("car", deleted=True), ROAD),
        (found("car", deleted=0), CAR),
        (found("car", deleted="0"), CAR),
        (found("car", deleted="1"), ROAD),
        (found("cargroup"), CAR),
        (found("persongroup"), 24),
        (found("license plate"), ROAD),
        (found("out of roi"), 3),
        (found("ego vehicle"), 1),
        (found("unlabeled"), 0),
        (found("car", SQUARE[:2]), ROAD),
    ],
)
def test_labels_of_their_own_kind(last: dict[str, Any], value: int, tmp_path: Path) -> None:
    assert drawn(tmp_path, found("road", WHOLE), last)[6, 5] == value


def test_what_nothing_covers_is_unlabeled(tmp_path: Path) -> None:
    assert drawn(tmp_path, *SCENE[1:])[15, 20] == 0


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (found("spaceship"), "not declared: 1 .*'spaceship'"),
        (found("car", [[1, 2], [3]]), "shapes that cannot be drawn"),
        (found("car", "here"), "shapes that cannot be drawn"),
        (found("car", [[1, 2], [3, 4], [5000, 1]]), "far outside"),
        ({"polygon": SQUARE}, "not declared"),
        (3, "object 0 is 3"),
        (found("car", deleted="maybe"), "object 0 with deleted 'maybe'"),
        (found("group"), "'group'"),
    ],
)
def test_an_object_that_is_wrong_is_refused(wrong: Any, text: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=text):
        drawn(tmp_path, wrong)


@pytest.mark.parametrize(
    ("more", "text"), [({"objects": 3}, "without a list of objects"), ({"imgHeight": 99}, "another size")]
)
def test_a_document_that_is_wrong_is_refused(more: dict[str, Any], text: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=text):
        imported(make(tmp_path / "in", *SCENE, **more), "cityscapes-json", tmp_path / "out")


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    root = make(tmp_path / "in", *SCENE)
    (root / "leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png").unlink()
    (root / "leftImg8bit/val/aachen/aachen_000000_000019_leftImg8bit.png").unlink()
    with pytest.raises(DataError, match=r"missing images: 2 .*aachen_000000_000019_leftImg8bit.png"):
        imported(root, "cityscapes-json", tmp_path / "out")


@pytest.mark.parametrize(("objects", "tested"), [((found("ego vehicle"), found("out of roi")), False), (SCENE, True)])
def test_a_test_split_counts_if_it_shows_classes(objects: Any, tested: bool, tmp_path: Path) -> None:
    made = imported(make(tmp_path / "in", *objects, split="test"), "cityscapes-json", tmp_path / "out")
    assert ("test" in made.pairs) == tested
    assert any("no evaluated class" in note for note in made.notes) != tested


def test_other_classes_by_a_class_file(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("name,red,green,blue\nother,0,0,0\nroad,128,64,128\ncar,0,0,142\n")
    root = make(tmp_path / "in", *SCENE)
    options = {"classes": tmp_path / "mine.csv", "background": "other"}
    with pytest.raises(DataError, match=r"not declared: 2 .*'sky'"):
        imported(root, "cityscapes-json", tmp_path / "out", **options)
    imported(root, "cityscapes-json", tmp_path / "out", **options, ignore=("sky",))
    label = labels_of(tmp_path / "out")["aachen_000000_000019"]
    assert (label[0, 0], label[15, 0], label[6, 5]) == (255, 1, 2)


def test_coarse_annotations_of_images_with_fine_ones_are_skipped(tmp_path: Path) -> None:
    root = make(tmp_path / "in", *SCENE)
    content = {"imgHeight": HEIGHT, "imgWidth": WIDTH, "objects": [found("car", WHOLE)]}
    for frame in ("aachen_000000_000019", "aachen_000001_000019"):
        write_json_file(root / f"gtCoarse/train/aachen/{frame}_gtCoarse_polygons.json", content)
    write_images(root / "leftImg8bit/train/aachen", ["aachen_000001_000019_leftImg8bit.png"])
    made = imported(root, "cityscapes-json", tmp_path / "out")
    assert made.pairs == {"train": 2, "val": 1}
    assert stored(tmp_path / "out", "train", "aachen_000000_000019")[15, 0] == ROAD
    assert stored(tmp_path / "out", "train", "aachen_000001_000019")[15, 0] == CAR
    assert any("coarse annotations of images that have fine ones, skipped: 1" in note for note in made.notes)


def test_images_may_have_any_ending_that_is_read(tmp_path: Path) -> None:
    root = make(tmp_path / "in", *SCENE)
    for path in root.rglob("*_leftImg8bit.png"):
        Image.open(path).save(path.with_suffix(".tif"))
        path.unlink()
    assert imported(root, "cityscapes-json", tmp_path / "out").pairs == {"train": 1, "val": 1}
