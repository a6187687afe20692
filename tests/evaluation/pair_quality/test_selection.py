"""Selections computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scenepalette.common.errors import DataError
from scenepalette.evaluation.pair_quality.selection import score_rows, select_rows


def test_a_row_is_worth_its_hardness_trust_and_novelty() -> None:
    scores = score_rows(
        np.array([3.0, 1.0, 2.0, math.nan]),
        np.array([0.5, 1.0, 0.8, math.nan]),
        np.array([4.0, 2.0, 3.0, 1.0]),
        np.zeros(4, bool),
    )
    # Hardness ranks 3/3, 1/3, 2/3 of the judged rows; novelty ranks 4/4, 2/4, 3/4 of all.
    expected = [0.5, 1 / 3 * 0.5, 2 / 3 * 0.8 * 0.75]
    np.testing.assert_allclose(scores, [*expected, np.median(expected)])


def test_a_copy_is_worth_nothing() -> None:
    scores = score_rows(np.array([1.0, 2.0]), np.ones(2), np.ones(2), np.array([False, True]))
    assert scores.tolist() == [0.5, 0.0]


def test_without_a_judged_row_nothing_can_be_preferred() -> None:
    with pytest.raises(DataError, match="No row was judged"):
        score_rows(np.full(2, math.nan), np.full(2, math.nan), np.ones(2), np.zeros(2, bool))


def test_without_quotas_the_best_rows_are_taken() -> None:
    assert select_rows(np.array([0.1, 0.9, 0.5, 0.9]), np.eye(4), 2, np.zeros(4)).tolist() == [1, 3]


def test_a_row_of_a_class_that_is_short_takes_the_place_of_the_worst() -> None:
    # Class 1 is to have a quarter of two rows: row 3 has half of it; row 1 is the worse of the two best.
    palettes = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.5, 0.5]])
    assert select_rows(np.array([0.9, 0.8, 0.3, 0.1]), palettes, 2, np.array([0.5, 0.25])).tolist() == [0, 3]


def test_a_quota_that_no_row_can_meet_does_not_cost_another_class_its_own() -> None:
    palettes = np.array([[1.0, 0.0, 0.0], [0.4, 0.6, 0.0], [0.9, 0.1, 0.0]])
    chosen = select_rows(np.array([0.9, 0.1, 0.5]), palettes, 2, np.array([0.5, 0.3, 0.2]))
    assert chosen.tolist() == [0, 1]


def test_quotas_are_met_in_a_large_set_and_twice_the_same() -> None:
    random = np.random.default_rng(0)
    palettes = random.dirichlet([8.0, 1.0, 0.2], size=400)
    scores = random.random(400) * palettes[:, 0]
    quotas = palettes.mean(axis=0) * 0.98
    chosen = select_rows(scores, palettes, 100, quotas)
    best = np.argsort(-scores)[:100]
    assert (palettes[best].mean(axis=0) < quotas).any()
    assert (palettes[chosen].mean(axis=0) >= quotas - 1e-9).all()
    np.testing.assert_array_equal(chosen, select_rows(scores, palettes, 100, quotas))


def test_more_rows_than_there_are_cannot_be_selected() -> None:
    with pytest.raises(DataError, match="3 rows are to be selected of 2; select 1 to 2"):
        select_rows(np.ones(2), np.ones((2, 1)), 3, np.ones(1))
