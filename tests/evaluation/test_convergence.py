from __future__ import annotations

import pytest

from scenepalette.evaluation.convergence import converged, validation_curve


@pytest.mark.parametrize(("end", "expected"), [(0.509, True), (0.511, False), (0.4, True)])
def test_less_than_a_point_in_the_last_fifth_is_converged(end: float, expected: bool) -> None:
    assert converged([(60, 0.3), (80, 0.5), (100, end)])[0] is expected


def test_the_sentence_has_the_numbers() -> None:
    _, text = converged([(600, 0.3), (800, 0.5), (1000, 0.5321)])
    assert text == "validation mIoU went from 50.0 at step 800 to 53.2 at step 1000 (+3.2 points)"


@pytest.mark.parametrize(("end", "enough", "gain"), [(0.5098, True, "+0.980"), (0.5103, False, "+1.030")])
def test_a_gain_near_one_point_is_written_as_it_is_judged(end: float, enough: bool, gain: str) -> None:
    found, text = converged([(80, 0.5), (100, end)])
    assert found is enough and f"({gain} points)" in text


@pytest.mark.parametrize("curve", [[], [(10, 0.5)], [(95, 0.5), (100, 0.5)]])
def test_a_curve_without_a_beginning_is_not_converged(curve: list[tuple[int, float]]) -> None:
    enough, text = converged(curve)
    assert not enough and "not validated" in text


def test_the_curve_is_what_the_log_has_of_it() -> None:
    lines = [{"step": 6, "validation_miou": 0.1}, {"step": 7, "real_loss": 2.0}, {"step": 8, "validation_miou": 0.2}]
    assert validation_curve(lines) == [(6, 0.1), (8, 0.2)]
