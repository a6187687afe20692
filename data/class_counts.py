"""How many pixels a data set has of each class, and weights that make up for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from scenepalette.data.arrays import Pairs, PairSource
from scenepalette.data.classes import IGNORE_ID

# Of the weight of a class; beyond it a handful of pixels would decide a step.
LARGEST_WEIGHT = 10.0
_AT_ONCE = 64


class ClassCounts(NamedTuple):
    """Pixels of a data set by class.

    Attributes:
        pixels: int64 [K], labelled pixels of each class.
        around: int64 [K], labelled pixels of all images in which the class occurs.
    """

    pixels: np.ndarray
    around: np.ndarray

    @property
    def shares(self) -> np.ndarray:
        """float64 [K], shares of all labelled pixels; 0 if there are none."""
        return self.pixels / max(1, self.pixels.sum())


def class_counts(pairs: PairSource) -> ClassCounts:
    """Count the labelled pixels of pairs, reading some at a time."""
    classes = pairs.table.num_classes
    pixels, around = np.zeros(classes, dtype=np.int64), np.zeros(classes, dtype=np.int64)
    arrays = pairs.labels if isinstance(pairs, Pairs) else None
    for first in range(0, len(pairs), _AT_ONCE):
        indices = range(first, min(first + _AT_ONCE, len(pairs)))
        # Pairs in arrays need not decode images for it.
        labels = pairs.batch(indices)[1].numpy() if arrays is None else np.asarray(arrays[indices.start : indices.stop])
        for label in labels:
            counts = np.bincount(label[label != IGNORE_ID], minlength=classes)
            pixels += counts
            around[counts > 0] += counts.sum()
    return ClassCounts(pixels, around)


def median_frequency_weights(counts: ClassCounts) -> np.ndarray:
    """Return weights of classes by median frequency balancing (Eigen and Fergus, 2015).

    The weight of a class is the median of all classes' frequencies over its own, where a frequency is a class's share
    of the labelled pixels of those images in which it occurs. It is kept within a tenth and ten times.

    Returns:
        float64 [K]; 1 for a class without a pixel, which does not count in the median.
    """
    found = counts.pixels > 0
    weights = np.ones(len(found))
    if found.any():
        frequencies = counts.pixels[found] / counts.around[found]
        weights[found] = np.clip(np.median(frequencies) / frequencies, 1 / LARGEST_WEIGHT, LARGEST_WEIGHT)
    return weights


def shares_when_pasted(shares: np.ndarray, classes: Sequence[int], probability: float) -> np.ndarray:
    """Return the shares to expect where all pixels of some classes are pasted from another image of the same data.

    Both images are taken to be drawn independently: a pixel becomes one of the pasted class c with probability p s_c,
    and stays as it is otherwise.

    Args:
        shares: float [K], shares of labelled pixels, which sum to 1.
        classes: Ids of the pasted classes.
        probability: p, of pasting into an image.

    Returns:
        float64 [K], which sum to 1.
    """
    pasted = np.zeros(len(shares))
    pasted[list(classes)] = probability * shares[list(classes)]
    return shares * (1 - pasted.sum()) + pasted


def prior_ratios(wanted: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return weights of classes that undo a label shift: importance weights (Lipton et al., 2018, section 4).

    With them, pixels of the given shares count as if they had the wanted ones. They are kept within a tenth and ten
    times.

    Args:
        wanted: float [K], shares of classes.
        shares: float [K], shares of the same classes in the pixels that are weighed.

    Returns:
        float64 [K]; 1 for a class without a pixel in either, which no weight can make up for.
    """
    known = (wanted > 0) & (shares > 0)
    ratios = np.divide(wanted, shares, out=np.ones(len(shares)), where=known)
    return np.clip(ratios, 1 / LARGEST_WEIGHT, LARGEST_WEIGHT)
