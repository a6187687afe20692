"""Small labelled images in published folder layouts, for tests of several folders."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def write_pixels(path: Path, pixels: np.ndarray) -> None:
    """Write an array as the file type that the name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def random_image(seed: int, height: int = 6, width: int = 8) -> np.ndarray:
    """Return uint8 [H, W, 3] that depends on the seed."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def random_label(seed: int, num_classes: int, height: int = 6, width: int = 8) -> np.ndarray:
    """Return uint8 [H, W] of ids below `num_classes`."""
    return np.random.default_rng(seed).integers(0, num_classes, (height, width), dtype=np.uint8)


def _png(header: bytes, rows: list[bytes]) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def grey_png(values: np.ndarray, bits: int) -> bytes:
    """Return a grey PNG of 1, 2, 4 or 8 bits per pixel, as tools that shrink files write them."""
    height, width = values.shape
    padded = np.pad(values, ((0, 0), (0, -width % (8 // bits))))
    packed = sum(padded[:, k :: 8 // bits].astype(np.uint8) << 8 - bits * (k + 1) for k in range(8 // bits))
    rows = [row.astype(np.uint8).tobytes() for row in np.asarray(packed)]
    return _png(struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0), rows)


def rgb16_png(values: np.ndarray) -> bytes:
    """Return a PNG of three channels of 16 bits."""
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 2, 0, 0, 0)
    return _png(header, [row.astype(">u2").tobytes() for row in values])


@pytest.fixture
def camvid_root(tmp_path: Path) -> Path:
    """CamVid's layout without lists: three training pairs, two validation pairs; label value 11 occurs."""
    for split, names in {"train": ["c", "a", "b"], "val": ["d", "e"]}.items():
        for name in names:
            seed = ord(name)
            label = random_label(seed, 11)
            label[0, :2] = 11
            write_pixels(tmp_path / split / f"{name}.png", random_image(seed))
            write_pixels(tmp_path / f"{split}annot" / f"{name}.png", label)
    return tmp_path
