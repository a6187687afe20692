"""Trees, bushes and hedges."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from scenepalette.data.streetscene.camera import NEAREST_METRES
from scenepalette.data.streetscene.canvas import Canvas
from scenepalette.data.streetscene.ids import VEGETATION
from scenepalette.data.streetscene.light import Color, scaled, varied

GREENS: tuple[Color, ...] = ((62, 96, 42), (80, 112, 52), (48, 78, 44), (98, 118, 60), (74, 92, 66))
AUTUMN: tuple[Color, ...] = ((170, 112, 42), (150, 78, 38), (186, 150, 60), (120, 104, 52))


@dataclass(frozen=True)
class Tree:
    """A tree, bush or conifer standing at (x, z): `kind` is round, tall, conifer or bush."""

    x: float
    z: float
    height: float
    radius: float
    color: Color
    kind: str
    seed: int


@dataclass(frozen=True)
class Hedge:
    """A hedge along the street at x from `near` to `far`."""

    x: float
    near: float
    far: float
    height: float
    color: Color
    seed: int


def draw_tree(canvas: Canvas, tree: Tree) -> None:
    """Draws trunk and a crown of many leaf clumps, brighter above and towards the sun."""
    rng = random.Random(tree.seed)
    camera, light = canvas.camera, canvas.light
    u, v = camera.point(tree.x, 0, tree.z)
    scale = camera.scale(tree.z)
    wide = tree.radius * scale
    if not canvas.is_visible(u - wide * 1.2, u + wide * 1.2):
        return
    top = v - tree.height * scale
    _cast_crown_shadow(canvas, tree)
    if tree.kind == "conifer":
        _draw_conifer(canvas, tree, u, v, top, wide, rng)
        return
    bark = varied(rng, (82, 66, 52), 8)
    low = 0.02 if tree.kind == "bush" else 0.26 if tree.kind == "round" else 0.16
    crown_low = v - low * tree.height * scale
    trunk = max(0.5, 0.022 * tree.height * scale)
    canvas.polygon(
        (
            (u - trunk, v),
            (u + trunk, v),
            (u + trunk * 0.7, crown_low - wide * 0.4),
            (u - trunk * 0.7, crown_low - wide * 0.4),
        ),
        light.tone(bark, tree.z, 0.5 * (light.left + light.right)),
        VEGETATION,
    )
    middle = 0.5 * (crown_low + top)
    high = 0.5 * (crown_low - top)
    canvas.ellipse(u, middle, wide * 0.86, high * 0.86, light.tone(scaled(tree.color, 0.62), tree.z), VEGETATION)
    clumps = 7 if wide < 8 else 22 if wide < 40 else 44
    lean = light.right - light.left
    for index in range(clumps):
        angle = rng.uniform(0, 2 * math.pi)
        # The first clumps make the ragged edge, later ones the inside.
        reach = rng.uniform(0.68, 0.95) if index < clumps * 0.45 else rng.uniform(0, 0.75)
        across, up = reach * math.cos(angle), reach * math.sin(angle)
        size = rng.uniform(0.16, 0.34)
        bright = 0.84 + 0.26 * up + 0.35 * lean * across + rng.gauss(0, 0.1)
        pixel = light.tone(scaled(tree.color, max(0.35, bright)), tree.z)
        canvas.ellipse(u + across * wide, middle - up * high, size * wide, size * high, pixel, VEGETATION)


def _draw_conifer(canvas: Canvas, tree: Tree, u: float, v: float, top: float, wide: float, rng: random.Random) -> None:
    light = canvas.light
    layers = 6
    for layer in range(layers):
        low = v + (top - v) * (0.08 + 0.8 * layer / layers)
        peak = v + (top - v) * min(1.0, 0.08 + 0.8 * (layer + 2.2) / layers)
        half = wide * (1 - layer / (layers + 0.5)) * rng.uniform(0.85, 1.1)
        shaded = scaled(tree.color, 0.6 + 0.06 * layer)
        canvas.polygon(
            ((u - half, low), (u, peak), (u, low + half * 0.1)),
            light.tone(shaded, tree.z, light.left + 0.1),
            VEGETATION,
        )
        canvas.polygon(
            ((u + half, low), (u, peak), (u, low + half * 0.1)),
            light.tone(shaded, tree.z, light.right + 0.1),
            VEGETATION,
        )


def _cast_crown_shadow(canvas: Canvas, tree: Tree) -> None:
    light, point = canvas.light, canvas.camera.point
    shift = light.shadow_reach * tree.height * 0.6
    depth = tree.radius * 0.8
    points = []
    for step in range(10):
        angle = step * math.pi / 5
        x = tree.x + shift + math.cos(angle) * tree.radius * (1 + abs(light.shadow_reach) * 0.4)
        points.append(point(x, 0, max(NEAREST_METRES, tree.z + math.sin(angle) * depth)))
    canvas.cast_shadow(points, light.shadow)


def draw_hedge(canvas: Canvas, hedge: Hedge) -> None:
    """Draws a clipped hedge in perspective with a lighter top edge and leaf clumps."""
    rng = random.Random(hedge.seed)
    camera, light = canvas.camera, canvas.light
    near, far = max(hedge.near, NEAREST_METRES), hedge.far
    if far <= near:
        return
    facing = light.right if hedge.x < 0 else light.left
    feet = (camera.point(hedge.x, 0, near), camera.point(hedge.x, 0, far))
    if not canvas.is_visible(feet[0][0], feet[1][0]):
        return
    tops = (camera.point(hedge.x, hedge.height, near), camera.point(hedge.x, hedge.height, far))
    outward = 1.0 if hedge.x > 0 else -1.0
    back = (camera.point(hedge.x + outward, hedge.height, near), camera.point(hedge.x + outward, hedge.height, far))
    end = (camera.point(hedge.x + outward, 0, near), feet[0], tops[0], back[0])
    canvas.polygon(end, light.tone(hedge.color, near, light.front * 0.9), VEGETATION)
    canvas.polygon(
        (tops[0], tops[1], back[1], back[0]), light.tone(scaled(hedge.color, 1.2), near, light.top), VEGETATION
    )
    canvas.polygon((feet[0], feet[1], tops[1], tops[0]), light.tone(hedge.color, near, facing), VEGETATION)
    for _ in range(16):
        z = rng.uniform(near, far)
        y = rng.uniform(0.15, 1.02) * hedge.height
        u, v = camera.point(hedge.x, y, z)
        size = rng.uniform(0.1, 0.25) * camera.scale(z)
        pixel = light.tone(scaled(hedge.color, rng.uniform(0.7, 1.2)), z, facing)
        canvas.ellipse(u, v, size, size, pixel, VEGETATION)
