"""The export for YOLO, painted again in two ways by readers that know nothing of how outlines are found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from matplotlib.path import Path as Outline
from PIL import Image, ImageDraw
from scipy import ndimage

from scenepalette.data.exports.exporting import export_shards
from scenepalette.data.exports.yolo import label_text, pieces_of
from scenepalette.data.shards.schema import Row


def polygons_of(text: str, size: tuple[int, int]) -> list[tuple[int, np.ndarray]]:
    """Return class and points [N, 2] (x, y in pixels) of each line."""
    found = []
    for line in text.splitlines():
        class_id, *numbers = line.split()
        points = np.array(numbers, dtype=float).reshape(-1, 2)
        assert len(points) >= 3 and (points >= 0).all() and (points <= 1).all()
        found.append((int(class_id), points * (size[1], size[0])))
    return found


def painted_by_centres(text: str, size: tuple[int, int]) -> np.ndarray:
    """Give each pixel the class of the last polygon that its centre lies in."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    centres = np.stack([columns.ravel() + 0.5, rows.ravel() + 0.5], axis=1)
    label = np.full(size, 255)
    for class_id, points in polygons_of(text, size):
        label[Outline(points).contains_points(centres).reshape(size)] = class_id
    return label


def painted_by_whole_numbers(text: str, size: tuple[int, int]) -> np.ndarray:
    """Fill polygons with their outlines, coordinates cut to whole numbers, as YOLO's readers do."""
    canvas = Image.new("L", (size[1], size[0]), 255)
    for class_id, points in polygons_of(text, size):
        ImageDraw.Draw(canvas).polygon([tuple(point) for point in points.astype(int)], fill=class_id, outline=class_id)
    return np.array(canvas)


@pytest.mark.parametrize("paint", [painted_by_centres, painted_by_whole_numbers])
def test_polygons_paint_every_labelled_pixel(
    paint: Callable[[str, tuple[int, int]], np.ndarray], make_shards: Callable[..., list[Row]], tmp_path: Path
) -> None:
    rows = make_shards(tmp_path / "shards", (3, 4))
    out = export_shards(tmp_path / "shards", "yolo-seg", tmp_path / "out")
    data = yaml.safe_load((out / "data.yaml").read_text())
    assert data == {"train": "images/train", "val": "images/val", "names": {0: "road", 1: "car, parked", 2: "sky"}}
    for row in rows:
        np.testing.assert_array_equal(np.array(Image.open(out / f"images/train/{row.id}.png")), row.image)
        painted = paint((out / f"labels/train/{row.id}.txt").read_text(), row.label.shape)
        labelled = row.label != 255
        np.testing.assert_array_equal(painted[labelled], row.label[labelled])


def test_each_connected_piece_is_a_polygon_the_largest_first() -> None:
    label = np.full((9, 12), 0, dtype=np.uint8)
    label[2:7, 2:7] = 1
    label[4, 4] = 2
    label[0, 11] = 1
    lines = label_text(label).splitlines()
    assert [line.split()[0] for line in lines] == ["0", "1", "1", "2"]
    count = sum(ndimage.label(label == class_id)[1] for class_id in range(3))
    assert len(lines) == count == 4
    np.testing.assert_array_equal(painted_by_centres(label_text(label), label.shape), label)


def test_what_is_lost_is_unlabelled_pixels_within_a_piece_alone() -> None:
    label = np.full((8, 8), 255, dtype=np.uint8)
    label[1:6, 1:6] = 1
    label[3, 3] = 255
    expected = label.copy()
    expected[3, 3] = 1
    np.testing.assert_array_equal(painted_by_centres(label_text(label), label.shape), expected)
    assert label_text(np.full((4, 4), 255, dtype=np.uint8)) == ""


@pytest.mark.parametrize("seed", range(5))
def test_pixels_that_touch_at_corners_alone_are_pieces_of_their_own(seed: int) -> None:
    label = np.random.default_rng(seed).integers(0, 2, (17, 23)).astype(np.uint8)
    pieces = pieces_of(label)
    assert len(pieces) == ndimage.label(label == 0)[1] + ndimage.label(label == 1)[1]
    text = label_text(label)
    np.testing.assert_array_equal(painted_by_centres(text, label.shape), label)
    np.testing.assert_array_equal(painted_by_whole_numbers(text, label.shape), label)
