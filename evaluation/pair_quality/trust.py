"""Which pixels of a generated pair to learn from: those whose label teachers find about as plausible as real ones.

FreeMask (Yang et al., 2023, section 3) leaves out a pixel whose loss exceeds a multiple of the mean loss that its
class has in real images. Here the teachers never saw what they judge, and of each class a least part is kept, so that
teachers that are weak on a class do not delete it.

The loss of a pixel relative to its class is kept in steps, as one byte: level 128 is the class's mean, and four steps
are a factor of 1.25. Thresholds are applied to these levels when pairs are read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt, Le
from typing_extensions import Doc

from scenepalette.common.errors import ConfigError
from scenepalette.data.classes import IGNORE_ID
from scenepalette.training.settings import range_problems

LEVELS = 256
MEAN_LEVEL = 128
UNLABELLED = 255
"""The level of a pixel without a label."""
STEP = math.log(1.25) / 4
CONFIDENCE_STEPS = 200
FREEMASK_FACTOR = 1.25
_LEAST_MEAN = 1e-6
# Values that are a whole number of steps are not pushed over it by rounding.
_ROUNDING = 1e-4


@dataclass(frozen=True)
class TrustSettings:
    """When a pixel of a generated pair counts; the defaults are FreeMask's factor and a floor of its own.

    Raises:
        ConfigError: Names every field that is out of range.
    """

    trust_factor: Annotated[
        float,
        Gt(0.0),
        Le(1000.0),
        Doc("Trusted arms leave out a pixel whose loss exceeds this many times the mean of its class in real images."),
    ] = FREEMASK_FACTOR
    trust_floor: Annotated[
        float, Ge(0.0), Le(1.0), Doc("Part of the pixels of each class that trusted arms keep in any case.")
    ] = 0.3
    relabel_confidence: Annotated[
        float,
        Gt(0.5),
        Le(1.0),
        Doc("Probability from which the teachers' class replaces another label, in arms that relabel."),
    ] = 0.95

    def __post_init__(self) -> None:
        if problems := range_problems(self, "segmenters"):
            raise ConfigError("The thresholds of trust cannot be used.", problems)


def levels_of(losses: np.ndarray, labels: np.ndarray, class_means: np.ndarray) -> np.ndarray:
    """Return each pixel's loss relative to the mean of its class, in steps.

    Args:
        losses: float [..., H, W], cross-entropy of the teachers against the label, at least 0.
        labels: uint8 [..., H, W]; class ids, or `IGNORE_ID`.
        class_means: float [K], mean loss of each class in real images that the teachers did not see; nan for a class
            without one, whose losses are set against the mean of all classes.

    Returns:
        uint8 [..., H, W]: 128 plus the steps from the mean, rounded up, within 0 .. 254; `UNLABELLED` without a label.
    """
    defined = np.isfinite(class_means)
    fallback = class_means[defined].mean() if defined.any() else 1.0
    scale = np.maximum(np.where(defined, class_means, fallback), _LEAST_MEAN)
    labelled = labels != IGNORE_ID
    ratios = losses / scale[np.where(labelled, labels, 0)]
    return np.where(labelled, _levels_of_ratios(ratios), UNLABELLED).astype(np.uint8)


def level_of_factor(factor: float) -> int:
    """Return the level of a loss that is `factor` times the mean of its class."""
    return int(_levels_of_ratios(np.array(factor)))


def _levels_of_ratios(ratios: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        steps = np.ceil(np.log(ratios) / STEP - _ROUNDING)
    return np.clip(steps + MEAN_LEVEL, 0, UNLABELLED - 1)


def count_levels(levels: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Count the labelled pixels of each class at each level.

    Returns:
        int64 [K, 256].
    """
    labelled = labels != IGNORE_ID
    cells = labels[labelled].astype(np.int64) * LEVELS + levels[labelled]
    return np.bincount(cells, minlength=num_classes * LEVELS).reshape(num_classes, LEVELS)


def thresholds(counts: np.ndarray, factor: float, floor: float, blind: np.ndarray) -> np.ndarray:
    """Return the highest level at which pixels of each class are trusted.

    It is that of the factor, raised until at least the floor of the class's pixels is kept.

    Args:
        counts: int [K, 256], pixels of the whole set at each level.
        factor: Multiple of the class's mean loss.
        floor: Part of each class's pixels that is kept at least.
        blind: bool [K], classes that a teacher never finds; the floor alone decides on their pixels.

    Returns:
        int64 [K]; -1 for a class of which nothing is trusted.
    """
    kept = counts.cumsum(axis=1)
    needed = np.ceil(floor * kept[:, -1] - _ROUNDING)
    reached = np.where(needed > 0, (kept >= needed[:, None]).argmax(axis=1), -1)
    return np.maximum(np.where(blind, -1, level_of_factor(factor)), reached)


def trusted_pixels(levels: np.ndarray, labels: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Return which pixels have a label that is trusted.

    Args:
        levels: uint8 [..., H, W], result of `levels_of`.
        labels: uint8 [..., H, W].
        limits: int [K], result of `thresholds`.

    Returns:
        bool [..., H, W].
    """
    labelled = labels != IGNORE_ID
    return labelled & (levels <= limits[np.where(labelled, labels, 0)])


def quantised_confidence(probabilities: np.ndarray) -> np.ndarray:
    """Return probabilities as whole numbers of 200ths, rounded down, uint8."""
    return np.floor(probabilities * CONFIDENCE_STEPS + _ROUNDING).astype(np.uint8)


def relabelled(
    labels: np.ndarray, trusted: np.ndarray, predicted: np.ndarray, confidence: np.ndarray, least: float
) -> np.ndarray:
    """Return labels with the teachers' class where they are sure, be it the same, and the others as far as trusted.

    Args:
        labels: uint8 [..., H, W]; pixels without a label stay without one.
        trusted: bool [..., H, W], result of `trusted_pixels`.
        predicted: uint8 [..., H, W], the teachers' classes.
        confidence: uint8 [..., H, W], `quantised_confidence` of them.
        least: Probability from which the teachers are sure.
    """
    sure = confidence >= math.ceil(least * CONFIDENCE_STEPS - _ROUNDING)
    taken = sure & (labels != IGNORE_ID)
    return np.where(taken, predicted, np.where(trusted, labels, IGNORE_ID)).astype(np.uint8)


def shares_of_classes(counts: np.ndarray, level: int) -> tuple[float, list[float | None]]:
    """Return which part of the labelled pixels is at a level or below, of all and of each class.

    Args:
        counts: int [K, 256].
        level: The highest level that counts.

    Returns:
        The share of all pixels, nan if there are none, and that of each class, None for one without pixels.
    """
    kept, total = counts[:, : level + 1].sum(axis=1), counts.sum(axis=1)
    of_classes = [float(part / whole) if whole else None for part, whole in zip(kept, total, strict=True)]
    return (float(kept.sum() / total.sum()) if total.any() else math.nan), of_classes
