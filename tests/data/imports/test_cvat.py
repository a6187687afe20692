"""CVAT's XML: order by z_order, kinds of shapes, subsets, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from annotated_sources import HEIGHT, WIDTH, imported, labels_of, names_of, write_images
from scenepalette.common.errors import ConfigError, DataError
from scenepalette.data.datasets import open_dataset

META = (
    "<meta><task><labels><label><name>car</name><color>#00008e</color><type>any</type></label>"
    "<label><name>tree</name><color>#6b8e23</color></label>"
    "<label><name>nose</name><color>#ffffff</color><type>points</type></label></labels></task></meta>"
)
BOTH = '<box label="car" xtl="2" ytl="3" xbr="9" ybr="12"/><box label="tree" xtl="15" ytl="3" xbr="20" ybr="9"/>'
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH]


def document(*images: str, meta: str = META) -> str:
    inner = f"<version>1.1</version>{meta}{''.join(images)}"
    return f"<?xml version='1.0' encoding='utf-8'?><annotations>{inner}</annotations>"


def image(name: str, shapes: str, subset: str = "", size: tuple[int, int] = (HEIGHT, WIDTH)) -> str:
    return f'<image id="0" name="{name}" subset="{subset}" height="{size[0]}" width="{size[1]}">{shapes}</image>'


def make(root: Path, shapes: str, meta: str = META) -> Path:
    """A source with a training image of these shapes and a validation image with a car and a tree."""
    write_images(root / "images/Train", ["a.png"])
    write_images(root / "images/Validation", ["b.png"])
    content = document(image("a.png", shapes, "Train"), image("b.png", BOTH, "Validation"), meta=meta)
    (root / "annotations.xml").write_text(content)
    return root


def drawn(tmp_path: Path, shapes: str, **options: int) -> np.ndarray:
    imported(make(tmp_path / "in", shapes), "cvat", tmp_path / "out", **options)
    return labels_of(tmp_path / "out")["a"]


@pytest.mark.parametrize(("z_car", "z_tree", "above"), [(0, 0, 2), (1, 0, 1), (0, 1, 2), (5, -2, 1), (10, 9, 1)])
def test_the_higher_z_order_lies_above_and_of_equal_ones_the_later(
    z_car: int, z_tree: int, above: int, tmp_path: Path
) -> None:
    label = drawn(
        tmp_path,
        f'<polygon label="car" points="2,3;9,3;9,12;2,12" z_order="{z_car}"/>'
        f'<polygon label="tree" points="5,3;14,3;14,12;5,12" z_order="{z_tree}"/>',
    )
    assert (label[6, 3], label[6, 7], label[6, 12]) == (1, above, 2)
    table = open_dataset("folder", "train", tmp_path / "out").table
    assert table.names == ("background", "car", "tree") and table.classes[1].color == (0, 0, 142)


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        (
            '<box label="car" xtl="2" ytl="3" xbr="9" ybr="12"/>',
            (ROWS >= 3) & (ROWS <= 12) & (COLUMNS >= 2) & (COLUMNS <= 9),
        ),
        (
            '<box label="car" xtl="4" ytl="6" xbr="14" ybr="12" rotation="90"/>',
            (ROWS >= 4) & (ROWS <= 14) & (COLUMNS >= 6) & (COLUMNS <= 12),
        ),
        (
            '<mask label="car" rle="1, 2, 1, 2" left="4" top="5" width="3" height="2"/>',
            np.isin(ROWS * WIDTH + COLUMNS, [5 * WIDTH + 5, 5 * WIDTH + 6, 6 * WIDTH + 5, 6 * WIDTH + 6]),
        ),
        (
            '<mask label="car" rle="0,4" left="4" top="5" width="2" height="2"/>',
            (abs(ROWS - 5.5) < 1) & (abs(COLUMNS - 4.5) < 1),
        ),
    ],
)
def test_kinds_of_shapes(shape: str, wanted: np.ndarray, tmp_path: Path) -> None:
    np.testing.assert_array_equal(drawn(tmp_path, shape) == 1, wanted)


@pytest.mark.parametrize(("degrees", "tall", "wide"), [(0, 4, 8), (90, 8, 4), (180, 4, 8)])
def test_ellipses_are_turned_clockwise(degrees: int, tall: int, wide: int, tmp_path: Path) -> None:
    found = drawn(tmp_path, f'<ellipse label="car" cx="15" cy="10" rx="8" ry="4" rotation="{degrees}"/>') == 1
    rows, columns = np.nonzero(found)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (10 - tall, 10 + tall, 15 - wide, 15 + wide)


def test_lines_and_what_covers_no_area(tmp_path: Path) -> None:
    shapes = '<polyline label="car" points="0,10;29,10"/><points label="nose" points="3,3"/><tag label="tree"/>'
    made = imported(make(tmp_path / "in", shapes), "cvat", tmp_path / "out", line_width=4)
    assert abs((labels_of(tmp_path / "out")["a"] == 1)[:, 15].sum() - 4) <= 1
    told = " ".join(made.notes)
    assert "drawn 4 pixels wide" in told and "with points, which cover no area" in told and "with tag" in told
    assert names_of(tmp_path / "out") == ("background", "car", "tree")


@pytest.mark.parametrize(
    ("shapes", "text"),
    [
        ('<polygon label="bus" points="1,1;5,1;5,5"/>', "class that is not declared: 1 .*'bus'"),
        ('<polygon points="1,1;5,1;5,5"/>', "class that is not declared"),
        ('<polygon label="car" points="1,1;5;5,5"/>', "shapes that cannot be drawn"),
        ('<polygon label="car" points="1,nan;5,1;5,5"/>', "shapes that cannot be drawn"),
        ('<polygon label="car" points="1,1;500,1;5,5"/>', "far outside of their image"),
        ('<polygon label="car" points="0.1,0.1;0.5,0.1;0.5,0.5"/>', "all coordinates from 0 to 1"),
        ('<box label="car" xtl="1" ytl="1" xbr="5"/>', "shapes that cannot be drawn"),
        ('<ellipse label="car" cx="9" cy="9" rx="0" ry="3"/>', "shapes that cannot be drawn"),
        ('<mask label="car" rle="1,2" left="4" top="5" width="3" height="2"/>', "run lengths that do not fit"),
        ('<mask label="car" rle="0,6" left="29" top="5" width="3" height="2"/>', "run lengths that do not fit"),
        ('<mask label="car" rle="" left="2" top="5" width="3" height="2"/>', "run lengths that do not fit"),
        ('<mask label="car" rle="6"/>', "run lengths that do not fit"),
        ('<cuboid label="car" xtl1="1"/>', "kind that is not read: 1 .*cuboid"),
        ('<sphere label="car"/>', "kind that is not read"),
    ],
)
def test_a_shape_that_is_wrong_is_refused(shapes: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=text):
        imported(make(tmp_path / "in", shapes), "cvat", tmp_path / "out")


BOMB = '<!DOCTYPE a [<!ENTITY x "xxxxxxxxxx"><!ENTITY y "&x;&x;&x;">]>'


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", "it is not XML"),
        ("<annotations>", "it is not XML"),
        (f"<?xml version='1.0'?>{BOMB}<annotations>&y;</annotations>", "document type"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotations/>', "document type"),
        ("<annotations>" + "<a>" * 40 + "</a>" * 40 + "</annotations>", "nested deeper than 32"),
        ("<annotations><track id='0'/></annotations>", "tracks of a video; export it as CVAT for images"),
        ("<annotation><object/></annotation>", "no annotations in CVAT's XML"),
    ],
)
def test_a_document_that_is_wrong_is_refused(content: str, text: str, tmp_path: Path) -> None:
    root = make(tmp_path / "in", BOTH)
    (root / "annotations.xml").write_text(content)
    with pytest.raises(DataError, match=text):
        imported(root, "cvat", tmp_path / "out")


@pytest.mark.parametrize("name", ["../../secret.png", "/etc/secret.png", "c:/secret.png"])
def test_images_outside_of_the_folder_are_refused(name: str, tmp_path: Path) -> None:
    root = make(tmp_path / "in", BOTH)
    write_images(tmp_path, ["secret.png"])
    (root / "annotations.xml").write_text(document(image(name, BOTH, "Train"), image("b.png", BOTH, "Validation")))
    with pytest.raises(DataError, match="lead out of the folder: 1"):
        imported(root, "cvat", tmp_path / "out")


def test_an_image_of_another_size_is_refused(tmp_path: Path) -> None:
    root = make(tmp_path / "in", BOTH)
    content = document(image("a.png", BOTH, "Train", (40, 60)), image("b.png", BOTH, "Validation"))
    (root / "annotations.xml").write_text(content)
    with pytest.raises(DataError, match="another size"):
        imported(root, "cvat", tmp_path / "out")


def test_a_name_that_two_images_have_is_refused_unless_the_subset_says_which(tmp_path: Path) -> None:
    root = make(tmp_path / "in", BOTH)
    write_images(root / "images/Validation", ["a.png"])
    with pytest.raises(DataError, match=r"names that several images have: 1 .*images/Train/a.png"):
        imported(root, "cvat", tmp_path / "out")


def test_the_file_itself_may_be_the_source(tmp_path: Path) -> None:
    made = imported(make(tmp_path / "in", BOTH) / "annotations.xml", "cvat", tmp_path / "out")
    assert made.pairs == {"train": 1, "val": 1}
    with pytest.raises(ConfigError, match="does not exist"):
        imported(tmp_path / "none", "cvat", tmp_path / "other")


def test_without_declared_labels_those_that_occur_count(tmp_path: Path) -> None:
    imported(make(tmp_path / "in", BOTH, meta=""), "cvat", tmp_path / "out")
    assert names_of(tmp_path / "out") == ("background", "car", "tree")
