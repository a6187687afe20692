"""Sample sheets and animations."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from scenepalette.common.errors import ConfigError
from scenepalette.common.png import png_of
from scenepalette.common.storage.files import write_atomically

SHORTEST_SIDE = 64
ANIMATIONS = {".gif": "GIF", ".webp": "WEBP"}


def tile_images(path: Path, images: Sequence[np.ndarray], columns: int = 0) -> None:
    """Write images as one PNG, row by row; small ones are enlarged without smoothing.

    Args:
        path: PNG to write, atomically.
        images: uint8 HW3, all of one size.
        columns: Images a row; 0 for about as many as rows.
    """
    columns = columns or math.ceil(math.sqrt(len(images)))
    height, width, _ = images[0].shape
    factor = max(1, math.ceil(SHORTEST_SIDE / min(height, width)))
    height, width = height * factor, width * factor
    rows = math.ceil(len(images) / columns)
    sheet = np.full((rows * (height + 2) - 2, columns * (width + 2) - 2, 3), 255, dtype=np.uint8)
    for index, image in enumerate(images):
        top, left = (index // columns) * (height + 2), (index % columns) * (width + 2)
        sheet[top : top + height, left : left + width] = enlarge(image, factor)
    write_atomically(path, png_of(sheet))


def enlarge(image: np.ndarray, factor: int) -> np.ndarray:
    """Repeat every pixel of an HW3 image `factor` times each way."""
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def check_extension(path: Path) -> str:
    """Return the extension, in small letters, of a strip or an animation.

    Raises:
        ConfigError: Neither is written with this extension.
    """
    extension = path.suffix.lower()
    if extension != ".png" and extension not in ANIMATIONS:
        raise ConfigError(f"{path} ends in {extension!r}; a strip is written as .png, an animation as .gif or .webp.")
    return extension


def write_animation(path: Path, frames: Sequence[np.ndarray], milliseconds: int = 250) -> None:
    """Write frames as an animation that goes forth and back, GIF or WebP by the file's extension.

    Args:
        path: File to write, atomically.
        frames: uint8 HW3, all of one size.
        milliseconds: Duration of a frame.
    """
    forth = [Image.fromarray(frame) for frame in frames]
    images = [*forth, *forth[-2:0:-1]]
    buffer = io.BytesIO()
    options = {"save_all": True, "append_images": images[1:], "duration": milliseconds, "loop": 0}
    images[0].save(buffer, format=ANIMATIONS[check_extension(path)], **options)
    write_atomically(path, buffer.getvalue())
