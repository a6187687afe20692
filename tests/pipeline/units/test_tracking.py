"""What trackers are told of a run by `run.make`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from scenepalette.pipeline.config import RunConfig
from scenepalette.pipeline.run import Run
from scenepalette.pipeline.units.tracking import scores_in
from scenepalette.training.tracking import following
from scenepalette.training.tracking.base import Status, UnitRun


class Heard:
    """A tracker that writes down what it is told, each time with the unit."""

    units: list[UnitRun]
    calls: list[tuple[Any, ...]]

    def begin(self, unit: UnitRun, memory: dict[str, Any]) -> None:
        self.units.append(unit)
        self.unit = unit.name

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.calls.append((self.unit, "log", step, {**values}))

    def show(self, name: str, path: Path, step: int) -> None:
        self.calls.append((self.unit, "show", path.name))

    def publish(self, name: str, folder: Path, summary: Mapping[str, float]) -> None:
        self.calls.append((self.unit, "publish", sorted(path.name for path in folder.iterdir()), {**summary}))

    def end(self, status: Status) -> None:
        self.calls.append((self.unit, "end", status))


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> type[Heard]:
    monkeypatch.setattr(Heard, "units", [], raising=False)
    monkeypatch.setattr(Heard, "calls", [], raising=False)
    monkeypatch.setattr(following, "TRACKERS", {"mlflow": Heard, "tensorboard": Heard})
    monkeypatch.setattr(following, "_given_up", set())
    # Its package need not be installed where it is this one.
    monkeypatch.setattr("scenepalette.pipeline.config.compute.find_spec", lambda name: True)
    return Heard


def tracking(config: RunConfig, *names: str) -> RunConfig:
    return config.model_copy(update={"compute": config.compute.model_copy(update={"tracking": names})})


@pytest.mark.slow
def test_each_unit_is_told_and_no_result_depends_on_it(
    finished_run: Path, copy_of_run: Callable[..., Path], tiny_config: RunConfig, heard: type[Heard],
    results_of: Callable[[Path], Any],
) -> None:  # fmt: skip
    run_dir = copy_of_run("images/oasis", "segmenters/syn", "report")
    run = Run(tracking(tiny_config, "mlflow"), run_dir, command="scenepalette run s3://me:secret@bucket/tiny.yaml")
    run.make(run.names_of("report"))
    names = [unit.name for unit in heard.units]
    assert names == ["images/oasis", "segmenters/syn/seed0", "report"]
    images = heard.units[0]
    assert images.parent == "copy" and images.is_new and images.settings["steps"] == "3"
    assert images.parent_settings["segmenters.steps"] == "2" and images.parent_settings["generate.pairs"] == "10"
    assert images.tags["command"] == "scenepalette run s3://***@bucket/tiny.yaml"
    assert ("images/oasis", "show", "final.png") in heard.calls
    lines = (run_dir / "segmenters/syn/seed0/metrics.jsonl").read_text().splitlines()
    logged = [step for unit, what, step, *_ in heard.calls if (unit, what) == ("segmenters/syn/seed0", "log")]
    assert logged == [json.loads(line)["step"] for line in lines] != []
    ((unit, _, files, scores),) = [call for call in heard.calls if call[1] == "publish"]
    assert unit == "report" and {"report.html", "report.md", "report.json", "figures"} <= set(files)
    assert scores == scores_in(run_dir / "report") and {"miou/real", "gain/semi"} <= scores.keys()
    assert [call for call in heard.calls if call[1] == "end"] == [(name, "end", "finished") for name in names]
    assert results_of(run_dir) == results_of(finished_run)


def test_a_failure_is_told_and_comes_through(
    copy_of_run: Callable[..., Path], tiny_config: RunConfig, heard: type[Heard], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = copy_of_run("report")
    run = Run(tracking(tiny_config, "mlflow"), run_dir)

    def broken(self: object, run: Run, folder: Path) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(type(run.units["report"]), "make", broken)
    with pytest.raises(RuntimeError, match="broken"):
        run.make(["report"])
    assert heard.calls == [("report", "end", "failed")]


def test_pages_without_scores_have_none(tmp_path: Path) -> None:
    assert scores_in(tmp_path) == {}
