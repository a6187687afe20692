"""Renders a scene: what is drawn, and what is computed on pixels - sky, textures, air and camera."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageFilter

from scenepalette.common.randomness import numpy_generator
from scenepalette.data.classes import IGNORE_ID
from scenepalette.data.streets.buildings import draw_backdrop
from scenepalette.data.streets.canvas import (
    BUILDING,
    FENCE,
    LANE_MARKING,
    ROAD,
    SIDEWALK,
    SKY,
    TERRAIN,
    VEGETATION,
    Camera,
    Canvas,
)
from scenepalette.data.streets.ground import draw_ground
from scenepalette.data.streets.light import Color, Light, scaled
from scenepalette.data.streets.scene import Scene

# Pixels of the finished image up to which four strokes per pixel side are affordable; above, two are enough.
FOURFOLD_PIXELS = 128 * 160
TILE = 256

# Relative contrast of the fine grain, for the classes that have one.
GRAIN = {BUILDING: 0.05, FENCE: 0.06, VEGETATION: 0.2, TERRAIN: 0.1, ROAD: 0.05, SIDEWALK: 0.06, LANE_MARKING: 0.08}


def render(scene: Scene, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Draws `scene` at `size` (height, width).

    The label of a pixel is the class drawn at its centre; its colour is the mean over the pixel.

    Returns:
        image uint8 [H, W, 3] and label uint8 [H, W] with class ids or 255.
    """
    height, width = size
    factor = 4 if height * width <= FOURFOLD_PIXELS else 2
    generator, rng = numpy_generator("street pixels", scene.seed), random.Random(scene.seed)
    small = Camera(scene.view, height, width)
    large = Camera(scene.view, height * factor, width * factor)
    sky = _sky(small, scene.light, generator)
    background = np.full((large.height, large.width, 4), SKY, np.uint8)
    background[..., :3] = np.asarray(sky.resize((large.width, large.height), Image.Resampling.BILINEAR))
    canvas = Canvas(large, scene.light, background)
    draw_backdrop(canvas, scene.backdrop, random.Random(rng.getrandbits(62)))
    draw_ground(canvas, scene.ground, random.Random(rng.getrandbits(62)))
    for thing in scene.things:
        thing.draw(canvas)
    if scene.bonnet is not None:
        _draw_bonnet(canvas, scene.bonnet)
    label = np.asarray(canvas.image)[factor // 2 :: factor, factor // 2 :: factor, 3].copy()
    image = np.asarray(canvas.image.reduce(factor), np.float32)[..., :3].copy()
    is_road = (label == ROAD) | (label == LANE_MARKING)
    is_ground = is_road | (label == SIDEWALK) | (label == TERRAIN)
    _add_texture(image, label, is_ground, small, scene.light, generator)
    shade = np.asarray(canvas.shade.reduce(factor), np.float32) / 255
    image *= 1 - (shade * is_ground)[..., None]
    if scene.light.weather in ("rain", "night", "dusk"):
        _add_wet_reflection(image, is_road, small, 0.42 if scene.light.weather == "rain" else 0.14)
    if scene.light.is_night:
        _add_headlights(image)
    _add_glows(image, ((u / factor, v / factor, radius / factor, color) for u, v, radius, color in canvas.glows))
    if scene.light.weather == "rain":
        _add_rain(image, generator)
    photograph = _photograph(image, scene.light, generator)
    if scene.is_mirrored:
        return np.ascontiguousarray(photograph[:, ::-1]), np.ascontiguousarray(label[:, ::-1])
    return photograph, label


def _draw_bonnet(canvas: Canvas, paint: Color) -> None:
    """The camera car's own bonnet along the lower edge, which no class names."""
    height, width = canvas.camera.height, canvas.camera.width
    top = 0.945 * height
    points = [(0.02 * width, height), (0.1 * width, top + 0.025 * height), (0.3 * width, top), (0.7 * width, top)]
    points += [(0.9 * width, top + 0.025 * height), (0.98 * width, height)]
    canvas.polygon(points, canvas.light.tone(paint, 1, 0.7), IGNORE_ID)
    shine = ((0.3 * width, top + 0.008 * height), (0.7 * width, top + 0.008 * height))
    canvas.line(shine, canvas.light.tone(scaled(paint, 1.3), 1, 0.8), IGNORE_ID, 0.006 * height)


@functools.cache
def _noise_tile(octaves: int, first: int) -> np.ndarray:
    """Tileable smooth noise, float32 [256, 256], mean 0 and deviation 1.

    The coarsest of the `octaves` grids has `first` cells a side, a power of two.
    """
    generator = np.random.Generator(np.random.PCG64(octaves * 1000 + first))
    total = np.zeros((TILE, TILE), np.float32)
    for octave in range(octaves):
        cells = min(TILE, first << octave)
        grid = generator.standard_normal((cells, cells)).astype(np.float32)
        # Padding by wrapping keeps the borders of the enlarged grid alike, so that the tile repeats without seams.
        wrapped = np.pad(grid, 2, mode="wrap")
        factor = TILE // cells
        side = (cells + 4) * factor
        large = np.asarray(Image.fromarray(wrapped).resize((side, side), Image.Resampling.BILINEAR))
        total += large[2 * factor : 2 * factor + TILE, 2 * factor : 2 * factor + TILE] * 0.62**octave
    return (total - total.mean()) / total.std()


def _shares(count: int) -> np.ndarray:
    """Places of `count` rows or columns as shares of the whole, float32 [count]."""
    return np.arange(count, dtype=np.float32) / count


def _tiled(places: np.ndarray) -> np.ndarray:
    """Indices into a noise tile that repeats."""
    return places.astype(np.int64) % TILE


def _sky(camera: Camera, light: Light, generator: np.random.Generator) -> Image.Image:
    """Gradient, clouds and sun."""
    height, width = camera.height, camera.width
    horizon = max(2.0, camera.horizon)
    rows = (np.arange(height, dtype=np.float32) + 0.5) / horizon
    fall = np.clip(rows, 0, 1)[:, None, None] ** 1.3
    zenith, skyline = np.asarray(light.zenith, np.float32), np.asarray(light.skyline, np.float32)
    sky = zenith * (1 - fall) + skyline * fall + np.zeros((1, width, 1), np.float32)
    tile = _noise_tile(6, 4)
    shift_u, shift_v = generator.integers(0, TILE, 2)
    cloud_size = float(generator.uniform(0.5, 1.4))
    if light.clouds > 0:
        # Clouds lie on a plane overhead: nearer the horizon they are smaller and flatter.
        depth = 1.0 / np.clip(1.12 - rows, 0.12, None)
        index_v = _tiled(depth * 60 * cloud_size + shift_v)[:, None]
        columns = (_shares(width) - 0.5)[None, :] * 130 * cloud_size
        index_u = _tiled(columns * np.clip(depth, 0, 3)[:, None] + shift_u)
        cover = np.clip((tile[index_v, index_u] + 2.4 * light.clouds - 1.5) * 0.7, 0, 1)[..., None]
        bright = skyline * (1.12 if light.weather == "sunny" else 0.92)
        shaded = 1 + 0.08 * tile[index_v, (index_u + 7) % TILE][..., None]
        sky += (bright * shaded - sky) * cover * (0.85 if light.weather != "night" else 0.4)
    if light.sun is not None:
        across = (_shares(width) - light.sun[0])[None, :] * (width / height)
        down = (_shares(height) - light.sun[1] * horizon / height)[:, None]
        distance = np.sqrt(across**2 + down**2)
        glare = 190 * np.exp(-((distance / 0.035) ** 2)) + 75 * np.exp(-distance / 0.16)
        sky += glare[..., None] * np.asarray((1.0, 0.92, 0.74), np.float32)
    return Image.fromarray(np.clip(sky, 0, 255).astype(np.uint8))


def _add_texture(
    image: np.ndarray,
    label: np.ndarray,
    is_ground: np.ndarray,
    camera: Camera,
    light: Light,
    generator: np.random.Generator,
) -> None:
    """Multiplies grain into every material; on the ground it lies in perspective."""
    height, width = label.shape
    amount = np.zeros(256, np.float32)
    for class_id, contrast in GRAIN.items():
        amount[class_id] = contrast * float(generator.uniform(0.5, 1.5))
    # Haze takes contrast from what stands some 40 m away, where most upright things are.
    amount *= np.exp(-40 * light.haze_per_metre, dtype=np.float32)
    fine, coarse = _noise_tile(3, 64), _noise_tile(5, 8)
    shifts = generator.integers(0, TILE, 4)
    # Grain is fixed to the scene, not to the pixel grid: a larger image shows the same leaves, larger.
    rows = _tiled(np.arange(height) * (192 / height) + shifts[0])[:, None]
    columns = _tiled(np.arange(width) * (192 / height) + shifts[1])
    texture = fine[rows, columns] + 0.5 * coarse[rows, columns]
    first = int(np.clip(camera.horizon, 0, height))
    down = np.arange(first, height, dtype=np.float32) + 1 - camera.horizon
    z = camera.focal * camera.view.height / np.maximum(down, 0.5)
    x = (np.arange(width, dtype=np.float32)[None, :] - camera.centre) * (z / camera.focal)[:, None]
    x += ((camera.view.slant + 0.5 * camera.view.bend * z) * -z)[:, None]
    near = np.clip(9 / z, 0.25, 1)[:, None]
    lying = fine[_tiled(z * 14 + shifts[2])[:, None], _tiled(x * 14 + shifts[3])] * near
    lying += coarse[_tiled(z * 3)[:, None], _tiled(x * 5 + shifts[3])]
    texture[first:] = np.where(is_ground[first:], lying, texture[first:])
    image *= (1 + amount[label] * texture)[..., None]


def _add_wet_reflection(image: np.ndarray, is_road: np.ndarray, camera: Camera, strength: float) -> None:
    """Mixes the scene, upside down about the horizon and smeared downwards, into the road."""
    height = len(is_road)
    rows = np.arange(height)
    reflection = image[np.clip((2 * camera.horizon - rows * 1.0).astype(np.int64), 0, height - 1)]
    smear = max(1, height // 32)
    for step in (1, 2):
        reflection = 0.5 * (reflection + reflection[np.clip(rows - step * smear, 0, height - 1)])
    share = (strength * is_road).astype(np.float32)[..., None]
    image += (reflection - image) * share


def _add_headlights(image: np.ndarray) -> None:
    """Lights what lies ahead of the camera's own car."""
    rows, columns = (_shares(image.shape[0]) - 0.82) / 0.3, (_shares(image.shape[1]) - 0.5) / 0.42
    beam = np.exp(-(rows**2))[:, None] * np.exp(-(columns**2))[None, :]
    image *= 1 + 0.9 * beam[..., None] * np.asarray((1.05, 1.0, 0.86), np.float32)


def _add_glows(image: np.ndarray, glows: Iterable[tuple[float, float, float, Color]]) -> None:
    height, width, _ = image.shape
    for u, v, radius, color in glows:
        radius = max(radius, 0.6)
        reach = int(2.5 * radius) + 1
        top, bottom = max(0, int(v) - reach), min(height, int(v) + reach + 1)
        left, right = max(0, int(u) - reach), min(width, int(u) + reach + 1)
        if top >= bottom or left >= right:
            continue
        down = ((np.arange(top, bottom, dtype=np.float32) - v) / radius) ** 2
        across = ((np.arange(left, right, dtype=np.float32) - u) / radius) ** 2
        fall = np.exp(-down)[:, None] * np.exp(-across)[None, :]
        patch = image[top:bottom, left:right]
        # A glow brightens what is dark and cannot push what is bright beyond white.
        patch += fall[..., None] * np.asarray(color, np.float32) * np.clip(1 - patch / 255, 0, 1)


def _add_rain(image: np.ndarray, generator: np.random.Generator) -> None:
    """Faint slanted streaks."""
    height, width, _ = image.shape
    count = int(generator.integers(20, 70))
    slant = float(generator.uniform(-0.3, 0.3))
    steps = np.arange(max(3, height // 14))[None, :]
    rows = generator.integers(0, height, count)[:, None] + steps
    columns = generator.integers(0, width, count)[:, None] + (steps * slant).astype(np.int64)
    image[rows % height, columns % width] += 14


def _photograph(image: np.ndarray, light: Light, generator: np.random.Generator) -> np.ndarray:
    """Grades float32 [H, W, 3], changed in place, and adds vignetting, blur and sensor noise; returns uint8."""
    height, width, _ = image.shape
    cast = 1 + generator.normal(0, 0.026, 3).astype(np.float32)
    image *= cast * float(np.exp(generator.normal(0, 0.1)))
    grey = image.mean(axis=2, keepdims=True)
    image += (image - grey) * float(generator.uniform(-0.35, 0.3))
    image -= 118
    image *= float(generator.uniform(0.85, 1.15))
    image += 118
    rows, columns = (_shares(height) - 0.5)[:, None], (_shares(width) - 0.5)[None, :]
    image *= (1 - float(generator.uniform(0, 0.45)) * (rows**2 + columns**2))[..., None]
    blur = float(generator.uniform(0, 0.5)) * max(1.0, height / 192)
    noise = float(generator.uniform(1, 5)) * (1.8 if light.is_night else 1.0)
    photograph = Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))
    if blur > 0.2:
        photograph = photograph.filter(ImageFilter.GaussianBlur(blur))
    grain = generator.standard_normal((height, width, 1), np.float32) * 0.8
    grain = grain + generator.standard_normal((height, width, 3), np.float32) * 0.6
    return np.clip(np.asarray(photograph, np.float32) + noise * grain + 0.5, 0, 255).astype(np.uint8)
