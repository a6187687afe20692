"""Masks of trust, computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scenepalette.common.errors import ConfigError
from scenepalette.evaluation.pair_quality.trust import (
    MEAN_LEVEL,
    TrustSettings,
    count_levels,
    level_of_factor,
    levels_of,
    quantised_confidence,
    relabelled,
    shares_of_classes,
    thresholds,
    trusted_pixels,
)

SEEING = np.zeros(2, dtype=bool)


def _mask(losses: list[float], labels: list[int], means: list[float], factor: float, floor: float) -> list[bool]:
    loss, label = np.array([losses]), np.array([labels], np.uint8)
    levels = levels_of(loss, label, np.array(means))
    limits = thresholds(count_levels(levels, label, len(means)), factor, floor, np.zeros(len(means), bool))
    return trusted_pixels(levels, label, limits)[0].tolist()


def test_a_pixel_is_left_out_where_its_loss_exceeds_the_factor_times_the_mean_of_its_class() -> None:
    # Class 0 has mean 0.4, class 1 mean 2.0: the limits are 0.5 and 2.5.
    losses, labels = [0.1, 0.5, 0.55, 0.5, 2.5, 2.7, 0.0], [0, 0, 0, 1, 1, 1, 255]
    assert _mask(losses, labels, [0.4, 2.0], 1.25, 0.0) == [True, True, False, True, True, False, False]


def test_the_floor_keeps_the_most_plausible_pixels_of_a_class_that_teachers_would_delete() -> None:
    # All ten pixels of class 1 are far above its mean; three tenths of them stay, class 0 is not touched by that.
    losses = [1.0, 9.0, *range(10, 20)]
    labels = [0, 0, *([1] * 10)]
    assert _mask(losses, labels, [1.0, 1.0], 1.25, 0.3) == [True, False, *([True] * 3), *([False] * 7)]


def test_a_floor_of_one_keeps_everything_and_one_of_zero_may_keep_nothing() -> None:
    losses, labels = [50.0, 60.0, 70.0], [0, 0, 0]
    assert _mask(losses, labels, [1.0], 1.25, 1.0) == [True] * 3
    assert _mask(losses, labels, [1.0], 1.25, 0.0) == [False] * 3


def test_the_floor_alone_decides_on_a_class_that_a_teacher_never_finds() -> None:
    counts = np.zeros((2, 256), np.int64)
    counts[:, 100:110] = 1
    limits = thresholds(counts, 1.25, 0.3, np.array([False, True]))
    assert limits.tolist() == [level_of_factor(1.25), 102]
    assert thresholds(counts, 1.25, 0.0, np.array([False, True])).tolist() == [level_of_factor(1.25), -1]


def test_a_class_without_pixels_has_the_limit_of_the_factor() -> None:
    assert thresholds(np.zeros((2, 256), np.int64), 1.25, 0.3, SEEING).tolist() == [level_of_factor(1.25)] * 2


def test_four_steps_are_a_factor_of_five_quarters() -> None:
    assert level_of_factor(1.0) == MEAN_LEVEL
    assert level_of_factor(1.25) == MEAN_LEVEL + 4
    assert level_of_factor(1.25**2) == MEAN_LEVEL + 8
    assert level_of_factor(1e9) == 254
    assert level_of_factor(1e-9) == 0


def test_a_loss_of_zero_and_a_class_without_real_pixels_have_levels() -> None:
    levels = levels_of(np.array([0.0, 2.0, 3.0]), np.array([0, 0, 1], np.uint8), np.array([2.0, math.nan]))
    assert levels.tolist() == [0, MEAN_LEVEL, MEAN_LEVEL + math.ceil(math.log(1.5) / math.log(1.25) * 4)]


def test_sure_teachers_relabel_and_unsure_ones_mask() -> None:
    labels = np.array([0, 0, 0, 1, 255, 1], np.uint8)
    trusted = np.array([False, False, True, True, False, False])
    predicted = np.array([1, 1, 1, 0, 1, 1], np.uint8)
    confidence = quantised_confidence(np.array([0.95, 0.949, 0.99, 0.2, 1.0, 0.96]))
    # Sure of another class; not sure, not trusted; sure, although trusted; not sure, trusted; without a label; sure of
    # the same, although a class with hardly any loss in real images makes this one look large.
    assert relabelled(labels, trusted, predicted, confidence, 0.95).tolist() == [1, 255, 1, 1, 255, 1]


def test_shares_of_trusted_pixels_are_of_all_and_of_each_class() -> None:
    counts = np.zeros((3, 256), np.int64)
    counts[0, [10, 200]] = 3, 1
    counts[1, 200] = 4
    assert shares_of_classes(counts, MEAN_LEVEL) == (3 / 8, [0.75, 0.0, None])
    assert math.isnan(shares_of_classes(np.zeros((1, 256)), 5)[0])


@pytest.mark.parametrize(
    ("field", "value"),
    [("trust_factor", 0.0), ("trust_floor", 1.5), ("trust_floor", -0.1), ("relabel_confidence", 0.5)],
)
def test_thresholds_out_of_range_are_named(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"segmenters.{field}"):
        TrustSettings(**{field: value})
