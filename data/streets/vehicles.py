"""Cars, trucks and buses."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from scenepalette.data.streets.canvas import CAR, NEAREST_METRES, TRUCK, Board, Canvas
from scenepalette.data.streets.ground import Standing
from scenepalette.data.streets.light import Color, colors, mix, scaled, varied

PAINTS = colors("d4d6d8 e8e8e6 3c3e42 242528 787c80 a01e22 284278 46644c b2a080 be7828 5c6e82 96989c")
_GLASS, _TYRES = (34, 40, 48), (20, 20, 22)
_LENGTHS = {"car": 4.3, "van": 4.9, "bus": 11.0, "truck": 8.5}


@dataclass(frozen=True)
class Vehicle(Standing):
    """A vehicle whose nearest end stands at (x, z).

    `kind` is car, van, bus or truck; `oncoming` shows its front; `parked` leaves its lamps off.
    """

    kind: str
    oncoming: bool
    parked: bool
    color: Color
    seed: int

    @property
    def length(self) -> float:
        """Length, metres."""
        return _LENGTHS[self.kind]

    def draw(self, canvas: Canvas) -> None:
        """Draws the long side that the camera sees, then the end towards the camera."""
        if self.z < NEAREST_METRES + 0.4:
            return
        point = canvas.camera.point
        left, right = (point(self.x + across, 0, self.z)[0] for across in (-1.5, 1.5))
        far = point(self.x, 0, self.z + self.length)[0]
        if canvas.is_visible(min(left, far), max(right, far)):
            draw = _draw_car if self.kind in ("car", "van") else _draw_large
            draw(self, canvas, random.Random(self.seed))


def _draw_car(vehicle: Vehicle, canvas: Canvas, rng: random.Random) -> None:
    light, oncoming = canvas.light, vehicle.oncoming
    x, z, paint, length = vehicle.x, vehicle.z, vehicle.color, vehicle.length
    is_van = vehicle.kind == "van"
    half = rng.uniform(0.84, 0.92)
    waist, roof = (1.05, rng.uniform(1.85, 2.1)) if is_van else (rng.uniform(0.82, 0.95), rng.uniform(1.36, 1.56))
    cabin = 0.86 * half if is_van else 0.78 * half
    # How far the cabin begins behind the bumper: a bonnet is longer than a boot.
    bonnet, boot = (1.0, 1.3), (0.1, 0.7)
    near_in, far_in = (rng.uniform(*lengths) for lengths in ((bonnet, boot) if oncoming else (boot, bonnet)))
    if is_van:
        near_in, far_in = (0.7, 0.1) if oncoming else (0.1, 0.7)
    glass = mix(_GLASS, light.skyline, rng.uniform(0.05, 0.3))
    _draw_shadow(vehicle, canvas, half)

    # Silhouettes of body and cabin first, so that no gap is left between the panels drawn onto them.
    point = canvas.camera.point
    body = [(w, y, z + along) for w in (-half, half) for y in (0.28, waist * 0.94) for along in (0.0, length)]
    canvas.hull([point(x + w, y, far) for w, y, far in body], light.tone(scaled(paint, 0.7), z), CAR)
    ends = (
        (half, waist, near_in),
        (half, waist, length - far_in),
        (cabin, roof, near_in + 0.55),
        (cabin, roof, length - far_in - 0.6),
    )
    upper = [point(x + side * wide, y, z + along) for side in (-1, 1) for wide, y, along in ends]
    canvas.hull(upper, light.tone(paint, z, light.top), CAR)

    if side := _visible_side(vehicle, canvas, half):
        flank, inner, facing = x + side * half, x + side * cabin, light.left if side < 0 else light.right
        outline = ((0.25, 0.0), (0.25, length), (waist * 0.92, length), (waist, length - 0.4))
        outline += ((waist, 0.2), (waist * 0.9, 0.0))
        metal = light.tone(paint, z, facing)
        canvas.surface([(flank, y, z + along) for y, along in outline], metal, CAR)
        rear = z + length - far_in
        pillars = [(flank, waist, z + near_in - 0.1), (flank, waist, rear + 0.2)]
        pillars += [(inner, roof, rear - 0.6), (inner, roof, z + near_in + 0.5)]
        canvas.surface(pillars, metal, CAR)
        low, high, middle = waist + 0.02, roof - 0.1, z + 0.5 * (near_in + length - far_in)
        for start, end, lean, cut in (
            (z + near_in + 0.25, middle - 0.06, 0.25, 0),
            (middle + 0.06, rear - 0.15, -0.05, 0.3),
        ):
            pane = [(flank, low, start), (flank, low, end), (inner, high, end - cut), (inner, high, start + lean)]
            canvas.surface(pane, light.tone(glass, z, facing), CAR)
        for along in (0.8, length - 0.85):
            _draw_wheel(canvas, flank, z + along, 0.33, CAR)

    # Bonnet or boot, then the cabin's window, then the end itself.
    canvas.slope(x, (half, waist, z + 0.1), (half, waist, z + near_in), light.tone(paint, z, light.top * 1.05), CAR)
    top = z + near_in + (0.5 if oncoming else 0.35)
    frame = light.tone(paint, z, 0.5 * (light.front + light.top))
    canvas.slope(x, (half * 0.97, waist, z + near_in), (cabin, roof, top), frame, CAR)
    window = (half * 0.86, waist + 0.04, z + near_in), (cabin * 0.88, roof - 0.1, top)
    canvas.slope(x, *window, light.tone(glass, z, light.front), CAR)
    board = Board(canvas, x, z, CAR)
    for wheel in (-1, 1):
        board.box(wheel * (half - 0.26), 0, wheel * (half - 0.03), 0.4, board.tone(_TYRES))
    outline = [(-half, 0.28), (half, 0.28), (half, waist * 0.85), (half * 0.95, waist)]
    outline += [(-half * 0.95, waist), (-half, waist * 0.85)]
    board.polygon(outline, board.tone(paint, light.front))
    board.box(-half, 0.22, half, 0.45, board.tone(scaled(paint, 0.55), light.front))
    if oncoming:
        board.box(-0.42, 0.48, 0.42, 0.66, board.tone((30, 30, 34), light.front))
    else:
        board.box(-0.26, 0.45, 0.26, 0.58, board.tone((225, 222, 205), light.front))
    _draw_lamps(vehicle, board, half, waist * 0.72, rng)


def _draw_large(vehicle: Vehicle, canvas: Canvas, rng: random.Random) -> None:
    """A bus with bands of windows or a truck with its cargo box."""
    light = canvas.light
    x, z, paint, length = vehicle.x, vehicle.z, vehicle.color, vehicle.length
    half, roof = 1.22, rng.uniform(2.9, 3.4)
    is_bus = vehicle.kind == "bus"
    glass = mix(_GLASS, light.skyline, rng.uniform(0.05, 0.25))
    boxes = ((225, 225, 222), (190, 188, 180), (70, 96, 140), (150, 60, 50))
    cargo = paint if is_bus else varied(rng, rng.choice(boxes), 8)
    _draw_shadow(vehicle, canvas, half)
    if side := _visible_side(vehicle, canvas, half):
        flank, facing = x + side * half, light.left if side < 0 else light.right
        canvas.wall(flank, 0.4, roof, z, z + length, light.tone(cargo, z, facing), TRUCK)
        along = 0.4
        while is_bus and along < length - 1:
            pixel = light.glow((225, 215, 170), z) if light.is_night else light.tone(glass, z, facing)
            canvas.wall(flank, 1.4, 2.4, z + along, z + along + 1.2, pixel, TRUCK)
            along += 1.4
        for along in (1.2, length - 1.4):
            _draw_wheel(canvas, flank, z + along, 0.48, TRUCK)
    board = Board(canvas, x, z, TRUCK)
    for wheel in (-1, 1):
        board.box(wheel * (half - 0.4), 0, wheel * (half - 0.05), 0.6, board.tone(_TYRES))
    board.box(-half, 0.35, half, roof, board.tone(cargo, light.front))
    if is_bus or vehicle.oncoming:
        color, high = (paint, roof) if is_bus else (varied(rng, paint, 5), 2.6)
        board.box(-half, 0.35, half, high, board.tone(color, light.front))
        board.box(-half * 0.88, 1.25, half * 0.88, high - 0.45, board.tone(glass, light.front))
    else:
        board.line((0, 0.6), (0, roof - 0.2), 0.08, board.tone(scaled(cargo, 0.7), light.front))
    board.box(-half, 0.35, half, 0.62, board.tone((46, 46, 50), light.front))
    _draw_lamps(vehicle, board, half, 0.8, rng)


def _draw_shadow(vehicle: Vehicle, canvas: Canvas, half: float) -> None:
    near, far = vehicle.z - 0.15, vehicle.z + vehicle.length
    canvas.shadow_patch(vehicle.x - half, vehicle.x + half, near, far, 0.72)
    if reach := canvas.light.shadow_reach * 1.4:
        edge = vehicle.x + (half if reach > 0 else -half)
        canvas.shadow_patch(edge + reach, edge, near, far, canvas.light.shadow)


def _visible_side(vehicle: Vehicle, canvas: Canvas, half: float) -> int:
    """Which long side the camera sees: -1 left, 1 right, 0 neither."""
    for side in (-1, 1):
        edge = vehicle.x + side * half
        near, far = (canvas.camera.point(edge, 0, vehicle.z + along)[0] for along in (0, vehicle.length))
        if side * (far - near) > 0:
            return side
    return 0


def _draw_wheel(canvas: Canvas, x: float, z: float, radius: float, class_id: int) -> None:
    """A wheel seen on the long side of a vehicle."""
    for share, color in ((1, (22, 22, 24)), (0.55, (130, 132, 136))):
        if share == 1 or canvas.camera.scale(z) * radius > 5:
            reach, angles = share * radius, [step * math.pi / 4 for step in range(8)]
            rim = [(x, radius + reach * math.sin(angle), z + reach * math.cos(angle)) for angle in angles]
            canvas.surface(rim, canvas.light.tone(color, z), class_id)


def _draw_lamps(vehicle: Vehicle, board: Board, half: float, up: float, rng: random.Random) -> None:
    """Head or tail lamps, with a glow where the weather asks for light."""
    light, oncoming = board.light, vehicle.oncoming
    on = light.lamps_on and not vehicle.parked and rng.random() < 0.9
    is_braking = not vehicle.parked and rng.random() < 0.3
    shining, dark = ((255, 250, 228), (205, 210, 214)) if oncoming else ((255, 40, 30), (165, 30, 30))
    if on or (is_braking and not oncoming):
        pixel = light.glow(shining, vehicle.z)
    else:
        pixel = board.tone(dark, light.front if oncoming else 1.0)
    for side in (-1, 1):
        lamp = board.part(side * (half - 0.2), up, board.class_id)
        high = 0.1 if oncoming else 0.12
        lamp.box(-0.17, -high, 0.17, high, pixel)
        if on:
            strength = {"night": 1.0, "dusk": 0.55, "rain": 0.6, "fog": 0.6}[light.weather]
            color = scaled((150.0, 142.0, 118.0) if oncoming else (100.0, 14.0, 10.0), strength)
            lamp.glow(0, 0, 0.6 if oncoming else 0.42, color)
