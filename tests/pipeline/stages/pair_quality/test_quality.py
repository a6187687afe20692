"""Candidates: more rows are made than are wanted, the best become shards of their own, and arms train on these."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from scenepalette.common.errors import ConfigError, DataError
from scenepalette.common.storage.files import sha256_of_file
from scenepalette.data.shards.checking import verify_shards
from scenepalette.data.shards.kinds import origin_of
from scenepalette.data.shards.manifest import read_manifest
from scenepalette.evaluation.pair_quality.quality import ROWS_FILE, QualityFile
from scenepalette.evaluation.pair_quality.selection import score_rows, select_rows
from scenepalette.pipeline.config import RunConfig, make_config
from scenepalette.pipeline.finished.filtering import filter_shards
from scenepalette.pipeline.finished.regenerate import regenerate_rows
from scenepalette.pipeline.run import Run
from scenepalette.pipeline.stages.pair_quality.quality import sources_of


def _config(values: dict[str, Any], **generate: Any) -> RunConfig:
    values["data"]["train_scenes"] = 24
    values["segmenters"]["arms"] = ["real", "semi", "semi-trusted"]
    values["generate"] |= {"kinds": ["semi"], "pairs": 6, "candidates": 3, **generate}
    return make_config(values)


@pytest.fixture(scope="module")
def made(tiny_config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunConfig]:
    config = _config(tiny_config.model_dump(mode="json"))
    run = Run(config, tmp_path_factory.mktemp("candidates") / "run")
    run.make(run.names_of("report"))
    return run.run_dir, config


def _ids(folder: Path) -> list[str]:
    return pq.read_table(sorted(folder.glob("train-*.parquet")), columns=["id"])["id"].to_pylist()


def test_one_candidate_is_what_there_was(tiny_values: dict[str, Any], tmp_path: Path) -> None:
    units = Run(_config(tiny_values, candidates=1), tmp_path / "run").units
    assert not [name for name in units if name.startswith("selected")]
    assert units["shards/semi"].rows == 6 and "candidates" not in units["shards/semi"].settings
    assert "shards/semi" in units["segmenters/semi/seed0"].inputs


def test_the_rows_of_the_best_scores_under_the_quotas_are_chosen(made: tuple[Path, RunConfig]) -> None:
    folder, _ = made
    scores = QualityFile(folder / "quality/semi" / ROWS_FILE)
    assert len(scores) == 18
    columns = pq.read_table(
        sorted((folder / "shards/semi").glob("*.parquet")), columns=["id", "palette_target", "palette_achieved"]
    ).to_pylist()
    numbers = [np.array(scores.column(name), dtype=float) for name in ("trusted_loss", "trusted", "nearest_distance")]
    worth = score_rows(*numbers, np.array(scores.column("copy")))
    quotas = np.mean([row["palette_target"] for row in columns], axis=0)
    expected = select_rows(worth, np.array([row["palette_achieved"] for row in columns]), 6, quotas)
    assert _ids(folder / "selected/semi") == [columns[row]["id"] for row in expected]


def test_a_row_that_keeps_real_pixels_is_no_copy_for_that(tiny_values: dict[str, Any], tmp_path: Path) -> None:
    tiny_values["teachers"] = {"kinds": ["insert"]}
    config = _config(tiny_values, kinds=["semi", "insert"], insert_classes=["car", "vegetation"], candidates=1)
    run = Run(config, tmp_path / "run")
    run.make(["quality/insert"])
    sources = [source for (source,) in sources_of(run.run_dir / "shards/insert")]
    scores = QualityFile(run.run_dir / "quality/insert" / ROWS_FILE)
    assert len(scores) == len(sources) == 6
    assert all(near != source for near, source in zip(scores.column("nearest_id"), sources, strict=True))
    assert not all(scores.column("copy"))


def test_arms_see_as_many_pairs_as_without_and_shards_stay(made: tuple[Path, RunConfig]) -> None:
    folder, config = made
    units = Run(config, folder).units
    for arm in ("semi", "semi-trusted"):
        unit = units[f"segmenters/{arm}/seed0"]
        assert unit.settings["pairs"] == 6 and "selected/semi" in unit.inputs and "shards/semi" not in unit.inputs
    assert verify_shards(folder / "selected/semi") == verify_shards(folder / "shards/semi") == []
    assert read_manifest(folder / "shards/semi")["rows"] == 18
    assert "selection" not in read_manifest(folder / "shards/semi")["extra"]


def test_card_and_report_say_that_rows_were_chosen(made: tuple[Path, RunConfig]) -> None:
    folder, _ = made
    card = " ".join((folder / "selected/semi/README.md").read_text().split())
    assert "These 6 rows are a selection of 18; of these the best by hardness, trust and novelty" in card
    document = json.loads((folder / "report/report.json").read_text())
    found = document["quality"]["selected"]["semi"]
    assert (found["rows"], found["of"]) == (6, 18)
    (arm,) = [arm for arm in document["arms"] if arm["name"] == "semi"]
    assert arm["pairs"] == {"kind": "semi", "count": 6, "candidates": 3, "folder": "selected/semi"}
    assert document["palettes"]["rows"] == {"semi": 6} and document["quality"]["kinds"]["semi"]["rows"] == 18
    page = (folder / "report/report.md").read_text()
    assert "6 generated pairs of the kind semi, the best of 18 that were made" in page and "| 6 of 18 |" in page


@pytest.mark.parametrize("left", ["nothing", "staged rows", "rows in their place"])
def test_an_interrupted_choice_ends_like_an_uninterrupted_one(
    made: tuple[Path, RunConfig], tmp_path: Path, left: str
) -> None:
    folder, config = made
    shutil.copytree(folder, tmp_path / "run")
    run, home = Run(config, tmp_path / "run"), tmp_path / "run/selected/semi"
    before = {path.name: sha256_of_file(path) for path in home.iterdir()}
    shutil.rmtree(home)
    run.begin("selected/semi")
    if left != "nothing":
        run.units["selected/semi"].make(run, home)
    if left == "rows in their place":
        for path in (home / ".scenepalette-new").glob("*.parquet"):
            path.rename(home / path.name)
    assert run.missing(["selected/semi"]) == ["selected/semi"]
    run.make(["selected/semi"])
    after = {path.name: sha256_of_file(path) for path in home.iterdir()}
    assert {name for name in before if before[name] != after.get(name)} <= {"manifest.json"}  # which holds the time
    assert after.keys() == before.keys() and run.missing(run.names_of("segmenters")) == []


def test_a_selection_of_chosen_rows_is_whole(made: tuple[Path, RunConfig], tmp_path: Path) -> None:
    filter_shards(made[0] / "selected/semi", tmp_path / "few", select=3, at_least=1)
    assert verify_shards(tmp_path / "few") == []


def test_chosen_rows_say_how_they_were_made(made: tuple[Path, RunConfig], tmp_path: Path) -> None:
    """Whether real pixels are in a row depends on settings of the set that it was chosen from."""
    folder, _ = made
    own, chosen = (read_manifest(folder / stage / "semi")["extra"] for stage in ("shards", "selected"))
    assert origin_of(chosen)["settings"] == origin_of(own)["settings"] == own["settings"]
    assert origin_of(chosen)["fingerprint"] == own["fingerprint"] != chosen["fingerprint"]


def test_rows_of_a_selection_are_made_again_where_they_come_from(made: tuple[Path, RunConfig]) -> None:
    with pytest.raises(DataError, match="selected from another folder"):
        next(regenerate_rows(made[0] / "selected/semi", ["0"]))


@pytest.mark.parametrize(
    ("generate", "problem"),
    [
        ({"candidates": 0}, "generate.candidates: input should be greater than or equal to 1"),
        ({"candidates": 21}, "generate.candidates: input should be less than or equal to 20"),
        ({"candidates": 2.5}, "generate.candidates: input should be a valid integer"),
        ({"pairs": 60_000, "candidates": 2, "rows_per_shard": 1}, "generate.rows_per_shard: 120000 pairs would make"),
    ],
)
def test_numbers_of_candidates_that_cannot_be_are_refused(
    tiny_values: dict[str, Any], generate: Mapping[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        _config(tiny_values, **generate)
    assert any(text.startswith(problem) for text in caught.value.problems)


def test_candidates_need_teachers_which_is_said_before_anything_is_trained(
    tiny_values: dict[str, Any], tmp_path: Path
) -> None:
    tiny_values["teachers"] = {"folds": 13}
    run = Run(_config(tiny_values), tmp_path / "run")
    run.make(["data"])
    with pytest.raises(ConfigError) as caught:
        run.make(run.names_of("shards") + run.names_of("segmenters"))
    (problem,) = caught.value.problems
    assert problem.startswith("teachers.folds: 13 folds of 24 training images leave one with 1")
    assert problem.endswith("generate.candidates needs teachers, 1 does without")
