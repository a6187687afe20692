"""Which part of an image is worked at: the middle of it, or tiles that cover it, of the aspect ratio of a target."""

from __future__ import annotations

import itertools
from typing import Literal, NamedTuple

Fit = Literal["stretch", "crop", "tile"]
"""How images get to the size that is worked at: stretched as a whole, their middle, or tiles that cover them."""

SMALLEST_PART = 4
"""Least height and width of a part, as of an image."""


class Box(NamedTuple):
    """A rectangle of pixels; `bottom` and `right` are the first row and column behind it."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.bottom - self.top, self.right - self.left


class Tile(NamedTuple):
    """One of the tiles of an image.

    Attributes:
        box: Its pixels.
        own: Those of them that are evaluated with it. Where two tiles overlap, each owns the half that lies farther
            inside it, so that the owned parts of all tiles cover the image once.
    """

    box: Box
    own: Box


def largest_part(size: tuple[int, int], aspect: tuple[int, int]) -> tuple[int, int]:
    """Return height and width of the largest part of an image that has an aspect ratio, to the nearest pixel.

    Args:
        size: Height and width of the image.
        aspect: Height and width, of which the ratio counts.
    """
    (height, width), (rows, columns) = size, aspect
    if height * columns >= width * rows:  # the image is as tall as that, or taller
        return min(height, max(1, (2 * width * rows + columns) // (2 * columns))), width
    return height, min(width, max(1, (2 * height * columns + rows) // (2 * rows)))


def crop_box(size: tuple[int, int], aspect: tuple[int, int]) -> Box:
    """Return the largest part of an aspect ratio in the middle of an image.

    Args:
        size: Height and width of the image.
        aspect: Height and width, of which the ratio counts.
    """
    height, width = largest_part(size, aspect)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return Box(top, left, top + height, left + width)


def tiles_of(size: tuple[int, int], aspect: tuple[int, int], height: int | None = None) -> list[Tile]:
    """Return the tiles that cover an image, row by row.

    They lie side by side from the upper left corner; the last of each row and column is moved back into the image, so
    that it overlaps the one before.

    Args:
        size: Height and width of the image.
        aspect: Height and width of a tile, of which the ratio counts.
        height: Height of a tile in pixels of the image. By default, and where the image is smaller than such a tile,
            tiles are the largest that fit.
    """
    sides = largest_part(size, aspect)
    if height is not None:
        asked = (height, max(1, (2 * height * aspect[1] + aspect[0]) // (2 * aspect[0])))
        if asked[0] <= size[0] and asked[1] <= size[1]:
            sides = asked
    rows, columns = (_spans(length, side) for length, side in zip(size, sides, strict=True))
    return [
        Tile(
            Box(top, left, top + sides[0], left + sides[1]),
            Box(own_rows[0], own_columns[0], own_rows[1], own_columns[1]),
        )
        for top, own_rows in rows
        for left, own_columns in columns
    ]


def _spans(length: int, side: int) -> list[tuple[int, tuple[int, int]]]:
    """Return where tiles begin along one side of an image, and which pixels each of them owns."""
    count = -(-length // side)
    starts = [min(number * side, length - side) for number in range(count)]
    cuts = [0, *((start + before + side) // 2 for before, start in itertools.pairwise(starts)), length]
    return [(start, (cuts[number], cuts[number + 1])) for number, start in enumerate(starts)]
