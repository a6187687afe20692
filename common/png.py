"""Pixels as PNG."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def png_of(pixels: np.ndarray) -> bytes:
    """Return pixels, uint8 [H, W, 3] or [H, W], as an RGB or an 8-bit grey PNG."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG")
    return buffer.getvalue()
