"""The ground of a scene - road, lane marks, sidewalks, what lies beside them - and two ways to stand on it."""

from __future__ import annotations

import random
from dataclasses import dataclass

from scenepalette.data.streets.canvas import FARTHEST_METRES, LANE_MARKING, ROAD, SIDEWALK, TERRAIN, Canvas
from scenepalette.data.streets.light import Color, Light, shifted, varied

BESIDE_METRES = 400.0
# Beyond this a mark is thinner than any pixel and would only flicker.
MARKED_METRES = 70
WHITE = (226.0, 226.0, 220.0)


@dataclass(frozen=True)
class Junction:
    """A street that crosses at distance `near`..`far`, with a zebra crossing before it where `zebra` is set."""

    near: float
    far: float
    zebra: bool


@dataclass(frozen=True)
class Ground:
    """Cross-section of the street, metres, and its colours; 0 metres for what it does not have."""

    half_road: float  # half the road's width
    lanes: tuple[tuple[float, bool], ...]  # dividers right of the centre line, with whether each is solid
    sidewalk: float  # width; a kerb is drawn where there is one
    strip: float  # of green between road and sidewalk
    has_edge_lines: bool  # whether the road's edges are marked
    road: Color
    walk: Color
    kerb: Color
    verge: Color
    mark: Color
    paved_beside: bool  # whether the ground behind the sidewalk is paved as well
    junction: Junction | None
    parking: float  # width of the marked parking bays at the road's edges

    @property
    def walk_inner(self) -> float:
        """Where the sidewalk begins, metres from the centre line."""
        return self.half_road + self.strip

    @property
    def walk_outer(self) -> float:
        """Where the sidewalk ends, metres from the centre line."""
        return self.half_road + self.strip + self.sidewalk

    def is_crossed(self, near: float, far: float) -> bool:
        """Whether the junction lies between two distances, or within a metre of them."""
        return self.junction is not None and near < self.junction.far + 1 and far > self.junction.near - 1


@dataclass(frozen=True)
class Standing:
    """Stands at one place: `x` metres right of the road's centre line and `z` metres ahead."""

    x: float
    z: float

    @property
    def depth(self) -> float:
        """Place in painter's order."""
        return self.z


@dataclass(frozen=True)
class Wall:
    """Stands `x` metres right of the road's centre line, from `near` to `far` metres ahead; of some `kind`."""

    x: float
    near: float
    far: float
    height: float
    color: Color
    kind: str
    seed: int

    @property
    def depth(self) -> float:
        """Place in painter's order: the far end, as all that comes before it stands on the street's side of it."""
        return self.far

    def facing(self, light: Light) -> float:
        """Brightness of the side towards the street."""
        return light.right if self.x < 0 else light.left


def draw_ground(canvas: Canvas, ground: Ground, rng: random.Random) -> None:
    """Draws the ground, far bands first so that a crest hides what lies behind it."""
    nearest, half = canvas.camera.nearest_ground, ground.half_road
    edges = [nearest]
    while edges[-1] < FARTHEST_METRES:
        edges.append(edges[-1] * 1.3 + 0.4)
    beside = (ground.walk, SIDEWALK) if ground.paved_beside else (ground.verge, TERRAIN)
    strips: list[tuple[float, float, Color, int]] = []
    for side in (-1, 1):
        strips.append((side * ground.walk_outer, side * BESIDE_METRES, *beside))
        if ground.sidewalk:
            walk = varied(rng, ground.walk, 4)
            strips.append((side * ground.walk_inner, side * ground.walk_outer, walk, SIDEWALK))
        if ground.strip:
            strips.append((side * half, side * ground.walk_inner, ground.verge, TERRAIN))
        if ground.sidewalk:
            strips.append((side * half, side * (half + 0.22), ground.kerb, SIDEWALK))
    strips.append((-half, half, ground.road, ROAD))
    lines = [(offset, 0.08) for offset, is_solid in ground.lanes if is_solid]
    if ground.has_edge_lines:
        lines += [(0.35 - half, 0.07), (half - 0.35, 0.07)]
    if ground.parking:
        lines += [(ground.parking - half, 0.05), (half - ground.parking, 0.05)]
    for far, near in zip(reversed(edges), reversed(edges[:-1]), strict=False):
        for x0, x1, color, class_id in strips:
            canvas.ground(x0, x1, near, far, color, class_id)
        if near < MARKED_METRES:
            for x, wide in lines:
                canvas.ground(x - wide, x + wide, near, far, ground.mark, LANE_MARKING)
    _draw_wear(canvas, ground, rng)
    phase = rng.uniform(0, 6)
    for offset in (offset for offset, is_solid in ground.lanes if not is_solid):
        z = nearest - phase
        while z < MARKED_METRES:
            if z + 3 > nearest:
                canvas.ground(offset - 0.08, offset + 0.08, max(z, nearest), z + 3, ground.mark, LANE_MARKING)
            z += 6.5
    if ground.junction is not None:
        _draw_junction(canvas, ground, ground.junction)


def _draw_wear(canvas: Canvas, ground: Ground, rng: random.Random) -> None:
    """Wheel tracks, tar patches and manhole covers: the road is not one colour."""
    for _ in range(rng.randrange(1, 5)):
        x = rng.uniform(-ground.half_road, ground.half_road - 1.5)
        z = rng.uniform(canvas.camera.nearest_ground, 30)
        color = shifted(ground.road, rng.gauss(0, 12))
        right = min(x + rng.uniform(0.5, 2.5), ground.half_road)
        canvas.ground(x, right, z, z + rng.uniform(1.5, 14), color, ROAD)


def _draw_junction(canvas: Canvas, ground: Ground, junction: Junction) -> None:
    """The crossing street, its zebra crossing and stop line."""
    nearest, half = canvas.camera.nearest_ground, ground.half_road
    depth = (junction.far - junction.near) / 3
    for step in (2, 1, 0):
        near = junction.near + step * depth
        canvas.ground(-BESIDE_METRES, BESIDE_METRES, near, near + depth + 0.05, ground.road, ROAD)
    if junction.zebra:
        start = max(nearest, junction.near - 4)
        x = -half + 0.4
        while x < half - 0.5 and start < junction.near - 1:
            canvas.ground(x, x + 0.5, start, junction.near - 1, WHITE, LANE_MARKING)
            x += 1.05
    stop = junction.near - 5.2
    if stop > nearest:
        canvas.ground(0.2, half - 0.2, stop, stop + 0.45, WHITE, LANE_MARKING)
