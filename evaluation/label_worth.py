"""How many labelled images a result is worth: where the learning curve of real images alone reaches the same mIoU.

mIoU is interpolated in a straight line over the logarithm of the number of images, as errors fall by a power of it
(Hestness et al., 2017). Of a curve that falls somewhere by chance the nearest one that does not is taken (isotonic
regression; Barlow et al., 1972).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy


def images_worth(images: Sequence[int], alone: np.ndarray, reached: np.ndarray) -> np.ndarray:
    """Return how many real images alone would reach an mIoU.

    Args:
        images: P numbers of real images, ascending.
        alone: float [R, P], mIoU of as many real images alone, in R resamples.
        reached: float [R], the mIoU to be reached.

    Returns:
        float [R]: the smallest number at which the rising curve is there; -inf if already the fewest images reach more,
        inf if the most of them do not reach it, nan where something is not defined.
    """
    curve = np.apply_along_axis(lambda points: scipy.optimize.isotonic_regression(points).x, 1, alone)
    logarithms = np.log(np.asarray(images, dtype=np.float64))
    worth = np.where(reached < curve[:, 0], -np.inf, np.inf)
    worth = np.where(reached == curve[:, 0], images[0], worth)
    for point in range(1, len(images)):
        low, high = curve[:, point - 1], curve[:, point]
        here = (low < reached) & (reached <= high)
        share = np.divide(reached - low, high - low, out=np.zeros_like(reached), where=here)
        between = np.exp(logarithms[point - 1] + share * (logarithms[point] - logarithms[point - 1]))
        worth = np.where(here, between, worth)
    return np.where(np.isnan(reached) | np.isnan(alone).any(axis=1), np.nan, worth)


def open_interval(worth: np.ndarray, beyond: float) -> tuple[float, float]:
    """Return between which numbers of images the resamples lie but for a share at each end.

    Args:
        worth: Result of `images_worth`; resamples that are not defined are left out.
        beyond: Share beyond each end.

    Returns:
        Low and high ends, each one of the resamples; infinite where the curve does not reach so far, nan if no resample
        is defined.
    """
    values = np.sort(worth[~np.isnan(worth)])
    if len(values) == 0:
        return float("nan"), float("nan")
    left_out = int(beyond * len(values))
    return float(values[left_out]), float(values[-1 - left_out])
