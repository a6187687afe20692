"""The document and the folder: schema 1, JSON without NaN, refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plugins import Plugins
from scenepalette.evaluation.miou import mean_iou
from scenepalette.evaluation.registry import METRICS
from scenepalette.pipeline.config import RunConfig
from scenepalette.pipeline.report import wording
from scenepalette.pipeline.report.document import to_json_values, write_report
from scenepalette.pipeline.report.results import ReportInputs
from scenepalette.pipeline.run import Run

MakeInputs = Callable[..., ReportInputs]


def _refuse_constant(text: str) -> None:
    raise AssertionError(f"{text} is not JSON")


def _is_estimate(value: Any, seeds: int) -> bool:
    return set(value) >= {"values", "mean", "ci95"} and len(value["values"]) == seeds and len(value["ci95"]) == 2


def test_report_json_holds_schema_1(make_inputs: MakeInputs, tmp_path: Path) -> None:
    inputs = make_inputs()
    returned = write_report(tmp_path / "report", inputs)
    text = (tmp_path / "report" / "report.json").read_text(encoding="utf-8")
    document = json.loads(text, parse_constant=_refuse_constant)
    assert document == returned

    assert document["schema"] == 1
    assert document["dataset"]["classes"] == list(inputs.table.names)
    assert document["dataset"]["eval_classes"] == list(inputs.table.names[:3])
    assert (document["dataset"]["train"], document["dataset"]["val"], document["dataset"]["size"]) == (20, 6, [8, 16])
    assert [arm["name"] for arm in document["arms"]] == ["real", "real+full", "full"]
    for arm in document["arms"]:
        seeds = len(arm["seeds"])
        assert _is_estimate(arm["miou"], seeds) and _is_estimate(arm["miou_all"], seeds)
        assert list(arm["per_class"]) == list(inputs.table.names)
        assert all(_is_estimate(each, seeds) for each in arm["per_class"].values())
        assert set(arm["delta_vs_real"]) == {"mean", "ci95"}
        assert arm["steps"] == 100
    assert document["gan_train"]["full"] == document["arms"][2]["miou"]
    assert _is_estimate(document["gan_test"]["full"], 1)
    assert document["palettes"]["components"] == 3
    assert document["palettes"]["kl"]["full"] == pytest.approx(inputs.palette_kl["full"].mean())
    assert document["layouts"] == {"fsd": 12.5}
    assert document["images"] == {
        "fid": None,
        "fid_absent_because": "no Inception weights <here>",
        "segmenter_frechet": 3.25,
    }
    assert document["noise"] == {"mean_absolute_difference": 17.5}
    assert document["durations"] == {"layouts": 61.5, "images": 7000.0}
    assert document["bootstrap"]["samples"] == 200
    assert document["bootstrap"]["arms_with_one_seed"] == ["full"]
    assert document["provenance"]["command"] == "scenepalette run demo"


def test_values_agree_with_the_segmenters_own_mean_iou(make_inputs: MakeInputs, tmp_path: Path) -> None:
    inputs = make_inputs()
    document = write_report(tmp_path, inputs)
    runs = [run for run in inputs.arms if run.name == "real+full"]
    expected = [mean_iou(run.confusion.sum(0), inputs.table.eval_ids) for run in runs]
    assert document["arms"][1]["miou"]["values"] == pytest.approx(expected)
    everything = [mean_iou(run.confusion.sum(0), tuple(range(4))) for run in runs]
    assert document["arms"][1]["miou_all"]["values"] == pytest.approx(everything)


def test_a_class_that_never_occurs_is_null(make_inputs: MakeInputs, tmp_path: Path) -> None:
    inputs = make_inputs()
    arms = []
    for run in inputs.arms:
        confusion = run.confusion.copy()
        confusion[:, 2, :] = 0
        confusion[:, :, 2] = 0
        arms.append(replace(run, confusion=confusion))
    document = write_report(tmp_path, replace(inputs, arms=arms, metrics={**inputs.metrics, "fsd": float("nan")}))
    absent = document["arms"][1]["per_class"]["car_<b>|x"]
    assert absent["mean"] is None and absent["ci95"] == [None, None] and absent["values"] == [None, None]
    assert document["layouts"]["fsd"] is None
    assert document["arms"][1]["miou"]["mean"] is not None
    json.loads((tmp_path / "report.json").read_text(encoding="utf-8"), parse_constant=_refuse_constant)


def test_every_figure_is_written_and_named(make_inputs: MakeInputs, tmp_path: Path) -> None:
    stale = tmp_path / "figures" / "of-an-earlier-report.png"
    stale.parent.mkdir()
    stale.write_bytes(b"")
    document = write_report(tmp_path, make_inputs())
    named = {figure["file"] for figure in document["figures"]}
    assert named == {f"figures/{path.name}" for path in (tmp_path / "figures").iterdir()}
    assert {f"figures/samples-{kind}.png" for kind in ("real", "full", "partial", "semi")} <= named
    assert {
        "figures/arms.png",
        "figures/per-class.png",
        "figures/edits-partial.png",
        "figures/noise.png",
        "figures/class-shares.png",
        "figures/palette-components.png",
        "figures/training-generators.png",
        "figures/training-segmenters.png",
    } <= named
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in named)


def test_a_run_without_the_optional_parts_still_reports(make_inputs: MakeInputs, tmp_path: Path) -> None:
    inputs = make_inputs(
        samples={},
        real_samples=[],
        noise_samples=[],
        training_curves={},
        aic=[],
        gan_train={},
        gan_test={},
        palette_kl={},
        class_shares={},
        durations={},
        provenance={},
    )
    inputs = replace(inputs, arms=[replace(run, metrics_path=None) for run in inputs.arms if run.name == "real"])
    document = write_report(tmp_path, inputs)
    assert {figure["file"] for figure in document["figures"]} == {"figures/arms.png", "figures/per-class.png"}


def test_json_values_are_plain() -> None:
    value = {
        "a": np.float32(0.5),
        "b": (np.int64(3), float("inf")),
        "c": np.array([1.0, np.nan]),
        "d": Path("x"),
        "e": True,
    }
    assert to_json_values(value) == {"a": 0.5, "b": [3, None], "c": [1.0, None], "d": "x", "e": True}


def test_a_metric_from_elsewhere_is_added_to_a_finished_report(
    tiny_config: RunConfig, copy_of_run: Callable[..., Path], plugins: Plugins
) -> None:
    source = """
from scenepalette.evaluation.registry import Metric
LEVEL = Metric("level", "mean of all pixels", ("generated",), lambda pairs: float(pairs.batch([0])[0].mean()))
BROKEN = Metric("broken", "nothing", ("draws",), lambda draws: draws.no_such_part)
"""
    entries = {"level": "{module}:LEVEL", "broken": "{module}:BROKEN", "lost": "{module}:LOST"}
    folder = copy_of_run()
    plugins.install(METRICS, entries, source=source)
    run = Run(tiny_config, folder)
    assert run.missing(run.names_of("report")) == ["report"]
    run.make(run.names_of("report"))
    document = json.loads((folder / "report/report.json").read_text(encoding="utf-8"))
    assert -1 <= document["images"]["level"] <= 1 and document["images"]["broken"] is None
    for form in ("md", "html"):
        page = (folder / f"report/report.{form}").read_text(encoding="utf-8").replace("\\", "")
        assert "Mean of all pixels." in page and wording.number(document["images"]["level"]) in page
        assert "broken is absent: stranger 1.0 failed (AttributeError" in page
        assert "stranger 1.0: its metric" in page and "has no attribute" in page
