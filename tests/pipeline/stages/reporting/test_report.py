"""What the report stage gathers from a finished run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from scenepalette.data.arrays import read_arrays
from scenepalette.data.rare_classes import rare_classes
from scenepalette.pipeline.config import RunConfig, make_config, merge
from scenepalette.pipeline.run import Run
from scenepalette.pipeline.stages.reporting.report import ReportUnit
from scenepalette.pipeline.units.records import seconds_spent


def test_an_arm_costs_its_generators_its_pairs_and_its_longer_training(
    tiny_config: RunConfig, finished_run: Path
) -> None:
    run = Run(tiny_config, finished_run)
    document = json.loads((finished_run / "report/report.json").read_text(encoding="utf-8"))
    assert set(document["costs"]) == {"real+syn-advent", "real+partial", "semi"}

    def spent(*names: str) -> float:
        return sum(seconds_spent(finished_run, run.planned.run[name]) for name in names)

    cost = document["costs"]["real+partial"]
    generators = ["palettes", "layouts/semantic-palette-partial", "images/oasis"]
    assert cost["generators"] == pytest.approx(spent(*generators))
    assert cost["pairs"] == pytest.approx(spent("shards/partial"))
    longer = spent("segmenters/real+partial/seed0") - spent("segmenters/real/seed0")
    assert cost["training"] == pytest.approx(max(0.0, longer))
    assert cost["seconds"] == pytest.approx(cost["generators"] + cost["pairs"] + cost["training"])
    # Images on real layouts need no layout generator.
    # Each is rounded to a tenth of a second.
    assert document["costs"]["semi"]["generators"] == pytest.approx(spent("images/oasis"), abs=spent("palettes") + 0.11)


def test_training_pixels_are_those_of_the_label_maps(finished_run: Path) -> None:
    train = read_arrays(finished_run / "data", "train")
    counted = [int((np.asarray(train.labels) == index).sum()) for index in range(train.table.num_classes)]
    dataset = json.loads((finished_run / "report/report.json").read_text(encoding="utf-8"))["dataset"]
    assert list(dataset["train_pixels"].values()) == counted
    rare = rare_classes(np.array(counted) / sum(counted), train.table.eval_ids)
    assert dataset["rare_classes"] == [train.table.names[index] for index in rare]


def test_failures_are_shown_of_every_kind(finished_run: Path) -> None:
    document = json.loads((finished_run / "report/report.json").read_text(encoding="utf-8"))
    shown = {figure["file"] for figure in document["figures"] if figure["section"] == "failures"}
    assert {f"figures/failures-{kind}.png" for kind in ("full", "partial", "semi")} <= shown


def test_rare_classes_that_there_are_not_are_refused_before_anything_is_trained(
    tiny_config: RunConfig, finished_run: Path
) -> None:
    config = make_config(merge(tiny_config.model_dump(), {"report": {"rare_classes": ["pole", "unicorn"]}}))
    data = Run(tiny_config, finished_run).data
    (problem,) = ReportUnit.problems_of_data([], config, data)
    assert problem.startswith("report.rare_classes: unknown class 'unicorn'; classes are road, ")
    assert ReportUnit.problems_of_data([], tiny_config, data) == []
