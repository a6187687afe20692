"""The curve of labels and doses: what its segmenters are trained on, what is shared with the run, what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scenepalette.common.errors import ConfigError, DataError, ScenepaletteError
from scenepalette.data.classes import ClassTable
from scenepalette.data.shards.pairs import ChosenPairs, ShardPairs
from scenepalette.data.shards.reading import iterate_rows
from scenepalette.pipeline.cli.terminal.results import print_curve
from scenepalette.pipeline.config import RunConfig, make_config
from scenepalette.pipeline.run import Run
from scenepalette.pipeline.run_directory.study_results import CURVE_RESULT
from scenepalette.pipeline.stages.inputs.data import read_data
from scenepalette.pipeline.stages.studies import curve as stage
from scenepalette.pipeline.stages.studies.curve import (
    RESULT_FILE,
    PointUnit,
    control_of,
    part_problems,
    points_of,
    rows_within,
)
from scenepalette.pipeline.trusted import TakenPairs
from scenepalette.segmenters import train as train_module

CURVE = {"arm": "semi", "labels": [0.5], "doses": [0.5, 2]}


def config_of(values: dict[str, Any], **curve: Any) -> RunConfig:
    return make_config({**values, "curve": {**CURVE, **curve}})


@pytest.fixture
def values(tiny_config: RunConfig) -> dict[str, Any]:
    """The values of the finished run."""
    return json.loads(tiny_config.model_dump_json())


def curve_of(run: Run) -> list[str]:
    return list(run.planned.curve)


def test_points_that_the_run_has_are_trained_once(values: dict[str, Any], tmp_path: Path) -> None:
    values["segmenters"]["seeds"] = [0, 1]
    run = Run(config_of(values, labels=[0.5, 0.25]), tmp_path)
    own = [
        f"curve/{point}/seed{seed}"
        for point in ("labels25/real", "labels50/real", "labels25/semi", "labels50/semi", "dose0.5/semi", "dose2/semi")
        for seed in (0, 1)
    ]
    assert curve_of(run) == ["curve/pairs", *own, CURVE_RESULT]
    shared = [f"segmenters/{arm}/seed{seed}" for arm in ("real", "semi") for seed in (0, 1)]
    assert set(run.units[CURVE_RESULT].inputs) == {"data", "shards/semi", "curve/pairs", *own, *shared}
    # Seeds that the run has not are trained for all points.
    other = curve_of(Run(config_of(values, seeds=[1, 2]), tmp_path))
    assert {"curve/labels100/real/seed2", "curve/dose1/semi/seed2"} <= set(other)
    assert not {"curve/labels100/real/seed1", "curve/dose1/semi/seed1"} & set(other)


def test_more_pairs_are_made_for_doses_above_one_alone(values: dict[str, Any], tmp_path: Path) -> None:
    values["segmenters"]["arms"] += ["semi-trusted"]
    few, many = (Run(config_of(values, arm="semi-trusted", doses=doses), tmp_path) for doses in ([0.5, 1], [0.25, 4]))
    assert not {"curve/pairs", "curve/quality"} & set(curve_of(few)) and "shards/semi" in few.units[CURVE_RESULT].inputs
    assert few.units["curve/dose0.5/semi-trusted/seed0"].inputs == (
        "data",
        "shards/semi",
        "quality/real",
        "quality/semi",
    )
    judged = many.units["curve/dose4/semi-trusted/seed0"].inputs
    assert judged == ("data", "curve/pairs", "quality/real", "curve/quality")
    assert [many.units[name].rows for name in ("shards/semi", "curve/pairs", "curve/quality")] == [10, 40, 40]
    assert many.pairs("curve/pairs").settings == many.pairs("shards/semi").settings


def test_without_a_named_arm_the_first_of_the_primary_contrast_is_taken(values: dict[str, Any], tmp_path: Path) -> None:
    assert config_of(values, arm=None).curve_arm() == "real+syn-advent"
    values["report"]["primary"] = {"treatment": ["real+partial", "semi"]}
    assert config_of(values, arm=None).curve_arm() == "real+partial"
    assert config_of(values).curve_arm() == "semi"


def test_every_point_takes_equally_many_images_with_the_same_seeds(values: dict[str, Any], tmp_path: Path) -> None:
    run = Run(config_of(values, seeds=[0, 7]), tmp_path)
    result = run.units[CURVE_RESULT]
    assert isinstance(result, stage.CurveUnit) and set(result.trained) == set(points_of(run.config))
    for names in result.trained.values():
        units = [run.units[name] for name in names]
        assert [unit.settings["seed"] for unit in units] == [0, 7]
        assert {(unit.settings["steps"], unit.settings["batch_size"]) for unit in units} == {(2, 2)}


def test_an_arm_is_set_against_the_one_that_lacks_its_generated_pairs_alone(
    values: dict[str, Any], tmp_path: Path
) -> None:
    alone = {arm: control_of(arm) for arm in ("semi-trusted", "real+syn-advent", "copy-paste+syn-trusted")}
    assert alone == {"semi-trusted": "real", "real+syn-advent": "real", "copy-paste+syn-trusted": "copy-paste"}
    values["segmenters"]["arms"] += ["copy-paste+syn-trusted"]
    names = curve_of(Run(config_of(values, arm="copy-paste+syn-trusted", doses=[1]), tmp_path))
    assert "curve/labels50/copy-paste/seed0" in names and "curve/labels100/copy-paste/seed0" in names
    values["segmenters"]["arms"] += ["copy-paste"]
    run = Run(config_of(values, arm="copy-paste+syn-trusted", doses=[1]), tmp_path)
    assert "curve/labels100/copy-paste/seed0" not in curve_of(run)
    assert "segmenters/copy-paste/seed0" in run.units[CURVE_RESULT].inputs


def test_changes_of_labels_and_doses_leave_other_points_as_they_are(values: dict[str, Any], tmp_path: Path) -> None:
    before, now = (
        Run(config_of(values, **changes), tmp_path).planned.curve
        for changes in ({}, {"labels": [0.25, 0.5], "doses": [0.5, 2, 3]})
    )
    assert before.keys() < now.keys()
    assert all(now[name].settings == unit.settings for name, unit in before.items() if name != CURVE_RESULT)


def test_settings_that_make_no_curve_are_refused_together(values: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        config_of(values, labels=[0, 0.5, 1.5], doses=[0, 101])
    fields = ["curve.labels.0", "curve.labels.2", "curve.doses.0", "curve.doses.1"]
    assert [text.partition(":")[0] for text in caught.value.problems] == fields
    with pytest.raises(ConfigError) as caught:
        config_of(values, arm="syn", labels=[0.5, 0.5], seeds=[1, 1])
    assert caught.value.problems == (
        "curve.arm: 'syn' adds no generated pairs to real labels; name an arm that does",
        "curve.labels: an entry comes twice",
        "curve.seeds: an entry comes twice",
    )
    with pytest.raises(ConfigError) as caught:
        config_of(values, arm="real+insert")
    assert caught.value.problems == (
        "curve.arm: 'real+insert' is not among segmenters.arms; add it there, or leave it out here",
    )
    values["segmenters"]["arms"] = ["real", "syn"]
    run = Run(make_config(values), tmp_path)
    assert curve_of(run) == []
    with pytest.raises(ConfigError, match=r"no arm adds generated pairs to real labels\. Name one in segmenters\.arms"):
        run.names_of("curve")


def test_doses_and_parts_smaller_than_a_batch_are_told_before_anything_is_made(
    values: dict[str, Any], copy_of_run: Callable[..., Path]
) -> None:
    run_dir = copy_of_run("report")
    run = Run(config_of(values, labels=[0.05, 0.5], doses=[0.1, 2]), run_dir)
    with pytest.raises(ConfigError) as caught:
        run.missing(run.names_of("curve"))
    dose, part = caught.value.problems[:2]
    assert dose == (
        "curve.doses: 0.1 of 10 generated pairs are 1, fewer than the 2 images of a step; raise it or generate.pairs, "
        "or lower segmenters.batch_size"
    )
    assert part == (
        "curve.labels: 0.05 of 16 real pairs are 1, fewer than the 2 images of a step; raise it, or lower "
        "segmenters.batch_size"
    )
    assert not (run_dir / "curve").exists()


def test_a_class_that_a_part_does_not_show_is_named_with_a_part_that_works() -> None:
    table = ClassTable.unnamed(4)
    labels = np.zeros((8, 2, 2), np.uint8)
    labels[5, 0], labels[2, 0] = 1, 2  # nobody shows class 3
    order = np.array([0, 1, 2, 3, 4, 5, 6, 7])
    first, second = part_problems(order, labels, table, [0.25, 0.5, 0.75], 2)
    assert first == (
        "curve.labels: 0.25 of 8 real pairs are 2, which show no class 1, class 2; the smallest part that shows every "
        "class is 0.75"
    )
    assert second.startswith("curve.labels: 0.5 of 8 real pairs are 4, which show no class 1; the smallest")
    assert part_problems(order, labels, table, [], 100) == []
    last = part_problems(order[::-1], labels[::-1], table, [0.5], 2)
    assert last == [first.replace("0.25", "0.5").replace("are 2", "are 4").replace(", class 2", "")]
    only = part_problems(np.array([0, 1, 2, 3, 4, 6, 7, 5]), labels, table, [0.5], 2)
    assert only[0].endswith("which show no class 1; leave it out")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, finished_run: Path, tiny_config: RunConfig) -> Run:
    """The finished tiny run with a curve; tests must not change it."""
    folder = tmp_path_factory.mktemp("curve") / "run"
    shutil.copytree(finished_run, folder)
    run = Run(config_of(json.loads(tiny_config.model_dump_json())), folder)
    run.make(run.names_of("curve"))
    return run


def test_the_report_of_a_finished_run_shows_the_curve_and_keeps_it(made: Run) -> None:
    text, document = (made.run_dir / "report/report.md").read_text(), made.run_dir / "report/report.json"
    assert "## What generated pairs are worth" in text and "(figures/curve-labels.png)" in text
    curve = json.loads(document.read_text())["curve"]
    assert curve == json.loads((made.run_dir / CURVE_RESULT / RESULT_FILE).read_text())
    assert [(entry["fraction"], entry["images"]) for entry in curve["labels"]] == [(0.5, 8), (1.0, 16)]
    assert [(each["dose"], each["pairs"]) for each in curve["doses"]] == [(0.5, 5), (1.0, 10), (2.0, 20)]
    assert curve["arm"] == curve["kind"] == "semi" and curve["seeds"] == [0] and curve["seconds"] > 0
    assert made.missing(made.names_of("curve")) == [] == made.missing(made.names_of("report"))
    # The numbers of all labels and of dose 1 are those of the run's own arms.
    arms = {arm["name"]: arm["miou"]["values"] for arm in json.loads(document.read_text())["arms"]}
    assert curve["labels"][-1]["real"]["values"] == arms["real"]
    assert curve["labels"][-1]["arm"]["values"] == curve["doses"][1]["miou"]["values"] == arms["semi"]


def test_the_command_prints_what_the_curve_says(made: Run, capsys: pytest.CaptureFixture[str]) -> None:
    print_curve(made.run_dir)
    output = capsys.readouterr().out
    assert "From 5 to 20 generated pairs with all 16 real ones" in output
    assert str(made.run_dir / "report/report.md") in output


def test_a_report_shows_no_curve_of_other_settings(made: Run, values: dict[str, Any]) -> None:
    other = Run(config_of(values, doses=[0.5]), made.run_dir)
    assert CURVE_RESULT not in other.units["report"].inputs and other.missing(other.names_of("report")) == ["report"]
    assert other.missing(other.names_of("curve")) == [CURVE_RESULT, "report"]
    assert CURVE_RESULT in made.units["report"].inputs


def test_parts_of_a_point_are_those_of_a_run_of_its_own(made: Run, values: dict[str, Any], tmp_path: Path) -> None:
    unit = made.units["curve/labels50/real/seed0"]
    assert isinstance(unit, PointUnit)
    part = unit.real_pairs(made)
    assert isinstance(part, ChosenPairs) and len(part) == 8
    values["data"]["train_part"] = 0.5
    alone = Run(make_config(values), tmp_path / "alone")
    alone.make(["data"])
    data = read_data(alone.run_dir / "data")
    assert data.train.ids == part.ids and len(data.filled_labels) == 8
    np.testing.assert_array_equal(data.train.images, made.data.train.images[part.indices])
    assert data.validation.ids == made.data.validation.ids
    # The part identifies the data; all of it is what there was before.
    assert alone.units["data"].settings["train_part"] == 0.5 and "train_part" not in made.units["data"].settings


def test_pairs_made_from_real_ones_outside_of_a_part_are_left_out(made: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    unit = made.units["curve/labels50/semi/seed0"]
    assert isinstance(unit, PointUnit) and unit.pairs is not None
    inside = {made.data.train.ids[index] for index in stage.chosen_part(made, 0.5)}
    sources = [row.source_id for row in iterate_rows(made.run_dir / "shards/semi")]
    expected = [index for index, source in enumerate(sources) if source in inside]
    assert rows_within(made, unit.pairs, 0.5).tolist() == expected and 2 <= len(expected) < 10
    pairs = unit.generated_pairs(made)
    assert isinstance(pairs, ChosenPairs) and pairs.indices.tolist() == expected
    curve = json.loads((made.run_dir / CURVE_RESULT / RESULT_FILE).read_text())
    assert curve["labels"][0]["pairs"] == len(expected)
    # Whole layouts have no source.
    assert len(rows_within(made, TakenPairs("shards/full", 7), 0.5)) == 7
    monkeypatch.setattr(stage, "rows_within", lambda *_: np.array([3]))
    with pytest.raises(
        DataError, match=r"of 10 semi pairs, 1 are made from nothing but the 50 % .* Raise generate\.pairs"
    ):
        unit.generated_pairs(made)


def test_larger_doses_begin_with_the_pairs_of_the_run(made: Run) -> None:
    few, many = (ShardPairs(made.run_dir / name) for name in ("shards/semi", "curve/pairs"))
    assert (len(few), len(many)) == (10, 20)
    for one, other in zip(few.batch(range(10)), many.batch(range(10)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_interrupted_curve_ends_like_an_uninterrupted_one_with_equal_images_per_step(
    made: Run, copy_of_run: Callable[..., Path], results_of: Callable[[Path], dict[str, Any]], monkeypatch: Any
) -> None:
    taken: list[int] = []

    def counted(*arguments: Any) -> dict[Any, int]:
        numbers = train_module_images(*arguments)
        taken.append(sum(numbers.values()))
        return numbers

    train_module_images = train_module.images_of_step
    monkeypatch.setattr(train_module, "images_of_step", counted)
    again = Run(made.config, copy_of_run())
    finish, killed = Run.finish, []

    def fail_once(run: Run, name: str) -> None:
        if name == "curve/dose0.5/semi/seed0" and not killed:
            killed.append(name)
            raise ScenepaletteError("killed")
        finish(run, name)

    monkeypatch.setattr(Run, "finish", fail_once)
    with pytest.raises(ScenepaletteError, match="killed"):
        again.make(again.names_of("curve"))
    assert again.missing(again.names_of("curve")) == [
        "curve/dose0.5/semi/seed0",
        "curve/dose2/semi/seed0",
        CURVE_RESULT,
    ]
    again.make(again.names_of("curve"))
    found, expected = results_of(again.run_dir), results_of(made.run_dir)
    for results in (found, expected):
        results["report"]["curve"].pop("seconds")
    assert found == expected
    # Four trainings of two steps of two images, whatever the part or the dose.
    assert taken == [2] * 8


def test_an_arm_that_trusts_teachers_has_a_curve(copy_of_run: Callable[..., Path], values: dict[str, Any]) -> None:
    values["segmenters"]["arms"] += ["semi-trusted"]
    run = Run(config_of(values, arm="semi-trusted", doses=[2]), copy_of_run("report"))
    run.make([name for name in run.names_of("curve") if name != "report"])
    assert run.missing(run.names_of("curve")) == ["report"]
    larger = run.units["curve/dose2/semi-trusted/seed0"]
    assert isinstance(larger, PointUnit)
    pairs = larger.generated_pairs(run)
    assert pairs is not None and len(pairs) == 20
    text = (run.run_dir / CURVE_RESULT / RESULT_FILE).read_text()
    assert json.loads(text)["judged"] is True
