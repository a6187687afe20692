"""Pedestrians and bicyclists."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from scenepalette.data.streets.canvas import BICYCLIST, NEAREST_METRES, PEDESTRIAN, Board, Canvas, Point
from scenepalette.data.streets.ground import Standing
from scenepalette.data.streets.light import Color, colors, scaled, varied

SHIRTS = colors("aa2c2c 283c6e dcdcd7 323236 466e50 c8a03c 785a8c 6e7074 5a4638")
TROUSERS = colors("282e42 222224 5a5448 464a54 786c5a")
SKINS = colors("e2b89c c49270 8c6046 5c3e2e")
HAIR = colors("28201a 543c28 967850 787674")
_TYRES = (28, 28, 30)


@dataclass(frozen=True)
class Person(Standing):
    """A pedestrian or, where `riding`, a bicyclist at (x, z); `across` is seen from the side."""

    height: float
    riding: bool
    across: bool
    seed: int

    def draw(self, canvas: Canvas) -> None:
        """Draws a walking or standing figure, or a rider on a bicycle."""
        u, reach = canvas.camera.point(self.x, 0, self.z)[0], canvas.camera.scale(self.z)
        if self.z < NEAREST_METRES or not canvas.is_visible(u - reach, u + reach):
            return
        rng = random.Random(self.seed)
        body = _Body(canvas, self, rng)
        depth = 0.25 if not self.riding else 0.8
        near, far = max(NEAREST_METRES, self.z - depth), self.z + depth
        canvas.shadow_patch(self.x - 0.28, self.x + 0.28, near, far, 0.4)
        if reach := canvas.light.shadow_reach:
            canvas.shadow_patch(self.x, self.x + reach * self.height, near, far, canvas.light.shadow)
        if not self.riding:
            body.draw_walker(rng, self.across)
        elif self.across:
            body.draw_rider_from_the_side(rng)
        else:
            body.draw_rider_from_the_front()


class _Body(Board):
    """A figure, drawn in metres around the point where it stands."""

    def __init__(self, canvas: Canvas, person: Person, rng: random.Random) -> None:
        self.shirt = varied(rng, rng.choice(SHIRTS), 14)
        self.trousers = varied(rng, rng.choice(TROUSERS), 8)
        self.skin, self.hair = rng.choice(SKINS), rng.choice(HAIR)
        class_id = BICYCLIST if person.riding else PEDESTRIAN
        super().__init__(canvas, person.x, person.z, class_id, mirror=rng.choice((-1, 1)))
        if person.riding:
            self.frame = varied(rng, rng.choice(((150, 40, 40), (40, 70, 120), (36, 36, 38), (190, 190, 190))), 10)
            self.helmet = varied(rng, rng.choice(((220, 220, 220), (190, 40, 40), (40, 40, 44), (210, 190, 60))), 10)
        else:
            self.scale *= person.height / 1.72

    def shape(self, points: Sequence[Point], color: Color) -> None:
        self.polygon(points, self.tone(color, 0.85))

    def limb(self, start: Point, end: Point, width: float, color: Color) -> None:
        self.line(start, end, width, self.tone(color, 0.82))

    def ball(self, x: float, y: float, radius_x: float, radius_y: float, color: Color) -> None:
        self.disc(x, y, radius_x, radius_y, self.tone(color, 0.95))

    def draw_walker(self, rng: random.Random, across: bool) -> None:
        shirt, trousers = self.shirt, self.trousers
        stride = rng.uniform(0.12, 0.3) if across else rng.uniform(0.05, 0.12)
        hip = 0.62 if rng.random() < 0.25 else 0.84
        half = 0.17 if across else 0.23
        swing = stride * 0.9
        self.shape([(-0.13, 0.88), (0.02, 0.88), (-stride + 0.1, 0.03), (-stride - 0.05, 0.03)], scaled(trousers, 0.85))
        self.shape([(-0.02, 0.88), (0.13, 0.88), (stride + 0.06, 0.03), (stride - 0.09, 0.03)], trousers)
        for x in (-stride + 0.04, stride + 0.02):
            self.ball(x, 0.04, 0.1, 0.05, scaled(trousers, 0.5))
        self.limb((-half, 1.36), (-half - 0.04 - swing * 0.5, 0.84), 0.1, scaled(shirt, 0.8))
        waist = [(-half + 0.04, hip), (half - 0.04, hip)]
        self.shape([*waist, (half, 1.4), (half * 0.6, 1.48), (-half * 0.6, 1.48), (-half, 1.4)], shirt)
        self.limb((half * 0.8, 1.36), (half * 0.8 + swing * 0.8, 0.84), 0.1, scaled(shirt, 0.9))
        if rng.random() < 0.3:
            left, right = -half - 0.14, -half + 0.06
            self.shape([(left, 0.7), (right, 0.7), (right, 0.98), (left, 0.98)], varied(rng, (90, 50, 40), 20))
        self.ball(0, 1.6, 0.115, 0.145, self.skin)
        self.shape([(-0.12, 1.6), (-0.1, 1.74), (0.0, 1.78), (0.1, 1.74), (0.11, 1.67), (-0.02, 1.68)], self.hair)

    def draw_rider_from_the_side(self, rng: random.Random) -> None:
        rear, front, pedals, saddle, bar = (-0.52, 0.35), (0.52, 0.35), (-0.05, 0.4), (-0.18, 0.92), (0.38, 0.85)
        for wheel in (rear, front):
            pixel = self.tone(_TYRES)
            self.canvas.ring(*self.at(*wheel), 0.35 * self.scale, 0.09 * self.scale, pixel, self.class_id)
        tubes = ((rear, pedals), (pedals, saddle), (pedals, bar), ((-0.15, 0.82), bar), ((0.36, 0.98), front))
        for start, end in (*tubes, (rear, (-0.16, 0.82))):
            self.limb(start, end, 0.06, self.frame)
        knee = (0.16 + 0.1 * math.sin(rng.uniform(0, 6)), 0.75)
        self.limb((-0.15, 0.98), knee, 0.17, self.trousers)
        self.limb(knee, (0.0, 0.32), 0.13, self.trousers)
        self.shape([(-0.28, 0.92), (-0.02, 0.9), (0.26, 1.38), (0.06, 1.5)], self.shirt)
        self.limb((0.18, 1.38), (0.38, 1.0), 0.09, scaled(self.shirt, 0.85))
        self.ball(0.25, 1.6, 0.12, 0.14, self.skin)
        self.ball(0.23, 1.68, 0.14, 0.09, self.helmet)

    def draw_rider_from_the_front(self) -> None:
        trousers, sleeves = self.trousers, scaled(self.shirt, 0.85)
        self.shape([(-0.04, 0.0), (0.04, 0.0), (0.04, 0.7), (-0.04, 0.7)], _TYRES)
        self.limb((-0.3, 0.98), (0.3, 0.98), 0.06, self.frame)
        self.limb((-0.12, 0.95), (-0.16, 0.35), 0.15, trousers)
        self.limb((0.12, 0.95), (0.15, 0.48), 0.15, scaled(trousers, 0.9))
        for side in (-1, 1):
            self.limb((side * 0.22, 1.38), (side * 0.3, 0.98), 0.1, sleeves)
        self.shape([(-0.17, 0.86), (0.17, 0.86), (0.24, 1.4), (0.12, 1.5), (-0.12, 1.5), (-0.24, 1.4)], self.shirt)
        self.ball(0, 1.6, 0.11, 0.14, self.skin)
        self.ball(0, 1.68, 0.14, 0.1, self.helmet)
