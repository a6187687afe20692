"""Trees, bushes and hedges."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from scenepalette.data.streets.canvas import NEAREST_METRES, VEGETATION, Board, Canvas
from scenepalette.data.streets.ground import Standing, Wall
from scenepalette.data.streets.light import Color, scaled, varied

GREENS: tuple[Color, ...] = ((62, 96, 42), (80, 112, 52), (48, 78, 44), (98, 118, 60), (74, 92, 66))
AUTUMN: tuple[Color, ...] = ((170, 112, 42), (150, 78, 38), (186, 150, 60), (120, 104, 52))
_CONIFER_LAYERS = 6


@dataclass(frozen=True)
class Tree(Standing):
    """A tree, bush or conifer standing at (x, z): `kind` is round, tall, conifer or bush."""

    height: float
    radius: float
    color: Color
    kind: str
    seed: int

    def draw(self, canvas: Canvas) -> None:
        """Draws shadow, trunk and crown."""
        board = Board(canvas, self.x, self.z, VEGETATION)
        wide = self.radius * board.scale
        if not canvas.is_visible(board.u - wide * 1.2, board.u + wide * 1.2):
            return
        reach = canvas.light.shadow_reach
        shadow = []
        for angle in (step * math.pi / 5 for step in range(10)):
            x = self.x + reach * self.height * 0.6 + math.cos(angle) * self.radius * (1 + abs(reach) * 0.4)
            shadow.append((x, max(NEAREST_METRES, self.z + math.sin(angle) * (self.radius * 0.8))))
        canvas.shadow(shadow, canvas.light.shadow)
        draw = _draw_conifer if self.kind == "conifer" else _draw_broadleaf
        draw(self, board, wide, random.Random(self.seed))


def _draw_broadleaf(tree: Tree, board: Board, wide: float, rng: random.Random) -> None:
    """Trunk and a crown of many leaf clumps, brighter above and towards the sun."""
    canvas, light, u = board.canvas, board.light, board.u
    bark = varied(rng, (82, 66, 52), 8)
    low = {"bush": 0.02, "round": 0.26, "tall": 0.16}[tree.kind]
    (_, crown_low), (_, crown_top) = board.at(0, low * tree.height), board.at(0, tree.height)
    trunk, trunk_top = max(0.5, 0.022 * tree.height * board.scale), crown_low - wide * 0.4
    outline = ((u - trunk, board.v), (u + trunk, board.v), (u + trunk * 0.7, trunk_top), (u - trunk * 0.7, trunk_top))
    canvas.polygon(outline, board.tone(bark, 0.5 * (light.left + light.right)), VEGETATION)
    middle, high = 0.5 * (crown_low + crown_top), 0.5 * (crown_low - crown_top)
    canvas.ellipse(u, middle, wide * 0.86, high * 0.86, board.tone(scaled(tree.color, 0.62)), VEGETATION)
    clumps = 7 if wide < 8 else 22 if wide < 40 else 44
    for index in range(clumps):
        angle = rng.uniform(0, 2 * math.pi)
        # The first clumps make the ragged edge, later ones the inside.
        reach = rng.uniform(0.68, 0.95) if index < clumps * 0.45 else rng.uniform(0, 0.75)
        across, up = reach * math.cos(angle), reach * math.sin(angle)
        size = rng.uniform(0.16, 0.34)
        bright = 0.84 + 0.26 * up + 0.35 * (light.right - light.left) * across + rng.gauss(0, 0.1)
        pixel = board.tone(scaled(tree.color, max(0.35, bright)))
        canvas.ellipse(u + across * wide, middle - up * high, size * wide, size * high, pixel, VEGETATION)


def _draw_conifer(tree: Tree, board: Board, wide: float, rng: random.Random) -> None:
    """Layers of branches, each a left and a right triangle."""
    light, u, v = board.light, board.u, board.v
    rise = board.at(0, tree.height)[1] - v
    for layer in range(_CONIFER_LAYERS):
        low = v + rise * (0.08 + 0.8 * layer / _CONIFER_LAYERS)
        peak = v + rise * min(1.0, 0.08 + 0.8 * (layer + 2.2) / _CONIFER_LAYERS)
        half = wide * (1 - layer / (_CONIFER_LAYERS + 0.5)) * rng.uniform(0.85, 1.1)
        shaded = scaled(tree.color, 0.6 + 0.06 * layer)
        for side, facing in ((-half, light.left), (half, light.right)):
            triangle = ((u + side, low), (u, peak), (u, low + half * 0.1))
            board.canvas.polygon(triangle, board.tone(shaded, facing + 0.1), VEGETATION)


class Hedge(Wall):
    """A clipped hedge."""

    def draw(self, canvas: Canvas) -> None:
        """Draws it in perspective with a lighter top edge and leaf clumps."""
        x, near, far, high = self.x, max(self.near, NEAREST_METRES), self.far, self.height
        camera, light = canvas.camera, canvas.light
        if far <= near or not canvas.is_visible(camera.point(x, 0, near)[0], camera.point(x, 0, far)[0]):
            return
        facing = self.facing(light)
        back = x + (1.0 if x > 0 else -1.0)
        end = [(back, 0, near), (x, 0, near), (x, high, near), (back, high, near)]
        top = [(x, high, near), (x, high, far), (back, high, far), (back, high, near)]
        canvas.surface(end, light.tone(self.color, near, light.front * 0.9), VEGETATION)
        canvas.surface(top, light.tone(scaled(self.color, 1.2), near, light.top), VEGETATION)
        canvas.wall(x, 0, high, near, far, light.tone(self.color, near, facing), VEGETATION)
        rng = random.Random(self.seed)
        for _ in range(16):
            z = rng.uniform(near, far)
            u, v = camera.point(x, rng.uniform(0.15, 1.02) * high, z)
            size = rng.uniform(0.1, 0.25) * camera.scale(z)
            pixel = light.tone(scaled(self.color, rng.uniform(0.7, 1.2)), z, facing)
            canvas.ellipse(u, v, size, size, pixel, VEGETATION)
