"""What a page says of the rounds of a loop."""

from __future__ import annotations

import pytest

from scenepalette.pipeline.report.sections.loop_gain import gain_and_least, loop_headline, why_it_ended


@pytest.mark.parametrize(
    ("gain", "least", "expected"),
    [
        (0.004, 0.01, ("+0.4", "1.0")),
        (-0.004, 0.01, ("\N{MINUS SIGN}0.4", "1.0")),
        (0.00998, 0.01, ("+0.998", "1.000")),
        (0.0101, 0.01045, ("+1.01", "1.04")),
    ],
)
def test_a_gain_never_seems_to_reach_what_it_misses(gain: float, least: float, expected: tuple[str, str]) -> None:
    found = {"round": 1, "gain": gain, "least": least, "detectable": None, "continue": False}
    assert gain_and_least(found) == expected
    text = why_it_ended({"rounds": [found], "most_rounds": 3})
    assert f"by {expected[0]} points, less than {expected[1]}, the least gain that is worth it" in text


@pytest.mark.parametrize(("rounds", "expected"), [(1, "after 1 round, as many"), (2, "after 2 rounds, as many")])
def test_a_loop_that_ended_with_its_last_round_says_so(rounds: int, expected: str) -> None:
    found = {"round": rounds, "gain": 0.03, "least": 0.01, "detectable": None, "continue": True}
    assert expected in why_it_ended({"rounds": [found], "most_rounds": rounds})


def test_a_round_that_gained_enough_was_the_last_because_nothing_is_lacking() -> None:
    found = {"round": 2, "gain": 0.03, "least": 0.01, "detectable": None, "continue": False}
    text = why_it_ended({"rounds": [found], "most_rounds": 3})
    assert text == (
        "The loop ended after round 2 of at most 3: on validation images nothing is lacking any more that pairs can be "
        "asked for."
    )


@pytest.mark.parametrize(("seeds", "expected"), [([0], "on test images; seed unknown: "), ([0, 1], "on test images: ")])
def test_the_result_names_its_images_beside_a_table_of_validation_images(seeds: list[int], expected: str) -> None:
    found = {"seeds": seeds, "miou": {"mean": 0.01, "ci95": [-0.01, 0.03]}, "verdict": "no difference"}
    document = {"against_random": found, "rounds": [{}], "dataset": {"evaluated_on": "test"}}
    assert f"random palettes {expected}no difference." in loop_headline(document)
