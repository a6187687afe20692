from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scenepalette.common.errors import TrainingError
from scenepalette.common.progress import NoProgress
from scenepalette.common.registry import Registry
from scenepalette.common.storage.files import sha256_of_file
from scenepalette.pipeline import beside_worker
from scenepalette.pipeline.config import RunConfig
from scenepalette.pipeline.device import beside
from scenepalette.pipeline.device.beside import one_more, trainings_at_once
from scenepalette.pipeline.run import Run, units_of
from scenepalette.pipeline.stages import segment
from scenepalette.pipeline.units.records import fingerprint_of, seconds_spent
from scenepalette.segmenters.loading import WEIGHTS_FILE


def with_segmenters(config: RunConfig, **changes: Any) -> RunConfig:
    return config.model_copy(update={"segmenters": config.segmenters.model_copy(update=changes)})


class Watched(NoProgress):
    """Progress that keeps what was begun."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, int]] = []

    def start(self, description: str, total: int, done: int = 0) -> None:
        self.begun.append((description, total))


def with_compute(config: RunConfig, **changes: Any) -> RunConfig:
    return config.model_copy(update={"compute": config.compute.model_copy(update=changes)})


def test_how_many_are_trained_at_once_does_not_identify_a_result(tiny_config: RunConfig) -> None:
    before, after = units_of(tiny_config), units_of(with_compute(with_segmenters(tiny_config, parallel=4), parallel=3))
    assert [fingerprint_of(unit, before) for unit in before.values()] == [
        fingerprint_of(unit, after) for unit in after.values()
    ]


@pytest.mark.parametrize(
    ("threads", "gibibytes", "count"), [(1, 64, 1), (2, 64, 2), (16, 64, 4), (16, 9, 2), (2, 3, 1)]
)
def test_trainings_at_once_follow_from_threads_and_memory(
    threads: int, gibibytes: int, count: int, tiny_config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside, "available_memory", lambda: gibibytes * 2**30)
    assert trainings_at_once(tiny_config, threads) == count
    assert trainings_at_once(with_compute(tiny_config, parallel=7), threads) == 7
    assert trainings_at_once(with_compute(tiny_config, tracking=("tensorboard",)), threads) == 1
    registry = Registry[int]("scenepalette.numbers", {}, int)
    registry.add("seven", 7)
    assert trainings_at_once(tiny_config, threads) == 1, "another process would not know what was added here"
    registry.reset()
    assert trainings_at_once(tiny_config, threads) == count


@pytest.mark.parametrize(
    ("gibibytes", "count", "threads", "more"),
    [(12, 2, 1, True), (11, 2, 1, False), (64, 2, 2, False), (64, 1, 1, False), (64, 4, 1, True)],
)
def test_one_training_more_fills_idle_processors(
    gibibytes: int, count: int, threads: int, more: bool, tiny_config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside, "available_memory", lambda: gibibytes * 2**30)
    assert one_more(tiny_config, count, threads) == more
    assert not one_more(with_compute(tiny_config, parallel=count), count, threads)
    assert not one_more(with_segmenters(tiny_config, parallel=count), count, threads)


def test_trainings_begin_with_those_that_wait_for_them_alone(
    copy_of_run: Callable[..., Path], tiny_config: RunConfig
) -> None:
    run_dir = copy_of_run("layouts", "images", "shards", "segmenters", "report")

    def together(config: RunConfig) -> set[str]:
        run = Run(config, run_dir)
        return set(next(run.each_missing(run.names_of("report"))))

    several = with_compute(tiny_config, parallel=2)
    generators = {"layouts/semantic-palette", "layouts/semantic-palette-partial", "images/oasis"}
    assert together(several) == {*generators, "segmenters/real/seed0"}, "other arms wait for pairs"
    assert len(together(tiny_config)) == 1, "the tests' configuration has one thread"
    # The features of a segmenter that is not there yet: it is trained first, and the images in the same turn.
    images = several.images.model_copy(update={"perceptual_features": "segmenter", "perceptual_weight": 1.0})
    assert together(several.model_copy(update={"images": images})) == {*generators, "segmenters/real/seed0"}
    alone = with_segmenters(several, parallel=1)
    assert together(alone) == generators, "segmenters have a number of their own"


@pytest.mark.slow
def test_generators_and_segmenters_are_trained_at_once(
    finished_run: Path, copy_of_run: Callable[..., Path], tiny_config: RunConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir, began = copy_of_run("layouts", "images", "shards", "segmenters", "report"), time.monotonic()
    run = Run(with_compute(tiny_config, parallel=2), run_dir)
    trained = ["layouts/semantic-palette", "images/oasis", "segmenters/real/seed0"]
    run.make(trained)
    elapsed = time.monotonic() - began
    for name in trained:
        assert sha256_of_file(run_dir / name / WEIGHTS_FILE) == sha256_of_file(finished_run / name / WEIGHTS_FILE)
    seconds = [seconds_spent(run_dir, run.units[name]) for name in trained]
    rounding = 0.1 * len(seconds)  # each is recorded to a tenth of a second
    assert all(seconds) and sum(seconds) <= elapsed + rounding, "together they have the time that went by"
    assert not list(run_dir.glob(".scenepalette-activity*"))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(set(lines)), "what every process says is printed once"


@pytest.mark.slow
def test_segmenters_trained_beside_each_other_are_those_trained_one_by_one(
    finished_run: Path, copy_of_run: Callable[..., Path], tiny_config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir, watched = copy_of_run("segmenters", "report"), Watched()
    monkeypatch.setattr(segment, "train_arm", None)  # nothing is trained in this process
    run = Run(with_segmenters(tiny_config, parallel=3), run_dir, watched)
    run.make(run.names_of("segmenters"))
    assert ("Training 5 segmenters, 3 at once (percent of each)", 500) in watched.begun
    for name in run.names_of("segmenters"):
        assert run.is_finished(name)
        for file in ("weights.safetensors", "validation-confusion.npy", "metrics.jsonl"):
            assert sha256_of_file(run_dir / name / file) == sha256_of_file(finished_run / name / file), (name, file)


@pytest.mark.slow
def test_a_training_that_fails_beside_others_is_told_and_ends_them(
    copy_of_run: Callable[..., Path], tiny_config: RunConfig
) -> None:
    run_dir = copy_of_run("segmenters", "report")
    run = Run(with_segmenters(tiny_config, parallel=2, learning_rate=1e20, steps=50), run_dir)
    with pytest.raises(TrainingError, match=r"segmenters/\S+: The .* at step \d+[\s\S]*compute.parallel=1 trains"):
        run.make(run.names_of("segmenters"))
    assert not any(run.is_finished(name) for name in run.names_of("segmenters"))


def test_a_process_that_was_killed_is_told_from_one_that_only_warned(tiny_config: RunConfig, tmp_path: Path) -> None:
    run = Run(tiny_config, tmp_path)
    for program, expected in (
        ("import os; print('a warning', flush=True); os.kill(os.getpid(), 9)", "a warning\nthe process was killed"),
        ("raise SystemExit(3)", "the process ended with status 3"),
        ("pass", "the process ended with status 0"),
    ):
        said = (tmp_path / "said").open("w+b")
        process = subprocess.Popen([sys.executable, "-c", program], stdout=said)
        process.wait()
        with pytest.raises(TrainingError) as caught:
            beside._words_of(run, "images/oasis", beside._Worker(process, said))
        assert expected in str(caught.value) and "compute.parallel=1" in str(caught.value)
        assert not beside_worker._lives(process.pid)
    assert beside_worker._lives(os.getpid())


def test_what_a_process_says_is_kept_on_the_disk_of_its_results_and_under_no_name(
    tiny_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    monkeypatch.setattr(beside, "WORKER", f"print('said'); raise SystemExit({beside.MADE})")
    run = Run(tiny_config, tmp_path)
    worker = beside._started(run, "images/oasis", 1)
    worker.process.wait()
    assert list(tmp_path.iterdir()) == []
    assert beside._words_of(run, "images/oasis", worker) == "said"


def test_a_worker_whose_starter_is_gone_ends_before_it_makes_anything(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    # The package is found where this process finds it, and nothing is read of the user's folder.
    (tmp_path / "json.py").write_text("raise SystemExit(7)")
    path = json.dumps([str(Path(entry).resolve()) for entry in sys.path])
    command = [sys.executable, "-P", "-c", beside.WORKER, path, str(tmp_path), "images/oasis", "1", str(gone.pid)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 143, ended.stderr
