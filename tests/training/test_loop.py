from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from scenepalette.common.errors import ScenepaletteError, TrainingError
from scenepalette.common.progress import NO_PROGRESS, PlainProgress
from scenepalette.training import loop
from scenepalette.training.loop import (
    TENSORBOARD_FOLDER,
    Line,
    MetricsLog,
    epoch_batch,
    read_metrics,
    require_finite,
    require_finite_gradients,
    seed_step,
)


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


def test_a_steps_randomness_is_a_function_of_seed_stage_and_step() -> None:
    def draw(*parts: object) -> float:
        torch.rand(7)
        seed_step(*parts)  # type: ignore[arg-type]
        return torch.rand(()).item()

    assert draw(1, "a", 2) == draw(1, "a", 2)
    assert len({draw(1, "a", 2), draw(2, "a", 2), draw(1, "b", 2), draw(1, "a", 3), draw(1, "a", -1)}) == 5


@pytest.mark.parametrize(("count", "batch_size"), [(10, 4), (7, 7), (3, 8), (1, 2), (10, 1)])
def test_every_sample_comes_once_an_epoch_and_every_batch_is_full(count: int, batch_size: int) -> None:
    batches = [epoch_batch(count, batch_size, step, 5, "stage") for step in range(4 * count)]
    assert {batch.shape for batch in batches} == {(batch_size,)}
    stream = np.concatenate(batches)
    assert stream.dtype == np.int64
    epochs = stream.reshape(-1, count)  # 4 * count * batch_size is a multiple of count
    assert all(sorted(epoch.tolist()) == list(range(count)) for epoch in epochs)
    if count > 3:
        assert len({tuple(epoch) for epoch in epochs.tolist()}) > 1


def test_batches_are_a_function_of_their_arguments() -> None:
    first = epoch_batch(50, 20, 7, 5, "stage")
    np.random.default_rng(0).random(9)
    np.testing.assert_array_equal(first, epoch_batch(50, 20, 7, 5, "stage"))
    assert not np.array_equal(first, epoch_batch(50, 20, 7, 6, "stage"))
    assert not np.array_equal(first, epoch_batch(50, 20, 7, 5, "other"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_not_finite_is_named_with_its_step(value: float) -> None:
    with pytest.raises(TrainingError, match=f"The loss critic became {value} at step 12, and nothing was learned"):
        require_finite(12, generator=1.0, critic=torch.tensor(value, requires_grad=True))


def test_finite_losses_pass() -> None:
    require_finite(0, generator=torch.tensor(-3e38), critic=0.0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -3e19])
def test_a_gradient_that_is_not_finite_is_named_with_its_network_and_step(value: float) -> None:
    first, second = nn.Linear(2, 2), nn.Linear(2, 1)
    for module in (first, second):
        module(torch.ones(1, 2)).sum().backward()
    require_finite_gradients(3, generator=first, critic=second, unused=nn.Linear(1, 1))
    assert second.bias.grad is not None
    second.bias.grad[0] = value
    message = r"gradient of the critic is not finite at step 3 \(first in bias\)"
    with pytest.raises(TrainingError, match=message):
        require_finite_gradients(3, generator=first, critic=second)


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


def test_plain_progress_prints_at_intervals_with_the_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])
    progress = PlainProgress(interval=10.0)
    progress.start("train", 20, done=4)
    for _ in range(12):
        now[0] += 3.0
        progress.advance(loss=0.12345)
    progress.advance(4)
    progress.finish()
    lines = capsys.readouterr().err.splitlines()
    # 3 s a step: after 4 steps 12 s are over, 12 steps of 3 s are left; then 4 and 4 steps later again.
    assert lines == [
        "train: 4 of 20",
        "train: 8 of 20, 36 s left loss=0.123",
        "train: 12 of 20, 24 s left loss=0.123",
        "train: 16 of 20, 12 s left loss=0.123",
        "train: done in 36 s",
    ]


def test_no_progress_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    NO_PROGRESS.start("work", 3)
    NO_PROGRESS.advance(2, loss=1.0)
    NO_PROGRESS.finish()
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
