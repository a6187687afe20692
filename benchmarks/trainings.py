"""Training steps as they run here against the same steps in contiguous fp32 with convolutions at every pixel.

Usage: python -m benchmarks.trainings [--systems oasis semantic-palette] [--size 128x256] [--batch 2] [--steps 2]

Each system is trained for some steps on embedded scenes with the papers' networks: all losses, both optimizers. The
ways take turns, a few steps each; the first step of every turn is left out, and medians are printed.

`--recipe demo` or `--recipe camvid-cpu` takes the networks, losses, sizes and batches of a recipe instead, its image
system and its layouts at every level that it trains, and prints processor seconds per step. The scenes are embedded
ones for both, as what labels look like matters little; perceptual losses have random weights, which cost what trained
ones do.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import nn

from benchmarks.gpu.trainings import as_written, last_level, widened
from benchmarks.measure import machine, markdown_table
from scenepalette.common.progress import NO_PROGRESS, EnoughError
from scenepalette.data.arrays import Pairs
from scenepalette.generators.images.perceptual import VGG_LAYERS, Vgg19Features
from scenepalette.generators.images.registry import IMAGE_SYSTEMS
from scenepalette.generators.images.training import train_image_generator
from scenepalette.generators.layouts.registry import LAYOUT_SYSTEMS
from scenepalette.generators.layouts.training import train_layout_generator
from scenepalette.generators.nn.blocks import count_parameters
from scenepalette.generators.palettes import PaletteSampler
from scenepalette.pipeline.config import DataConfig, load_config
from scenepalette.pipeline.doctor.machine.measure import StepTimes
from scenepalette.pipeline.stages.images import image_model, untrained_features
from scenepalette.pipeline.stages.inputs.data import prepare_data, read_data
from scenepalette.pipeline.stages.layouts import SECTIONS, layout_model
from scenepalette.pipeline.stages.palettes import fit_palettes, load_sampler
from scenepalette.training.device.abilities import computes_bfloat16
from scenepalette.training.device.speed import usual_speed
from scenepalette.training.fabric import make_fabric

PLAIN = "plain: contiguous fp32"
WAYS = {PLAIN: ("32-true", True), "as trained, fp32": ("32-true", False)}
if computes_bfloat16("cuda" if torch.cuda.is_available() else "cpu"):
    WAYS["as trained, bf16"] = ("bf16-mixed", False)


def step_seconds(
    training: Callable[..., None], precision: str, plain: bool, times: StepTimes, folder: Path
) -> list[float]:
    """Return the seconds of the steps of a training, without its first."""
    accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    fabric = make_fabric(accelerator, precision, speed=usual_speed(accelerator, plain=plain))
    with suppress(EnoughError), as_written(plain):
        training(folder, fabric=fabric, progress=times)
    return times.seconds[1:]


def trainings(
    folder: Path, size: tuple[int, int], batch: int, width: float
) -> dict[str, tuple[Callable[..., None], str]]:
    """Return the trainings by name of the system, and what is trained.

    Args:
        folder: Where the embedded scenes are kept.
        size: Height and width, pixels.
        batch: Samples per step.
        width: Factor on the papers' widths.
    """
    config = DataConfig(name="streets", size=size, train_scenes=32, val_scenes=2)
    pairs, labels, sampler = _scenes(folder, config)
    return {
        **{name: _layout_training(name, pairs, labels, sampler, batch, width) for name in LAYOUT_SYSTEMS},
        **{name: _image_training(name, pairs, labels, batch, width) for name in _image_systems()},
    }


def recipe_trainings(folder: Path, recipe: str) -> dict[str, tuple[Callable[..., None], str]]:
    """Return the trainings of a recipe's image system, and of its layouts at each level, and their batches.

    The embedded scenes are kept in `folder`.
    """
    changes = ["data.name=streets", "data.train_scenes=64", "data.val_scenes=2"]
    config = load_config(recipe, changes)
    (pairs, labels, sampler), chosen = _scenes(folder, config.data), image_model(config)
    image = partial(
        train_image_generator,
        name=chosen.system,
        settings=replace(chosen.settings, steps=10**6, checkpoint_every=10**6),
        pairs=pairs,
        filled_labels=labels,
        features=untrained_features(config, chosen.system, pairs.table),
        seed=0,
    )
    found: dict[str, tuple[Callable[..., None], str]] = {chosen.system: (image, str(chosen.settings.batch_size))}
    for section in SECTIONS:
        model = layout_model(config, section)
        for level in reversed(range(len(model.settings.batch_sizes))):
            stable = tuple(10**6 if i == level else 0 for i in range(len(model.settings.batch_sizes)))
            settings = replace(
                model.settings, fade_steps=(0,) * len(stable), stable_steps=stable, checkpoint_every=10**6
            )
            layout = partial(
                train_layout_generator,
                name=model.system,
                settings=settings,
                labels=labels,
                table=pairs.table,
                sampler=sampler,
                seed=0,
            )
            found[f"{model.system}, level {level}"] = (layout, str(settings.batch_sizes[level]))
    return found


def _scenes(folder: Path, config: DataConfig) -> tuple[Pairs, np.ndarray, PaletteSampler]:
    """Return embedded scenes, their labels without ignored pixels, and a sampler of their palettes."""
    prepare_data(folder / "data", config, 0, NO_PROGRESS)
    data = read_data(folder / "data")
    fit_palettes(folder / "palettes", 4, data.train, 0)
    return data.train, data.filled_labels, load_sampler(folder / "palettes")


def _image_systems() -> list[str]:
    """Return those that are trained here."""
    return [name for name, system in IMAGE_SYSTEMS.items() if not system.comes_trained(system.settings())]


def _layout_training(
    name: str, pairs: Pairs, labels: np.ndarray, sampler: PaletteSampler, batch: int, width: float
) -> tuple[Callable[..., None], str]:
    settings = last_level(pairs.size, width, batch)
    network = LAYOUT_SYSTEMS[name].build_generator(pairs.table, pairs.size, settings)
    training = partial(
        train_layout_generator, name=name, settings=settings, labels=labels, table=pairs.table, sampler=sampler, seed=0
    )
    return training, _millions(network)


def _image_training(
    name: str, pairs: Pairs, labels: np.ndarray, batch: int, width: float
) -> tuple[Callable[..., None], str]:
    system = IMAGE_SYSTEMS[name]
    settings = widened(system.settings(), width, batch)
    with torch.device("meta"):
        network = system.build_generator(pairs.table, pairs.size, settings)
    training = partial(
        train_image_generator,
        name=name,
        settings=settings,
        pairs=pairs,
        filled_labels=labels,
        # Random weights cost what trained ones do.
        features=Vgg19Features(system.perceptual_layers or VGG_LAYERS) if system.perceptual else None,
        seed=0,
    )
    return training, _millions(network)


def _millions(network: nn.Module) -> str:
    return f"{count_parameters(network) / 1e6:.1f} M"


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [*LAYOUT_SYSTEMS, *_image_systems()]
    parser.add_argument("--systems", nargs="+", default=["semantic-palette", "oasis", "gaugan"], choices=known)
    parser.add_argument("--size", type=lambda text: tuple(map(int, text.split("x"))), default=(128, 256))
    parser.add_argument("--batch", type=int, default=2, help="samples per step")
    parser.add_argument("--steps", type=int, default=2, help="timed steps per turn")
    parser.add_argument("--turns", type=int, default=2, help="turns of each way")
    parser.add_argument("--width", type=float, default=1.0, help="factor on the papers' widths")
    parser.add_argument("--recipe", choices=["demo", "camvid-cpu"], help="networks and batches of a recipe instead")
    arguments = parser.parse_args()
    print(machine())
    if arguments.recipe:
        print(f"{arguments.recipe}: processor seconds per step\n")
        with tempfile.TemporaryDirectory() as folder:
            _print_rows(recipe_trainings(Path(folder), arguments.recipe), arguments, Path(folder), time.process_time)
        return
    print(f"{arguments.size[0]}x{arguments.size[1]}, {arguments.batch} samples per step, seconds per step\n")
    with tempfile.TemporaryDirectory() as folder:
        known_trainings = trainings(Path(folder), arguments.size, arguments.batch, arguments.width)
        chosen = {name: known_trainings[name] for name in arguments.systems}
        _print_rows(chosen, arguments, Path(folder), time.perf_counter)


def _print_rows(
    chosen: dict[str, tuple[Callable[..., None], str]],
    arguments: argparse.Namespace,
    folder: Path,
    clock: Callable[[], float],
) -> None:
    rows = []
    for name, (training, about) in chosen.items():
        seconds: dict[str, list[float]] = {way: [] for way in WAYS}
        for turn in range(arguments.turns):
            for way, (precision, plain) in WAYS.items():
                out = folder / f"{name}-{turn}-{precision}-{plain}"
                seconds[way] += step_seconds(training, precision, plain, StepTimes(arguments.steps, clock), out)
        first, *others = (median(values) for values in seconds.values())
        rows.append([name, about, f"{first:.3f}", *(f"{s:.3f} ({first / s:.1f} x)" for s in others)])
    second = "batch" if arguments.recipe else "generator"
    print(markdown_table(["training", second, *WAYS], rows))


if __name__ == "__main__":
    main()
