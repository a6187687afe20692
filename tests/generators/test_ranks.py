"""Trainings by two processes against the same by one: this file is also the program that each of the two runs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from scenepalette.common.errors import ConfigError
from scenepalette.data.arrays import Pairs
from scenepalette.data.classes import ClassTable
from scenepalette.data.labels import fill_ignored, labels_to_palette
from scenepalette.generators import fine_tuning as end_to_end
from scenepalette.generators.fine_tuning import FineTuneSettings, TrainedPart, fine_tune
from scenepalette.generators.images import training as image_training
from scenepalette.generators.images.base import FeatureNetwork, ImageSettings
from scenepalette.generators.images.systems.crn import CrnImleSettings
from scenepalette.generators.images.systems.gaugan import GauganSettings
from scenepalette.generators.images.systems.oasis import OasisSettings
from scenepalette.generators.images.training import train_image_generator
from scenepalette.generators.layouts.settings import LayoutSettings
from scenepalette.generators.layouts.training import train_layout_generator
from scenepalette.generators.palettes import fit_palette_sampler
from scenepalette.training import trainee
from scenepalette.training.fabric import make_fabric
from scenepalette.training.ranks import ALONE, Ranks, joined_ranks
from scenepalette.training.trainee import require_finite_gradients

REPOSITORY = Path(__file__).parents[2]
SEED = 3
STOP = 2  # finished steps at which a training is handed over
ROUNDING = 5e-4  # after some steps, as a fraction of the largest gradient

LAYOUT = LayoutSettings(
    noise_features=6,
    max_width=8,
    base_width=32,
    hidden_channels=6,
    fade_steps=(0, 1, 0),
    stable_steps=(1, 1, 1),
    batch_sizes=(6, 6, 4),
    penalty_share=0.5,  # 3, 3 and 2 samples: also parts of unequal size
    checkpoint_every=1,
)
IMAGE: dict[str, Any] = {"steps": 3, "batch_size": 4, "checkpoint_every": 1}
OASIS = OasisSettings(
    width=4,
    noise_channels=5,
    hidden_channels=6,
    discriminator_width=4,
    augment=True,
    warp=0.05,
    lecam_weight=0.1,
    noise_scheme="mix",
    **IMAGE,
)
CASES: dict[str, LayoutSettings | ImageSettings | FineTuneSettings] = {
    "semantic-palette": replace(LAYOUT, balance=0.5, warp=0.2),
    "semantic-palette-partial": LAYOUT,
    "sb-gan": LAYOUT,
    "oasis": OASIS,
    "gaugan": GauganSettings(width=4, discriminator_width=4, vae=True, latent_features=3, hidden_channels=6, **IMAGE),
    "crn-imle": CrnImleSettings(
        width=1, noise_channels=4, encoder_channels=6, round_size=7, candidates=3, round_steps=2, **IMAGE
    ),
    "end-to-end": FineTuneSettings(steps=3, batch_size=4, width=4, checkpoint_every=1),
}


class _StoppedError(Exception):
    pass


@dataclass
class Record:
    """Progress that keeps losses and, of every optimizer step, the gradients; it may stop the training."""

    stop: int = 10**9
    first: int = 0
    done: int = 0
    losses: list[Mapping[str, float]] = field(default_factory=list)
    gradients: dict[str, Tensor] = field(default_factory=dict)

    def start(self, description: str, total: int, done: int = 0) -> None:
        self.first = self.done = done

    def advance(self, count: int = 1, **values: float) -> None:
        self.done += count
        self.losses.append(values)
        if self.done == self.stop:
            raise _StoppedError

    def finish(self) -> None:
        pass

    def look(self, step: int, **modules: nn.Module) -> None:
        require_finite_gradients(step, **modules)
        for name, module in modules.items():
            gradients = [p.grad.flatten() for p in module.parameters() if p.grad is not None]
            self.gradients[f"{step} {name}"] = torch.cat(gradients)

    def save(self, path: Path) -> None:
        losses = {f"loss {i} {name}": torch.tensor(x) for i, line in enumerate(self.losses) for name, x in line.items()}
        save_file({**self.gradients, **losses, "first": torch.tensor(self.first)}, path)


def train(
    case: str,
    folder: Path,
    data: tuple[Pairs, np.ndarray, FeatureNetwork],
    ranks: Ranks = ALONE,
    stop: int = 10**9,
    parts: Path | None = None,
) -> None:
    """Train a case in a folder and leave there what each process saw."""
    pairs, filled, features = data
    settings, record = CASES[case], Record(stop)
    shared: dict[str, Any] = {"seed": SEED, "fabric": make_fabric(), "progress": record, "ranks": ranks}
    palettes = labels_to_palette(torch.from_numpy(filled.astype(np.int64)), 3).numpy()
    sampler = fit_palette_sampler(palettes, pairs.table.names, max_components=2)
    with (
        patch.object(image_training, "STATISTICS_BATCHES", 2),
        patch.object(end_to_end, "STATISTICS_BATCHES", 2),
        patch.object(trainee, "require_finite_gradients", record.look),
    ):
        try:
            if isinstance(settings, LayoutSettings):
                train_layout_generator(
                    folder, case, settings, labels=filled, table=pairs.table, sampler=sampler, **shared
                )
            elif isinstance(settings, ImageSettings):
                train_image_generator(
                    folder, case, settings, pairs=pairs, filled_labels=filled, features=features, **shared
                )
            else:
                assert parts is not None
                layouts = TrainedPart("semantic-palette", LAYOUT, parts / "semantic-palette")
                images = TrainedPart("oasis", OASIS, parts / "oasis")
                options: dict[str, Any] = {"pairs": pairs, "filled_labels": filled, "features": None}
                fine_tune(folder, layouts, images, settings, sampler=sampler, **options, **shared)
        except _StoppedError:
            pass
    record.save(folder / f"rank-{ranks.index}.safetensors")


def main(folder: Path) -> None:
    """Train every case by two processes: as a whole, up to a point, and on from where one process stopped."""
    from conftest import TABLE, TinyFeatures

    torch.set_num_threads(1)
    arrays = np.load(folder / "pairs.npz")
    images, labels = arrays["images"], arrays["labels"]
    pairs = Pairs(images, labels, [str(index) for index in range(len(labels))], TABLE, "bands", "CC0-1.0")
    data = pairs, arrays["filled"], TinyFeatures()
    with joined_ranks() as ranks:
        for case in CASES:
            train(case, folder / "two" / case, data, ranks, parts=folder / "one")
            train(case, folder / "two-stopped" / case, data, ranks, STOP, parts=folder / "one")
            train(case, folder / "one-stopped" / case, data, ranks, parts=folder / "one")


@dataclass
class Trained:
    """A folder with the trainings of one and of two processes."""

    folder: Path
    data: tuple[Pairs, np.ndarray, FeatureNetwork]

    def seen(self, name: str, case: str, rank: int = 0) -> dict[str, Tensor]:
        return load_file(self.folder / name / case / f"rank-{rank}.safetensors")


def _start_both(folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "PYTHONPATH": str(REPOSITORY / "src"),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, __file__, str(folder)]
    both = [subprocess.Popen(command, env=environment | {"RANK": str(rank)}) for rank in range(2)]
    try:
        assert [process.wait(600) for process in both] == [0, 0]
    finally:
        for process in both:
            process.kill()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Trained]:
    made: list[Trained] = []

    def get(make_pairs: Callable[..., Pairs], features: FeatureNetwork) -> Trained:
        if not made:
            torch.set_num_threads(1)
            folder, pairs = tmp_path_factory.mktemp("ranks"), make_pairs()
            filled = np.stack([fill_ignored(label) for label in pairs.labels])
            np.savez(folder / "pairs.npz", images=pairs.images, labels=pairs.labels, filled=filled)
            data = pairs, filled, features
            for case in CASES:
                train(case, folder / "one" / case, data, parts=folder / "one")
                train(case, folder / "one-stopped" / case, data, stop=STOP, parts=folder / "one")
            _start_both(folder)
            made.append(Trained(folder, data))
        return made[0]

    return get


@pytest.fixture
def runs(trained: Callable[..., Trained], make_pairs: Callable[..., Pairs], tiny_features: FeatureNetwork) -> Trained:
    return trained(make_pairs, tiny_features)


def far_from(actual: Tensor, expected: Tensor) -> float:
    """Return the largest difference, as a fraction of the largest value."""
    return float((actual - expected).abs().max() / expected.abs().max())


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_have_the_gradients_of_one(case: str, runs: Trained) -> None:
    one, two, other = runs.seen("one", case), runs.seen("two", case), runs.seen("two", case, rank=1)
    assert one.keys() == two.keys() == other.keys()
    gradients = [name for name in one if name[0].isdigit()]
    for name in gradients:
        assert far_from(two[name], one[name]) < ROUNDING
        assert torch.equal(two[name], other[name])
    for name in one:
        if name.startswith("loss"):
            assert float(two[name]) == pytest.approx(float(one[name]), rel=ROUNDING, abs=ROUNDING)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("stopped", ["one-stopped", "two-stopped"])
def test_another_number_of_processes_goes_on_from_a_checkpoint(case: str, stopped: str, runs: Trained) -> None:
    if stopped == "two-stopped":
        train(case, runs.folder / stopped / case, runs.data, parts=runs.folder / "one")
    whole, parts = runs.seen("one", case), runs.seen(stopped, case)
    first = int(parts["first"])
    assert first == STOP - 1
    for name in parts:
        shift = f"loss {int(name.split()[1]) + first} {name.split()[2]}" if name.startswith("loss") else name
        if name.startswith("loss"):
            assert float(parts[name]) == pytest.approx(float(whole[shift]), rel=ROUNDING, abs=ROUNDING)
        elif name != "first":
            assert far_from(parts[name], whole[shift]) < ROUNDING


def test_batches_that_cannot_be_divided_are_refused(table: ClassTable) -> None:
    with pytest.raises(ConfigError) as caught:
        Ranks(0, 4).check_batches({"layouts": [8, 6], "images": [12]})
    assert "start one of 1, 2 processes" in caught.value.summary
    assert caught.value.problems == ("layouts: 8, 6; each must be a multiple of 4",)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
