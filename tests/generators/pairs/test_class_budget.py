"""How rows are divided among classes, and palettes that hold the class that is asked for."""

from __future__ import annotations

import numpy as np
import pytest

from scenepalette.generators.pairs.class_budget import ClassBudget, divide_rows, palette_holding
from scenepalette.generators.palettes import PaletteControls, PaletteSampler

NAMES = ("road", "sky", "pole")


@pytest.mark.parametrize(
    ("rows", "share", "lacking", "expected"),
    [
        (10, 0.5, [0.2, 0.6, 0.2], [1, 3, 1]),
        (10, 1.0, [0.1, 0.1, 0.0], [5, 5, 0]),
        # 5 rows in three equal parts of 1.67: the two left over go to the first classes.
        (10, 0.5, [0.3, 0.3, 0.3], [2, 2, 1]),
        # 7 rows: 3.5, 2.1 and 1.4, whose largest remainders are .5 and .4.
        (7, 1.0, [0.5, 0.3, 0.2], [4, 2, 1]),
        (100, 0.3, [0.0, 0.9, 0.0], [0, 30, 0]),
        (100, 0.5, [0.0, 0.0, 0.0], [0, 0, 0]),
        (3, 0.1, [1.0, 1.0, 1.0], [0, 0, 0]),
    ],
)
def test_rows_are_divided_as_classes_lack(rows: int, share: float, lacking: list[float], expected: list[int]) -> None:
    assert divide_rows(rows, share, lacking).tolist() == expected


def test_every_asked_row_is_given_whatever_the_numbers() -> None:
    random = np.random.default_rng(0)
    for _ in range(200):
        rows, share, lacking = int(random.integers(1, 500)), random.uniform(), random.uniform(size=9)
        counts = divide_rows(rows, share, lacking)
        assert counts.sum() == round(share * rows)
        assert np.all(np.abs(counts - round(share * rows) * lacking / lacking.sum()) < 1)


def test_a_budget_asks_as_many_rows_of_each_class_as_it_says_in_an_order_of_its_seed() -> None:
    budget = ClassBudget((3, 0, 2), 20, seed=4)
    asked = [budget.class_of(index) for index in range(20)]
    assert [asked.count(each) for each in (0, 1, 2, None)] == [3, 0, 2, 15]
    assert asked == [ClassBudget((3, 0, 2), 20, seed=4).class_of(index) for index in range(20)]
    assert asked != [ClassBudget((3, 0, 2), 20, seed=5).class_of(index) for index in range(20)]
    assert budget.class_of(20) is None


def _sampler(pole: float, deviation: float) -> PaletteSampler:
    """Two thirds road and one third sky beside a share of poles that varies."""
    means = np.array([[(1 - pole) * 2 / 3, (1 - pole) / 3, pole]])
    covariance = np.diag([1e-6, 1e-6, deviation**2])
    return PaletteSampler(NAMES, np.ones(1), means, covariance[None], ())


def test_palettes_of_a_class_have_its_size_biased_density() -> None:
    sampler, random = _sampler(0.01, 0.02), np.random.default_rng(1)
    seen = np.array([[0.4, 0.2, 0.4]])
    plain = sampler.sample(random, 200_000)[:, 2]
    drawn = np.array([palette_holding(2, sampler, random, seen)[2] for _ in range(4000)])
    expected = (plain**2).mean() / plain.mean()
    assert plain.mean() < 0.6 * expected
    assert drawn.mean() == pytest.approx(expected, rel=0.05) and drawn.min() > 0
    # A class that is everywhere alike changes nothing.
    roads = np.array([palette_holding(0, sampler, random, np.array([[1.0, 0, 0]]))[2] for _ in range(2000)])
    assert roads.mean() == pytest.approx(plain.mean(), rel=0.1)


def test_no_palette_holds_more_of_a_class_than_was_ever_seen() -> None:
    sampler, random = _sampler(0.05, 0.05), np.random.default_rng(2)
    seen = np.array([[0.7, 0.28, 0.02], [0.66, 0.34, 0.0]])
    drawn = np.array([palette_holding(2, sampler, random, seen) for _ in range(300)])
    assert drawn[:, 2].min() > 0 and drawn[:, 2].max() <= 0.02
    np.testing.assert_allclose(drawn.sum(axis=1), 1.0)


def test_where_no_palette_holds_the_class_one_of_a_training_image_serves() -> None:
    sampler, random = _sampler(0.5, 1e-4), np.random.default_rng(3)  # always far more than was seen
    seen = np.array([[0.7, 0.3, 0.0], [0.6, 0.37, 0.03], [0.5, 0.49, 0.01]])
    drawn = np.array([palette_holding(2, sampler, random, seen)[2] for _ in range(2000)])
    assert set(drawn.round(6)) == {0.03, 0.01}
    assert (drawn > 0.02).mean() == pytest.approx(0.75, abs=0.04)  # in proportion to 3 and 1
    # With the same constraints as any palette.
    (banned, floored) = (
        palette_holding(2, sampler, random, seen, controls)
        for controls in (PaletteControls(ban=("sky",)), PaletteControls(minimum={"sky": 0.8}))
    )
    assert banned[1] == 0 and banned.sum() == pytest.approx(1) and banned[2] > 0
    assert floored[1] >= 0.8 and floored.sum() == pytest.approx(1)
