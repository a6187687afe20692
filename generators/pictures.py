"""Sample sheets: pictures side by side in one PNG."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from data.files import write_atomically

SHORTEST_SIDE = 64


def tile_pictures(path: Path, pictures: Sequence[np.ndarray], columns: int = 0) -> None:
    """Write pictures as one PNG, row by row; small ones are enlarged without smoothing.

    Args:
        path: PNG to write, atomically.
        pictures: uint8 HW3, all of one size.
        columns: Pictures a row; 0 for about as many as rows.
    """
    columns = columns or math.ceil(math.sqrt(len(pictures)))
    height, width, _ = pictures[0].shape
    factor = max(1, math.ceil(SHORTEST_SIDE / min(height, width)))
    height, width = height * factor, width * factor
    rows = math.ceil(len(pictures) / columns)
    sheet = np.full((rows * (height + 2) - 2, columns * (width + 2) - 2, 3), 255, dtype=np.uint8)
    for index, picture in enumerate(pictures):
        top, left = (index // columns) * (height + 2), (index % columns) * (width + 2)
        sheet[top : top + height, left : left + width] = picture.repeat(factor, axis=0).repeat(factor, axis=1)
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, format="PNG")
    write_atomically(path, buffer.getvalue())
