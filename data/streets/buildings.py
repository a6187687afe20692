"""Buildings along the street, and the skyline behind everything."""

from __future__ import annotations

import random

from scenepalette.data.streets.canvas import (
    BUILDING,
    FARTHEST_METRES,
    NEAREST_METRES,
    TERRAIN,
    VEGETATION,
    Canvas,
    Point,
)
from scenepalette.data.streets.ground import Wall
from scenepalette.data.streets.light import Pixel, colors, mix, scaled, varied

FACADES = colors("9e523e b07054 cdbca0 e2d6c0 96928c 787a7e bab4ac d6ac6c 8c6852 c69484 68707c a8b2ba dededa 848c76")
ROOFS = colors("783e30 545050 8c543e 40424a 686058")
LIT = colors("ffd68c ffbe69 f0ebcd d2e1f5")


class Building(Wall):
    """One block, whose street front is the wall: `kind` is flat, shop, glass or house."""

    def draw(self, canvas: Canvas) -> None:
        """Draws the face towards the camera, the street front in perspective, windows, ground floor and roof."""
        light, point = canvas.light, canvas.camera.point
        x, near, far, height, color = self.x, max(self.near, NEAREST_METRES), self.far, self.height, self.color
        if far <= near:
            return
        rng = random.Random(self.seed)
        side = 1 if x > 0 else -1
        depth = side * rng.uniform(8, 14)
        back, ridge = x + depth, (x + depth / 2, height + 3)
        roof = rng.choice(ROOFS)
        windows = _Windows(canvas, self, rng)
        is_house = self.kind == "house"
        if self.near >= NEAREST_METRES:
            pixel = light.tone(color, near, light.front)
            if canvas.is_visible(point(x, 0, near)[0], point(back, 0, near)[0]):
                face = [(x, 0, near), (back, 0, near), (back, height, near), (x, height, near)]
                canvas.surface(face, pixel, BUILDING)
                if is_house:
                    canvas.surface([face[3], (*ridge, near), face[2]], pixel, BUILDING)
                windows.draw_on_end(depth)
        if side * (point(x, 0, near)[0] - point(x, 0, far)[0]) <= 0:
            return
        facing = self.facing(light)
        if is_house:
            eaves = [(x - side * 0.4, height, near), (x - side * 0.4, height, far)]
            slope = light.tone(roof, near, 0.5 + 0.5 * facing)
            canvas.surface([*eaves, (*ridge, far), (*ridge, near)], slope, BUILDING)
            soffit = light.tone(scaled(color, 0.5), near)
            canvas.surface([*eaves, (x, height, far), (x, height, near)], soffit, BUILDING)
        canvas.wall(x, 0, height, near, far, light.tone(color, (near + far) / 2, facing), BUILDING)
        windows.draw_on_front(near)
        if not is_house:
            trim = varied(rng, scaled(color, rng.choice((0.6, 0.8, 1.2))), 6)
            canvas.wall(x, height - 0.7, height, near, far, light.tone(trim, near, facing), BUILDING)
        reach = light.shadow_reach * height
        if reach * side < 0:
            canvas.shadow_patch(x + reach, x, near, far, light.shadow)


class _Windows:
    """The windows of one building, all of one size and kind of glass."""

    def __init__(self, canvas: Canvas, building: Building, rng: random.Random) -> None:
        self.canvas, self.building, self.rng = canvas, building, rng
        self.glass = varied(rng, rng.choice(((58, 68, 84), (44, 48, 54), (92, 110, 128))), 8)
        self.high = rng.uniform(1.3, 2.0)
        self.spacing = rng.uniform(2.2, 3.6)
        self.share = rng.uniform(0.4, 0.72)

    def _pixel(self, z: float, facing: float) -> Pixel:
        lit, tone = self.rng.random(), self.rng.random()
        light = self.canvas.light
        if light.is_night or light.weather == "dusk":
            if lit < (0.4 if light.is_night else 0.16):
                return light.glow(scaled(LIT[int(tone * len(LIT))], 0.5 + 0.45 * tone), z)
        elif lit < 0.18:
            return light.tone(mix(self.glass, light.skyline, 0.55), z)
        return light.tone(scaled(self.glass, 0.8 + 0.4 * tone), z, facing)

    def draw_on_front(self, near: float) -> None:
        """Draws the windows of the street front, as far as it lies beyond `near`."""
        canvas, building, camera = self.canvas, self.building, self.canvas.camera
        x, far, share, high = building.x, building.far, self.share, self.high
        facing = building.facing(canvas.light)
        ground_floor = 3.9 if building.kind == "shop" else 0.6
        floors = max(1, int((building.height - ground_floor - 0.5) / 3.0))
        floor_high = (building.height - ground_floor - 0.6) / floors
        columns = max(1, int((far - building.near) / self.spacing))
        step = (far - building.near) / columns
        if building.kind == "glass":
            share, high = 0.88, floor_high * 0.78
        if camera.scale((near + far) / 2) * floor_high < 2.5:
            return
        starts = [building.near + (column + 0.5 - share / 2) * step for column in range(columns)]
        spans = [(max(start, near), start + share * step) for start in starts if start + share * step > near]
        # Windows narrower than about a pixel merge into one band for each floor.
        is_merged = abs(camera.point(x, 0, near)[0] - camera.point(x, 0, far)[0]) / columns < 1.6
        for floor in range(floors):
            low = ground_floor + floor * floor_high + 0.5 * (floor_high - high)
            if is_merged:
                pixel = canvas.light.tone(mix(building.color, self.glass, share), near, facing)
                canvas.wall(x, low, low + high, near, far, pixel, BUILDING)
                continue
            for start, end in spans:
                pixel = self._pixel(start, facing)
                (u0, v0), (u1, v1) = camera.point(x, low, start), camera.point(x, low, end)
                v2, v3 = v1 - camera.scale(end) * high, v0 - camera.scale(start) * high
                if canvas.is_visible(u0, u1) and min(v2, v3) < camera.height and max(v0, v1) > 0:
                    canvas.polygon(((u0, v0), (u1, v1), (u1, v2), (u0, v3)), pixel, BUILDING)
        if building.kind == "shop":
            self._draw_shop(near, facing)

    def _draw_shop(self, near: float, facing: float) -> None:
        """Draws shop windows and a coloured sign board or awning along the ground floor."""
        canvas, rng, light = self.canvas, self.rng, self.canvas.light
        x, far = self.building.x, self.building.far
        is_lit = light.lamps_on and rng.random() < 0.7
        shown = varied(rng, (230, 190, 130), 20) if is_lit else varied(rng, (62, 66, 74), 12)
        z = self.building.near
        while z < far - 1:
            end = min(z + rng.uniform(2.5, 5), far)
            start = max(z + 0.3, near)
            if end - 0.3 > start:
                pixel = light.glow(shown, start) if is_lit else light.tone(shown, start, facing)
                canvas.wall(x, 0.4, 2.7, start, end - 0.3, pixel, BUILDING)
            z = end
        board = varied(rng, rng.choice(((170, 40, 40), (40, 80, 60), (30, 60, 120), (210, 170, 60), (70, 60, 55))), 12)
        canvas.wall(x, 2.85, 3.7, near, far, light.tone(board, near, facing), BUILDING)

    def draw_on_end(self, depth: float) -> None:
        """Draws the windows on the face towards the camera, where nothing is foreshortened."""
        canvas, building, near = self.canvas, self.building, self.building.near
        scale = canvas.camera.scale(near)
        if scale * self.spacing < 4:
            return
        columns = max(1, int(abs(depth) / self.spacing))
        step = depth / columns
        for floor in range(max(1, int((building.height - 1) / 3.2))):
            for column in range(columns):
                x = building.x + (column + 0.5 - self.share / 2) * step
                u0, v0 = canvas.camera.point(x, 0.9 + floor * 3.2, near)
                u1 = u0 + self.share * step * scale
                pixel = self._pixel(near, canvas.light.front)
                if canvas.is_visible(u0, u1) and v0 > 0:
                    canvas.rectangle(u0, v0 - self.high * scale, u1, v0, pixel, BUILDING)


def draw_backdrop(canvas: Canvas, kind: str, rng: random.Random) -> None:
    """Draws what closes the view at the horizon: `hills`, `trees`, `town`, `towers` or `plain`."""
    light, width, z = canvas.light, canvas.camera.width, FARTHEST_METRES
    scale = canvas.camera.scale(z)
    base = max(canvas.camera.point(0, 0, z)[1], canvas.camera.horizon) + 2
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
            is_built = rng.random() < 0.85
            pixel = light.tone(varied(rng, rng.choice(FACADES), 8), z * 0.7, rng.uniform(0.6, 0.95))
            if is_built:
                canvas.rectangle(u, base - high * scale, u + wide, base, pixel, BUILDING)
            u += wide * rng.uniform(0.8, 1.3)


def _bumps(rng: random.Random, width: float, base: float, high: float, count: int) -> list[Point]:
    """Outline of a wooded or hilly horizon across the whole image."""
    points = [(width * step / count, base - high * rng.uniform(0.45, 1.0)) for step in range(count + 1)]
    return [(0.0, base), *points, (float(width), base)]
