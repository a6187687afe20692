"""Street lamps, signs, traffic lights, gantries, clutter and fences."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from scenepalette.data.classes import IGNORE_ID
from scenepalette.data.streets.canvas import FENCE, NEAREST_METRES, POLE, TRAFFIC_SIGN, Board, Canvas
from scenepalette.data.streets.ground import Standing, Wall
from scenepalette.data.streets.light import Color, scaled, varied

_EIGHTHS = [math.pi * (0.125 + step / 4) for step in range(8)]
_OCTAGON = [(math.cos(angle), -math.sin(angle)) for angle in _EIGHTHS]


@dataclass(frozen=True)
class Post(Standing):
    """Something on a pole at (x, z): `kind` is lamp, sign, signal, pole, gantry or bin."""

    kind: str
    seed: int

    @property
    def toward(self) -> int:
        """Direction in which the road lies: 1 right, -1 left."""
        return -1 if self.x > 0 else 1

    def draw(self, canvas: Canvas) -> None:
        """Draws the pole and what it carries."""
        if self.z < NEAREST_METRES:
            return
        board = Board(canvas, self.x, self.z, POLE)
        reach = (12 if self.kind == "gantry" else 3) * board.scale
        if canvas.is_visible(board.u - reach, board.u + reach):
            _DRAWN_BY[self.kind](self, board, random.Random(self.seed))


def _draw_stick(post: Post, board: Board, high: float, radius: float, color: Color) -> None:
    """An upright pole, at least a little wider than one pixel of the oversized canvas, lit from one side."""
    half, light = max(0.8, radius * board.scale), board.light
    u, v, top = board.u, board.v, board.v - high * board.scale
    board.canvas.rectangle(u - half, top, u + half, v, board.tone(color, light.left), POLE)
    if half > 1.5:
        board.canvas.rectangle(u, top, u + half, v, board.tone(color, light.right), POLE)
    if light.shadow_reach:
        tip, far = post.x + light.shadow_reach * high, post.z + 0.12
        board.canvas.shadow([(post.x, post.z), (post.x, far), (tip, far + 0.4), (tip, post.z + 0.4)], light.shadow)


def _draw_pole(post: Post, board: Board, rng: random.Random) -> None:
    high = rng.uniform(6, 9)
    color = varied(rng, (96, 78, 62), 12)
    _draw_stick(post, board, high, 0.13, color)
    board.line((-0.9, high - 0.6), (0.9, high - 0.6), 0.14, board.tone(scaled(color, 0.8)))


def _draw_lamp(post: Post, board: Board, rng: random.Random) -> None:
    high = rng.uniform(5.5, 8.5)
    color = varied(rng, rng.choice(((120, 124, 126), (70, 74, 76), (52, 62, 56))), 8)
    _draw_stick(post, board, high, 0.085, color)
    arm = post.toward * rng.uniform(0.8, 2.2)
    board.line((0, high), (arm, high + 0.35), 0.1, board.tone(color), least=1.5)
    light = board.light
    shines = light.is_night or (light.weather == "dusk" and rng.random() < 0.6)
    pixel = light.glow((255, 226, 160), post.z) if shines else board.tone(scaled(color, 1.1))
    board.part(arm, high + 0.35, POLE).box(-0.38, -0.1, 0.38, 0.1, pixel)
    if shines:
        board.glow(arm, high + 0.35, 1.7, (140.0, 112.0, 66.0))
        Board(board.canvas, post.x + arm, post.z, POLE).glow(0, 0, 3.6, (34.0, 27.0, 15.0))


def _draw_sign(post: Post, board: Board, rng: random.Random) -> None:
    high = rng.uniform(2.1, 2.9)
    _draw_stick(post, board, high, 0.04, (140, 142, 144))
    for plate in range(2 if rng.random() < 0.25 else 1):
        # The unit of a sign's face is half its size.
        size = rng.uniform(0.34, 0.46) * board.scale
        face = board.part(0, high, TRAFFIC_SIGN).part(0, 0.35 - 0.85 * plate, TRAFFIC_SIGN, size)
        shape = rng.choice(("ring", "ring", "triangle", "blue", "diamond", "stop", "plate"))
        facing = rng.uniform(0.85, 1.05)
        if shape == "ring":
            face.disc(0, 0, 1, 1, face.tone((206, 30, 36), facing))
            face.disc(0, 0, 0.7, 0.7, face.tone((236, 236, 232), facing))
            if rng.random() < 0.6:
                face.box(-0.35, -0.3, 0.35, 0.3, face.tone((40, 40, 44), facing))
        elif shape == "triangle":
            face.polygon([(0, 1.1), (-1.1, -0.8), (1.1, -0.8)], face.tone((206, 34, 38), facing))
            face.polygon([(0, 0.5), (-0.6, -0.5), (0.6, -0.5)], face.tone((238, 236, 226), facing))
        elif shape == "blue":
            face.box(-1, -1, 1, 1, face.tone((30, 72, 160), facing))
            face.box(-0.4, -0.6, 0.2, 0.6, face.tone((236, 236, 236), facing))
        elif shape == "diamond":
            face.polygon([(0, 1.2), (1.2, 0), (0, -1.2), (-1.2, 0)], face.tone((226, 180, 40), facing))
        elif shape == "stop":
            face.part(0, 0, TRAFFIC_SIGN, size * 1.1).polygon(_OCTAGON, face.tone((190, 28, 34), facing))
            face.box(-0.7, -0.2, 0.7, 0.2, face.tone((232, 230, 226), facing))
        else:
            color = rng.choice(((232, 232, 228), (226, 186, 60), (36, 110, 74)))
            face.box(-1.9, -0.8, 1.9, 0.8, face.tone(color, facing))
            for y in (0.35, -0.2):
                face.box(-1.5, y, 1.2, y - 0.2, face.tone(scaled(color, 0.35), facing))


def _draw_signal(post: Post, board: Board, rng: random.Random) -> None:
    """A traffic light, and often a second one on an arm over the road."""
    high = rng.uniform(3.0, 3.6)
    color = varied(rng, (92, 94, 92), 10)
    state = rng.choice(("red", "red", "amber", "green", "green"))
    heads = [board.part(0, high - 0.5, TRAFFIC_SIGN)]
    if rng.random() < 0.45:
        high = 5.6
        arm = post.toward * rng.uniform(2.5, 4.5)
        board.line((0, high), (arm, high), 0.12, board.tone(color), least=1.5)
        heads.append(board.part(arm, high - 0.3, TRAFFIC_SIGN))
    _draw_stick(post, board, high, 0.07, color)
    lamps: dict[str, tuple[Color, float]] = {
        "red": ((255, 50, 40), 0.31),
        "amber": ((255, 190, 50), 0.0),
        "green": ((60, 240, 150), -0.31),
    }
    for head in heads:
        head.box(-0.2, -0.5, 0.2, 0.5, head.tone((34, 36, 34)))
        for name, (lamp, y) in lamps.items():
            pixel = head.light.glow(lamp, post.z) if name == state else head.tone(scaled(lamp, 0.22))
            head.disc(0, y, 0.13, 0.13, pixel)
            if name == state and head.light.lamps_on:
                head.glow(0, y, 0.7, scaled(lamp, 0.35))


def _draw_gantry(post: Post, board: Board, rng: random.Random) -> None:
    """Direction boards on a frame across the road; the frame stands at x and at -x."""
    color, high, scale, canvas = (126, 130, 134), 6.2, board.scale, board.canvas
    other = Board(canvas, -post.x, post.z, POLE)
    for foot in (board, other):
        _draw_stick(post, foot, high, 0.14, color)
    canvas.line((board.at(0, high), other.at(0, high)), board.tone(color), POLE, max(1.5, 0.28 * scale))
    blue_or_green = rng.choice(((24, 74, 150), (20, 104, 66), (36, 60, 120)))
    left, wide = min(board.u, other.u), abs(board.u - other.u)
    low, top = board.v - (high - 0.9) * scale, board.v - (high + 1.1) * scale
    for index in range(rng.choice((1, 2, 2))):
        start = left + wide * (0.08 + 0.5 * index)
        end = start + wide * rng.uniform(0.28, 0.4)
        canvas.rectangle(start, top, end, low, board.tone(blue_or_green, 0.95), TRAFFIC_SIGN)
        for share in (0.25, 0.55):
            v = top + (low - top) * share
            stop = start + (end - start) * rng.uniform(0.5, 0.9)
            white = board.tone((232, 232, 232), 0.95)
            canvas.rectangle(start + 0.3 * scale, v, stop, v + 0.25 * scale, white, TRAFFIC_SIGN)


def _draw_bin(post: Post, board: Board, rng: random.Random) -> None:
    """Clutter that no class names: a bin or a box, left out of the label."""
    color = varied(rng, rng.choice(((60, 84, 62), (80, 82, 86), (120, 96, 50), (150, 60, 44))), 12)
    half, high = rng.uniform(0.25, 0.45) * board.scale, rng.uniform(0.8, 1.25) * board.scale
    u, v, lid = board.u, board.v, half * 1.1
    canvas = board.canvas
    canvas.rectangle(u - half, v - high, u + half, v, board.tone(color, board.light.front), IGNORE_ID)
    canvas.rectangle(u - lid, v - high, u + lid, v - high * 0.85, board.tone(scaled(color, 0.7)), IGNORE_ID)


_DRAWN_BY = {
    "pole": _draw_pole,
    "lamp": _draw_lamp,
    "sign": _draw_sign,
    "signal": _draw_signal,
    "gantry": _draw_gantry,
    "bin": _draw_bin,
}


class Fence(Wall):
    """A fence: `kind` is wall, boards, bars or rail."""

    def draw(self, canvas: Canvas) -> None:
        """Draws it in perspective with its posts, boards or courses."""
        near, far, high = max(self.near, NEAREST_METRES), self.far, self.height
        point = canvas.camera.point
        if far <= near or not canvas.is_visible(point(self.x, 0, near)[0], point(self.x, 0, far)[0]):
            return
        facing = self.facing(canvas.light)

        def band(low: float, high: float, shade: float, start: float = near, end: float = far) -> None:
            pixel = canvas.light.tone(scaled(self.color, shade), start, facing)
            canvas.wall(self.x, low, high, start, end, pixel, FENCE)

        bands = {
            "rail": ((0.0, 0.45, 0.42), (0.45, 0.6, 1), (0.6, 0.7, 0.72), (0.7, 0.82, 1)),
            "wall": ((0, high, 1), (high - 0.15, high, 1.2)),
            "boards": ((0, high, 1),),
            "bars": ((0, high, 0.5), (high - 0.12, high, 1)),
        }
        for low, top, shade in bands[self.kind]:
            band(low, top, shade)
        if self.kind in ("boards", "bars"):
            rng = random.Random(self.seed)
            step, width = (0.45, 0.36) if self.kind == "boards" else (0.35, 0.12)
            z = near
            while z < far and canvas.camera.scale(z) * step > 2:
                shade = rng.uniform(0.72, 1.1)
                band(0.05, high * rng.uniform(0.95, 1.0), shade, z, min(far, z + width))
                z += step
