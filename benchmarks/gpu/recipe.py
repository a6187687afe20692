"""A recipe trained for the time that is left: every stage, its steps scaled, then its report and weights."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from benchmarks.gpu.record import Row
from scenepalette.common.storage.files import read_json, write_json
from scenepalette.data.datasets import open_dataset
from scenepalette.pipeline.config import RunConfig, load_config
from scenepalette.pipeline.doctor.machine.timing import estimates_of, measure
from scenepalette.pipeline.run import Run
from scenepalette.pipeline.units.records import seconds_spent

PLAN = "recipe.json"
RUN = "run"
MEASURED_SHARE = 0.1
"""Of the time that is left, for timing the recipe's steps ..."""
STARTED_SHARE = 0.15
"""... and for starting the process that does; of short times more, as that takes its seconds anyhow."""
FEWEST_SECONDS = 30.0
UNKNOWN_SCALE = 0.02
"""Where the steps that take most of the time could not be timed."""
TRAINED_SHARE = 0.65
"""Of the time that is left after that, for what scales; the rest is for starting, evaluation and the report."""
SAMPLES_READ = 0.02
"""Seconds to read a sample, about; it is a small part."""
FEWEST = {"layouts": 20, "images": 10, "segmenters": 10, "pairs": 8}
WEIGHTS = ("layouts/*/weights.safetensors", "images/*/weights.safetensors", "segmenters/*/seed*/weights.safetensors")


def plan(out: Path, recipe: str, changes: Sequence[str], end: float) -> dict[str, Any]:
    """Return how the recipe is scaled; decided once, as later calls continue the same run.

    Args:
        out: The benchmark's folder.
        recipe: Name of the recipe.
        changes: Changes of it, `section.key=value`.
        end: When the time is over, as `time.time` counts.
    """
    path = out / PLAN
    if path.is_file():
        return read_json(path)
    config = load_config(recipe, changes)
    left = end - time.time()
    seconds, basis = _expected_seconds(config, left)
    left = end - time.time()
    scale = UNKNOWN_SCALE if seconds is None else max(1e-6, min(1.0, TRAINED_SHARE * left / seconds))
    decided = {
        "recipe": recipe,
        "scale": scale,
        "expected_seconds_unscaled": None if seconds is None else round(seconds),
        "basis": basis,
        "changes": [*changes, *(_scaled(config, scale) if scale < 1 else [])],
    }
    write_json(path, decided)
    return decided


def _expected_seconds(config: RunConfig, left: float) -> tuple[float | None, list[str]]:
    """Return how long the whole recipe would take here, or None, and what that rests on, in a part of the time left."""
    data = config.data
    train = open_dataset(data.name, "train", data.root, count=data.train_scenes, size=data.size, seed=config.data_seed)
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(
            config,
            train,
            Path(folder),
            seconds=max(MEASURED_SHARE * left, FEWEST_SECONDS),
            start_seconds=max(STARTED_SHARE * left, FEWEST_SECONDS),
        )
    estimates = estimates_of(config, measured, SAMPLES_READ * len(train), len(train))
    lines = [f"{estimate.name}: {estimate.seconds:.0f} s ({estimate.basis})" for estimate in estimates]
    lines += [f"{name}: failed: {text}" for name, text in measured.errors.items()]
    lines += [f"{name}: not measured" for name in measured.missing]
    known = {"images", "segmenter"} <= measured.seconds.keys()
    return sum(estimate.seconds for estimate in estimates) if known else None, lines


def _scaled(config: RunConfig, scale: float) -> list[str]:
    """Return the changes that make a recipe take that share of its time; sizes of networks and batches stay."""

    def part(count: int, stage: str) -> int:
        return max(min(count, FEWEST[stage]), round(count * scale))

    changes = []
    for name in ("full", "partial"):
        layout = getattr(config.layouts, name)
        steps = [*layout.fade_steps, *layout.stable_steps]
        scaled = [max(1, round(count * scale)) if count else 0 for count in steps]
        half = len(steps) // 2
        for key, counts in (("fade_steps", scaled[:half]), ("stable_steps", scaled[half:])):
            changes.append(f"layouts.{name}.{key}={counts}")
        changes.append(f"layouts.{name}.checkpoint_every={part(layout.checkpoint_every, 'layouts')}")
    images, segmenters = config.images, config.segmenters
    return [
        *changes,
        f"images.steps={part(images.steps, 'images')}",
        f"images.checkpoint_every={part(images.checkpoint_every, 'images')}",
        f"segmenters.steps={part(segmenters.steps, 'segmenters')}",
        f"segmenters.checkpoint_every={part(segmenters.checkpoint_every, 'segmenters')}",
        f"generate.pairs={part(config.generate.pairs, 'pairs')}",
    ]


def train(out: Path, recipe: str, changes: Sequence[str], end: float) -> None:
    """Make the recipe's run and report as far as the time reaches; called again, it continues."""
    decided = plan(out, recipe, changes, end)
    run = Run(load_config(recipe, decided["changes"]), out / RUN)
    run.make(run.names_of("report"))


def rows_of(out: Path) -> list[Row]:
    """Return the units of the run: finished with their seconds, begun or missing."""
    if not (out / RUN / "config.yaml").is_file():
        return []
    run = Run.open(out / RUN)
    rows = []
    for name, unit in run.planned.run.items():
        seconds = round(seconds_spent(run.run_dir, unit), 1)
        rows.append({"unit": name, "state": run.state(name).status, "seconds": seconds})
    return rows


def copy_results(out: Path) -> list[str]:
    """Copy the report and, in bf16, the finished weights beside the table; return what was copied, with sizes."""
    copied = []
    report = out / RUN / "report"
    if (report / "report.md").is_file():
        shutil.copytree(report, out / "report", dirs_exist_ok=True)
        copied.append("report/")
    for pattern in WEIGHTS:
        for path in sorted((out / RUN).glob(pattern)):
            if not (path.parent / "manifest.json").is_file():
                continue
            target = out / "weights" / f"{'-'.join(path.parent.relative_to(out / RUN).parts)}.safetensors"
            target.parent.mkdir(exist_ok=True)
            tensors = {
                name: value.bfloat16() if value.dtype == torch.float32 else value
                for name, value in load_file(path).items()
            }
            save_file(tensors, target)
            copied.append(f"weights/{target.name} ({target.stat().st_size / 1e6:.1f} MB)")
    return copied
