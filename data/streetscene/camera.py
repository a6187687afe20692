"""A pinhole camera that looks along a road which may bend, rise and fall."""

from __future__ import annotations

from dataclasses import dataclass

NEAREST_METRES = 1.6
FARTHEST_METRES = 220.0

Point = tuple[float, float]


@dataclass(frozen=True)
class View:
    """How a scene is looked at, free of any image size.

    Attributes:
        focal: focal length in image widths.
        horizon: row of the horizon as a share of the image height.
        height: height of the camera above the road, metres.
        offset: camera position right of the road's centre line, metres.
        slant: sideways drift of the road per metre ahead (turns the vanishing point).
        bend: curvature of the road, 1 / metres.
        hill: vertical curvature of the road, 1 / metres; positive climbs.
    """

    focal: float
    horizon: float
    height: float
    offset: float
    slant: float
    bend: float
    hill: float


class Camera:
    """Projects road coordinates (metres) to pixels of a canvas.

    Road coordinates are: x right of the road's centre line, y above the road surface, z ahead of the camera.
    """

    def __init__(self, view: View, height: int, width: int) -> None:
        """Places the camera of `view` behind a canvas of `height` x `width` pixels."""
        self.view = view
        self.height = height
        self.width = width
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
        """Distance at which the ground enters the picture at its lower edge, metres."""
        return max(0.5, 0.8 * self.focal * self.view.height / (self.height - self.horizon))
