"""Training steps of segmenters as they run here against the same steps before their networks were made faster.

Usage: python -m benchmarks.segmenters [--cases demo camvid-cpu] [--camvid FOLDER] [--weights FILE] [--compiled]

The recipes' own segmenters are trained by the code that runs train them with: reading, flips, loss with the recipe's
class weights, optimizer and checks. Plain are networks as segmentation-models-pytorch makes them, a step of the
optimizer weight by weight, the largest gradient looked for value by value, and generated pairs decoded at every step.
The ways take turns; the first step of every turn is left out. Given are medians of the CPU time that a step takes, all
threads together, which other processes hardly change. With --compiled, networks that torch compiles take turns too; how
long their first step takes, compiler and all, is the last column, by the clock. Compiled code is kept for later runs.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from benchmarks.measure import machine, markdown_table
from benchmarks.shards_at_scale import row_of, write_rows
from scenepalette.common.progress import NO_PROGRESS, EnoughError
from scenepalette.data.shards.pairs import ShardPairs
from scenepalette.data.shards.schema import Row
from scenepalette.pipeline.config import load_config
from scenepalette.pipeline.doctor.machine.measure import StepTimes
from scenepalette.pipeline.stages.inputs.data import prepare_data, read_data
from scenepalette.pipeline.stages.segment import arm_settings
from scenepalette.segmenters import train
from scenepalette.segmenters.train import train_segmenter
from scenepalette.training import trainee
from scenepalette.training.device.abilities import computes_bfloat16
from scenepalette.training.device.speed import CompileMode, Speed
from scenepalette.training.fabric import make_fabric

NEVER = "segmenters.checkpoint_every=1000000"
SCENES = 200
ARMS = {"real": False, "real+syn": True}
"""Arms, and whether they take generated pairs."""


@contextmanager
def as_before() -> Iterator[None]:
    """Train as it was done before networks, optimizer and checks were made faster."""

    def largest(tensors: list[Tensor]) -> Tensor:
        return torch.stack([torch.linalg.vector_norm(tensor, float("inf")) for tensor in tensors]).max()

    optimizer: Callable[..., Any] = train._optimizer
    with (
        patch.object(train, "accelerate", lambda network: None),
        patch.object(train, "_is_worth_keeping", lambda *arguments: False),
        patch.object(train, "_optimizer", lambda settings: _without_fusion(optimizer(settings))),
        patch.object(trainee.nn.utils, "get_total_norm", largest),
    ):
        yield


def _without_fusion(build: Any) -> Any:
    return lambda parameters, **_: build(parameters)


def cases(camvid: Path | None, weights: Path | None) -> dict[str, tuple[str, list[str]]]:
    """Return recipes and changes to them by name.

    Args:
        camvid: CamVid's folder, without which its recipe is left out.
        weights: Weights of a mobilenet_v2 trained on ImageNet.
    """
    found = {"demo": ("demo", [f"data.train_scenes={SCENES}", "data.val_scenes=2"])}
    if camvid is not None:
        root = f"data.root={camvid}"
        found["camvid-cpu"] = ("camvid-cpu", [root])
        encoder = ["segmenters.architecture=fpn", "segmenters.encoder=mobilenet_v2"]
        encoder += [f"segmenters.encoder_weights={weights}"] if weights is not None else []
        found["camvid-cpu, FPN on mobilenet_v2"] = ("camvid-cpu", [root, *encoder])
    return found


def training(folder: Path, recipe: str, changes: list[str], arm: str) -> Callable[..., nn.Module]:
    """Return the training of a recipe's arm; for generated pairs, real ones lie in a shard."""
    config = load_config(recipe, [*changes, NEVER])
    data = folder / recipe / "data"
    if not data.exists():
        prepare_data(data, config.data, 0, NO_PROGRESS)
    pairs = read_data(data).train
    shards = folder / recipe / "shards"
    if not shards.exists():
        _write_shards(shards, pairs)

    def train_some(out: Path, **arguments: Any) -> nn.Module:
        settings = arm_settings(config.segmenters, arm)
        synthetic = ShardPairs(shards) if ARMS[arm] else None
        return train_segmenter(out, settings, real=pairs, synthetic=synthetic, table=pairs.table, seed=0, **arguments)

    return train_some


def _write_shards(folder: Path, pairs: Any) -> None:
    def row(index: int) -> Row:
        return row_of(index, pairs.images[index], pairs.labels[index], pairs.table.num_classes)

    write_rows(folder, row, [0, min(SCENES, len(pairs))], pairs.table, pairs.name)


def step_seconds(
    work: Callable[..., nn.Module], precision: str, steps: int, compile: CompileMode = "off"
) -> list[float]:
    """Return the CPU times of some steps of a training, without its first."""
    times = StepTimes(steps, time.process_time)
    with tempfile.TemporaryDirectory() as out, suppress(EnoughError):
        work(Path(out), fabric=make_fabric(precision=precision, speed=Speed(compile=compile)), progress=times)
    return times.seconds[1:]


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", help="names of rows; all by default")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--camvid", type=Path, help="CamVid's folder")
    parser.add_argument("--weights", type=Path, help="weights of mobilenet_v2")
    parser.add_argument("--steps", type=int, default=6, help="timed steps per turn")
    parser.add_argument("--turns", type=int, default=3, help="turns of each way")
    parser.add_argument("--compiled", action="store_true", help="also compile networks (compute.compile=default)")
    arguments = parser.parse_args()
    precisions = ["32-true", *(["bf16-mixed"] if computes_bfloat16("cpu") else [])]
    print(machine())
    print("CPU seconds per step\n")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (recipe, changes) in cases(arguments.camvid, arguments.weights).items():
            if arguments.cases is not None and name not in arguments.cases:
                continue
            for arm in arguments.arms:
                work = training(Path(folder), recipe, changes, arm)
                for precision in precisions:
                    began = time.perf_counter()
                    if arguments.compiled:
                        step_seconds(work, precision, 0, "default")
                    start = time.perf_counter() - began
                    before, now, compiled = [], [], []
                    for _ in range(arguments.turns):
                        with as_before():
                            before += step_seconds(work, precision, arguments.steps)
                        now += step_seconds(work, precision, arguments.steps)
                        if arguments.compiled:
                            compiled += step_seconds(work, precision, arguments.steps, "default")
                    first = median(before)
                    row = [name, arm, precision, f"{first:.3f}"]
                    row += [f"{median(way):.3f} ({first / median(way):.2f} x)" for way in (now, compiled) if way]
                    rows.append(row + [f"{start:.0f}"] * arguments.compiled)
                    print(markdown_table([], [rows[-1]]).splitlines()[-1], flush=True)
    heads = ["case", "arm", "precision", "before", "now", *["compiled", "first step, s"] * arguments.compiled]
    print("\n" + markdown_table(heads, rows))


if __name__ == "__main__":
    main()
