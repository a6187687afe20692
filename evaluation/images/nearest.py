"""The nearest neighbour of each feature vector: how far a generated image is from what its generator learned from."""

from __future__ import annotations

import numpy as np

from scenepalette.common.errors import DataError

_ROWS_AT_ONCE = 512


def nearest(
    features: np.ndarray, references: np.ndarray, excluded: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return which reference is nearest to each feature vector, and how far it is.

    Args:
        features: float [N, D].
        references: float [M, D], at least one; at least two if some are excluded.
        excluded: int [N], for each vector a reference that does not count, such as itself; -1 for none.

    Returns:
        Indices int64 [N] into the references, the first of several equally near ones, and Euclidean distances
        float64 [N].

    Raises:
        DataError: The shapes do not fit, or no reference is left.
    """
    needed = 1 if excluded is None or (excluded < 0).all() else 2
    if features.ndim != 2 or references.ndim != 2 or features.shape[1] != references.shape[1]:
        raise DataError(
            f"The features are {list(features.shape)}, the references {list(references.shape)}; give vectors [N, D] "
            "and [M, D] of one network."
        )
    if len(references) < needed:
        raise DataError(f"There are {len(references)} references; a nearest one needs at least {needed}.")
    indices, distances = np.zeros(len(features), np.int64), np.zeros(len(features))
    known = references.astype(np.float64)
    for first in range(0, len(features), _ROWS_AT_ONCE):
        part = features[first : first + _ROWS_AT_ONCE].astype(np.float64)
        # |a|^2 - 2ab + |b|^2 finds the nearest one; its distance is taken directly, so that equal vectors are at 0.
        squared = (part**2).sum(1)[:, None] - 2 * part @ known.T + (known**2).sum(1)[None]
        if excluded is not None:
            own = excluded[first : first + len(part)]
            rows = np.flatnonzero(own >= 0)
            squared[rows, own[rows]] = np.inf
        found = squared.argmin(axis=1)
        indices[first : first + len(part)] = found
        distances[first : first + len(part)] = np.linalg.norm(part - known[found], axis=1)
    return indices, distances
