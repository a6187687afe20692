"""Pedestrians and bicyclists."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from scenepalette.data.streetscene.camera import NEAREST_METRES
from scenepalette.data.streetscene.canvas import Canvas
from scenepalette.data.streetscene.ids import BICYCLIST, PEDESTRIAN
from scenepalette.data.streetscene.light import Color, scaled, varied

SHIRTS: tuple[Color, ...] = (
    (170, 44, 44),
    (40, 60, 110),
    (220, 220, 215),
    (50, 50, 54),
    (70, 110, 80),
    (200, 160, 60),
    (120, 90, 140),
    (110, 112, 116),
    (90, 70, 56),
)
TROUSERS: tuple[Color, ...] = ((40, 46, 66), (34, 34, 36), (90, 84, 72), (70, 74, 84), (120, 108, 90))
SKINS: tuple[Color, ...] = ((226, 184, 156), (196, 146, 112), (140, 96, 70), (92, 62, 46))
HAIR: tuple[Color, ...] = ((40, 32, 26), (84, 60, 40), (150, 120, 80), (120, 118, 116))


@dataclass(frozen=True)
class Person:
    """A pedestrian or, where `riding`, a bicyclist at (x, z); `across` is seen from the side."""

    x: float
    z: float
    height: float
    riding: bool
    across: bool
    seed: int


class _Body:
    """Draws in metres around a foot point, as on a board that faces the camera."""

    def __init__(self, canvas: Canvas, person: Person, class_id: int, mirror: int) -> None:
        self.canvas = canvas
        self.u, self.v = canvas.camera.point(person.x, 0, person.z)
        self.z = person.z
        self.scale = canvas.camera.scale(person.z) * (person.height / 1.72 if not person.riding else 1.0)
        self.class_id = class_id
        self.mirror = mirror

    def at(self, x: float, y: float) -> tuple[float, float]:
        return self.u + self.mirror * x * self.scale, self.v - y * self.scale

    def polygon(self, points: list[tuple[float, float]], color: Color, facing: float = 0.85) -> None:
        pixel = self.canvas.light.tone(color, self.z, facing)
        self.canvas.polygon([self.at(x, y) for x, y in points], pixel, self.class_id)

    def limb(self, start: tuple[float, float], end: tuple[float, float], width: float, color: Color) -> None:
        pixel = self.canvas.light.tone(color, self.z, 0.82)
        self.canvas.line((self.at(*start), self.at(*end)), pixel, self.class_id, width * self.scale)

    def disc(self, x: float, y: float, radius_x: float, radius_y: float, color: Color) -> None:
        u, v = self.at(x, y)
        pixel = self.canvas.light.tone(color, self.z, 0.95)
        self.canvas.ellipse(u, v, radius_x * self.scale, radius_y * self.scale, pixel, self.class_id)

    def wheel(self, x: float, radius_x: float, radius_y: float) -> None:
        u, v = self.at(x, radius_y)
        pixel = self.canvas.light.tone((28, 28, 30), self.z)
        self.canvas.ring(u, v, radius_x * self.scale, radius_y * self.scale, pixel, self.class_id, 0.09 * self.scale)


def draw_person(canvas: Canvas, person: Person) -> None:
    """Draws a walking or standing figure, or a rider on a bicycle."""
    u, _ = canvas.camera.point(person.x, 0, person.z)
    reach = canvas.camera.scale(person.z)
    if person.z < NEAREST_METRES or not canvas.is_visible(u - reach, u + reach):
        return
    rng = random.Random(person.seed)
    shirt = varied(rng, rng.choice(SHIRTS), 14)
    trousers = varied(rng, rng.choice(TROUSERS), 8)
    skin, hair = rng.choice(SKINS), rng.choice(HAIR)
    mirror = rng.choice((-1, 1))
    body = _Body(canvas, person, BICYCLIST if person.riding else PEDESTRIAN, mirror)
    _cast_figure_shadow(canvas, person)
    if person.riding:
        _draw_rider(body, rng, person.across, shirt, trousers, skin)
    else:
        _draw_walker(body, rng, person.across, shirt, trousers, skin, hair)


def _cast_figure_shadow(canvas: Canvas, person: Person) -> None:
    point, light = canvas.camera.point, canvas.light
    half = 0.28
    depth = 0.25 if not person.riding else 0.8
    near, far = max(NEAREST_METRES, person.z - depth), person.z + depth
    tip = person.x + light.shadow_reach * person.height
    corners = [point(person.x - half, 0, near), point(person.x + half, 0, near)]
    corners += [point(person.x + half, 0, far), point(person.x - half, 0, far)]
    canvas.cast_shadow(corners, 0.4)
    if light.shadow_reach:
        corners = [point(person.x, 0, near), point(tip, 0, near), point(tip, 0, far), point(person.x, 0, far)]
        canvas.cast_shadow(corners, light.shadow)


def _draw_walker(
    body: _Body, rng: random.Random, across: bool, shirt: Color, trousers: Color, skin: Color, hair: Color
) -> None:
    stride = rng.uniform(0.12, 0.3) if across else rng.uniform(0.05, 0.12)
    coat = rng.random() < 0.25
    hip = 0.62 if coat else 0.84
    half = 0.17 if across else 0.23
    shoe = scaled(trousers, 0.5)
    body.polygon([(-0.13, 0.88), (0.02, 0.88), (-stride + 0.1, 0.03), (-stride - 0.05, 0.03)], scaled(trousers, 0.85))
    body.polygon([(-0.02, 0.88), (0.13, 0.88), (stride + 0.06, 0.03), (stride - 0.09, 0.03)], trousers)
    body.disc(-stride + 0.04, 0.04, 0.1, 0.05, shoe)
    body.disc(stride + 0.02, 0.04, 0.1, 0.05, shoe)
    swing = stride * 0.9
    body.limb((-half, 1.36), (-half - 0.04 - swing * 0.5, 0.84), 0.1, scaled(shirt, 0.8))
    body.polygon(
        [(-half + 0.04, hip), (half - 0.04, hip), (half, 1.4), (half * 0.6, 1.48), (-half * 0.6, 1.48), (-half, 1.4)],
        shirt,
    )
    body.limb((half * 0.8, 1.36), (half * 0.8 + swing * 0.8, 0.84), 0.1, scaled(shirt, 0.9))
    if rng.random() < 0.3:
        bag = varied(rng, (90, 50, 40), 20)
        body.polygon([(-half - 0.14, 0.7), (-half + 0.06, 0.7), (-half + 0.06, 0.98), (-half - 0.14, 0.98)], bag)
    body.disc(0, 1.6, 0.115, 0.145, skin)
    body.polygon([(-0.12, 1.6), (-0.1, 1.74), (0.0, 1.78), (0.1, 1.74), (0.11, 1.67), (-0.02, 1.68)], hair)


def _draw_rider(body: _Body, rng: random.Random, across: bool, shirt: Color, trousers: Color, skin: Color) -> None:
    frame = varied(rng, rng.choice(((150, 40, 40), (40, 70, 120), (36, 36, 38), (190, 190, 190))), 10)
    helmet = varied(rng, rng.choice(((220, 220, 220), (190, 40, 40), (40, 40, 44), (210, 190, 60))), 10)
    if across:
        body.wheel(-0.52, 0.35, 0.35)
        body.wheel(0.52, 0.35, 0.35)
        for start, end in (
            ((-0.52, 0.35), (-0.05, 0.4)),
            ((-0.05, 0.4), (-0.18, 0.92)),
            ((-0.05, 0.4), (0.38, 0.85)),
            ((-0.15, 0.82), (0.38, 0.85)),
            ((0.36, 0.98), (0.52, 0.35)),
            ((-0.52, 0.35), (-0.16, 0.82)),
        ):
            body.limb(start, end, 0.06, frame)
        knee = 0.16 + 0.1 * math.sin(rng.uniform(0, 6))
        body.limb((-0.15, 0.98), (knee, 0.75), 0.17, trousers)
        body.limb((knee, 0.75), (0.0, 0.32), 0.13, trousers)
        body.polygon([(-0.28, 0.92), (-0.02, 0.9), (0.26, 1.38), (0.06, 1.5)], shirt)
        body.limb((0.18, 1.38), (0.38, 1.0), 0.09, scaled(shirt, 0.85))
        body.disc(0.25, 1.6, 0.12, 0.14, skin)
        body.disc(0.23, 1.68, 0.14, 0.09, helmet)
        return
    body.polygon([(-0.04, 0.0), (0.04, 0.0), (0.04, 0.7), (-0.04, 0.7)], (28, 28, 30))
    body.limb((-0.3, 0.98), (0.3, 0.98), 0.06, frame)
    body.limb((-0.12, 0.95), (-0.16, 0.35), 0.15, trousers)
    body.limb((0.12, 0.95), (0.15, 0.48), 0.15, scaled(trousers, 0.9))
    body.limb((-0.22, 1.38), (-0.3, 0.98), 0.1, scaled(shirt, 0.85))
    body.limb((0.22, 1.38), (0.3, 0.98), 0.1, scaled(shirt, 0.85))
    body.polygon([(-0.17, 0.86), (0.17, 0.86), (0.24, 1.4), (0.12, 1.5), (-0.12, 1.5), (-0.24, 1.4)], shirt)
    body.disc(0, 1.6, 0.11, 0.14, skin)
    body.disc(0, 1.68, 0.14, 0.1, helmet)
