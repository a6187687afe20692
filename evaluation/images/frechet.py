"""Frechet distances of layouts and images: FSD, FID and the segmenter Frechet distance by their features."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from scenepalette.common.errors import DataError


def frechet_distance(features_a: ArrayLike, features_b: ArrayLike) -> float:
    """Return the squared Frechet distance of two Gaussians fitted to features.

    |mean_a - mean_b|^2 + tr(S_a) + tr(S_b) - 2 tr((S_a S_b)^(1/2)), with sample covariances S (divided by N - 1). As
    with any Frechet distance, fewer samples than features bias it upwards: compare only equal numbers of samples.

    Args:
        features_a: [N, D], N >= 2.
        features_b: [M, D], M >= 2.

    Returns:
        Distance >= 0, in squared units of the features.

    Raises:
        DataError: The shapes do not fit, there are fewer than 2 samples, or a value is not finite.
    """
    a, b = np.asarray(features_a, dtype=np.float64), np.asarray(features_b, dtype=np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise DataError(
            f"A Frechet distance needs features [N, D] and [M, D] with at least 2 samples each; received {a.shape} "
            f"and {b.shape}."
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise DataError("A Frechet distance needs finite features; received nan or infinity.")
    mean_a, mean_b = a.mean(axis=0), b.mean(axis=0)
    # With S = R'R of the centred samples' QR decomposition, tr((S_a S_b)^(1/2)) is the sum of the singular values of
    # R_a R_b': no covariance is squared, no complex root is taken, and singular covariances are no special case.
    root_a: np.ndarray = np.linalg.qr((a - mean_a) / np.sqrt(len(a) - 1)).R
    root_b: np.ndarray = np.linalg.qr((b - mean_b) / np.sqrt(len(b) - 1)).R
    cross = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    distance = ((mean_a - mean_b) ** 2).sum() + (root_a**2).sum() + (root_b**2).sum() - 2 * cross
    return max(float(distance), 0.0)


def fsd(palettes_real: ArrayLike, palettes_generated: ArrayLike) -> float:
    """Return the Frechet segmentation distance of layouts from the shares of their classes.

    Shares are taken in percent, the scale on which Le Moing et al., 2021, Tables 2 to 6, states its values.

    Args:
        palettes_real: Class shares of the real training layouts [N, K], rows summing to 1.
        palettes_generated: Class shares of generated hard layouts [M, K], rows summing to 1.

    Returns:
        Squared Frechet distance in squared percentage points.
    """
    return frechet_distance(100 * np.asarray(palettes_real), 100 * np.asarray(palettes_generated))
