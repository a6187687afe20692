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


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_file(size: tuple[int, int], bits: int, rows: list[bytes], colour: bool = False) -> bytes:
    """Return a PNG that says it has a height and a width, and holds some rows."""
    header = struct.pack(">IIBBBBB", size[1], size[0], bits, 2 if colour else 0, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")


def grey_png(values: np.ndarray, bits: int) -> bytes:
    """Return a grey PNG of 1, 2, 4 or 8 bits per pixel, as tools that shrink files write them."""
    height, width = values.shape
    padded = np.pad(values, ((0, 0), (0, -width % (8 // bits))))
    packed = sum(padded[:, k :: 8 // bits].astype(np.uint8) << 8 - bits * (k + 1) for k in range(8 // bits))
    rows = [row.astype(np.uint8).tobytes() for row in np.asarray(packed)]
    return png_file((height, width), bits, rows)


def png_of_16_bits(pixels: np.ndarray) -> bytes:
    """Return a PNG of 16 bits per channel: uint16 [H, W] or [H, W, 3], which Pillow cannot write in colour."""
    rows = [row.astype(">u2").tobytes() for row in pixels]
    return png_file((pixels.shape[0], pixels.shape[1]), 16, rows, colour=pixels.ndim == 3)


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
