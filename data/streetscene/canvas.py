"""The oversized canvas on which colour and class are drawn by the same strokes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from scenepalette.data.streetscene.camera import Camera, Point
from scenepalette.data.streetscene.light import Color, Light, Pixel


class Canvas:
    """A picture of four bands: red, green, blue and class id.

    Every stroke sets all four at once, so image and label cannot disagree. Two things are kept aside until the picture
    has its final size: shadows that fall on the ground, and the glow around lamps.
    """

    def __init__(self, camera: Camera, light: Light, background: np.ndarray) -> None:
        """Starts from `background`, uint8 [height, width, 4] with class ids in the last band."""
        self.camera = camera
        self.light = light
        # RGBX has four plain bands: unlike RGBA, nothing treats the fourth as transparency.
        self.picture = Image.frombytes("RGBX", (camera.width, camera.height), background.tobytes())
        self.shade = Image.new("L", (camera.width, camera.height), 0)
        self.glows: list[tuple[float, float, float, Color]] = []
        self._draw = ImageDraw.Draw(self.picture)
        self._shade_draw = ImageDraw.Draw(self.shade)

    def polygon(self, points: Sequence[Point], pixel: Pixel, class_id: int) -> None:
        """Fills a polygon given in pixels (column, row)."""
        self._draw.polygon(points, fill=(*pixel, class_id))

    def hull(self, points: Sequence[Point], pixel: Pixel, class_id: int) -> None:
        """Fills the convex hull of points given in pixels: the silhouette of a solid with these corners."""
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
        """Fills an ellipse around (u, v), pixels."""
        self._draw.ellipse((u - radius_u, v - radius_v, u + radius_u, v + radius_v), fill=(*pixel, class_id))

    def ring(
        self, u: float, v: float, radius_u: float, radius_v: float, pixel: Pixel, class_id: int, width: float
    ) -> None:
        """Draws the outline of an ellipse around (u, v), pixels."""
        box = (u - radius_u, v - radius_v, u + radius_u, v + radius_v)
        self._draw.ellipse(box, outline=(*pixel, class_id), width=max(1, round(width)))

    def line(self, points: Sequence[Point], pixel: Pixel, class_id: int, width: float) -> None:
        """Draws connected lines of `width` pixels, at least one pixel wide."""
        self._draw.line(points, fill=(*pixel, class_id), width=max(1, round(width)))

    def rectangle(self, u0: float, v0: float, u1: float, v1: float, pixel: Pixel, class_id: int) -> None:
        """Fills the axis-parallel rectangle between two corners given in any order, pixels."""
        box = (min(u0, u1), min(v0, v1), max(u0, u1), max(v0, v1))
        self._draw.rectangle(box, fill=(*pixel, class_id))

    def ground(self, x0: float, x1: float, z0: float, z1: float, color: Color, class_id: int) -> None:
        """Fills a patch of ground between x0..x1 across and z0..z1 ahead, in metres."""
        point = self.camera.point
        corners = (point(x0, 0, z0), point(x1, 0, z0), point(x1, 0, z1), point(x0, 0, z1))
        self.polygon(corners, self.light.tone(color, z0, self.light.top), class_id)

    def cast_shadow(self, points: Sequence[Point], darkness: float) -> None:
        """Darkens the ground inside a polygon given in pixels; `darkness` 0 to 1."""
        self._shade_draw.polygon(points, fill=int(255 * darkness))

    def is_visible(self, u0: float, u1: float) -> bool:
        """Whether a span of columns overlaps the picture."""
        return max(u0, u1) >= 0 and min(u0, u1) < self.camera.width
