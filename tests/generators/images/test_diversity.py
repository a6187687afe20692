from __future__ import annotations

import numpy as np
import pytest

from scenepalette.generators.images.diversity import image_diversity
from scenepalette.training.monitor import COLLAPSES


def collapsed(measures: dict[str, float]) -> set[str]:
    return {name for name, value in measures.items() if value < COLLAPSES[name][0]}


def rows_of(real: int, generated: int, noise: int, rows: int = 4) -> list[list[np.ndarray]]:
    """Rows of a sheet whose images are of one grey each, with the given steps of grey between them."""

    def grey(value: int) -> np.ndarray:
        return np.full((2, 3, 3), value, dtype=np.uint8)

    return [[grey(row * real), *(grey(row * generated + draw * noise) for draw in range(3))] for row in range(rows)]


def test_image_diversity_by_hand() -> None:
    measures = image_diversity(rows_of(real=10, generated=5, noise=6), noisy=True)
    assert measures == {"image_diversity": pytest.approx(0.5), "image_noise_difference": pytest.approx(8.0)}
    assert collapsed(measures) == set()


def test_constant_images_are_a_collapse() -> None:
    measures = image_diversity(rows_of(real=10, generated=0, noise=0), noisy=True)
    assert collapsed(measures) == {"image_diversity", "image_noise_difference"}


def test_a_system_without_noise_is_not_asked_for_its_effect() -> None:
    assert image_diversity(rows_of(real=10, generated=5, noise=0), noisy=False) == {
        "image_diversity": pytest.approx(0.5)
    }
    assert image_diversity(rows_of(real=0, generated=5, noise=0), noisy=False) == {}  # equal real images say nothing
