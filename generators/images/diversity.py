"""How much generated images differ from each other: a measure of collapse that costs a few samples."""

from __future__ import annotations

from itertools import combinations

import numpy as np


def image_diversity(rows: list[list[np.ndarray]], noisy: bool) -> dict[str, float]:
    """Return how much the generated images of a sample sheet differ.

    Args:
        rows: For each layout the real image and images generated with different noise, uint8 HW3.
        noisy: Whether the system promises that noise changes the image.

    Returns:
        "image_noise_difference": mean absolute difference between images of one layout, of 255 grey levels, only if
        `noisy`. "image_diversity": that between images of different layouts as a fraction of the real images' own, left
        out where real images do not differ.
    """
    measures: dict[str, float] = {}
    real = _mean_difference([row[0] for row in rows])
    if real > 0:
        measures["image_diversity"] = _mean_difference([row[1] for row in rows]) / real
    if noisy:
        measures["image_noise_difference"] = float(np.mean([_mean_difference(row[1:]) for row in rows]))
    return measures


def _mean_difference(images: list[np.ndarray]) -> float:
    values = [image.astype(np.float64) for image in images]
    return float(np.mean([np.abs(a - b).mean() for a, b in combinations(values, 2)] or [0.0]))
