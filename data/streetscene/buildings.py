"""Buildings along the street, and the skyline behind everything."""

from __future__ import annotations

import random
from dataclasses import dataclass

from scenepalette.data.streetscene.camera import FARTHEST_METRES, NEAREST_METRES, Point
from scenepalette.data.streetscene.canvas import Canvas
from scenepalette.data.streetscene.ids import BUILDING, TERRAIN, VEGETATION
from scenepalette.data.streetscene.light import Color, mix, scaled, varied

FACADES: tuple[Color, ...] = (
    (158, 82, 62),
    (176, 112, 84),
    (205, 188, 160),
    (226, 214, 192),
    (150, 146, 140),
    (120, 122, 126),
    (186, 180, 172),
    (214, 172, 108),
    (140, 104, 82),
    (198, 148, 132),
    (104, 112, 124),
    (168, 178, 186),
    (222, 222, 218),
    (132, 140, 118),
)
ROOFS: tuple[Color, ...] = ((120, 62, 48), (84, 80, 80), (140, 84, 62), (64, 66, 74), (104, 96, 88))
LIT: tuple[Color, ...] = ((255, 214, 140), (255, 190, 105), (240, 235, 205), (210, 225, 245))


@dataclass(frozen=True)
class Building:
    """One block: `x` metres right of the centre line is its street front, from `near` to `far` metres ahead."""

    x: float
    near: float
    far: float
    height: float
    color: Color
    kind: str
    seed: int


def draw_building(canvas: Canvas, building: Building) -> None:
    """Draws the face towards the camera, the street front in perspective, windows, ground floor and roof."""
    rng = random.Random(building.seed)
    camera, light = canvas.camera, canvas.light
    side = 1 if building.x > 0 else -1
    near, far = max(building.near, NEAREST_METRES), building.far
    x, height = building.x, building.height
    if far <= near:
        return
    color = building.color
    depth = side * rng.uniform(8, 14)
    roof = rng.choice(ROOFS)
    glass = varied(rng, rng.choice(((58, 68, 84), (44, 48, 54), (92, 110, 128))), 8)
    window_high = rng.uniform(1.3, 2.0)
    spacing = rng.uniform(2.2, 3.6)
    share = rng.uniform(0.4, 0.72)
    style = (glass, window_high, spacing, share)
    is_house = building.kind == "house"
    if building.near >= NEAREST_METRES:
        corners = [camera.point(x, 0, near), camera.point(x + depth, 0, near)]
        corners += [camera.point(x + depth, height, near), camera.point(x, height, near)]
        if canvas.is_visible(corners[0][0], corners[1][0]):
            canvas.polygon(corners, light.tone(color, near, light.front), BUILDING)
            if is_house:
                peak = camera.point(x + depth / 2, height + 3, near)
                canvas.polygon([corners[3], peak, corners[2]], light.tone(color, near, light.front), BUILDING)
            _draw_front_windows(canvas, building, depth, near, rng, style)
    feet = (camera.point(x, 0, near), camera.point(x, 0, far))
    if side * (feet[0][0] - feet[1][0]) <= 0:
        return
    facing = light.right if side < 0 else light.left
    tops = (camera.point(x, height, near), camera.point(x, height, far))
    if is_house:
        ridge = (camera.point(x + depth / 2, height + 3, near), camera.point(x + depth / 2, height + 3, far))
        eaves = (camera.point(x - side * 0.4, height, near), camera.point(x - side * 0.4, height, far))
        canvas.polygon([eaves[0], eaves[1], ridge[1], ridge[0]], light.tone(roof, near, 0.5 + 0.5 * facing), BUILDING)
        canvas.polygon([eaves[0], eaves[1], tops[1], tops[0]], light.tone(scaled(color, 0.5), near), BUILDING)
    canvas.polygon([feet[0], feet[1], tops[1], tops[0]], light.tone(color, (near + far) / 2, facing), BUILDING)
    _draw_street_windows(canvas, building, near, facing, rng, style)
    if not is_house:
        trim = varied(rng, scaled(color, rng.choice((0.6, 0.8, 1.2))), 6)
        _band(canvas, x, height - 0.7, height, near, far, trim, facing)
    if light.shadow_reach:
        reach = light.shadow_reach * height
        if reach * side < 0:
            shadow = [feet[0], feet[1], camera.point(x + reach, 0, far), camera.point(x + reach, 0, near)]
            canvas.cast_shadow(shadow, light.shadow)


def _band(
    canvas: Canvas, x: float, low: float, high: float, near: float, far: float, color: Color, facing: float
) -> None:
    """Fills the part of a street front between two heights and two distances."""
    point = canvas.camera.point
    corners = (point(x, low, near), point(x, low, far), point(x, high, far), point(x, high, near))
    canvas.polygon(corners, canvas.light.tone(color, near, facing), BUILDING)


def _window_color(canvas: Canvas, rng: random.Random, glass: Color, z: float, facing: float) -> tuple[int, int, int]:
    lit = rng.random()
    tone = rng.random()
    light = canvas.light
    if light.is_night or light.weather == "dusk":
        if lit < (0.4 if light.is_night else 0.16):
            return light.glow(scaled(LIT[int(tone * len(LIT))], 0.5 + 0.45 * tone), z)
    elif lit < 0.18:
        return light.tone(mix(glass, light.skyline, 0.55), z, 1.0)
    return light.tone(scaled(glass, 0.8 + 0.4 * tone), z, facing)


def _draw_street_windows(
    canvas: Canvas,
    building: Building,
    near: float,
    facing: float,
    rng: random.Random,
    style: tuple[Color, float, float, float],
) -> None:
    camera = canvas.camera
    glass, window_high, spacing, share = style
    x, far = building.x, building.far
    is_shop = building.kind == "shop"
    ground_floor = 3.9 if is_shop else 0.6
    floors = max(1, int((building.height - ground_floor - 0.5) / 3.0))
    floor_high = (building.height - ground_floor - 0.6) / floors
    columns = max(1, int((far - building.near) / spacing))
    step = (far - building.near) / columns
    if building.kind == "glass":
        share, window_high = 0.88, floor_high * 0.78
    if camera.scale((near + far) / 2) * floor_high < 2.5:
        return
    # Windows narrower than about a pixel merge into one band for each floor.
    width = abs(camera.point(x, 0, near)[0] - camera.point(x, 0, far)[0])
    merged = width / columns < 1.6
    spans: list[tuple[float, float]] = []
    for column in range(columns):
        start = building.near + (column + 0.5 - share / 2) * step
        end = start + share * step
        if end > near:
            spans.append((max(start, near), end))
    for floor in range(floors):
        low = ground_floor + floor * floor_high + 0.5 * (floor_high - window_high)
        if merged:
            _band(canvas, x, low, low + window_high, near, far, mix(building.color, glass, share), facing)
            continue
        for start, end in spans:
            pixel = _window_color(canvas, rng, glass, start, facing)
            u0, v0 = camera.point(x, low, start)
            u1, v1 = camera.point(x, low, end)
            if not canvas.is_visible(u0, u1):
                continue
            v2 = v1 - camera.scale(end) * window_high
            v3 = v0 - camera.scale(start) * window_high
            if min(v2, v3) < camera.height and max(v0, v1) > 0:
                canvas.polygon(((u0, v0), (u1, v1), (u1, v2), (u0, v3)), pixel, BUILDING)
    if is_shop:
        _draw_shop(canvas, building, near, facing, rng)


def _draw_shop(canvas: Canvas, building: Building, near: float, facing: float, rng: random.Random) -> None:
    """Shop windows and a coloured sign board or awning along the ground floor."""
    light = canvas.light
    far = building.far
    is_lit = light.lamps_on and rng.random() < 0.7
    shown = varied(rng, (230, 190, 130), 20) if is_lit else varied(rng, (62, 66, 74), 12)
    z = building.near
    while z < far - 1:
        end = min(z + rng.uniform(2.5, 5), far)
        start = max(z + 0.3, near)
        if end - 0.3 > start:
            point = canvas.camera.point
            x = building.x
            corners = (point(x, 0.4, start), point(x, 0.4, end - 0.3), point(x, 2.7, end - 0.3), point(x, 2.7, start))
            pixel = light.glow(shown, start) if is_lit else light.tone(shown, start, facing)
            canvas.polygon(corners, pixel, BUILDING)
        z = end
    board = varied(rng, rng.choice(((170, 40, 40), (40, 80, 60), (30, 60, 120), (210, 170, 60), (70, 60, 55))), 12)
    _band(canvas, building.x, 2.85, 3.7, near, far, board, facing)


def _draw_front_windows(
    canvas: Canvas,
    building: Building,
    depth: float,
    near: float,
    rng: random.Random,
    style: tuple[Color, float, float, float],
) -> None:
    """Windows on the face towards the camera, where nothing is foreshortened."""
    camera, light = canvas.camera, canvas.light
    glass, window_high, spacing, share = style
    scale = camera.scale(near)
    if scale * spacing < 4:
        return
    columns = max(1, int(abs(depth) / spacing))
    floors = max(1, int((building.height - 1) / 3.2))
    step = depth / columns
    for floor in range(floors):
        low = 0.9 + floor * 3.2
        for column in range(columns):
            u0, v0 = camera.point(building.x + (column + 0.5 - share / 2) * step, low, near)
            u1 = u0 + share * step * scale
            pixel = _window_color(canvas, rng, glass, near, light.front)
            if canvas.is_visible(u0, u1) and v0 > 0:
                canvas.rectangle(u0, v0 - window_high * scale, u1, v0, pixel, BUILDING)


def draw_backdrop(canvas: Canvas, kind: str, rng: random.Random) -> None:
    """Draws what closes the view at the horizon: `hills`, `trees`, `town`, `towers` or `plain`."""
    camera, light = canvas.camera, canvas.light
    z = FARTHEST_METRES
    scale = camera.scale(z)
    _, base = camera.point(0, 0, z)
    base = max(base, camera.horizon) + 2
    width = camera.width
    if kind in ("hills", "plain"):
        high = rng.uniform(14, 34) if kind == "hills" else rng.uniform(1, 5)
        color, class_id = ((84, 108, 72), VEGETATION) if rng.random() < 0.6 else ((128, 122, 84), TERRAIN)
        points = _bumps(rng, width, base, high * scale, 9)
        canvas.polygon(points, light.tone(varied(rng, color, 8), z * 0.8), class_id)
    if kind in ("trees", "town", "hills"):
        for _ in range(3):
            color = varied(rng, (66, 88, 50), 9)
            points = _bumps(rng, width, base, rng.uniform(5, 13) * scale, 40)
            canvas.polygon(points, light.tone(color, z * 0.6), VEGETATION)
    if kind in ("town", "towers"):
        u = -rng.uniform(0, 0.05) * width
        while u < width:
            wide = rng.uniform(0.02, 0.07) * width
            high = rng.uniform(7, 18) if kind == "town" else rng.uniform(15, 75)
            present = rng.random() < 0.85
            color = varied(rng, rng.choice(FACADES), 8)
            facing = rng.uniform(0.6, 0.95)
            if present:
                canvas.rectangle(u, base - high * scale, u + wide, base, light.tone(color, z * 0.7, facing), BUILDING)
            u += wide * rng.uniform(0.8, 1.3)


def _bumps(rng: random.Random, width: float, base: float, high: float, count: int) -> list[Point]:
    """Outline of a wooded or hilly horizon across the whole picture."""
    points = [(0.0, base)]
    points += [(width * step / count, base - high * rng.uniform(0.45, 1.0)) for step in range(count + 1)]
    return [*points, (float(width), base)]
