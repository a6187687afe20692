"""Small data sets as a user has them, and a machine whose steps take as long as they have pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from labelled_folders import write_pixels
from scenepalette.data.sample import SegmentationDataset
from scenepalette.pipeline.config import RunConfig
from scenepalette.pipeline.doctor.machine.measure import timed_steps
from scenepalette.pipeline.doctor.machine.timing import Measured

CLASSES = "name,red,green,blue\nsky,0,0,250\nroad,90,90,90\ncar,250,0,0\nlamp,250,250,0\n"
SKY, ROAD, CAR, LAMP = range(4)


def street_label(seed: int, height: int, width: int) -> np.ndarray:
    """Return sky above a road with a car on it, and in one image of nine a lamp of a pixel or few."""
    label = np.full((height, width), SKY, np.uint8)
    label[height // 2 :] = ROAD
    left = seed * 7 % (width // 2)
    label[height // 2 : height // 2 + height // 4, left : left + width // 4] = CAR
    if seed % 9 == 0:
        label[: height // 24 + 1, :1] = LAMP
    return label


def write_own_data(
    root: Path, *, train: int = 40, val: int = 10, size: tuple[int, int] = (96, 128), classes: str = CLASSES
) -> Path:
    """Write a folder of images and labels of ids in two splits, the frames of two drives, and return it."""
    colours = np.array([(0, 0, 250), (90, 90, 90), (250, 0, 0), (250, 250, 0)], np.uint8)
    noise = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        for index in range(count):
            seed = index if split == "train" else 1000 + index
            label = street_label(seed, *size)
            image = colours[label].astype(int) + noise.integers(0, 60, (*size, 3))
            name = f"{split}{index % 2}_{index:04}.png"
            write_pixels(root / split / "images" / name, np.minimum(image, 255).astype(np.uint8))
            write_pixels(root / split / "labels" / name, label)
    (root / "classes.csv").write_text(classes, encoding="utf-8")
    return root


def machine(speed: float = 1.0, **changes: Any) -> Callable[..., Measured]:
    """Return a measurement that takes no time: at speed 1, a third of camvid-cpu's steps take about an hour.

    Args:
        speed: How many times as fast.
        changes: Fields of what it returns.
    """

    def timed(config: RunConfig, train: SegmentationDataset, folder: Path, **options: Any) -> Measured:
        pixels = config.data.size[0] * config.data.size[1] / (96 * 128) / speed
        seconds = {"images": 0.3, "segmenter": 0.2, "layouts": 0.3, "generate": 0.03}
        known = {step.name: pixels * seconds[step.work] for step in timed_steps(config)}
        assert len(train) > 0 and folder.is_dir()
        return Measured(**{"seconds": known, "peak_bytes": 10**9, **changes})

    return timed
