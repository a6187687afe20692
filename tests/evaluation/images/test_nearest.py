"""The nearest neighbour against a brute-force calculation."""

from __future__ import annotations

import numpy as np
import pytest

from scenepalette.common.errors import DataError
from scenepalette.evaluation.images.nearest import nearest


def test_nearest_is_what_brute_force_finds() -> None:
    random = np.random.default_rng(0)
    features, references = random.normal(size=(1100, 5)), random.normal(size=(37, 5))
    distances = np.linalg.norm(features[:, None] - references[None], axis=2)
    found, far = nearest(features, references)
    np.testing.assert_array_equal(found, distances.argmin(axis=1))
    np.testing.assert_allclose(far, distances.min(axis=1))


def test_equal_vectors_are_at_distance_zero() -> None:
    references = np.float32([[1e4, 1.0], [1e4, 2.0]])
    found, far = nearest(references, references)
    assert found.tolist() == [0, 1]
    assert far.tolist() == [0.0, 0.0]


def test_what_is_excluded_is_no_neighbour() -> None:
    line = np.array([[0.0], [1.0], [5.0]])
    found, far = nearest(line, line, np.array([0, 1, -1]))
    assert found.tolist() == [1, 0, 2]
    assert far.tolist() == [1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("features", "references", "excluded"),
    [
        (np.zeros((2, 3)), np.zeros((2, 4)), None),
        (np.zeros((2, 3)), np.zeros((0, 3)), None),
        (np.zeros((1, 3)), np.zeros((1, 3)), np.array([0])),
    ],
)
def test_without_a_reference_left_it_is_refused(
    features: np.ndarray, references: np.ndarray, excluded: np.ndarray | None
) -> None:
    with pytest.raises(DataError, match=r"give vectors|at least"):
        nearest(features, references, excluded)
