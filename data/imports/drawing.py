"""Drawing annotations into a label map, a later shape above an earlier one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from scenepalette.common.errors import DataError
from scenepalette.common.storage.untrusted import read_file, short
from scenepalette.data.classes import IGNORE_ID
from scenepalette.data.decoding.image_opening import MAX_FILE_BYTES, sizes_of_content
from scenepalette.data.imports.findings import Fault, Findings
from scenepalette.data.imports.source import Classes, Drawn

LINE_WIDTH = 10
"""Width of lines in pixels, LabelMe's own."""
_MARGIN = 0.5
"""How far beyond an image, in parts of its size, a shape may reach: tools let shapes be drawn over the border."""
_LEAST_CORNERS = 3
_STEPS = 72

Point = tuple[float, float]


class Canvas:
    """The label map of an image, into which shapes are drawn; what cannot be drawn is reported and leaves it as it is.

    Attributes:
        size: Height and width.
    """

    def __init__(self, content: bytes, size: tuple[int, int], classes: Classes, findings: Findings, where: str) -> None:
        """Begin a label map.

        Args:
            content: The image file's bytes.
            size: Height and width.
            classes: The classes; pixels that nothing covers are `outside`.
            findings: Takes what cannot be drawn.
            where: What messages call the image.
        """
        self.size = size
        self._image = Image.new("L", (size[1], size[0]), classes.outside)
        self._draw = ImageDraw.Draw(self._image)
        self._content, self._classes, self._findings, self._where = content, classes, findings, where
        self._values = set[int]()

    @property
    def drawn(self) -> Drawn:
        """The image with what was drawn so far; classes that later shapes cover entirely are noted."""
        label = np.array(self._image)
        for value in sorted(self._values.difference(np.unique(label).tolist(), [IGNORE_ID])):
            self.left_out("classes that later shapes cover entirely in an image", self._classes.table.names[value])
        return Drawn(self._content, label)

    def fault(self, fault: Fault, text: str) -> None:
        """Report what is wrong with a shape."""
        self._findings.fault(fault, f"{self._where}: {text}")

    def left_out(self, what: str, text: str = "") -> None:
        """Note what is drawn otherwise than it stands there, or not at all, with what messages call the shape."""
        self._findings.left_out(what, f"{self._where}: {text}" if text else self._where)

    def id_of(self, name: object) -> int | None:
        """Return the class id of a name; None after reporting that it is none."""
        return self._classes.id_of(name, self._findings, self._where)

    def points(self, values: object, text: str) -> list[Point] | None:
        """Return the points of a shape.

        Args:
            values: Should be a list of pairs of numbers, x and y in pixels.
            text: What messages call the shape.

        Returns:
            The points; None after reporting what is wrong with them.
        """
        if not isinstance(values, list | tuple) or not all(_is_pair(value) for value in values):
            self.fault(Fault.SHAPE, f"{text} with points {short(repr(values), 60)}")
            return None
        points = [(float(x), float(y)) for x, y in values]
        height, width = self.size
        far = [
            (x, y)
            for x, y in points
            if not (-_MARGIN * width <= x <= (1 + _MARGIN) * width and -_MARGIN * height <= y <= (1 + _MARGIN) * height)
        ]
        if far:
            self.fault(Fault.OUTSIDE, f"{text} at {far[0]} in {width} x {height}")
            return None
        if len(points) > 1 and min(self.size) > 2 and all(0 <= x <= 1 and 0 <= y <= 1 for x, y in points):
            self.fault(Fault.NORMALISED, text)
            return None
        return points

    def has_area(self, corners: int, text: str) -> bool:
        """Tell whether a polygon of so many points covers anything; one of fewer than three is noted."""
        if corners < _LEAST_CORNERS:
            self.left_out("polygons of fewer than three points left out", text)
        return corners >= _LEAST_CORNERS

    def polygon(self, points: Sequence[Point], value: int, text: str, *, outlined: bool = True) -> None:
        """Fill a polygon if it has an area, its outline included; without it, as Cityscapes' own scripts do."""
        if self.has_area(len(points), text):
            self._values.add(value)
            self._draw.polygon(points, fill=value, outline=value if outlined else None)

    def rectangle(self, corners: Sequence[Point], value: int) -> None:
        """Fill the rectangle around some points, its border included."""
        self._values.add(value)
        across, down = [x for x, _ in corners], [y for _, y in corners]
        self._draw.rectangle((min(across), min(down), max(across), max(down)), fill=value, outline=value)

    def circle(self, centre: Point, rim: Point, value: int) -> None:
        """Fill a circle around a point through another one."""
        self._values.add(value)
        (x, y), radius = centre, math.dist(centre, rim)
        self._draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=value, outline=value)

    def ellipse(self, centre: Point, radii: Point, degrees: float, value: int) -> None:
        """Fill an ellipse, turned clockwise by some degrees."""
        self._values.add(value)
        turns = [2 * math.pi * step / _STEPS for step in range(_STEPS)]
        points = [(centre[0] + radii[0] * math.cos(turn), centre[1] + radii[1] * math.sin(turn)) for turn in turns]
        self._draw.polygon(turned(points, centre, degrees), fill=value, outline=value)

    def line(self, points: Sequence[Point], width: int, value: int) -> None:
        """Draw a line through some points."""
        self._values.add(value)
        self._draw.line(list(points), fill=value, width=width, joint="curve")

    def mask(self, mask: np.ndarray, left: int, top: int, value: int) -> None:
        """Set the pixels of a mask, bool [h, w], that lies with its upper left corner at a place."""
        if mask.any():
            self._values.add(value)
        self._image.paste(value, (left, top), Image.fromarray(mask.astype(np.uint8) * 255))


def canvas_of(
    image: Path | bytes, height: object, width: object, classes: Classes, findings: Findings, where: str
) -> Canvas | None:
    """Begin the label map of an image, whose size is compared with the one that its annotations are for.

    Args:
        image: Its file; or that file's bytes, which LabelMe keeps among the annotations.
        height: Pixels from top to bottom that the annotations state; without it and the width, they are for the image
            as viewers show it.
        width: The same from left to right.
        classes: The classes.
        findings: Takes what is wrong.
        where: What messages call the image.

    Returns:
        The canvas; None after reporting why there is none.
    """
    told, stated = where if isinstance(image, Path) else f"{where}: imageData", _stated_size(height, width)
    try:
        content = image if isinstance(image, bytes) else read_file(image, MAX_FILE_BYTES)
        stored, upright = sizes_of_content(content)
    except DataError as error:
        findings.fault(Fault.IMAGE, f"{told}: {error.summary}")
        return None
    if stated is not None and stated not in (stored, upright):
        size = " x ".join(map(str, stated[::-1]))
        findings.fault(Fault.SIZE, f"{told}: {size}, the image has {stored[1]} x {stored[0]}")
        return None
    # Tools that state no size show images upright.
    return Canvas(content, stated or upright, classes, findings, where)


def _stated_size(height: object, width: object) -> tuple[int, int] | None:
    """Return a size that annotations state; None where it is absent or no size."""
    sizes = [value for value in (height, width) if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(sizes) == 2 and all(0 < value < 2**16 and value == int(value) for value in sizes):
        return int(sizes[0]), int(sizes[1])
    return None


def turned(points: Sequence[Point], centre: Point, degrees: float) -> list[Point]:
    """Return points turned clockwise about a centre."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    offsets = [(x - centre[0], y - centre[1]) for x, y in points]
    return [(centre[0] + cos * x - sin * y, centre[1] + sin * x + cos * y) for x, y in offsets]


def mask_of_counts(counts: Sequence[int], size: tuple[int, int], *, by_column: bool) -> np.ndarray | None:
    """Return the mask of run lengths, which begin with pixels outside.

    Args:
        counts: Numbers of pixels, outside and inside by turns.
        size: Height and width.
        by_column: Whether pixels are counted down the columns, as in COCO; else along the rows.

    Returns:
        bool [H, W]; None if the counts are not those of so many pixels.
    """
    lengths = np.array(counts, dtype=np.int64)
    if lengths.ndim != 1 or (lengths < 0).any() or lengths.sum() != size[0] * size[1]:
        return None
    flat = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return flat.reshape(size[::-1]).T if by_column else flat.reshape(size)


def _is_pair(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(map(is_number, value))


def is_number(value: object) -> bool:
    """Tell whether a value of a file is a finite number that pixels can be counted in."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and abs(value) < 1e9
