from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from scenepalette.data.streets.dataset import Streets
from scenepalette.pipeline.config import RunConfig, make_config, merge
from scenepalette.pipeline.doctor.machine import timing
from scenepalette.pipeline.doctor.machine.measure import timed_steps
from scenepalette.pipeline.doctor.machine.timing import (
    Estimate,
    Measured,
    arm_weight,
    check_time,
    estimates_of,
    loop_estimate,
    measure,
    show_seconds,
    total_of,
)


def test_steps_are_extrapolated_by_the_recipes_counts(tiny_config: RunConfig) -> None:
    seconds = {
        "images": 2.0,
        "segmenter": 3.0,
        "layouts/full/3": 4.0,
        "layouts/full/2": 1.5,
        "generate/full": 0.5,
        "generate/semi": 0.25,
    }
    found = {e.name: e.seconds for e in estimates_of(tiny_config, Measured(seconds), 7.0, 20)}
    assert found == {
        "data": 7.0,
        # A step, then three of two steps; levels 1 and 0 have a quarter and a sixteenth of level 2's pixels.
        "layouts/semantic-palette": 1.5 / 16 + 2 * 1.5 / 4 + 2 * 1.5 + 2 * 4.0,
        "images/oasis": 3 * 2.0,
        "shards/full": 10 * 0.5,
        "shards/semi": 10 * 0.25,
        # real 1, real+syn-advent 1.3, real+partial 1, syn 1, semi 1; two steps each.
        "segmenters": pytest.approx((4 + timing.ADVENT) * 2 * 3.0),
    }


def test_teachers_are_counted_where_an_arm_trusts_them(tiny_config: RunConfig) -> None:
    values = {"teachers": {"folds": 3, "steps": 5}, "segmenters": {"arms": ["real", "semi-trusted"]}}
    config = make_config(merge(tiny_config.model_dump(mode="json"), values))
    parts = {part.name: part for part in estimates_of(config, Measured({"segmenter": 2.0}), 1.0, 20)}
    assert parts["teachers"].trainings == (10.0, 10.0, 10.0) and not parts["teachers"].waiting
    assert "3 trainings of 5 steps" in parts["teachers"].basis


def test_the_longest_of_trainings_at_once_decides_and_pairs_are_waited_for() -> None:
    parts = [
        Estimate("data", 1.0, ""),
        Estimate("layouts/a", 4.0, "", (4.0,)),
        Estimate("images/a", 60.0, "", (60.0,)),
        Estimate("shards/full", 5.0, ""),
        Estimate("segmenters", 50.0, "", (10.0, 10.0), (10.0, 10.0, 10.0)),
    ]
    assert total_of(parts, 1) == 120.0
    # The images of 60 are longer than all else that waits for no pairs; of three segmenters the last one is alone.
    assert total_of(parts, 2) == 1.0 + 60.0 + 5.0 + 20.0
    assert total_of(parts, 4) == 1.0 + 60.0 + 5.0 + 10.0


def test_segmenters_with_a_number_of_their_own_are_done_beside_no_generator(tiny_config: RunConfig) -> None:
    parts = [
        Estimate("images/a", 60.0, "", (60.0,)),
        Estimate("segmenters", 50.0, "", (10.0, 10.0), (10.0, 10.0, 10.0)),
    ]
    assert total_of(parts, 1, 1) == 110.0
    assert total_of(parts, 2, 2) == 60.0 + 10.0 + 20.0
    assert total_of(parts, 1, 3) == 60.0 + 10.0 + 10.0
    values = {"segmenters": {"parallel": 8, "arms": ["real"], "seeds": [0, 1, 2]}, "compute": {"threads": 3}}
    config = make_config(merge(tiny_config.model_dump(mode="json"), values))
    (time,) = check_time(config, Measured({"segmenter": 2.0}), 1.0, 20)
    assert "about 5 s on this machine" in time.summary and ", segmenters 3 at once" in time.summary


def test_the_loop_is_estimated_beside_the_sum(tiny_config: RunConfig) -> None:
    values = {"loop": {"rounds": 2, "pairs": 4, "kinds": ["full"]}, "segmenters": {"seeds": [0, 1], "steps": 5}}
    values |= {"compute": {"parallel": 1}}
    config = make_config(merge(tiny_config.model_dump(mode="json"), values))
    known = {"segmenter": 2.0, "generate/full": 0.5}
    loop = loop_estimate(config, Measured(known))
    # 8 pairs of both rounds and as many of the control; 2 trainings of 5 steps in each of these three.
    assert loop is not None and loop.seconds == 16 * 0.5 + 3 * 2 * 5 * 2.0
    assert loop.basis == "up to 2 rounds and the control: 16 pairs, 6 trainings of 5 steps"
    (time,) = check_time(config, Measured(known), 1.0, 20)
    assert any(text.startswith("scenepalette loop, not in the sum: 68 s (up to 2 rounds") for text in time.details)
    assert loop_estimate(config, Measured({"segmenter": 2.0})) is None


def test_arms_cost_the_same_but_for_adaptation_and_steps() -> None:
    assert [arm_weight(name) for name in ("real", "semi", "syn-advent", "real-long")] == [1, 1, timing.ADVENT, 2]


def test_what_failed_is_a_problem_and_what_is_missing_is_said(tiny_config: RunConfig) -> None:
    failed = Measured({"images": 1.0}, 1000, {"segmenter": "ValueError: no"}, ("generate/full", "layouts/full/0"))
    trial, time = check_time(tiny_config, failed, 1.0, 20)
    assert trial.status == "problem" and trial.details == ("segmenter: ValueError: no",)
    assert time.status == "warning" and "an estimate" in time.summary
    assert time.details[-2:] == (
        "not measured, and left out of the sum: generate/full",
        "failed, and left out of the sum: segmenter",
    )
    assert "and what failed: an estimate" in time.summary
    (nothing,) = check_time(tiny_config, Measured(failure="nothing could be measured"), 1.0, 20)
    assert nothing.status == "warning"


@pytest.mark.slow
def test_real_steps_are_measured_in_a_process_of_its_own(tiny_config: RunConfig, tmp_path: Path) -> None:
    told: list[str] = []
    result = measure(
        tiny_config,
        Streets(split="train", count=16, size=(32, 48), seed=0),
        tmp_path,
        seconds=120,
        start_seconds=900,
        report=told.append,
    )
    assert result.failure is None and result.errors == {} and result.missing == ()
    levels = {f"layouts/{section}/{level}" for section in ("full", "partial") for level in range(4)}
    assert result.seconds.keys() == levels | {"images", "segmenter"} | {
        f"generate/{kind}" for kind in ("full", "partial", "semi")
    }
    assert list(result.seconds) == told and told[0] == "images"
    assert all(0 < value < 60 for value in result.seconds.values())
    assert result.peak_bytes is not None and result.peak_bytes > 50 * 2**20


MEASURED = ({"name": "ready", "names": ["images", "segmenter"]}, {"name": "images", "seconds": 1.0, "peak_bytes": 9})


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have a shell script measure in place of Python: it says some lines and then does what it is told."""

    def write(end: str, after: Sequence[dict[str, object]] = MEASURED) -> None:
        script = tmp_path / "python"
        script.write_text("\n".join(["#!/bin/sh", *(f"echo '{json.dumps(line)}'" for line in after), end, ""]))
        script.chmod(0o755)
        monkeypatch.setattr(timing.sys, "executable", str(script))

    return write


def test_the_process_is_ended_when_its_time_is_over(
    tiny_config: RunConfig, tmp_path: Path, play: Callable[..., None]
) -> None:
    play("exec sleep 600")
    dataset = Streets(split="train", count=8, size=(32, 48), seed=0)
    result = measure(tiny_config, dataset, tmp_path / "work", seconds=1.0, start_seconds=60)
    assert (result.seconds, result.peak_bytes, result.missing) == ({"images": 1.0}, 9, ("segmenter",))


def test_a_process_that_dies_is_told_with_its_last_words(
    tiny_config: RunConfig, tmp_path: Path, play: Callable[..., None]
) -> None:
    play("echo 'MemoryError: too much' >&2\nexit 1", after=())
    result = measure(tiny_config, Streets(split="train", count=8, size=(32, 48), seed=0), tmp_path / "work")
    assert result.errors == {"start": "MemoryError: too much"}
    (check,) = check_time(tiny_config, result, 1.0, 8)
    assert (check.name, check.status, check.details) == ("trial steps", "problem", ("start: MemoryError: too much",))
    assert check.summary.startswith("1 part of the run")


def test_a_process_that_is_killed_is_a_problem_of_what_it_was_at(
    tiny_config: RunConfig, tmp_path: Path, play: Callable[..., None]
) -> None:
    play("kill -9 $$")
    result = measure(tiny_config, Streets(split="train", count=8, size=(32, 48), seed=0), tmp_path / "work")
    assert result.errors == {"segmenter": "the process was killed, probably because it ran out of memory"}
    assert (result.seconds, result.missing) == ({"images": 1.0}, ())
    assert "Smaller batch sizes" in check_time(tiny_config, result, 1.0, 8)[0].remedy


@pytest.mark.parametrize("lacking", [True, False])
def test_want_of_memory_is_told_apart_from_other_failures(
    tiny_config: RunConfig, tmp_path: Path, play: Callable[..., None], lacking: bool
) -> None:
    failed = {"name": "segmenter", "error": "RuntimeError: memory format", "out_of_memory": lacking}
    play("exit 0", after=(*MEASURED, failed))
    result = measure(tiny_config, Streets(split="train", count=8, size=(32, 48), seed=0), tmp_path / "work")
    assert ("Smaller batch sizes" in check_time(tiny_config, result, 1.0, 8)[0].remedy) is lacking


@pytest.mark.slow
def test_a_training_split_that_nothing_can_be_fitted_to_is_told_in_the_errors_own_words(
    tiny_config: RunConfig, tmp_path: Path
) -> None:
    told: list[str] = []
    one = Streets(split="train", count=1, size=(32, 48), seed=0)
    result = measure(tiny_config, one, tmp_path, start_seconds=900, report=told.append)
    assert told == ["start"] and result.errors["start"].startswith("Fitting palettes needs at least 2 rows")


def test_the_names_of_what_is_measured_are_known_before(tiny_config: RunConfig) -> None:
    names = [step.name for step in timed_steps(tiny_config)]
    assert names[:4] == ["images", "segmenter", "layouts/full/3", "layouts/partial/3"]
    assert len(names) == len(set(names)) == 2 + 2 * 4 + 3


@pytest.mark.parametrize(("seconds", "text"), [(5, "5 s"), (120, "2.0 min"), (7200, "2.0 h"), (3e6, "35 days")])
def test_durations_are_shown_in_a_fitting_unit(seconds: float, text: str) -> None:
    assert show_seconds(seconds) == text
