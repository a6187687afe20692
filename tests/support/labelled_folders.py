"""Small labelled images in published folder layouts, for tests of several folders."""

from __future__ import annotations

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
