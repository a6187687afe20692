"""Trackers are told what a unit writes, and can neither stop nor delay it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scenepalette.training.image_grid import tile_images
from scenepalette.training.loop import MetricsLog
from scenepalette.training.tracking import following
from scenepalette.training.tracking.base import Status, UnitRun
from scenepalette.training.tracking.following import MEMORY, followed


class Heard:
    """A tracker that writes down what it is told."""

    calls: list[tuple[Any, ...]]

    def begin(self, unit: UnitRun, memory: dict[str, Any]) -> None:
        self.calls.append(("begin", unit.name, unit.is_new))
        memory["times"] = memory.get("times", 0) + 1

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.calls.append(("log", step, dict(values)))

    def show(self, name: str, path: Path, step: int) -> None:
        self.calls.append(("show", name, path.name, step))

    def publish(self, name: str, folder: Path, summary: Mapping[str, float]) -> None:
        self.calls.append(("publish", name, dict(summary)))

    def end(self, status: Status) -> None:
        self.calls.append(("end", status))


class Broken(Heard):
    """A tracker whose server is down when it is told a line, and gives its address away."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        raise ConnectionError("https://me:secret@tracker.example/api?token=abc refused\nsecond line")


class Hanging(Heard):
    """A tracker that never answers."""

    released = threading.Event()

    def begin(self, unit: UnitRun, memory: dict[str, Any]) -> None:
        self.released.wait(60)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[Any, ...]]]:
    heard = list[tuple[Any, ...]]()
    monkeypatch.setattr(Heard, "calls", heard, raising=False)
    monkeypatch.setattr(Hanging, "released", threading.Event())
    monkeypatch.setattr(following, "_given_up", set())
    monkeypatch.setattr(following, "TRACKERS", {"mlflow": Heard, "wandb": Broken, "tensorboard": Hanging})
    yield heard
    Hanging.released.set()


def unit_in(tmp_path: Path, **changes: Any) -> UnitRun:
    folder = tmp_path / "images/oasis"
    folder.mkdir(parents=True, exist_ok=True)
    values = {"name": "images/oasis", "stage": "images", "folder": folder, "parent": "demo"}
    return UnitRun(**{**values, "settings": {"steps": "40"}, "parent_settings": {}, **changes})


def sheet(folder: Path, name: str) -> None:
    tile_images(folder / "samples" / name, [np.zeros((4, 4, 3), dtype=np.uint8)])


def test_lines_and_sheets_are_passed_on_in_the_order_of_their_steps(
    tmp_path: Path, calls: list[tuple[Any, ...]]
) -> None:
    unit = unit_in(tmp_path)
    with followed(unit, ["mlflow"], tmp_path):
        log = MetricsLog(unit.folder / "metrics.jsonl", 0)
        log.write(20, loss=0.5, names=["x"], fine=True, gone=float("nan"))
        sheet(unit.folder, "step-000020.png")
        log.write(40, loss=0.25)
        sheet(unit.folder, "final.png")
    assert calls == [
        ("begin", "images/oasis", True),
        ("log", 20, {"loss": 0.5}),
        ("show", "samples", "step-000020.png", 20),
        ("log", 40, {"loss": 0.25}),
        ("show", "samples", "final.png", 40),
        ("end", "finished"),
    ]


def test_lines_arrive_while_the_unit_is_made(
    tmp_path: Path, calls: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "POLL_SECONDS", 0.01)
    arrived, told = threading.Event(), Heard.log

    def log_and_say(self: Heard, step: int, values: Mapping[str, float]) -> None:
        told(self, step, values)
        arrived.set()

    monkeypatch.setattr(Heard, "log", log_and_say)
    unit = unit_in(tmp_path)
    with followed(unit, ["mlflow"], tmp_path):
        MetricsLog(unit.folder / "metrics.jsonl", 0).write(20, loss=0.5)
        assert arrived.wait(30)
    assert [call[0] for call in calls] == ["begin", "log", "end"]


def test_a_resumed_training_is_continued_and_nothing_is_told_twice(
    tmp_path: Path, calls: list[tuple[Any, ...]]
) -> None:
    unit = unit_in(tmp_path)
    path = unit.folder / "metrics.jsonl"
    with pytest.raises(KeyboardInterrupt), followed(unit, ["mlflow"], tmp_path):
        MetricsLog(path, 0).write(20, loss=0.5)
        MetricsLog(path, 20).write(40, loss=0.4)
        sheet(unit.folder, "step-000040.png")
        raise KeyboardInterrupt
    assert calls[-1] == ("end", "interrupted")
    calls.clear()
    with followed(unit_in(tmp_path, is_new=False), ["mlflow"], tmp_path):
        log = MetricsLog(path, 20)
        log.write(40, loss=0.4)
        log.write(60, loss=0.3)
    assert calls == [("begin", "images/oasis", False), ("log", 60, {"loss": 0.3}), ("end", "finished")]
    memory = json.loads((tmp_path / MEMORY).read_text())
    assert memory == {"mlflow": {"times": 2}, "sent": {"images/oasis": 60}}
    calls.clear()
    with followed(unit, ["mlflow"], tmp_path):  # made again from the start
        MetricsLog(path, 0).write(20, loss=0.5)
    assert ("log", 20, {"loss": 0.5}) in calls


def test_a_page_is_published_once_its_unit_ended_well(tmp_path: Path, calls: list[tuple[Any, ...]]) -> None:
    unit = unit_in(tmp_path, name="report", folder=tmp_path / "report")
    unit.folder.mkdir()
    (unit.folder / "report.html").write_text("<p>")
    with pytest.raises(ValueError, match="no"), followed(unit, ["mlflow"], tmp_path):
        raise ValueError("no")
    assert calls == [("begin", "report", True), ("end", "failed")]
    calls.clear()
    with followed(unit, ["mlflow"], tmp_path, lambda folder: {"miou/real": 0.5}):
        pass
    assert calls == [("begin", "report", True), ("publish", "report", {"miou/real": 0.5}), ("end", "finished")]


def test_a_tracker_that_raises_is_warned_of_once_and_the_others_go_on(
    tmp_path: Path, calls: list[tuple[Any, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("images/oasis", "images/flat"):
        unit = unit_in(tmp_path, name=name, folder=tmp_path / name)
        with followed(unit, ["wandb", "mlflow"], tmp_path):
            unit.folder.mkdir(exist_ok=True)
            MetricsLog(unit.folder / "metrics.jsonl", 0).write(20, loss=0.5)
    assert [call[0] for call in calls] == ["begin", "begin", "log", "end", "begin", "log", "end"]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Warning: wandb gets no further data from this run, which continues without it.")
    assert "ConnectionError: https://***@tracker.example/api?token=*** refused second line" in line
    assert "secret" not in line and "abc" not in line


def test_a_tracker_that_hangs_holds_nothing_up(
    tmp_path: Path, calls: list[tuple[Any, ...]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "END_SECONDS", 0.05)
    for _ in range(2):
        with followed(unit_in(tmp_path), ["tensorboard"], tmp_path):
            pass
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Warning: tensorboard") and "did not answer" in line


@pytest.mark.parametrize("text", ["", "[]", '{"sent": 3}', "{"])
def test_a_damaged_memory_counts_as_none(text: str, tmp_path: Path, calls: list[tuple[Any, ...]]) -> None:
    (tmp_path / MEMORY).write_text(text)
    with followed(unit_in(tmp_path), ["mlflow"], tmp_path):
        pass
    assert json.loads((tmp_path / MEMORY).read_text())["mlflow"] == {"times": 1}
