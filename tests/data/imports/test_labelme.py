"""LabelMe: kinds of shapes, their order, images within JSON, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from annotated_sources import (
    HEIGHT,
    SQUARE,
    WIDTH,
    imported,
    labelme,
    labels_of,
    names_of,
    png_text,
    shape,
    stored,
    write_images,
    write_json_file,
)
from labelled_folders import random_image
from scenepalette.common.errors import DataError

BOTH = [shape("car", SQUARE), shape("tree", [[15, 3], [19, 3], [19, 9]])]


def make(root: Path, *shapes: Any, image: str | None = "a.png", **more: Any) -> Path:
    """A source with a training image of these shapes and a validation image with a car and a tree."""
    write_images(root / "train", ["a.png"])
    write_images(root / "val", ["b.png"])
    write_json_file(root / "train/a.json", labelme(shapes, image, **more))
    write_json_file(root / "val/b.json", labelme(BOTH, "b.png"))
    return root


def drawn(tmp_path: Path, *shapes: Any, **options: Any) -> np.ndarray:
    """Where the training image shows the class car."""
    imported(make(tmp_path / "in", *shapes), "labelme", tmp_path / "out", **options)
    assert names_of(tmp_path / "out")[:3] == ("background", "car", "tree")
    return labels_of(tmp_path / "out")["a"] == 1


def test_a_later_shape_lies_above(tmp_path: Path) -> None:
    assert not drawn(tmp_path, shape("car", SQUARE), shape("tree", [[x + 2, y] for x, y in SQUARE]))[6, 6]
    imported(
        make(tmp_path / "in2", shape("tree", [[x + 2, y] for x, y in SQUARE]), shape("car", SQUARE)),
        "labelme",
        tmp_path / "out2",
    )
    assert labels_of(tmp_path / "out2")["a"][6, 6] == 1


def test_a_class_that_a_later_shape_covers_is_noted(tmp_path: Path) -> None:
    road = shape("road", [[0, 0], [WIDTH, 0], [WIDTH, HEIGHT], [0, HEIGHT]])
    made = imported(make(tmp_path / "in", shape("car", SQUARE), road), "labelme", tmp_path / "out")
    (note,) = [note for note in made.notes if "cover entirely in an image: 1" in note]
    assert "train/a.json: car" in note


def test_names_that_differ_in_a_number_are_noted(tmp_path: Path) -> None:
    made = imported(make(tmp_path / "in", shape("car-1", SQUARE), shape("car-2", SQUARE)), "labelme", tmp_path / "out")
    assert any("differ in a number at the end alone" in note and "car / car-1 / car-2" in note for note in made.notes)


def test_kinds_of_shapes(tmp_path: Path) -> None:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    box = (rows >= 3) & (rows <= 12) & (columns >= 2) & (columns <= 9)
    cases = {
        "polygon": (shape("car", SQUARE), box),
        "none": (shape("car", SQUARE, None), box),
        "rectangle": (shape("car", [SQUARE[2], SQUARE[0]], "rectangle"), box),
        "four corners": (shape("car", SQUARE, "rectangle"), box),
        "turned": (shape("car", SQUARE, "oriented_rectangle"), box),
        "mask": (shape("car", [[2, 3], [9, 12]], "mask", mask=png_text(np.full((10, 8), 1, np.uint8))), box),
    }
    for number, (name, (found, wanted)) in enumerate(cases.items()):
        np.testing.assert_array_equal(drawn(tmp_path / str(number), found), wanted, err_msg=name)


def test_a_circle_goes_through_its_second_point(tmp_path: Path) -> None:
    found = drawn(tmp_path, shape("car", [[14, 10], [14, 16]], "circle"))
    rows, columns = np.nonzero(found)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (4, 16, 8, 20)
    assert abs(found.sum() - math.pi * 6.5**2) < 12


@pytest.mark.parametrize(("width", "most"), [(None, 10), (1, 1), (4, 4)])
@pytest.mark.parametrize("kind", ["line", "linestrip"])
def test_lines_have_a_width(kind: str, width: int | None, most: int, tmp_path: Path) -> None:
    found = drawn(tmp_path, shape("car", [[0, 10], [29, 10]], kind), line_width=width)
    assert abs(found[:, 15].sum() - most) <= 1


def test_a_mask_keeps_its_holes(tmp_path: Path) -> None:
    mask = np.full((10, 8), 255, np.uint8)
    mask[4:6, 3:5] = 0
    found = drawn(tmp_path, shape("car", [[2, 3], [9, 12]], "mask", mask=png_text(mask)))
    np.testing.assert_array_equal(found[3:13, 2:10], mask > 0)


def test_points_are_left_out_with_a_note_and_make_no_class(tmp_path: Path) -> None:
    root = make(tmp_path / "in", *BOTH, shape("corner", [[3, 3]], "point"))
    made = imported(root, "labelme", tmp_path / "out")
    assert made.classes == ["background", "car", "tree"]
    assert any("points, which cover no area" in note for note in made.notes)


def test_own_names_for_background_and_nothing(tmp_path: Path) -> None:
    whole = [[0, 0], [WIDTH - 1, 0], [WIDTH - 1, HEIGHT - 1], [0, HEIGHT - 1]]
    shapes = shape("__ignore__", whole), shape("_background_", SQUARE), shape("car", [[20, 3], [25, 3], [25, 9]])
    imported(make(tmp_path / "in", *shapes), "labelme", tmp_path / "out")
    assert names_of(tmp_path / "out") == ("_background_", "car", "tree")
    label = labels_of(tmp_path / "out")["a"]
    assert (label[0, 0], label[6, 5], label[4, 24]) == (255, 0, 1)


def test_ignored_classes(tmp_path: Path) -> None:
    root = make(tmp_path / "in", shape("unsure", SQUARE), *BOTH[1:])
    made = imported(root, "labelme", tmp_path / "out", ignore=("unsure",))
    assert made.classes == ["background", "car", "tree"] and labels_of(tmp_path / "out")["a"][6, 5] == 255


def test_images_may_lie_within_the_annotations(tmp_path: Path) -> None:
    pixels = random_image(5, HEIGHT, WIDTH)
    root = make(tmp_path / "in", *BOTH, image="C:\\Users\\me\\c.jpg", imageData=png_text(pixels))
    (root / "train/a.png").unlink()
    made = imported(root, "labelme", tmp_path / "out")
    assert (tmp_path / "out/train/images/a.png").is_file()
    assert any("from within their annotations" in note for note in made.notes)


@pytest.mark.parametrize("stated", ["..\\pictures\\a.png", "../pictures/a.png", "a.png"])
def test_images_may_lie_in_another_folder_of_the_source(stated: str, tmp_path: Path) -> None:
    root = make(tmp_path / "in", *BOTH, image=stated)
    (root / "pictures").mkdir()
    (root / "train/a.png").rename(root / "pictures/a.png")
    assert imported(root, "labelme", tmp_path / "out").pairs == {"train": 1, "val": 1}


def test_two_files_of_one_image_are_refused(tmp_path: Path) -> None:
    root = make(tmp_path / "in", *BOTH)
    write_json_file(root / "train/a - copy.json", labelme(BOTH[:1], "a.png"))
    with pytest.raises(DataError, match=r"annotated twice: 1 \(train/a.json and train/a - copy.json\)"):
        imported(root, "labelme", tmp_path / "out")


def test_images_in_a_named_folder_are_found_by_their_last_name(tmp_path: Path) -> None:
    root = make(tmp_path / "in", *BOTH, image="/home/someone/else/a.png")
    with pytest.raises(DataError, match=r"lead out of the folder: 1 .*With --images FOLDER"):
        imported(root, "labelme", tmp_path / "out")
    write_images(tmp_path / "pictures", ["a.png", "b.png"])
    assert imported(root, "labelme", tmp_path / "out", images=tmp_path / "pictures").pairs == {"train": 1, "val": 1}


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (shape("car", [[1, 1]], "rectangle"), "rectangle of 1 points"),
        (shape("car", [[1, 1]], "circle"), "circle of 1 points"),
        (shape("car", SQUARE, "cube"), "kind that is not read.*'cube'"),
        (shape("car", SQUARE, ["x"]), "kind that is not read"),
        (shape("car", "abc"), "shapes that cannot be drawn"),
        (shape("car", [[1, 2, 3]] * 3), "shapes that cannot be drawn"),
        (shape("car", [[1, None]] * 3), "shapes that cannot be drawn"),
        (shape("car", [[0.1, 0.2], [0.5, 0.2], [0.5, 0.9]]), "all coordinates from 0 to 1"),
        (shape("car", [[100, 200], [500, 200], [500, 900]]), "far outside of their image"),
        (shape("car", [[2, 3], [9, 12]], "mask", mask="!!"), "mask"),
        (shape("car", [[2, 3], [9, 12]], "mask", mask=None), "mask"),
        (
            shape("car", [[2, 3], [9, 12]], "mask", mask=png_text(np.ones((3, 3), np.uint8))),
            "3 x 3 for a box of 8 x 10",
        ),
        ({"points": SQUARE}, "class that is not declared"),
        (7, "shape 0 is 7"),
    ],
)
def test_a_shape_that_is_wrong_is_refused(found: Any, text: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=text):
        imported(make(tmp_path / "in", found), "labelme", tmp_path / "out")


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"image": "z.png"}, "missing images: 1"),
        ({"image": None}, "names that cannot be those of files"),
        ({"image": "../../../z.png"}, "lead out of the folder"),
        ({"imageHeight": 40, "imageWidth": 60}, "annotations for another size.*60 x 40, the image has 30 x 20"),
        ({"image": "z.png", "imageData": "%%%"}, "imageData"),
        ({"shapes": "none"}, "shapes are 'none'"),
    ],
)
def test_a_document_that_is_wrong_is_refused(more: dict[str, Any], text: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=text):
        imported(make(tmp_path / "in", *BOTH, **more), "labelme", tmp_path / "out")


def test_sizes_that_are_not_stated_are_those_of_the_images(tmp_path: Path) -> None:
    imported(make(tmp_path / "in", *BOTH, imageHeight=None, imageWidth=None), "labelme", tmp_path / "out")
    assert stored(tmp_path / "out", "train", "a").shape == (HEIGHT, WIDTH)


def test_other_json_files_are_passed_over(tmp_path: Path) -> None:
    root = make(tmp_path / "in", *BOTH)
    write_json_file(root / "settings.json", {"theme": "dark"})
    made = imported(root, "labelme", tmp_path / "out")
    assert any("not LabelMe annotations, skipped: 1 (settings.json)" in note for note in made.notes)


def test_a_folder_without_annotations_is_refused(tmp_path: Path) -> None:
    write_images(tmp_path / "in", ["a.png"])
    with pytest.raises(DataError, match="holds no LabelMe file"):
        imported(tmp_path / "in", "labelme", tmp_path / "out")
