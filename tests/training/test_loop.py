from __future__ import annotations

import errno
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from scenepalette.common.errors import CheckpointError, ScenepaletteError
from scenepalette.training.fabric import make_fabric
from scenepalette.training.loop import TENSORBOARD_FOLDER, Line, MetricsLog, Training, read_metrics
from scenepalette.training.ranks import Ranks
from scenepalette.training.trainee import Trainee, take_step


def test_metrics_are_appended_and_read_back(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "new" / "metrics.jsonl", 0)
    log.write(1, loss=0.1, name="first")
    log.write(2, loss=1 / 3)
    assert read_metrics(log.path) == [{"step": 1, "loss": 0.1, "name": "first"}, {"step": 2, "loss": 1 / 3}]


def test_lines_of_steps_that_will_be_repeated_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path, 0)
    for step in (1, 2, 3, 4):
        log.write(step, loss=float(step))
    resumed = MetricsLog(path, 2)
    assert [line["step"] for line in read_metrics(path)] == [1, 2]
    resumed.write(3, loss=9.0)
    assert read_metrics(path)[-1] == {"step": 3, "loss": 9.0}


def test_a_line_cut_short_by_a_kill_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "lo')
    assert read_metrics(path) == [{"step": 1, "loss": 0.5}]
    MetricsLog(path, 5).write(3, loss=0.25)
    assert [line["step"] for line in read_metrics(path)] == [1, 3]


def test_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert read_metrics(tmp_path / "metrics.jsonl") == []


def test_warnings_are_logged_and_printed_when_they_appear(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def watch(lines: Sequence[Line]) -> list[str]:
        return ["it is high"] if lines[-1]["loss"] > 1 else []

    path = tmp_path / "oasis" / "metrics.jsonl"
    log = MetricsLog(path, 0, watch=watch)
    for step, loss in ((20, 0.5), (40, 2.0), (60, 3.0)):
        log.write(step, loss=loss)
    log = MetricsLog(path, 60, watch=watch)  # going on does not repeat it
    for step, loss in ((80, 3.0), (100, 0.5), (120, 2.0)):
        log.write(step, loss=loss)
    assert [line.get("warnings") for line in read_metrics(path)] == [None, *[["it is high"]] * 3, None, ["it is high"]]
    assert capsys.readouterr().err.splitlines() == [
        "Warning: oasis, step 40: it is high",
        "Warning: oasis, step 120: it is high",
    ]


def test_numbers_are_written_for_tensorboard_too(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl", 0, tensorboard=True)
    log.write(20, loss=0.5)
    log.write(40, loss=0.25)
    log.close()
    resumed = MetricsLog(tmp_path / "metrics.jsonl", 20, tensorboard=True)
    resumed.write(40, loss=0.125)
    resumed.close()
    events = EventAccumulator(str(tmp_path / TENSORBOARD_FOLDER))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(20, 0.5), (40, 0.125)]


def test_a_full_disk_is_told_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl", 0)

    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(ScenepaletteError, match=r"metrics\.jsonl: the disk is full"):
        log.write(20, loss=0.5)


class Interruption:
    """Progress that keeps what it is told and ends the work once `steps` steps are finished."""

    def __init__(self, steps: int = 100) -> None:
        self.steps, self.done, self.first, self.told = steps, 0, -1, ""
        self.values: list[dict[str, float]] = []

    def start(self, description: str, total: int, done: int = 0) -> None:
        self.done = self.first = done

    def advance(self, count: int = 1, **values: float) -> None:
        self.done += count
        self.values.append(values)
        if self.done == self.steps:
            raise KeyboardInterrupt

    def finish(self) -> None:
        self.told = "finished"


def train(folder: Path, progress: Interruption, **options: Any) -> tuple[float, list[float]]:
    """Six steps of a network of one weight with random gradients; a checkpoint every two, a line every three."""
    network = nn.Linear(1, 1, bias=False)
    nn.init.ones_(network.weight)
    trainee = Trainee("network", network, partial(torch.optim.SGD, lr=0.1), make_fabric())
    networks = {"network": trainee, "absent": None}
    training = Training(folder, "test", 6, networks, {"none": None}, seed=1, progress=progress, **options)
    drawn = []
    for step in training.steps("a test"):
        factor = torch.rand(1, 1)
        drawn.append(factor.item())
        loss = trainee.forward(factor).sum()
        take_step(step, loss, trainee)
        values = training.advance({"loss": loss, "factor": factor.item()}, ["loss"])
        if training.due(3):
            training.log(values)
        if training.due(2, 6):
            training.save()
    return network.weight.item(), drawn


def test_a_training_resumes_from_its_checkpoint_with_the_random_numbers_of_its_steps(tmp_path: Path) -> None:
    whole, drawn = train(tmp_path / "whole", Interruption())
    assert len(set(drawn)) == 6
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "parts", Interruption(5))
    torch.rand(7)
    resumed = Interruption()
    assert train(tmp_path / "parts", resumed) == (whole, drawn[4:])
    assert (resumed.first, resumed.done, resumed.told) == (4, 6, "finished")
    assert [set(values) for values in resumed.values] == [{"loss"}, {"loss"}]
    logs = [read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "parts")]
    assert logs[0] == logs[1]
    assert [line["step"] for line in logs[0]] == [3, 6]
    assert logs[0][1]["factor"] == drawn[5]


def test_checkpoints_of_another_training_are_refused_before_its_log_is_touched(tmp_path: Path) -> None:
    train(tmp_path, Interruption(), identity={"seed": 1})
    before = (tmp_path / "metrics.jsonl").read_bytes()
    with pytest.raises(CheckpointError, match="seed: the file has 1, this run needs 2"):
        train(tmp_path, Interruption(), identity={"seed": 2})
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_only_the_first_process_opens_a_log(tmp_path: Path) -> None:
    Training(tmp_path, "test", 6, {}, {}, seed=1, ranks=Ranks(1, 2))
    assert not list(tmp_path.iterdir())
