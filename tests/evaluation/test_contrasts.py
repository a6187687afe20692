"""Statistics against hand calculations, plain loops and complete enumerations."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

import scenepalette.evaluation.contrasts as contrasts
from scenepalette.evaluation.contrasts import (
    block_weights,
    bootstrap_p_value,
    degrees_of_freedom,
    detectable_by_seeds,
    detectable_effect,
    draws_of_level,
    holm,
    percentile_interval,
    seeds_to_detect,
    simultaneous_interval,
    tail,
)


@pytest.mark.parametrize(
    ("p_values", "expected"),
    [
        # 4 x 0.005, 3 x 0.01, 2 x 0.03, and 0.04, which may not fall below the one before it.
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.5, 0.4], [0.8, 0.8]),
        ([0.9, 0.8, 0.7], [1.0, 1.0, 1.0]),
        ([0.02], [0.02]),
        ([0.03, 0.03], [0.06, 0.06]),
        ([], []),
    ],
)
def test_holm_equals_a_hand_calculation(p_values: list[float], expected: list[float]) -> None:
    assert holm(p_values) == pytest.approx(expected)


def test_a_test_that_could_not_be_made_does_not_count_in_holms_family() -> None:
    adjusted = holm([0.01, float("nan"), 0.04])
    assert adjusted[::2] == pytest.approx([0.02, 0.04]) and math.isnan(adjusted[1])


def test_holm_equals_statsmodels() -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    for seed in range(20):
        p_values = np.random.default_rng(seed).beta(0.3, 1, 7).tolist()
        assert holm(p_values) == pytest.approx(multitest.multipletests(p_values, method="holm")[1])


def test_the_detectable_effect_of_five_seeds_is_by_hand_the_sum_of_two_t_quantiles() -> None:
    # t of 4 degrees of freedom: 2.776 at 0.975 and 0.941 at 0.8.
    assert detectable_effect(0.9 / math.sqrt(5), 5) == pytest.approx((2.7764 + 0.9410) * 0.9 / math.sqrt(5), rel=1e-4)
    assert detectable_effect(0.9 / math.sqrt(5), 5) == pytest.approx(1.50, abs=0.01)
    # With a deviation that is known, as with very many pairs, it is the 1.1 points of a normal approximation.
    assert detectable_effect(0.9 / math.sqrt(5), 10**6) == pytest.approx(1.13, abs=0.005)
    assert math.isnan(detectable_effect(0.1, 1))


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_the_detectable_effect_is_found_with_four_fifths_probability(seeds: int) -> None:
    """By the noncentral t distribution, which the sum of quantiles approximates from above with few seeds."""
    noncentrality = detectable_effect(1.0, seeds)
    power = stats.nct.sf(stats.t.ppf(0.975, seeds - 1), seeds - 1, noncentrality)
    assert 0.75 <= power <= 0.85


def test_seeds_to_detect_are_the_first_that_suffice() -> None:
    # 0.9 points between seeds: five detect 1.5, not 1.49.
    assert seeds_to_detect(1.50, 0.9, 0.0, 20) == 5
    assert seeds_to_detect(1.49, 0.9, 0.0, 20) == 6
    # Six: (2.571 + 0.920) x sqrt(0.81 / 6 + 0.25) = 2.17; seven: (2.447 + 0.906) x sqrt(0.81 / 7 + 0.25) = 2.03.
    assert seeds_to_detect(2.1, 0.9, 0.5, 20) == 7
    assert seeds_to_detect(1.0, 0.9, 0.5, 20) is None  # the images alone hide it


def test_few_generator_seeds_hide_what_more_segmenter_seeds_would_show() -> None:
    """Two generators: their error has one degree of freedom, however many seeds there are."""
    assert seeds_to_detect(2.1, 0.9, 0.5, 20) == 7
    of_two = {"generator_error": 0.4, "generators": 2}
    # By hand at 20 seeds: variance 0.81 / 20 + 0.25, of which 0.16 are of generators; Satterthwaite's degrees.
    variance, of_generators = 0.81 / 20 + 0.25, 0.16
    degrees = variance**2 / ((variance - of_generators) ** 2 / 19 + of_generators**2)
    expected = (stats.t.ppf(0.975, degrees) + stats.t.ppf(0.8, degrees)) * math.sqrt(variance)
    assert detectable_by_seeds(20, 0.9, 0.5, **of_two) == pytest.approx(expected)
    assert seeds_to_detect(2.1, 0.9, 0.5, 20, **of_two) is None


def test_images_of_a_block_come_together_and_one_block_fewer_is_drawn() -> None:
    blocks = np.array([0, 0, 1, 2, 2, 2])
    weights = np.concatenate(list(block_weights(blocks, 200, 1, np.random.default_rng(3))))
    assert weights.shape == (200, 6)
    for row in weights:
        per_block = [set(row[blocks == block]) for block in range(3)]
        assert all(len(counts) == 1 for counts in per_block)
        assert sum(counts.pop() for counts in per_block) == 2


def test_resampled_blocks_have_the_distribution_of_a_complete_enumeration() -> None:
    """Three blocks, two draws: nine outcomes of equal probability."""
    blocks, values = np.array([0, 0, 1, 2]), np.array([1.0, 3.0, 7.0, 4.0])
    outcomes = []
    for drawn in itertools.product(range(3), repeat=2):
        images = [image for block in drawn for image in np.flatnonzero(blocks == block)]
        outcomes.append(np.mean(values[images]))
    weights = np.concatenate(list(block_weights(blocks, 60_000, 1, np.random.default_rng(0))))
    means = weights @ values / weights.sum(axis=1)
    expected = {value: outcomes.count(value) / 9 for value in outcomes}
    measured = {value: np.mean(np.isclose(means, value)) for value in expected}
    assert measured == pytest.approx(expected, abs=0.01)
    assert sum(measured.values()) == pytest.approx(1.0)


def test_one_block_stays_as_it_is() -> None:
    (weights,) = block_weights(np.zeros(4, dtype=np.int64), 5, 1, np.random.default_rng(0))
    assert (weights == 1).all()
    assert (draws_of_level(1, 5, np.random.default_rng(0)) == 0).all()


def test_chunks_do_not_change_what_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = np.arange(9) // 2
    (whole,) = block_weights(blocks, 30, 4, np.random.default_rng(1))
    monkeypatch.setattr(contrasts, "NUMBERS_PER_CHUNK", 60)
    parts = list(block_weights(blocks, 30, 4, np.random.default_rng(1)))
    assert len(parts) > 1
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_draws_of_a_level_give_the_mean_its_whole_variance() -> None:
    draws = draws_of_level(4, 40_000, np.random.default_rng(0))
    values = np.array([0.1, 0.4, 0.5, 0.8])
    assert draws.shape == (40_000, 3)
    assert np.var(values[draws].mean(axis=1)) == pytest.approx(np.var(values, ddof=1) / 4, rel=0.03)


def test_degrees_of_freedom_equal_satterthwaites_by_hand() -> None:
    # (1 + 3)^2 / (1^2 / 4 + 3^2 / 10)
    (degrees,) = degrees_of_freedom([np.array([1.0]), np.array([3.0])], [5, 11])
    assert degrees == pytest.approx(16 / 1.15)
    # A level of one unit adds nothing, and without any variance the smallest level is left.
    (alone,) = degrees_of_freedom([np.array([1.0]), np.array([3.0])], [1, 11])
    (still,) = degrees_of_freedom([np.array([0.0]), np.array([0.0])], [5, 11])
    (none,) = degrees_of_freedom([np.array([0.0]), np.array([0.0])], [1, 1])
    assert (alone, still, none) == (pytest.approx(10), 4, 1)


def test_tails_are_those_of_t_on_the_scale_of_the_normal_distribution() -> None:
    assert tail(1e9) == pytest.approx(0.025, rel=1e-3)
    assert tail(4) == pytest.approx(stats.norm.sf(2.7764), rel=1e-3)
    low, high = percentile_interval(np.arange(1001.0)[:, None], np.array([4.0]))
    assert (low[0], high[0]) == pytest.approx((1000 * tail(4), 1000 * (1 - tail(4))))


def test_undefined_resamples_are_left_out_of_an_interval() -> None:
    samples = np.array([[1.0, np.nan], [np.nan, np.nan], [3.0, np.nan]])
    low, high = percentile_interval(samples, np.array([1e9, 1e9]))
    assert (low[0], high[0]) == pytest.approx((1.05, 2.95))
    assert np.isnan([low[1], high[1]]).all()


def test_intervals_of_five_seeds_cover_where_plain_percentiles_do_not() -> None:
    generator, covered, plain = np.random.default_rng(0), 0, 0
    for _ in range(600):
        values = generator.normal(size=5)
        samples = values[draws_of_level(5, 1000, generator)].mean(axis=1)
        low, high = percentile_interval(samples[:, None], np.array([4.0]))
        covered += low[0] <= 0 <= high[0]
        first, last = np.quantile(samples, [0.025, 0.975])
        plain += first <= 0 <= last
    assert covered / 600 > 0.89 > plain / 600


def test_the_p_value_is_that_of_t_with_the_bootstraps_error() -> None:
    samples = np.array([1.0, 2.0, 3.0, np.nan])
    assert bootstrap_p_value(2.0, samples, 4) == pytest.approx(2 * stats.t.sf(2.0 / np.std([1.0, 2.0, 3.0]), 4))
    assert bootstrap_p_value(-2.0, -samples, 4) == bootstrap_p_value(2.0, samples, 4)
    assert (bootstrap_p_value(0.0, np.zeros(5), 4), bootstrap_p_value(0.1, np.full(5, 0.1), 4)) == (1.0, 0.0)
    assert math.isnan(bootstrap_p_value(float("nan"), samples, 4))
    assert math.isnan(bootstrap_p_value(0.1, np.full(3, np.nan), 4))


def test_a_picked_difference_is_judged_by_the_largest_of_all() -> None:
    """Compared with a loop over resamples; wider than the interval of a difference that was not picked."""
    generator = np.random.default_rng(0)
    centre = np.array([[0.5], [0.2], [0.4]])
    samples = centre[:, None] + generator.normal(size=(3, 400, 1)) * np.array([1.0, 2.0, 0.5])[:, None, None]
    degrees = np.array([1e9])
    low, high, p_values = simultaneous_interval(samples, centre, 0, degrees)
    errors = samples.std(axis=1)
    largest = [
        max(abs(samples[each, row, 0] - centre[each, 0]) / errors[each, 0] for each in range(3)) for row in range(400)
    ]
    reach = np.quantile(largest, 0.95) * errors[0, 0]
    assert (low[0], high[0]) == pytest.approx((0.5 - reach, 0.5 + reach))
    beyond = sum(each >= 0.5 / errors[0, 0] for each in largest)
    assert p_values[0] == pytest.approx((beyond + 1) / 401, rel=1e-3)
    alone = simultaneous_interval(samples[:1], centre[:1], 0, degrees)
    assert high[0] - low[0] > 1.1 * (alone[1][0] - alone[0][0])
    assert p_values[0] > alone[2][0]


def test_a_picked_difference_that_is_undefined_or_without_chance_is_said_to_be_so() -> None:
    samples, centre = np.zeros((2, 9, 2)), np.zeros((2, 2))
    samples[1, :, 1] = centre[1, 1] = np.nan
    low, high, p_values = simultaneous_interval(samples, centre, 0, np.array([4.0, 4.0]))
    assert (low[0], high[0], p_values[0]) == (0.0, 0.0, pytest.approx(1.0))
    assert np.isnan([low[1], high[1], p_values[1]]).all()
