"""Cars, trucks and buses."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from scenepalette.data.streetscene.camera import NEAREST_METRES, Point
from scenepalette.data.streetscene.canvas import Canvas
from scenepalette.data.streetscene.ids import CAR, TRUCK
from scenepalette.data.streetscene.light import Color, mix, scaled, varied

PAINTS: tuple[Color, ...] = (
    (212, 214, 216),
    (232, 232, 230),
    (60, 62, 66),
    (36, 37, 40),
    (120, 124, 128),
    (160, 30, 34),
    (40, 66, 120),
    (70, 100, 76),
    (178, 160, 128),
    (190, 120, 40),
    (92, 110, 130),
    (150, 152, 156),
)


@dataclass(frozen=True)
class Vehicle:
    """A vehicle whose nearest end stands at (x, z).

    `kind` is car, van, bus or truck; `oncoming` shows its front; `parked` leaves its lamps off.
    """

    x: float
    z: float
    kind: str
    oncoming: bool
    parked: bool
    color: Color
    seed: int

    @property
    def length(self) -> float:
        """Length, metres."""
        return {"car": 4.3, "van": 4.9, "bus": 11.0, "truck": 8.5}[self.kind]


def draw_vehicle(canvas: Canvas, vehicle: Vehicle) -> None:
    """Draws the long side that the camera sees, then the end towards the camera."""
    if vehicle.z < NEAREST_METRES + 0.4:
        return
    left = canvas.camera.point(vehicle.x - 1.5, 0, vehicle.z)[0]
    right = canvas.camera.point(vehicle.x + 1.5, 0, vehicle.z)[0]
    far = canvas.camera.point(vehicle.x, 0, vehicle.z + vehicle.length)[0]
    if not canvas.is_visible(min(left, far), max(right, far)):
        return
    rng = random.Random(vehicle.seed)
    if vehicle.kind in ("car", "van"):
        _draw_car(canvas, vehicle, rng)
    else:
        _draw_large(canvas, vehicle, rng)


def _contact_shadow(canvas: Canvas, vehicle: Vehicle, half: float) -> None:
    point = canvas.camera.point
    near, far = vehicle.z - 0.15, vehicle.z + vehicle.length
    corners = [point(vehicle.x - half, 0, near), point(vehicle.x + half, 0, near)]
    corners += [point(vehicle.x + half, 0, far), point(vehicle.x - half, 0, far)]
    canvas.cast_shadow(corners, 0.72)
    reach = canvas.light.shadow_reach * 1.4
    if reach:
        edge = vehicle.x + (half if reach > 0 else -half)
        corners = [point(edge, 0, near), point(edge, 0, far), point(edge + reach, 0, far), point(edge + reach, 0, near)]
        canvas.cast_shadow(corners, canvas.light.shadow)


def _visible_side(canvas: Canvas, vehicle: Vehicle, half: float) -> int:
    """Which long side the camera sees: -1 left, 1 right, 0 neither."""
    for side in (-1, 1):
        edge = vehicle.x + side * half
        near, _ = canvas.camera.point(edge, 0, vehicle.z)
        far, _ = canvas.camera.point(edge, 0, vehicle.z + vehicle.length)
        if side * (far - near) > 0:
            return side
    return 0


def _wheel(canvas: Canvas, x: float, z: float, radius: float, class_id: int) -> None:
    """A wheel seen on the long side of a vehicle."""
    point, light = canvas.camera.point, canvas.light
    steps = [step * math.pi / 4 for step in range(8)]
    tyre = [point(x, radius + radius * math.sin(angle), z + radius * math.cos(angle)) for angle in steps]
    canvas.polygon(tyre, light.tone((22, 22, 24), z), class_id)
    if canvas.camera.scale(z) * radius > 5:
        rim = [
            point(x, radius + 0.55 * radius * math.sin(angle), z + 0.55 * radius * math.cos(angle)) for angle in steps
        ]
        canvas.polygon(rim, light.tone((130, 132, 136), z), class_id)


def _draw_car(canvas: Canvas, vehicle: Vehicle, rng: random.Random) -> None:
    point, light = canvas.camera.point, canvas.light
    x, z, paint = vehicle.x, vehicle.z, vehicle.color
    is_van = vehicle.kind == "van"
    half = rng.uniform(0.84, 0.92)
    waist, roof = (1.05, rng.uniform(1.85, 2.1)) if is_van else (rng.uniform(0.82, 0.95), rng.uniform(1.36, 1.56))
    length = vehicle.length
    cabin = 0.86 * half if is_van else 0.78 * half
    # How far the cabin begins behind the bumper: a bonnet is longer than a boot.
    near_in = rng.uniform(1.0, 1.3) if vehicle.oncoming else rng.uniform(0.1, 0.7)
    far_in = rng.uniform(0.1, 0.7) if vehicle.oncoming else rng.uniform(1.0, 1.3)
    if is_van:
        near_in, far_in = (0.7, 0.1) if vehicle.oncoming else (0.1, 0.7)
    glass = mix((34, 40, 48), light.skyline, rng.uniform(0.05, 0.3))
    _contact_shadow(canvas, vehicle, half)

    # Silhouettes of body and cabin first, so that no gap is left between the panels drawn onto them.
    ends = ((near_in, waist), (length - far_in, waist), (near_in + 0.55, roof), (length - far_in - 0.6, roof))
    corners = [
        point(x + across, y, z + along)
        for across in (-half, half)
        for y in (0.28, waist * 0.94)
        for along in (0.0, length)
    ]
    canvas.hull(corners, light.tone(scaled(paint, 0.7), z), CAR)
    corners = [point(x + wing * (half if y == waist else cabin), y, z + along) for wing in (-1, 1) for along, y in ends]
    canvas.hull(corners, light.tone(paint, z, light.top), CAR)

    side = _visible_side(canvas, vehicle, half)
    flank = x + side * half
    facing = light.left if side < 0 else light.right
    if side:
        body = [
            (0.25, 0.0),
            (0.25, length),
            (waist * 0.92, length),
            (waist, length - 0.4),
            (waist, 0.2),
            (waist * 0.9, 0.0),
        ]
        canvas.polygon([point(flank, y, z + along) for y, along in body], light.tone(paint, z, facing), CAR)
        inner = x + side * cabin
        posts: list[Point] = [
            point(flank, waist, z + near_in - 0.1),
            point(flank, waist, z + length - far_in + 0.2),
            point(inner, roof, z + length - far_in - 0.6),
            point(inner, roof, z + near_in + 0.5),
        ]
        canvas.polygon(posts, light.tone(paint, z, facing), CAR)
        low, high = waist + 0.02, roof - 0.1
        middle = z + 0.5 * (near_in + length - far_in)
        panes = ((z + near_in + 0.25, middle - 0.06), (middle + 0.06, z + length - far_in - 0.15))
        for start, end in panes:
            lean = 0.25 if start < middle else -0.05
            pane = [
                point(flank, low, start),
                point(flank, low, end),
                point(inner, high, end - (0 if lean > 0 else 0.3)),
            ]
            pane.append(point(inner, high, start + lean))
            canvas.polygon(pane, light.tone(glass, z, facing), CAR)
        for along in (0.8, length - 0.85):
            _wheel(canvas, flank, z + along, 0.33, CAR)

    # Bonnet or boot, then the cabin's window, then the end itself.
    top = [point(x - half, waist, z + 0.1), point(x + half, waist, z + 0.1)]
    top += [point(x + half, waist, z + near_in), point(x - half, waist, z + near_in)]
    canvas.polygon(top, light.tone(paint, z, light.top * 1.05), CAR)
    slope = 0.5 if vehicle.oncoming else 0.35
    frame = [point(x - half * 0.97, waist, z + near_in), point(x + half * 0.97, waist, z + near_in)]
    frame += [point(x + cabin, roof, z + near_in + slope), point(x - cabin, roof, z + near_in + slope)]
    canvas.polygon(frame, light.tone(paint, z, 0.5 * (light.front + light.top)), CAR)
    pane = [point(x - half * 0.86, waist + 0.04, z + near_in), point(x + half * 0.86, waist + 0.04, z + near_in)]
    pane += [
        point(x + cabin * 0.88, roof - 0.1, z + near_in + slope),
        point(x - cabin * 0.88, roof - 0.1, z + near_in + slope),
    ]
    canvas.polygon(pane, light.tone(glass, z, light.front), CAR)

    u, v = point(x, 0, z)
    scale = canvas.camera.scale(z)
    for wheel in (-1, 1):
        inside, outside = u + wheel * (half - 0.26) * scale, u + wheel * (half - 0.03) * scale
        canvas.rectangle(inside, v - 0.4 * scale, outside, v, light.tone((20, 20, 22), z), CAR)
    end = [
        (-half, 0.28),
        (half, 0.28),
        (half * 1.0, waist * 0.85),
        (half * 0.95, waist),
        (-half * 0.95, waist),
        (-half, waist * 0.85),
    ]
    canvas.polygon([(u + across * scale, v - up * scale) for across, up in end], light.tone(paint, z, light.front), CAR)
    bumper = light.tone(scaled(paint, 0.55), z, light.front)
    canvas.rectangle(u - half * scale, v - 0.45 * scale, u + half * scale, v - 0.22 * scale, bumper, CAR)
    if vehicle.oncoming:
        grille = light.tone((30, 30, 34), z, light.front)
        canvas.rectangle(u - 0.42 * scale, v - 0.66 * scale, u + 0.42 * scale, v - 0.48 * scale, grille, CAR)
    else:
        plate = light.tone((225, 222, 205), z, light.front)
        canvas.rectangle(u - 0.26 * scale, v - 0.58 * scale, u + 0.26 * scale, v - 0.45 * scale, plate, CAR)
    _draw_lamps(canvas, vehicle, u, v, scale, half, waist * 0.72, CAR, rng)


def _draw_lamps(
    canvas: Canvas,
    vehicle: Vehicle,
    u: float,
    v: float,
    scale: float,
    half: float,
    up: float,
    class_id: int,
    rng: random.Random,
) -> None:
    """Head or tail lamps, with a glow where the weather asks for light."""
    light = canvas.light
    on = light.lamps_on and not vehicle.parked and rng.random() < 0.9
    braking = not vehicle.parked and rng.random() < 0.3
    for lamp in (-1, 1):
        centre_u, centre_v = u + lamp * (half - 0.2) * scale, v - up * scale
        wide, high = 0.17 * scale, (0.1 if vehicle.oncoming else 0.12) * scale
        if vehicle.oncoming:
            pixel = (
                light.glow((255, 250, 228), vehicle.z) if on else light.tone((205, 210, 214), vehicle.z, light.front)
            )
        else:
            pixel = light.glow((255, 40, 30), vehicle.z) if on or braking else light.tone((165, 30, 30), vehicle.z)
        canvas.rectangle(centre_u - wide, centre_v - high, centre_u + wide, centre_v + high, pixel, class_id)
        if on:
            strength = {"night": 1.0, "dusk": 0.55, "rain": 0.6, "fog": 0.6}[light.weather]
            color = scaled((150.0, 142.0, 118.0) if vehicle.oncoming else (100.0, 14.0, 10.0), strength)
            canvas.glows.append((centre_u, centre_v, (0.6 if vehicle.oncoming else 0.42) * scale, color))


def _draw_large(canvas: Canvas, vehicle: Vehicle, rng: random.Random) -> None:
    """A bus with bands of windows or a truck with its cargo box."""
    point, light = canvas.camera.point, canvas.light
    x, z, paint, length = vehicle.x, vehicle.z, vehicle.color, vehicle.length
    half, roof = 1.22, rng.uniform(2.9, 3.4)
    is_bus = vehicle.kind == "bus"
    glass = mix((34, 40, 48), light.skyline, rng.uniform(0.05, 0.25))
    cargo = (
        paint
        if is_bus
        else varied(rng, rng.choice(((225, 225, 222), (190, 188, 180), (70, 96, 140), (150, 60, 50))), 8)
    )
    _contact_shadow(canvas, vehicle, half)
    side = _visible_side(canvas, vehicle, half)
    flank = x + side * half
    facing = light.left if side < 0 else light.right
    if side:
        corners = [
            point(flank, 0.4, z),
            point(flank, 0.4, z + length),
            point(flank, roof, z + length),
            point(flank, roof, z),
        ]
        canvas.polygon(corners, light.tone(cargo, z, facing), TRUCK)
        if is_bus:
            along = 0.4
            while along < length - 1:
                pane = [point(flank, 1.4, z + along), point(flank, 1.4, z + along + 1.2)]
                pane += [point(flank, 2.4, z + along + 1.2), point(flank, 2.4, z + along)]
                is_lit = light.lamps_on
                pixel = light.glow((225, 215, 170), z) if is_lit and light.is_night else light.tone(glass, z, facing)
                canvas.polygon(pane, pixel, TRUCK)
                along += 1.4
        for along in (1.2, length - 1.4):
            _wheel(canvas, flank, z + along, 0.48, TRUCK)
    u, v = point(x, 0, z)
    scale = canvas.camera.scale(z)
    for wheel in (-1, 1):
        inside, outside = u + wheel * (half - 0.4) * scale, u + wheel * (half - 0.05) * scale
        canvas.rectangle(inside, v - 0.6 * scale, outside, v, light.tone((20, 20, 22), z), TRUCK)
    canvas.rectangle(
        u - half * scale, v - roof * scale, u + half * scale, v - 0.35 * scale, light.tone(cargo, z, light.front), TRUCK
    )
    if is_bus or vehicle.oncoming:
        color = paint if is_bus else varied(rng, paint, 5)
        high = roof if is_bus else 2.6
        canvas.rectangle(
            u - half * scale,
            v - high * scale,
            u + half * scale,
            v - 0.35 * scale,
            light.tone(color, z, light.front),
            TRUCK,
        )
        low = 1.25
        canvas.rectangle(
            u - half * 0.88 * scale,
            v - (high - 0.45) * scale,
            u + half * 0.88 * scale,
            v - low * scale,
            light.tone(glass, z, light.front),
            TRUCK,
        )
    else:
        seam = light.tone(scaled(cargo, 0.7), z, light.front)
        canvas.line(((u, v - 0.6 * scale), (u, v - (roof - 0.2) * scale)), seam, TRUCK, 0.08 * scale)
    dark = light.tone((46, 46, 50), z, light.front)
    canvas.rectangle(u - half * scale, v - 0.62 * scale, u + half * scale, v - 0.35 * scale, dark, TRUCK)
    _draw_lamps(canvas, vehicle, u, v, scale, half, 0.8, TRUCK, rng)
