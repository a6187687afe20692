"""Runs of other generator seeds in one report: what is compared before, and what is pooled."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scenepalette.common.errors import ConfigError
from scenepalette.common.storage.files import sealed, write_json
from scenepalette.evaluation.miou import mean_iou
from scenepalette.pipeline.config import RunConfig, make_config, merge
from scenepalette.pipeline.report.results import ArmRun
from scenepalette.pipeline.report.statistics import compare
from scenepalette.pipeline.run import Run
from scenepalette.pipeline.stages.reporting.pooling import (
    PooledRun,
    identity_of,
    pooling_notes,
    pooling_problems,
    runs_of_arm,
    shared_seeds,
)
from scenepalette.pipeline.stages.segment import read_confusion, segmenter_name
from scenepalette.pipeline.units.sources import ABSENT

ARMS = ("real", "syn", "semi")
OTHER_SEED = {"seed": 1, "data": {"seed": 0}}


def copy_results(run_dir: Path, target: Path) -> Path:
    """Copy what pooling reads of a run, as docs/comparison/report.md says."""
    kept = ("config.yaml", "scenepalette-run.json", "manifest.json", "metrics.jsonl")

    def left_out(folder: str, names: list[str]) -> list[str]:
        files = [name for name in names if (Path(folder) / name).is_file()]
        return [name for name in files if name not in kept and not name.endswith("-confusion.npy")]

    return shutil.copytree(run_dir, target, ignore=left_out)


@pytest.fixture
def problems_with(tiny_config: RunConfig, finished_run: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """Return what keeps a run that is not made yet from being pooled with the finished one, or with another."""

    def problems(changes: Mapping[str, Any], *others: Path) -> list[str]:
        values = merge(tiny_config.model_dump(), merge(OTHER_SEED, changes))
        runs = {"report": {"runs": [str(each) for each in others or (finished_run,)]}}
        return pooling_problems(Run(make_config(merge(values, runs)), tmp_path / "own"))

    return problems


def test_a_run_of_another_seed_is_pooled(problems_with: Callable[..., list[str]]) -> None:
    assert problems_with({}) == []
    # What no number depends on may differ; more arms and seeds may be trained here.
    changes = {"compute": {"threads": 2}, "report": {"smallest_gain": 0.02}, "generate": {"rows_per_shard": 4}}
    assert problems_with({**changes, "segmenters": {"seeds": [0, 5], "arms": ["real", "syn", "real-long"]}}) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"seed": 0},
            "layouts/semantic-palette was trained with seed 0 there, as in another of these runs; name runs of other",
        ),
        ({"data": {"seed": None}}, "data: seed: 0 there, 1 here (give both runs the same data.seed)"),
        ({"data": {"val_scenes": 5}}, "data: val_scenes: 4 there, 5 here"),
        ({"images": {"steps": 4}}, "images/oasis: steps: 3 there, 4 here"),
        ({"palettes": {"max_components": 3}}, "palettes: max_components: 2 there, 3 here"),
        ({"generate": {"jpeg_quality": 50}}, "shards/full and 2 more: jpeg_quality: 95 there, 50 here"),
        ({"generate": {"pairs": 11}}, "segmenters/real+syn-advent/seed0 and 3 more: pairs: 10 there, 11 here"),
        ({"segmenters": {"steps": 3}}, "segmenters/real/seed0 and 4 more: steps: 2 there, 3 here"),
        ({"segmenters": {"seeds": [3, 4]}}, "its segmenters have the seeds 0, those of this run 3, 4, none is in both"),
        (
            {"segmenters": {"arms": ["real", "real+insert"]}, "generate": {"kinds": ["insert"]}},
            "it trains none of this run's arms with generated pairs",
        ),
    ],
)
def test_what_differs_in_more_than_the_seed_is_refused(
    problems_with: Callable[..., list[str]], finished_run: Path, changes: dict[str, Any], expected: str
) -> None:
    problems = problems_with(changes)
    assert any(f"{finished_run}: {expected}" in text for text in problems), problems
    assert all(text.startswith("report.runs: ") for text in problems)


def test_the_remedy_for_seeds_is_a_command(problems_with: Callable[..., list[str]], finished_run: Path) -> None:
    (problem,) = problems_with({"segmenters": {"seeds": [3]}})
    assert problem.endswith(
        f"scenepalette train-segmenter {finished_run}/config.yaml --set 'segmenters.seeds=[0,3]' --out {finished_run}"
    )


def test_borrowed_generators_have_the_seed_that_they_were_trained_with(
    problems_with: Callable[..., list[str]], finished_run: Path
) -> None:
    problems = problems_with({"models_from": str(finished_run)})
    assert len(problems) == 1 and "was trained with seed 0 there, as in another of these runs" in problems[0]


def test_folders_without_a_finished_run_are_refused(
    problems_with: Callable[..., list[str]], copy_of_run: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    unfinished = copy_of_run("segmenters/syn/seed0")
    problems = problems_with({}, tmp_path / "absent", tmp_path / "empty", unfinished)
    assert [text.partition(": ")[2].partition(": ")[2] for text in problems] == [
        "there is no such folder; give the --out folder of a finished run, or leave it out",
        f"{tmp_path / 'empty'} holds no run (scenepalette-run.json is missing). Give the --out folder of a run.",
        "segmenters/syn/seed0: not finished there; rerun the command that makes it, then this one",
    ]


def test_the_same_generators_twice_are_refused(
    problems_with: Callable[..., list[str]], finished_run: Path, copy_of_run: Callable[..., Path]
) -> None:
    (problem,) = problems_with({}, finished_run, copy_of_run())
    assert "was trained with seed 0 there, as in another" in problem
    assert problem.endswith("(--set seed=2 with another --out folder)")


def test_damaged_and_outdated_results_are_refused(
    problems_with: Callable[..., list[str]], copy_of_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = copy_of_run()
    with open(copy / "segmenters/syn/seed0/validation-confusion.npy", "ab") as file:
        file.write(b"x")
    text = "\n".join(problems_with({}, copy))
    assert "segmenters/syn/seed0 is damaged" in text and "validation-confusion.npy: it has" in text
    manifest = copy / "shards/full/manifest.json"
    content = json.loads(manifest.read_text(encoding="utf-8"))
    write_json(manifest, sealed({**content, "extra": {**content["extra"], "fingerprint": "another"}}))
    text = "\n".join(problems_with({}, copy))
    assert "shards/full was made again since; rerun the command that makes it" in text
    monkeypatch.setattr("scenepalette.pipeline.stages.segment.VERSION", 99)
    assert "of this stage there, by 99 here" in "\n".join(problems_with({}, copy))


def test_results_without_weights_and_shards_are_enough(
    problems_with: Callable[..., list[str]], finished_run: Path, tmp_path: Path
) -> None:
    results = copy_results(finished_run, tmp_path / "results")
    assert not [*results.rglob("*.safetensors"), *results.rglob("*.parquet")]
    assert problems_with({}, results) == []
    (results / "segmenters/semi/seed0/validation-confusion.npy").unlink()
    text = "\n".join(problems_with({}, results))
    assert "segmenters/semi/seed0 is damaged" in text and "validation-confusion.npy: it is missing" in text


def test_further_test_sets_need_the_weights(
    problems_with: Callable[..., list[str]], finished_run: Path, tmp_path: Path
) -> None:
    results, night = (
        copy_results(finished_run, tmp_path / "results"),
        {"report": {"extra_test": {"night": str(tmp_path)}}},
    )
    assert not any("weights.safetensors" in text for text in problems_with(night, finished_run))
    assert any("weights.safetensors: it is missing" in text for text in problems_with(night, results))


def test_nothing_is_made_before_the_runs_are_compared(
    tiny_config: RunConfig, finished_run: Path, tmp_path: Path
) -> None:
    config = make_config(merge(tiny_config.model_dump(), {"report": {"runs": [str(finished_run)]}}))
    run = Run(config, tmp_path / "own")
    with pytest.raises(ConfigError, match="nothing was made") as caught:
        run.make(run.names_of("report"))
    assert any("trained with seed 0 there" in text for text in caught.value.problems)
    assert not (tmp_path / "own").exists()
    run.missing(run.names_of("segmenters"))  # which pool nothing


def test_seeds_are_those_that_all_runs_have_and_what_is_left_out_is_said() -> None:
    first = PooledRun(Path("a"), 0, ("real", "syn", "semi"), (2, 0, 1))
    other = PooledRun(Path("b"), 7, ("real", "semi", "real+syn"), (0, 1, 3))
    assert shared_seeds([first, other]) == [0, 1]
    assert [each.run_dir.name for each in runs_of_arm([first, other], "semi")] == ["a", "b"]
    assert [each.run_dir.name for each in runs_of_arm([first, other], "syn")] == ["a"]
    assert [each.run_dir.name for each in runs_of_arm([first, other], "real")] == ["a"]
    assert pooling_notes([first]) == []


@pytest.mark.slow
def test_pooled_arms_have_a_training_for_each_generator_and_intervals_over_both(
    tiny_config: RunConfig, finished_run: Path, tmp_path: Path
) -> None:
    lender, folder = tmp_path / "other", tmp_path / "own"
    copy_results(finished_run, lender)
    own = {"segmenters": {"arms": ARMS}, "generate": {"kinds": ["full", "semi"]}, "report": {"runs": [str(lender)]}}
    config = make_config(merge(tiny_config.model_dump(), merge(OTHER_SEED, own)))
    run = Run(config, folder)
    run.make(run.names_of("report"))
    document = json.loads((folder / "report/report.json").read_text(encoding="utf-8"))
    arms = {arm["name"]: arm for arm in document["arms"]}
    assert [arms[name]["generator_seeds"] for name in ARMS] == [[None], [1, 0], [1, 0]]
    assert document["pooled"]["runs"] == {str(folder): 1, str(lender): 0}
    assert document["bootstrap"]["generator_seeds"] == [0, 1]
    (note,) = document["pooled"]["notes"]
    assert note == f"{lender} also trains real+syn-advent, real+partial, which this run does not: left out."

    table = run.data.train.table
    runs = [
        ArmRun(name, "", 0, 2, read_confusion(where / segmenter_name(name, 0)), generator_seed=generator)
        for name in ARMS
        for where, generator in ([(folder, None)] if name == "real" else [(folder, 1), (lender, 0)])
    ]
    assert arms["semi"]["miou"]["values"] == pytest.approx(
        [mean_iou(each.confusion, table.eval_ids) for each in runs[3:]]
    )
    expected = {arm.name: arm for arm in compare(runs, table.eval_ids, 100, config.seed).arms}
    for name in ARMS[1:]:
        delta = expected[name].delta
        assert arms[name]["delta_vs_real"]["ci95"] == [pytest.approx(delta.low), pytest.approx(delta.high)]
    # Generators have no part in the arm "real": here and there it is the same training.
    there = read_confusion(lender / segmenter_name("real", 0))
    assert np.array_equal(read_confusion(folder / segmenter_name("real", 0)), there)

    # Where the other run has gone, what was read of it counts; the report of other runs is another one.
    assert run.is_finished("report")
    lender.rename(tmp_path / "moved")
    assert Run(config, folder).is_finished("report") and Run.open(folder).is_finished("report")
    alone = make_config(merge(config.model_dump(), {"report": {"runs": []}}))
    assert not Run(alone, folder).is_finished("report")
    assert identity_of(lender) == ABSENT != identity_of(tmp_path / "moved")
    np.save(folder / segmenter_name("real", 0) / "validation-confusion.npy", there + 1)
    first, other = PooledRun(folder, 1, ("real",), (0,)), PooledRun(tmp_path / "moved", 0, ("real",), (0,))
    (note,) = pooling_notes([first, other])
    assert "has other results for segmenters/real/seed0, which no generator has a part in" in note
