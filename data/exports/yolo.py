"""YOLO's segmentation form: a text file of polygons per image, a polygon for each connected piece of a class.

The form follows Ultralytics' "Instance Segmentation Datasets Overview": a line `class x1 y1 x2 y2 ...` with coordinates
as fractions of width and height. It has no holes and no unlabelled pixels. Polygons come from the largest to the
smallest: painted in this order, those within a hole of another one come out on top of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml
from scipy import ndimage

from scenepalette.common.storage.files import write_atomically
from scenepalette.data.classes import IGNORE_ID
from scenepalette.data.exports.verified_shards import ExportedRow, VerifiedShards

DATA_FILE = "data.yaml"
# Outlines run this far, in pixels, from the centres of a piece's outermost pixels: to whole numbers, as YOLO's readers
# turn them, they are these pixels; and no piece is a point or a line.
_OFFSET = 0.25
# East, south, west, north as (row, column); the piece lies to the right of whoever walks along its outline.
_STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))


class Piece(NamedTuple):
    """A connected piece of a class, with what its holes hold.

    Attributes:
        class_id: Its class.
        points: float64 [N, 2], x and y of its outline in pixels, from the image's upper left corner; N is 4 or more.
    """

    class_id: int
    points: np.ndarray


def write_yolo(out: Path, shards: VerifiedShards, rows: Iterator[ExportedRow]) -> None:
    """Write OUT/images/train/ID.(jpg|png), OUT/labels/train/ID.txt and OUT/data.yaml."""
    for row in rows:
        write_atomically(out / "images/train" / row.image_name, row.image, durable=False)
        write_atomically(out / "labels/train" / f"{row.key}.txt", label_text(row.row.label), durable=False)
    # Without "path", paths are relative to the file.
    content = {"train": "images/train", "val": "images/val", "names": dict(enumerate(shards.table.names))}
    comment = "# Put real pairs into images/val and labels/val; these are for training.\n"
    write_atomically(out / DATA_FILE, comment + yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def label_text(label: np.ndarray) -> str:
    """Return the text file of a label map, a line per piece; nothing where no pixel has a label.

    Args:
        label: uint8 [H, W], class ids or 255.
    """
    height, width = label.shape
    lines = []
    for piece in pieces_of(label):
        numbers = " ".join(f"{value:.6f}" for value in (piece.points / (width, height)).ravel())
        lines.append(f"{piece.class_id} {numbers}\n")
    return "".join(lines)


def pieces_of(label: np.ndarray) -> list[Piece]:
    """Return the pieces of a label map, from the largest to the smallest; pixels are connected by their sides.

    Args:
        label: uint8 [H, W], class ids or 255.
    """
    found = []
    for class_id in np.unique(label[label != IGNORE_ID]).tolist():
        numbers, _ = ndimage.label(label == class_id)  # type: ignore[misc]
        for number, place in enumerate(ndimage.find_objects(numbers), start=1):
            inside = numbers[place] == number
            points = np.add(_outline(inside), (place[1].start, place[0].start))
            found.append((_area(points), Piece(class_id, points)))
    return [piece for _, piece in sorted(found, key=lambda entry: -entry[0])]


def _outline(inside: np.ndarray) -> np.ndarray:
    """Return the outer outline of a connected piece: float64 [N, 2], x and y of its corners, clockwise.

    Args:
        inside: Bool [H, W], of which the first row has a pixel.
    """
    padded = np.pad(inside, 1)
    start = (0, int(np.flatnonzero(inside[0])[0]))
    # From the corner left above the first pixel, which the walk will reach northwards and has to leave eastwards.
    (row, column), direction, turn = start, 3, 0
    points, shift = [], 0.5 - _OFFSET
    while not points or (row, column) != start:
        if turn != direction:
            down, right = np.add(_STEPS[(direction + 1) % 4], _STEPS[(turn + 1) % 4])
            points.append((column + shift * right, row + shift * down))
        direction = turn
        down, right = _STEPS[direction]
        row, column = row + down, column + right
        turn = _turn(padded, row, column, direction)
    return np.array(points)


def _turn(padded: np.ndarray, row: int, column: int, direction: int) -> int:
    """Return the direction in which an outline leaves a corner that it reached in `direction`."""
    # The pixels around corner (row, column) are padded[row : row + 2, column : column + 2].
    around = (padded[row, column + 1], padded[row + 1, column + 1], padded[row + 1, column], padded[row, column])
    # Ahead to the left and to the right, for directions east, south, west, north.
    left, right = around[direction], around[(direction + 1) % 4]
    if not right:
        return (direction + 1) % 4
    return (direction + 3) % 4 if left else direction


def _area(points: np.ndarray) -> float:
    x, y = points.T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2
