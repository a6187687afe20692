"""The camera, and the oversized canvas on which colour and class are drawn by the same strokes."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from scenepalette.data.streets.light import Color, Light, Pixel

# Class ids, in the order of the class table `scenepalette.data.streets.dataset.STREETS`.
ROAD, LANE_MARKING, SIDEWALK, BUILDING, FENCE, POLE, TRAFFIC_SIGN = range(7)
VEGETATION, TERRAIN, SKY, PEDESTRIAN, BICYCLIST, CAR, TRUCK = range(7, 14)

NEAREST_METRES = 1.6
FARTHEST_METRES = 220.0

Point = tuple[float, float]


@dataclass(frozen=True)
class View:
    """How a scene is looked at, free of any image size: along a road which may bend, rise and fall."""

    focal: float  # focal length in image widths
    horizon: float  # row of the horizon as a share of the image height
    height: float  # of the camera above the road, metres
    offset: float  # of the camera right of the road's centre line, metres
    slant: float  # sideways drift of the road per metre ahead (turns the vanishing point)
    bend: float  # curvature of the road, 1 / metres
    hill: float  # vertical curvature of the road, 1 / metres; positive climbs


class Camera:
    """A pinhole camera: projects road coordinates (metres) to pixels of a canvas.

    Road coordinates are: x right of the road's centre line, y above the road surface, z ahead of the camera.
    """

    def __init__(self, view: View, height: int, width: int) -> None:
        self.view, self.height, self.width = view, height, width
        self.focal = view.focal * width
        self.horizon = view.horizon * height
        self.centre = width / 2

    def point(self, x: float, y: float, z: float) -> Point:
        """Pixel position (column, row) of a point; z must be positive."""
        view = self.view
        across = x - view.offset + (view.slant + 0.5 * view.bend * z) * z
        up = y - view.height + 0.5 * view.hill * z * z
        scale = self.focal / z
        return self.centre + across * scale, self.horizon - up * scale

    def scale(self, z: float) -> float:
        """Pixels per metre at distance z."""
        return self.focal / z

    @property
    def nearest_ground(self) -> float:
        """Distance at which the ground enters the image at its lower edge, metres."""
        return max(0.5, 0.8 * self.focal * self.view.height / (self.height - self.horizon))


class Canvas:
    """An image of four bands: red, green, blue and class id.

    Every stroke sets all four at once, so image and label cannot disagree. Two things are kept aside until the image
    has its final size: shadows that fall on the ground, and the glow around lamps (column, row, radius, colour).
    """

    def __init__(self, camera: Camera, light: Light, background: np.ndarray) -> None:
        """Starts from `background`, uint8 [height, width, 4] with class ids in the last band."""
        self.camera, self.light = camera, light
        # RGBX has four plain bands: unlike RGBA, nothing treats the fourth as transparency.
        self.image = Image.frombytes("RGBX", (camera.width, camera.height), background.tobytes())
        self.shade = Image.new("L", (camera.width, camera.height), 0)
        self.glows: list[tuple[float, float, float, Color]] = []
        self._draw = ImageDraw.Draw(self.image)
        self._shade_draw = ImageDraw.Draw(self.shade)

    # In pixels: column u, row v.

    def polygon(self, points: Sequence[Point], pixel: Pixel, class_id: int) -> None:
        """Fills a polygon."""
        self._draw.polygon(points, fill=(*pixel, class_id))

    def hull(self, points: Sequence[Point], pixel: Pixel, class_id: int) -> None:
        """Fills the convex hull of points: the silhouette of a solid with these corners."""
        ordered = sorted(set(points))
        outline: list[Point] = []
        # Andrew's monotone chain: the lower side from left to right, then the upper side back.
        for chain in (ordered, ordered[::-1]):
            start = len(outline)
            for u, v in chain:
                while len(outline) - start >= 2:
                    (u0, v0), (u1, v1) = outline[-2:]
                    if (u1 - u0) * (v - v0) - (v1 - v0) * (u - u0) > 0:
                        break
                    outline.pop()
                outline.append((u, v))
            outline.pop()
        self.polygon(outline, pixel, class_id)

    def ellipse(self, u: float, v: float, radius_u: float, radius_v: float, pixel: Pixel, class_id: int) -> None:
        """Fills an ellipse around (u, v)."""
        self._draw.ellipse((u - radius_u, v - radius_v, u + radius_u, v + radius_v), fill=(*pixel, class_id))

    def ring(self, u: float, v: float, radius: float, width: float, pixel: Pixel, class_id: int) -> None:
        """Draws a circle around (u, v) whose line is `width` wide, at least one pixel."""
        box = (u - radius, v - radius, u + radius, v + radius)
        self._draw.ellipse(box, outline=(*pixel, class_id), width=max(1, round(width)))

    def line(self, points: Sequence[Point], pixel: Pixel, class_id: int, width: float) -> None:
        """Draws connected lines of `width` pixels, at least one pixel wide."""
        self._draw.line(points, fill=(*pixel, class_id), width=max(1, round(width)))

    def rectangle(self, u0: float, v0: float, u1: float, v1: float, pixel: Pixel, class_id: int) -> None:
        """Fills the axis-parallel rectangle between two corners given in any order."""
        box = (min(u0, u1), min(v0, v1), max(u0, u1), max(v0, v1))
        self._draw.rectangle(box, fill=(*pixel, class_id))

    def is_visible(self, u0: float, u1: float) -> bool:
        """Whether a span of columns overlaps the image."""
        return max(u0, u1) >= 0 and min(u0, u1) < self.camera.width

    # In road coordinates, metres.

    def surface(self, points: Sequence[tuple[float, float, float]], pixel: Pixel, class_id: int) -> None:
        """Fills a polygon between points (x, y, z)."""
        self.polygon([self.camera.point(*point) for point in points], pixel, class_id)

    def slope(
        self, x: float, near: tuple[float, float, float], far: tuple[float, float, float], pixel: Pixel, class_id: int
    ) -> None:
        """Fills a plane symmetric about x between two edges (half width, y, z)."""
        (w0, y0, z0), (w1, y1, z1) = near, far
        self.surface([(x - w0, y0, z0), (x + w0, y0, z0), (x + w1, y1, z1), (x - w1, y1, z1)], pixel, class_id)

    def wall(self, x: float, low: float, high: float, near: float, far: float, pixel: Pixel, class_id: int) -> None:
        """Fills the part of an upright plane along the street between two heights and two distances."""
        self.surface([(x, low, near), (x, low, far), (x, high, far), (x, high, near)], pixel, class_id)

    def ground(self, x0: float, x1: float, z0: float, z1: float, color: Color, class_id: int) -> None:
        """Fills a patch of ground between x0..x1 across and z0..z1 ahead."""
        corners = [(x0, 0, z0), (x1, 0, z0), (x1, 0, z1), (x0, 0, z1)]
        self.surface(corners, self.light.tone(color, z0, self.light.top), class_id)

    def shadow(self, points: Sequence[tuple[float, float]], darkness: float) -> None:
        """Darkens the ground inside a polygon of points (x, z); `darkness` 0 to 1."""
        self._shade_draw.polygon([self.camera.point(x, 0, z) for x, z in points], fill=int(255 * darkness))

    def shadow_patch(self, x0: float, x1: float, z0: float, z1: float, darkness: float) -> None:
        """Darkens the ground between x0..x1 across and z0..z1 ahead."""
        self.shadow([(x0, z0), (x1, z0), (x1, z1), (x0, z1)], darkness)


class Board:
    """An upright board that faces the camera, at one distance and of one class, to draw on in metres.

    x counts right of the board's origin (left where `mirror` is -1), y up from it.
    """

    def __init__(self, canvas: Canvas, x: float, z: float, class_id: int, mirror: int = 1) -> None:
        self.canvas, self.light, self.z, self.class_id, self.mirror = canvas, canvas.light, z, class_id, mirror
        self.u, self.v = canvas.camera.point(x, 0, z)
        self.scale = canvas.camera.scale(z)

    def part(self, x: float, y: float, class_id: int, scale: float | None = None) -> Board:
        """A board with its origin at (x, y) of this one and, if given, another number of pixels per unit."""
        part = copy(self)
        part.u, part.v = self.at(x, y)
        part.class_id, part.scale = class_id, self.scale if scale is None else scale
        return part

    def at(self, x: float, y: float) -> Point:
        """Pixel position of a point."""
        return self.u + self.mirror * x * self.scale, self.v - y * self.scale

    def tone(self, color: Color, facing: float = 1.0) -> Pixel:
        """Colour of a lit surface of material `color` at the board's distance."""
        return self.light.tone(color, self.z, facing)

    def polygon(self, points: Sequence[Point], pixel: Pixel) -> None:
        """Fills a polygon."""
        self.canvas.polygon([self.at(x, y) for x, y in points], pixel, self.class_id)

    def box(self, x0: float, y0: float, x1: float, y1: float, pixel: Pixel) -> None:
        """Fills the rectangle between two corners."""
        self.canvas.rectangle(*self.at(x0, y0), *self.at(x1, y1), pixel, self.class_id)

    def disc(self, x: float, y: float, radius_x: float, radius_y: float, pixel: Pixel) -> None:
        """Fills an ellipse around (x, y)."""
        self.canvas.ellipse(*self.at(x, y), radius_x * self.scale, radius_y * self.scale, pixel, self.class_id)

    def line(self, start: Point, end: Point, width: float, pixel: Pixel, least: float = 1.0) -> None:
        """Draws a line `width` metres and at least `least` pixels wide."""
        self.canvas.line((self.at(*start), self.at(*end)), pixel, self.class_id, max(least, width * self.scale))

    def glow(self, x: float, y: float, radius: float, color: Color) -> None:
        """Lights up what is around (x, y) by `color`."""
        self.canvas.glows.append((*self.at(x, y), radius * self.scale, color))
