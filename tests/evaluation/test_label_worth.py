from __future__ import annotations

import math

import numpy as np
import pytest

from scenepalette.evaluation.label_worth import images_worth, open_interval

IMAGES = [100, 200, 400]


def worth_of(reached: float, *alone: float) -> float:
    return float(images_worth(IMAGES, np.array([alone]), np.array([reached]))[0])


def test_worth_by_hand() -> None:
    # Half the way from 0.4 to 0.5 is half the way from 200 to 400 on a logarithmic axis.
    assert worth_of(0.45, 0.3, 0.4, 0.5) == pytest.approx(200 * math.sqrt(2))
    assert worth_of(0.325, 0.3, 0.4, 0.5) == pytest.approx(100 * 2**0.25)
    assert worth_of(0.5, 0.3, 0.4, 0.5) == pytest.approx(400)
    assert worth_of(0.3, 0.3, 0.4, 0.5) == 100


def test_outside_of_the_curve_nothing_is_extrapolated() -> None:
    assert worth_of(0.29, 0.3, 0.4, 0.5) == -math.inf
    assert worth_of(0.51, 0.3, 0.4, 0.5) == math.inf
    assert math.isnan(worth_of(0.4, 0.3, math.nan, 0.5)) and math.isnan(worth_of(math.nan, 0.3, 0.4, 0.5))


def test_where_the_curve_falls_by_chance_the_nearest_rising_one_decides() -> None:
    # 0.5 and 0.4 become 0.45 both: of a level part the fewest images are enough.
    assert worth_of(0.375, 0.3, 0.5, 0.4) == pytest.approx(100 * math.sqrt(2))
    assert worth_of(0.45, 0.3, 0.5, 0.4) == pytest.approx(200)
    assert worth_of(0.46, 0.3, 0.5, 0.4) == math.inf


def test_each_resample_is_treated_by_itself() -> None:
    alone = np.array([[0.3, 0.4, 0.5], [0.1, 0.2, 0.3]])
    found = images_worth(IMAGES, alone, np.array([0.4, 0.4]))
    assert found[0] == pytest.approx(200) and found[1] == math.inf


def test_intervals_leave_a_share_out_at_each_end_and_may_be_open() -> None:
    values = np.array([*range(1, 101), math.nan], dtype=float)
    assert open_interval(values, 0.05) == (6, 95)
    values[:10] = -math.inf
    assert open_interval(values, 0.05) == (-math.inf, 95)
    assert open_interval(values, 0.10) == (11, 90)
    assert all(map(math.isnan, open_interval(np.array([math.nan]), 0.05)))
