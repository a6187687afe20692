from __future__ import annotations

import numpy as np
import pytest

from scenepalette.common.errors import DataError
from scenepalette.evaluation.images import precision_recall as manifold
from scenepalette.evaluation.images.precision_recall import precision_recall


def within(points: np.ndarray, samples: np.ndarray, neighbors: int) -> float:
    """Share of points within a ball around some sample, point by point."""
    radii = []
    for index, sample in enumerate(samples):
        others = np.delete(samples, index, axis=0)
        radii.append(np.sort(np.sqrt(((others - sample) ** 2).sum(axis=1)))[neighbors - 1])
    inside = [
        any(np.sqrt(((point - sample) ** 2).sum()) <= radius for sample, radius in zip(samples, radii, strict=True))
        for point in points
    ]
    return float(np.mean(inside))


def test_by_hand() -> None:
    real = np.array([[0.0], [1.0], [5.0]])  # radii 1, 1, 4: the line from -1 to 9
    generated = np.array([[8.0], [9.5], [30.0], [30.5]])  # radii 1.5, 1.5, 0.5, 0.5: 6.5 to 11 and 29.5 to 31
    assert precision_recall(real, generated, neighbors=1) == (1 / 4, 0.0)
    # From the other side: real and generated change places.
    assert precision_recall(generated, real, neighbors=1) == (0.0, 1 / 4)


@pytest.mark.parametrize("neighbors", [1, 3, 5])
def test_against_point_by_point(neighbors: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifold, "ROWS_AT_ONCE", 7)  # several blocks
    generator = np.random.default_rng(neighbors)
    real = generator.standard_normal((30, 4)) + 100
    generated = 1.2 * generator.standard_normal((40, 4)) + 101
    result = precision_recall(real, generated, neighbors)
    assert result.precision == pytest.approx(within(generated, real, neighbors))
    assert result.recall == pytest.approx(within(real, generated, neighbors))
    assert 0 < result.recall < 1 and 0 < result.precision < 1


def test_limits() -> None:
    real = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)
    assert precision_recall(real, real) == (1.0, 1.0)
    assert precision_recall(real, real + 1000) == (0.0, 0.0)
    # One mode of two: everything generated is real, half of the real is not generated.
    two_modes = np.concatenate([real, real + 1000])
    assert precision_recall(two_modes, real) == (1.0, 0.5)


def test_order_shift_and_scale_do_not_matter() -> None:
    generator = np.random.default_rng(1)
    real, generated = generator.standard_normal((25, 3)), generator.standard_normal((30, 3)) + 0.5
    expected = precision_recall(real, generated)
    assert 0 < expected.precision < 1
    assert precision_recall(real[::-1], generator.permutation(generated)) == expected
    assert precision_recall(8 * real + 3, 8 * generated + 3) == expected


@pytest.mark.parametrize(
    ("shape", "value", "message"),
    [((3, 2), 0.0, "above the number"), ((5, 3), 0.0, "received"), ((5, 2), np.nan, "finite")],
)
def test_refuses(shape: tuple[int, int], value: float, message: str) -> None:
    with pytest.raises(DataError, match=message):
        precision_recall(np.full(shape, value), np.zeros((5, 2)))
