from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scenepalette.common.errors import TrainingError
from scenepalette.common.progress import NoProgress
from scenepalette.common.storage.files import sha256_of_file
from scenepalette.pipeline.config import RunConfig
from scenepalette.pipeline.run import Run, units_of
from scenepalette.pipeline.stages import segment
from scenepalette.pipeline.units.records import fingerprint_of


def with_segmenters(config: RunConfig, **changes: Any) -> RunConfig:
    return config.model_copy(update={"segmenters": config.segmenters.model_copy(update=changes)})


class Watched(NoProgress):
    """Progress that keeps what was begun."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, int]] = []

    def start(self, description: str, total: int, done: int = 0) -> None:
        self.begun.append((description, total))


def test_how_many_are_trained_at_once_does_not_identify_a_result(tiny_config: RunConfig) -> None:
    before, after = units_of(tiny_config), units_of(with_segmenters(tiny_config, parallel=4))
    assert [fingerprint_of(unit, before) for unit in before.values()] == [
        fingerprint_of(unit, after) for unit in after.values()
    ]


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
