"""Small data sets on disk in the published layouts, with known pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def write_picture(path: Path, pixels: np.ndarray) -> None:
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
            write_picture(tmp_path / split / f"{name}.png", random_image(seed))
            write_picture(tmp_path / f"{split}annot" / f"{name}.png", label)
    return tmp_path


@pytest.fixture
def cityscapes_root(tmp_path: Path) -> Path:
    """Cityscapes' layout: two cities, with the further annotation files that the release has."""
    for city, frame in [("ulm", "000001_000019"), ("ulm", "000000_000019"), ("aachen", "000003_000019")]:
        stem = f"{city}_{frame}"
        label = random_label(len(city), 34)
        write_picture(tmp_path / "leftImg8bit/train" / city / f"{stem}_leftImg8bit.png", random_image(3))
        write_picture(tmp_path / "gtFine/train" / city / f"{stem}_gtFine_labelIds.png", label)
        write_picture(tmp_path / "gtFine/train" / city / f"{stem}_gtFine_color.png", random_image(4))
        (tmp_path / "gtFine/train" / city / f"{stem}_gtFine_polygons.json").write_text("{}")
    return tmp_path


@pytest.fixture
def idd_root(tmp_path: Path) -> Path:
    """IDD's layout with prepared labels: a PNG frame and a JPEG frame of the same number in two sequences."""
    for sequence, ending in [("12", "png"), ("400", "jpg")]:
        write_picture(tmp_path / f"leftImg8bit/train/{sequence}/0001_leftImg8bit.{ending}", random_image(1))
        write_picture(tmp_path / f"gtFine/train/{sequence}/0001_gtFine_labelids.png", random_label(2, 40))
    return tmp_path


@pytest.fixture
def folder_root(tmp_path: Path) -> Path:
    """The plain folder layout: JPEG and PNG, three sizes, three classes in classes.csv."""
    sizes = {"street.jpg": (6, 8), "alley.JPEG": (10, 4), "square.png": (5, 5)}
    for seed, (name, (height, width)) in enumerate(sizes.items()):
        stem = name.split(".")[0]
        label = random_label(seed, 3, height, width)
        label[0, 0] = 255
        write_picture(tmp_path / "train/images" / name, random_image(seed, height, width))
        write_picture(tmp_path / "train/labels" / f"{stem}.png", label)
    (tmp_path / "classes.csv").write_text("name,red,green,blue\nroad,128,64,128\ncar,0,0,142\nsky,70,130,180\n")
    return tmp_path


@pytest.fixture
def write() -> Callable[[Path, np.ndarray], None]:
    """Return the function that writes an array as a picture."""
    return write_picture
