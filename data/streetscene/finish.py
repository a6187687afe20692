"""Sky, textures, air and camera: what is computed on pixels, not drawn."""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image, ImageFilter

from scenepalette.data.streetscene.camera import Camera
from scenepalette.data.streetscene.ids import BUILDING, FENCE, LANE_MARKING, ROAD, SIDEWALK, SKY, TERRAIN, VEGETATION
from scenepalette.data.streetscene.light import Color, Light

TILE = 256

# Relative contrast of the fine grain, for the classes that have one.
GRAIN = {
    BUILDING: 0.05,
    FENCE: 0.06,
    VEGETATION: 0.2,
    TERRAIN: 0.1,
    ROAD: 0.05,
    SIDEWALK: 0.06,
    LANE_MARKING: 0.08,
}


@functools.cache
def noise_tile(octaves: int, first: int) -> np.ndarray:
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
        large = Image.fromarray(wrapped).resize(
            (wrapped.shape[1] * factor, wrapped.shape[0] * factor), Image.Resampling.BILINEAR
        )
        start = 2 * factor
        total += np.asarray(large)[start : start + TILE, start : start + TILE] * 0.62**octave
    return (total - total.mean()) / total.std()


def sky_background(camera: Camera, light: Light, generator: np.random.Generator, oversampling: int) -> np.ndarray:
    """Gradient, clouds and sun, uint8 [height, width, 4] with class `SKY` in the last band."""
    height, width = camera.height // oversampling, camera.width // oversampling
    horizon = max(2.0, camera.horizon / oversampling)
    rows = (np.arange(height, dtype=np.float32) + 0.5) / horizon
    fall = np.clip(rows, 0, 1)[:, None, None] ** 1.3
    zenith, skyline = np.asarray(light.zenith, np.float32), np.asarray(light.skyline, np.float32)
    sky = zenith * (1 - fall) + skyline * fall + np.zeros((1, width, 1), np.float32)
    tile = noise_tile(6, 4)
    shift_u, shift_v = generator.integers(0, TILE, 2)
    cloud_size = float(generator.uniform(0.5, 1.4))
    if light.clouds > 0:
        # Clouds lie on a plane overhead: nearer the horizon they are smaller and flatter.
        depth = 1.0 / np.clip(1.12 - rows, 0.12, None)
        index_v = (depth * 60 * cloud_size + shift_v).astype(np.int64) % TILE
        columns = (np.arange(width, dtype=np.float32) / width - 0.5)[None, :] * 130 * cloud_size
        index_u = (columns * np.clip(depth, 0, 3)[:, None] + shift_u).astype(np.int64) % TILE
        cover = np.clip((tile[index_v[:, None], index_u] + 2.4 * light.clouds - 1.5) * 0.7, 0, 1)[..., None]
        bright = np.asarray(light.skyline, np.float32) * (1.12 if light.weather == "sunny" else 0.92)
        shaded = 1 + 0.08 * tile[index_v[:, None], (index_u + 7) % TILE][..., None]
        sky += (bright * shaded - sky) * cover * (0.85 if light.weather != "night" else 0.4)
    if light.sun is not None:
        across = (np.arange(width, dtype=np.float32) / width - light.sun[0])[None, :] * (width / height)
        down = (np.arange(height, dtype=np.float32) / height - light.sun[1] * horizon / height)[:, None]
        distance = np.sqrt(across**2 + down**2)
        glare = 190 * np.exp(-((distance / 0.035) ** 2)) + 75 * np.exp(-distance / 0.16)
        sky += glare[..., None] * np.asarray((1.0, 0.92, 0.74), np.float32)
    small = Image.fromarray(np.clip(sky, 0, 255).astype(np.uint8))
    background = np.empty((camera.height, camera.width, 4), np.uint8)
    background[..., :3] = np.asarray(small.resize((camera.width, camera.height), Image.Resampling.BILINEAR))
    background[..., 3] = SKY
    return background


def develop(
    image: np.ndarray,
    label: np.ndarray,
    shade: np.ndarray,
    glows: list[tuple[float, float, float, Color]],
    camera: Camera,
    light: Light,
    generator: np.random.Generator,
) -> np.ndarray:
    """Turns drawn colours into a photograph.

    Args:
        image: float32 [H, W, 3], 0..255, changed in place.
        label: uint8 [H, W].
        shade: float32 [H, W], 0..1, darkness of shadows where there is ground.
        glows: lamps as (column, row, radius, added colour), in pixels of this image.
        camera: camera at this image's size.
        light: weather and light.
        generator: source of texture offsets, noise and grading.

    Returns:
        uint8 [H, W, 3].
    """
    height, width = label.shape
    is_ground = (label == ROAD) | (label == LANE_MARKING) | (label == SIDEWALK) | (label == TERRAIN)
    _add_texture(image, label, is_ground, camera, light, generator)
    image *= 1 - (shade * is_ground)[..., None]
    if light.weather in ("rain", "night", "dusk"):
        _add_wet_reflection(
            image, (label == ROAD) | (label == LANE_MARKING), camera, 0.42 if light.weather == "rain" else 0.14
        )
    if light.is_night:
        _add_headlights(image)
    _add_glows(image, glows)
    if light.weather == "rain":
        _add_rain(image, generator)

    cast = 1 + generator.normal(0, 0.026, 3).astype(np.float32)
    gain = float(np.exp(generator.normal(0, 0.1)))
    image *= cast * gain
    grey = image.mean(axis=2, keepdims=True)
    image += (image - grey) * float(generator.uniform(-0.35, 0.3))
    contrast = float(generator.uniform(0.85, 1.15))
    image -= 118
    image *= contrast
    image += 118
    rows = (np.arange(height, dtype=np.float32) / height - 0.5)[:, None]
    columns = (np.arange(width, dtype=np.float32) / width - 0.5)[None, :]
    image *= (1 - float(generator.uniform(0, 0.45)) * (rows**2 + columns**2))[..., None]

    blur = float(generator.uniform(0, 0.5)) * max(1.0, height / 192)
    noise = float(generator.uniform(1, 5)) * (1.8 if light.is_night else 1.0)
    picture = Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))
    if blur > 0.2:
        picture = picture.filter(ImageFilter.GaussianBlur(blur))
    grain = generator.standard_normal((height, width, 1), np.float32) * 0.8
    grain = grain + generator.standard_normal((height, width, 3), np.float32) * 0.6
    return np.clip(np.asarray(picture, np.float32) + noise * grain + 0.5, 0, 255).astype(np.uint8)


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
    fine, coarse = noise_tile(3, 64), noise_tile(5, 8)
    shifts = generator.integers(0, TILE, 4)
    # Grain is fixed to the scene, not to the pixel grid: a larger picture shows the same leaves, larger.
    rows = (np.arange(height) * (192 / height) + shifts[0]).astype(np.int64) % TILE
    columns = (np.arange(width) * (192 / height) + shifts[1]).astype(np.int64) % TILE
    upright = fine[rows[:, None], columns[None, :]] + 0.5 * coarse[rows[:, None], columns[None, :]]
    first = int(np.clip(camera.horizon, 0, height))
    down = np.arange(first, height, dtype=np.float32) + 1 - camera.horizon
    z = camera.focal * camera.view.height / np.maximum(down, 0.5)
    x = (np.arange(width, dtype=np.float32)[None, :] - camera.centre) * (z / camera.focal)[:, None]
    x += ((camera.view.slant + 0.5 * camera.view.bend * z) * -z)[:, None]
    index_v = (z * 14 + shifts[2]).astype(np.int64) % TILE
    index_u = (x * 14 + shifts[3]).astype(np.int64) % TILE
    near = np.clip(9 / z, 0.25, 1)[:, None]
    broad_v = (z * 3).astype(np.int64) % TILE
    broad_u = (x * 5 + shifts[3]).astype(np.int64) % TILE
    lying = fine[index_v[:, None], index_u] * near + 1.0 * coarse[broad_v[:, None], broad_u]
    texture = upright
    texture[first:] = np.where(is_ground[first:], lying, upright[first:])
    image *= (1 + amount[label] * texture)[..., None]


def _add_wet_reflection(image: np.ndarray, is_road: np.ndarray, camera: Camera, strength: float) -> None:
    """Mixes the scene, upside down about the horizon and smeared downwards, into the road."""
    height = len(is_road)
    rows = np.arange(height)
    mirrored = np.clip((2 * camera.horizon - rows * 1.0).astype(np.int64), 0, height - 1)
    reflection = image[mirrored]
    smear = max(1, height // 32)
    for step in (1, 2):
        reflection = 0.5 * (reflection + reflection[np.clip(rows - step * smear, 0, height - 1)])
    share = (strength * is_road).astype(np.float32)[..., None]
    image += (reflection - image) * share


def _add_headlights(image: np.ndarray) -> None:
    """Lights what lies ahead of the camera's own car."""
    height, width, _ = image.shape
    rows = (np.arange(height, dtype=np.float32) / height - 0.82) / 0.3
    columns = (np.arange(width, dtype=np.float32) / width - 0.5) / 0.42
    beam = np.exp(-(rows**2))[:, None] * np.exp(-(columns**2))[None, :]
    image *= 1 + 0.9 * beam[..., None] * np.asarray((1.05, 1.0, 0.86), np.float32)


def _add_glows(image: np.ndarray, glows: list[tuple[float, float, float, Color]]) -> None:
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
    length = max(3, height // 14)
    rows = generator.integers(0, height, count)[:, None] + np.arange(length)[None, :]
    columns = generator.integers(0, width, count)[:, None] + (np.arange(length)[None, :] * slant).astype(np.int64)
    image[rows % height, columns % width] += 14
