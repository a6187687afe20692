"""The ground of a scene: road, lane marks, sidewalks and what lies beside them."""

from __future__ import annotations

import random
from dataclasses import dataclass

from scenepalette.data.streetscene.camera import FARTHEST_METRES
from scenepalette.data.streetscene.canvas import Canvas
from scenepalette.data.streetscene.ids import LANE_MARKING, ROAD, SIDEWALK, TERRAIN
from scenepalette.data.streetscene.light import Color, varied

BESIDE_METRES = 400.0


@dataclass(frozen=True)
class Junction:
    """A street that crosses at distance `near`..`far`, with a zebra crossing before it where `zebra` is set."""

    near: float
    far: float
    zebra: bool


@dataclass(frozen=True)
class Ground:
    """Cross-section of the street and its colours.

    Attributes:
        half_road: half the road's width, metres.
        lanes: lane dividers, metres right of the centre, with whether each is solid.
        sidewalk: width of the sidewalks, metres; 0 for none.
        strip: width of the green strip between road and sidewalk, metres; 0 for none.
        has_kerb: whether a kerb is drawn at the road's edge.
        has_edge_lines: whether the road's edges are marked.
        road: colour; `walk`, `kerb`, `verge`, `mark` likewise.
        paved_beside: whether the ground behind the sidewalk is paved as well.
        junction: the crossing street, if any.
        parking: width of marked parking bays at the road's edges, metres; 0 for none.
    """

    half_road: float
    lanes: tuple[tuple[float, bool], ...]
    sidewalk: float
    strip: float
    has_kerb: bool
    has_edge_lines: bool
    road: Color
    walk: Color
    kerb: Color
    verge: Color
    mark: Color
    paved_beside: bool
    junction: Junction | None
    parking: float

    @property
    def walk_inner(self) -> float:
        """Where the sidewalk begins, metres from the centre line."""
        return self.half_road + self.strip

    @property
    def walk_outer(self) -> float:
        """Where the sidewalk ends, metres from the centre line."""
        return self.half_road + self.strip + self.sidewalk


def draw_ground(canvas: Canvas, ground: Ground, rng: random.Random) -> None:
    """Draws the ground, far bands first so that a crest hides what lies behind it."""
    edges = [canvas.camera.nearest_ground]
    while edges[-1] < FARTHEST_METRES:
        edges.append(edges[-1] * 1.3 + 0.4)
    beside_color = ground.walk if ground.paved_beside else ground.verge
    beside_class = SIDEWALK if ground.paved_beside else TERRAIN
    strips: list[tuple[float, float, Color, int]] = []
    for side in (-1, 1):
        strips.append((side * ground.walk_outer, side * BESIDE_METRES, beside_color, beside_class))
        if ground.sidewalk:
            walk = varied(rng, ground.walk, 4)
            strips.append((side * ground.walk_inner, side * ground.walk_outer, walk, SIDEWALK))
        if ground.strip:
            strips.append((side * ground.half_road, side * ground.walk_inner, ground.verge, TERRAIN))
        if ground.has_kerb:
            kerb_class = SIDEWALK if ground.sidewalk else TERRAIN
            strips.append((side * ground.half_road, side * (ground.half_road + 0.22), ground.kerb, kerb_class))
    strips.append((-ground.half_road, ground.half_road, ground.road, ROAD))
    solid = [(offset - 0.08, offset + 0.08) for offset, is_solid in ground.lanes if is_solid]
    if ground.has_edge_lines:
        inset = ground.half_road - 0.35
        solid += [(-inset - 0.07, -inset + 0.07), (inset - 0.07, inset + 0.07)]
    if ground.parking:
        inner = ground.half_road - ground.parking
        solid += [(-inner - 0.05, -inner + 0.05), (inner - 0.05, inner + 0.05)]
    for far, near in zip(reversed(edges), reversed(edges[:-1]), strict=False):
        for x0, x1, color, class_id in strips:
            canvas.ground(x0, x1, near, far, color, class_id)
        # Beyond some 70 m a mark is thinner than any pixel and would only flicker.
        if near < 70:
            for x0, x1 in solid:
                canvas.ground(x0, x1, near, far, ground.mark, LANE_MARKING)
    _draw_wear(canvas, ground, rng)
    phase = rng.uniform(0, 6)
    for offset, is_solid in ground.lanes:
        if not is_solid:
            z = canvas.camera.nearest_ground - phase
            while z < 70:
                if z + 3 > canvas.camera.nearest_ground:
                    near = max(z, canvas.camera.nearest_ground)
                    canvas.ground(offset - 0.08, offset + 0.08, near, z + 3, ground.mark, LANE_MARKING)
                z += 6.5
    if ground.junction is not None:
        _draw_junction(canvas, ground, ground.junction)


def _draw_wear(canvas: Canvas, ground: Ground, rng: random.Random) -> None:
    """Wheel tracks, tar patches and manhole covers: the road is not one colour."""
    for _ in range(rng.randrange(1, 5)):
        x = rng.uniform(-ground.half_road, ground.half_road - 1.5)
        z = rng.uniform(canvas.camera.nearest_ground, 30)
        change = rng.gauss(0, 12)
        color = (ground.road[0] + change, ground.road[1] + change, ground.road[2] + change)
        right = min(x + rng.uniform(0.5, 2.5), ground.half_road)
        canvas.ground(x, right, z, z + rng.uniform(1.5, 14), color, ROAD)


def _draw_junction(canvas: Canvas, ground: Ground, junction: Junction) -> None:
    """The crossing street, its zebra crossing and stop line."""
    steps = 3
    depth = (junction.far - junction.near) / steps
    for step in reversed(range(steps)):
        near = junction.near + step * depth
        canvas.ground(-BESIDE_METRES, BESIDE_METRES, near, near + depth + 0.05, ground.road, ROAD)
    white = (226.0, 226.0, 220.0)
    if junction.zebra:
        start = max(canvas.camera.nearest_ground, junction.near - 4)
        x = -ground.half_road + 0.4
        while x < ground.half_road - 0.5 and start < junction.near - 1:
            canvas.ground(x, x + 0.5, start, junction.near - 1, white, LANE_MARKING)
            x += 1.05
    stop = junction.near - 5.2
    if stop > canvas.camera.nearest_ground:
        canvas.ground(0.2, ground.half_road - 0.2, stop, stop + 0.45, white, LANE_MARKING)
