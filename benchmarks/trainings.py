"""Training steps as they run here against the same steps in contiguous fp32 with convolutions at every pixel.

Usage: python -m benchmarks.trainings [--systems oasis semantic-palette] [--size 128x256] [--batch 2] [--steps 2]

Each system is trained for some steps on embedded scenes with the papers' networks: all losses, both optimizers. The
ways take turns, a few steps each; the first step of every turn is left out, and medians are printed.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from unittest.mock import patch

import numpy as np
import torch
from torch import nn

from benchmarks.measure import machine, markdown_table
from scenepalette.common.progress import NO_PROGRESS
from scenepalette.data.arrays import Pairs
from scenepalette.generators.images.perceptual import VGG_LAYERS, Vgg19Features
from scenepalette.generators.images.registry import IMAGE_SYSTEMS
from scenepalette.generators.images.training import train_image_generator
from scenepalette.generators.kernels.passes import FASTER
from scenepalette.generators.layouts.registry import LAYOUT_SYSTEMS
from scenepalette.generators.layouts.settings import LayoutSettings
from scenepalette.generators.layouts.training import train_layout_generator
from scenepalette.generators.nn.grids import base_grid
from scenepalette.generators.palettes import PaletteSampler
from scenepalette.pipeline.config import DataConfig
from scenepalette.pipeline.doctor.machine.measure import EnoughError, StepTimes
from scenepalette.pipeline.stages.data import prepare_data, read_data
from scenepalette.pipeline.stages.palettes import fit_palettes, load_sampler
from scenepalette.training.device.speed import usual_speed
from scenepalette.training.fabric import computes_bfloat16, make_fabric

PLAIN = "plain: contiguous fp32"
WAYS = {PLAIN: ("32-true", True), "as trained, fp32": ("32-true", False)}
if computes_bfloat16("cuda" if torch.cuda.is_available() else "cpu"):
    WAYS["as trained, bf16"] = ("bf16-mixed", False)


def step_seconds(training: Callable[..., None], precision: str, plain: bool, steps: int, folder: Path) -> list[float]:
    """Return the wall times of the steps of a training, without its first."""
    times = StepTimes(steps)
    accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    fabric = make_fabric(accelerator, precision, speed=usual_speed(accelerator, plain=plain))
    try:
        if plain:
            with patch.object(torch, "channels_last", torch.contiguous_format), patch.dict(FASTER, clear=True):
                training(folder, fabric=fabric, progress=times)
        else:
            training(folder, fabric=fabric, progress=times)
    except EnoughError:
        pass
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
    prepare_data(folder / "data", config, 0, NO_PROGRESS)
    pairs, _, labels = read_data(folder / "data")
    fit_palettes(folder / "palettes", 4, pairs, 0)
    sampler = load_sampler(folder / "palettes")
    return {
        **{name: _layout_training(name, pairs, labels, sampler, batch, width) for name in LAYOUT_SYSTEMS},
        **{name: _image_training(name, pairs, labels, batch, width) for name in _image_systems()},
    }


def _image_systems() -> list[str]:
    """Return those that are trained here."""
    return [name for name, system in IMAGE_SYSTEMS.items() if not system.comes_trained(system.settings())]


def _layout_training(
    name: str, pairs: Pairs, labels: np.ndarray, sampler: PaletteSampler, batch: int, width: float
) -> tuple[Callable[..., None], str]:
    _, doublings = base_grid(pairs.size)
    settings = LayoutSettings(
        max_width=round(512 * width),
        base_width=round(8192 * width),
        fade_steps=(0,) * (doublings + 1),
        stable_steps=(*(0,) * doublings, 10**6),
        batch_sizes=(batch,) * (doublings + 1),
        checkpoint_every=10**6,
    )
    network = LAYOUT_SYSTEMS[name].build_generator(pairs.table, pairs.size, settings)
    training = partial(
        train_layout_generator, kind=name, settings=settings, labels=labels, table=pairs.table, sampler=sampler, seed=0
    )
    return training, _millions(network)


def _image_training(
    name: str, pairs: Pairs, labels: np.ndarray, batch: int, width: float
) -> tuple[Callable[..., None], str]:
    system = IMAGE_SYSTEMS[name]
    standard = system.settings()
    widths = {
        field: max(1, round(getattr(standard, field) * width))
        for field in ("width", "hidden_channels", "discriminator_width")
        if hasattr(standard, field)
    }
    settings = replace(standard, steps=10**6, batch_size=batch, checkpoint_every=10**6, **widths)
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
    return f"{sum(parameter.numel() for parameter in network.parameters()) / 1e6:.1f} M"


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
    arguments = parser.parse_args()
    print(machine())
    print(f"{arguments.size[0]}x{arguments.size[1]}, {arguments.batch} samples per step, seconds per step\n")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        chosen = trainings(Path(folder), arguments.size, arguments.batch, arguments.width)
        for name in arguments.systems:
            training, parameters = chosen[name]
            seconds: dict[str, list[float]] = {way: [] for way in WAYS}
            for turn in range(arguments.turns):
                for way, (precision, plain) in WAYS.items():
                    out = Path(folder) / f"{name}-{turn}-{precision}-{plain}"
                    seconds[way] += step_seconds(training, precision, plain, arguments.steps, out)
            first, *others = (median(values) for values in seconds.values())
            rows.append([name, parameters, f"{first:.2f}", *(f"{s:.2f} ({first / s:.1f} x)" for s in others)])
    print(markdown_table(["system", "generator", *WAYS], rows))


if __name__ == "__main__":
    main()
