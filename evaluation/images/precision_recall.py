"""Precision and recall of generated images from nearest neighbours in a feature space (Schönfeld et al., 2021, A.9)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike

from scenepalette.common.errors import DataError

# k of Kynkäänniemi et al., 2019, section 3.
NEIGHBORS = 3
# Rows of the matrix of distances that are held at once.
ROWS_AT_ONCE = 1000


class PrecisionRecall(NamedTuple):
    """Shares in [0, 1].

    Attributes:
        precision: Share of generated samples within the estimated support of the real ones: quality.
        recall: Share of real samples within the estimated support of the generated ones: diversity.
    """

    precision: float
    recall: float


def precision_recall(real: ArrayLike, generated: ArrayLike, neighbors: int = NEIGHBORS) -> PrecisionRecall:
    """Return the improved precision and recall of Kynkäänniemi et al., 2019, eq. 1 and 2.

    The support of a set of samples is estimated as the union of balls around them, each as large as the distance to
    the sample's k-th nearest neighbour in the set, itself not counted. Both shares depend on the numbers of samples:
    compare only equal numbers.

    Args:
        real: Features of real images [N, D], N > `neighbors`.
        generated: Features of generated images [M, D], M > `neighbors`.
        neighbors: k.

    Returns:
        Precision and recall; memory grows with max(N, M), not with its square.

    Raises:
        DataError: The shapes do not fit, there are too few samples, or a value is not finite.
    """
    from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

    a, b = np.asarray(real, dtype=np.float64), np.asarray(generated, dtype=np.float64)
    if neighbors < 1 or a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) <= neighbors:
        raise DataError(
            f"Precision and recall with {neighbors} neighbours need features [N, D] and [M, D] with N and M above the "
            f"number of neighbours, which is 1 or more; received {a.shape} and {b.shape}."
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise DataError("Precision and recall need finite features; received nan or infinity.")
    # Distances come from scalar products, whose rounding grows with the distance of all samples from the origin.
    center = a.mean(axis=0)
    values = prc_features_to_metric(
        torch.from_numpy(b - center),
        torch.from_numpy(a - center),
        prc_neighborhood=neighbors,
        prc_batch_size=ROWS_AT_ONCE,
        save_cpu_ram=True,
        verbose=False,
    )
    return PrecisionRecall(values[KEY_METRIC_PRECISION], values[KEY_METRIC_RECALL])
