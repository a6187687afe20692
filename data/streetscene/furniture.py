"""Street lamps, signs, traffic lights, gantries, fences and clutter."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from scenepalette.data.classes import IGNORE_ID
from scenepalette.data.streetscene.camera import NEAREST_METRES
from scenepalette.data.streetscene.canvas import Canvas
from scenepalette.data.streetscene.ids import FENCE, POLE, TRAFFIC_SIGN
from scenepalette.data.streetscene.light import Color, scaled, varied


@dataclass(frozen=True)
class Post:
    """Something on a pole at (x, z): `kind` is lamp, sign, signal, pole, gantry or bin."""

    x: float
    z: float
    kind: str
    seed: int


@dataclass(frozen=True)
class Fence:
    """A fence along the street at x from `near` to `far`: `kind` is wall, boards, bars or rail."""

    x: float
    near: float
    far: float
    height: float
    kind: str
    color: Color
    seed: int


def draw_post(canvas: Canvas, post: Post) -> None:
    """Draws a pole and what it carries."""
    if post.z < NEAREST_METRES:
        return
    u, v = canvas.camera.point(post.x, 0, post.z)
    scale = canvas.camera.scale(post.z)
    reach = 12 if post.kind == "gantry" else 3
    if not canvas.is_visible(u - reach * scale, u + reach * scale):
        return
    rng = random.Random(post.seed)
    if post.kind == "lamp":
        _draw_lamp(canvas, post, u, v, scale, rng)
    elif post.kind == "sign":
        _draw_sign(canvas, post, u, v, scale, rng)
    elif post.kind == "signal":
        _draw_signal(canvas, post, u, v, scale, rng)
    elif post.kind == "gantry":
        _draw_gantry(canvas, post, u, v, scale, rng)
    elif post.kind == "bin":
        _draw_bin(canvas, post, u, v, scale, rng)
    else:
        high = rng.uniform(6, 9)
        color = varied(rng, (96, 78, 62), 12)
        _stick(canvas, post, u, v, scale, high, 0.13, color)
        pixel = canvas.light.tone(scaled(color, 0.8), post.z)
        canvas.line(
            ((u - 0.9 * scale, v - (high - 0.6) * scale), (u + 0.9 * scale, v - (high - 0.6) * scale)),
            pixel,
            POLE,
            0.14 * scale,
        )


def _stick(
    canvas: Canvas, post: Post, u: float, v: float, scale: float, high: float, radius: float, color: Color
) -> None:
    """An upright pole, at least a little wider than one pixel of the oversized canvas, lit from one side."""
    half = max(0.8, radius * scale)
    light = canvas.light
    canvas.rectangle(u - half, v - high * scale, u + half, v, light.tone(color, post.z, light.left), POLE)
    if half > 1.5:
        canvas.rectangle(u, v - high * scale, u + half, v, light.tone(color, post.z, light.right), POLE)
    if light.shadow_reach:
        point = canvas.camera.point
        tip = post.x + light.shadow_reach * high
        width = 0.12
        corners = [point(post.x, 0, post.z), point(post.x, 0, post.z + width)]
        corners += [point(tip, 0, post.z + width + 0.4), point(tip, 0, post.z + 0.4)]
        canvas.cast_shadow(corners, light.shadow)


def _draw_lamp(canvas: Canvas, post: Post, u: float, v: float, scale: float, rng: random.Random) -> None:
    high = rng.uniform(5.5, 8.5)
    color = varied(rng, rng.choice(((120, 124, 126), (70, 74, 76), (52, 62, 56))), 8)
    light = canvas.light
    _stick(canvas, post, u, v, scale, high, 0.085, color)
    toward = -1 if post.x > 0 else 1
    arm = rng.uniform(0.8, 2.2)
    head_u, head_v = u + toward * arm * scale, v - (high + 0.35) * scale
    canvas.line(((u, v - high * scale), (head_u, head_v)), light.tone(color, post.z), POLE, max(1.5, 0.1 * scale))
    shines = light.is_night or (light.weather == "dusk" and rng.random() < 0.6)
    pixel = light.glow((255, 226, 160), post.z) if shines else light.tone(scaled(color, 1.1), post.z)
    canvas.rectangle(
        head_u - 0.38 * scale, head_v - 0.1 * scale, head_u + 0.38 * scale, head_v + 0.1 * scale, pixel, POLE
    )
    if shines:
        canvas.glows.append((head_u, head_v, 1.7 * scale, (140.0, 112.0, 66.0)))
        ground_u, ground_v = canvas.camera.point(post.x + toward * arm, 0, post.z)
        canvas.glows.append((ground_u, ground_v, 3.6 * scale, (34.0, 27.0, 15.0)))


def _draw_sign(canvas: Canvas, post: Post, u: float, v: float, scale: float, rng: random.Random) -> None:
    light = canvas.light
    high = rng.uniform(2.1, 2.9)
    _stick(canvas, post, u, v, scale, high, 0.04, (140, 142, 144))
    boards = 2 if rng.random() < 0.25 else 1
    for board in range(boards):
        size = rng.uniform(0.34, 0.46) * scale
        middle = v - high * scale - (0.35 - 0.85 * board) * scale
        shape = rng.choice(("ring", "ring", "triangle", "blue", "diamond", "stop", "plate"))
        facing = rng.uniform(0.85, 1.05)

        def paint(color: Color, facing: float = facing) -> tuple[int, int, int]:
            return light.tone(color, post.z, facing)

        if shape == "ring":
            canvas.ellipse(u, middle, size, size, paint((206, 30, 36)), TRAFFIC_SIGN)
            canvas.ellipse(u, middle, size * 0.7, size * 0.7, paint((236, 236, 232)), TRAFFIC_SIGN)
            if rng.random() < 0.6:
                canvas.rectangle(
                    u - size * 0.35,
                    middle - size * 0.3,
                    u + size * 0.35,
                    middle + size * 0.3,
                    paint((40, 40, 44)),
                    TRAFFIC_SIGN,
                )
        elif shape == "triangle":
            outer = [
                (u, middle - size * 1.1),
                (u - size * 1.1, middle + size * 0.8),
                (u + size * 1.1, middle + size * 0.8),
            ]
            inner = [
                (u, middle - size * 0.5),
                (u - size * 0.6, middle + size * 0.5),
                (u + size * 0.6, middle + size * 0.5),
            ]
            canvas.polygon(outer, paint((206, 34, 38)), TRAFFIC_SIGN)
            canvas.polygon(inner, paint((238, 236, 226)), TRAFFIC_SIGN)
        elif shape == "blue":
            canvas.rectangle(u - size, middle - size, u + size, middle + size, paint((30, 72, 160)), TRAFFIC_SIGN)
            canvas.rectangle(
                u - size * 0.4,
                middle - size * 0.6,
                u + size * 0.2,
                middle + size * 0.6,
                paint((236, 236, 236)),
                TRAFFIC_SIGN,
            )
        elif shape == "diamond":
            points = [
                (u, middle - size * 1.2),
                (u + size * 1.2, middle),
                (u, middle + size * 1.2),
                (u - size * 1.2, middle),
            ]
            canvas.polygon(points, paint((226, 180, 40)), TRAFFIC_SIGN)
        elif shape == "stop":
            points = [
                (
                    u + size * 1.1 * math.cos(math.pi * (0.125 + step / 4)),
                    middle + size * 1.1 * math.sin(math.pi * (0.125 + step / 4)),
                )
                for step in range(8)
            ]
            canvas.polygon(points, paint((190, 28, 34)), TRAFFIC_SIGN)
            canvas.rectangle(
                u - size * 0.7,
                middle - size * 0.2,
                u + size * 0.7,
                middle + size * 0.2,
                paint((232, 230, 226)),
                TRAFFIC_SIGN,
            )
        else:
            color = rng.choice(((232, 232, 228), (226, 186, 60), (36, 110, 74)))
            canvas.rectangle(
                u - size * 1.9, middle - size * 0.8, u + size * 1.9, middle + size * 0.8, paint(color), TRAFFIC_SIGN
            )
            dark = paint(scaled(color, 0.35))
            for row in (-0.35, 0.2):
                canvas.rectangle(
                    u - size * 1.5, middle + row * size, u + size * 1.2, middle + (row + 0.2) * size, dark, TRAFFIC_SIGN
                )


def _draw_signal(canvas: Canvas, post: Post, u: float, v: float, scale: float, rng: random.Random) -> None:
    """A traffic light, and often a second one on an arm over the road."""
    light = canvas.light
    high = rng.uniform(3.0, 3.6)
    color = varied(rng, (92, 94, 92), 10)
    state = rng.choice(("red", "red", "amber", "green", "green"))
    heads = [(u, v - (high - 0.5) * scale)]
    if rng.random() < 0.45:
        high = 5.6
        toward = -1 if post.x > 0 else 1
        arm_u = u + toward * rng.uniform(2.5, 4.5) * scale
        canvas.line(
            ((u, v - high * scale), (arm_u, v - high * scale)), light.tone(color, post.z), POLE, max(1.5, 0.12 * scale)
        )
        heads.append((arm_u, v - (high - 0.3) * scale))
    _stick(canvas, post, u, v, scale, high, 0.07, color)
    wide, tall = 0.2 * scale, 0.5 * scale
    for head_u, head_v in heads:
        case = light.tone((34, 36, 34), post.z)
        canvas.rectangle(head_u - wide, head_v - tall, head_u + wide, head_v + tall, case, TRAFFIC_SIGN)
        for name, lamp, row in (
            ("red", (255, 50, 40), -0.31),
            ("amber", (255, 190, 50), 0.0),
            ("green", (60, 240, 150), 0.31),
        ):
            lamp_v = head_v + row * scale
            pixel = light.glow(lamp, post.z) if name == state else light.tone(scaled(lamp, 0.22), post.z)
            canvas.ellipse(head_u, lamp_v, 0.13 * scale, 0.13 * scale, pixel, TRAFFIC_SIGN)
            if name == state and light.lamps_on:
                canvas.glows.append((head_u, lamp_v, 0.7 * scale, scaled(lamp, 0.35)))


def _draw_gantry(canvas: Canvas, post: Post, u: float, v: float, scale: float, rng: random.Random) -> None:
    """Direction boards on a frame across the road; the frame stands at x and at -x."""
    light = canvas.light
    other, _ = canvas.camera.point(-post.x, 0, post.z)
    color = (126, 130, 134)
    high = 6.2
    for foot in (u, other):
        _stick(canvas, post, foot, v, scale, high, 0.14, color)
    canvas.line(
        ((u, v - high * scale), (other, v - high * scale)), light.tone(color, post.z), POLE, max(1.5, 0.28 * scale)
    )
    board = rng.choice(((24, 74, 150), (20, 104, 66), (36, 60, 120)))
    left, right = min(u, other), max(u, other)
    count = rng.choice((1, 2, 2))
    for index in range(count):
        start = left + (right - left) * (0.08 + 0.5 * index)
        end = start + (right - left) * rng.uniform(0.28, 0.4)
        low, top = v - (high - 0.9) * scale, v - (high + 1.1) * scale
        canvas.rectangle(start, top, end, low, light.tone(board, post.z, 0.95), TRAFFIC_SIGN)
        white = light.tone((232, 232, 232), post.z, 0.95)
        for row in (0.25, 0.55):
            y = top + (low - top) * row
            canvas.rectangle(
                start + 0.3 * scale,
                y,
                start + (end - start) * rng.uniform(0.5, 0.9),
                y + 0.25 * scale,
                white,
                TRAFFIC_SIGN,
            )


def _draw_bin(canvas: Canvas, post: Post, u: float, v: float, scale: float, rng: random.Random) -> None:
    """Clutter that no class names: a bin or a box, left out of the label."""
    light = canvas.light
    color = varied(rng, rng.choice(((60, 84, 62), (80, 82, 86), (120, 96, 50), (150, 60, 44))), 12)
    half, high = rng.uniform(0.25, 0.45) * scale, rng.uniform(0.8, 1.25) * scale
    canvas.rectangle(u - half, v - high, u + half, v, light.tone(color, post.z, light.front), IGNORE_ID)
    canvas.rectangle(
        u - half * 1.1, v - high, u + half * 1.1, v - high * 0.85, light.tone(scaled(color, 0.7), post.z), IGNORE_ID
    )


def draw_fence(canvas: Canvas, fence: Fence) -> None:
    """Draws a fence in perspective with its posts, boards or courses."""
    camera, light = canvas.camera, canvas.light
    near, far = max(fence.near, NEAREST_METRES), fence.far
    if far <= near:
        return
    point = camera.point
    u0, u1 = point(fence.x, 0, near)[0], point(fence.x, 0, far)[0]
    if not canvas.is_visible(u0, u1):
        return
    facing = light.right if fence.x < 0 else light.left
    rng = random.Random(fence.seed)

    def band(low: float, high: float, color: Color, start: float = near, end: float = far) -> None:
        corners = (
            point(fence.x, low, start),
            point(fence.x, low, end),
            point(fence.x, high, end),
            point(fence.x, high, start),
        )
        canvas.polygon(corners, light.tone(color, start, facing), FENCE)

    high = fence.height
    if fence.kind == "rail":
        band(0.0, 0.45, scaled(fence.color, 0.42))
        band(0.45, 0.6, fence.color)
        band(0.6, 0.7, scaled(fence.color, 0.72))
        band(0.7, 0.82, fence.color)
        return
    if fence.kind == "wall":
        band(0, high, fence.color)
        band(high - 0.15, high, scaled(fence.color, 1.2))
    elif fence.kind == "boards":
        band(0, high, fence.color)
    else:
        band(0, high, scaled(fence.color, 0.5))
        band(high - 0.12, high, fence.color)
    if fence.kind in ("boards", "bars"):
        step = 0.45 if fence.kind == "boards" else 0.35
        z = near
        while z < far and camera.scale(z) * step > 2:
            shade = rng.uniform(0.72, 1.1)
            width = 0.36 if fence.kind == "boards" else 0.12
            band(0.05, high * rng.uniform(0.95, 1.0), scaled(fence.color, shade), z, min(far, z + width))
            z += step
