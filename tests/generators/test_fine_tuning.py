from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from PIL import Image
from safetensors.torch import load_file

from scenepalette.common.errors import CheckpointError, TrainingError
from scenepalette.common.progress import NO_PROGRESS
from scenepalette.data.arrays import Pairs
from scenepalette.data.labels import fill_ignored, labels_to_palette
from scenepalette.generators import fine_tuning as end_to_end
from scenepalette.generators.fine_tuning import FineTuneSettings, TrainedPart, fine_tune
from scenepalette.generators.images import training as image_training
from scenepalette.generators.images.base import FeatureNetwork, ImageSettings
from scenepalette.generators.images.loading import load_image_generator
from scenepalette.generators.images.systems.crn import CrnImleSettings
from scenepalette.generators.images.systems.gaugan import GauganSettings
from scenepalette.generators.images.systems.oasis import OasisSettings
from scenepalette.generators.images.training import train_image_generator
from scenepalette.generators.layouts import training as layout_training
from scenepalette.generators.layouts.loading import load_layout_generator
from scenepalette.generators.layouts.settings import LayoutSettings
from scenepalette.generators.layouts.training import train_layout_generator
from scenepalette.generators.palettes import PaletteSampler, fit_palette_sampler
from scenepalette.training.loop import read_metrics

LAYOUTS = LayoutSettings(
    noise_features=4,
    max_width=8,
    base_width=64,
    hidden_channels=4,
    fade_steps=(0, 1, 1),
    stable_steps=(1, 1, 1),
    batch_sizes=(4, 4, 4),
)
TRAINING: dict[str, Any] = {"width": 4, "hidden_channels": 4, "discriminator_width": 4, "steps": 2, "batch_size": 3}
IMAGES: dict[str, ImageSettings] = {
    "oasis": OasisSettings(**TRAINING, noise_channels=3),
    "gaugan": GauganSettings(**TRAINING),
    "crn-imle": CrnImleSettings(
        width=1, steps=2, batch_size=3, noise_channels=4, encoder_channels=6, round_size=7, candidates=3, round_steps=2
    ),
}
TUNING = FineTuneSettings(
    steps=6,
    batch_size=3,
    width=4,
    layout_learning_rate=1e-3,
    image_learning_rate=1e-3,
    average_decay=0.5,
    checkpoint_every=2,
)

Tune = Callable[..., Path]


class Parts:
    """Trained parts in a folder, made once each."""

    def __init__(self, folder: Path, pairs: Pairs, features: FeatureNetwork, fabric: Fabric) -> None:
        self.folder, self.pairs, self.features, self.fabric = folder, pairs, features, fabric
        self.filled = np.stack([fill_ignored(label) for label in pairs.labels])
        palettes = labels_to_palette(torch.from_numpy(self.filled.astype(np.int64)), 3).numpy()
        self.sampler: PaletteSampler = fit_palette_sampler(palettes, pairs.table.names, max_components=2)

    def layouts(self, system: str) -> TrainedPart:
        folder = self.folder / system
        if not folder.exists():
            train_layout_generator(
                folder,
                system,
                LAYOUTS,
                labels=self.filled,
                table=self.pairs.table,
                sampler=self.sampler,
                seed=0,
                fabric=self.fabric,
            )
        return TrainedPart(system, LAYOUTS, folder)

    def images(self, system: str) -> TrainedPart:
        folder = self.folder / system
        if not folder.exists():
            train_image_generator(
                folder,
                system,
                IMAGES[system],
                pairs=self.pairs,
                filled_labels=self.filled,
                features=self.features,
                seed=0,
                fabric=self.fabric,
            )
        return TrainedPart(system, IMAGES[system], folder)


@pytest.fixture
def parts(
    tmp_path: Path,
    make_pairs: Callable[..., Pairs],
    tiny_features: FeatureNetwork,
    fabric: Fabric,
    monkeypatch: pytest.MonkeyPatch,
) -> Parts:
    for module in (end_to_end, image_training, layout_training):
        monkeypatch.setattr(module, "STATISTICS_BATCHES", 2)
    return Parts(tmp_path / "parts", make_pairs(), tiny_features, fabric)


@pytest.fixture
def tune(tmp_path: Path, parts: Parts) -> Tune:
    def run(
        name: str,
        layouts: str = "semantic-palette",
        images: str = "oasis",
        settings: FineTuneSettings = TUNING,
        progress: Any = NO_PROGRESS,
    ) -> Path:
        fine_tune(
            tmp_path / name,
            parts.layouts(layouts),
            parts.images(images),
            settings,
            pairs=parts.pairs,
            filled_labels=parts.filled,
            sampler=parts.sampler,
            features=parts.features,
            seed=1,
            fabric=parts.fabric,
            progress=progress,
        )
        return tmp_path / name

    return run


def differing(before: Path, after: Path) -> set[str]:
    first, second = load_file(before), load_file(after)
    assert first.keys() == second.keys()
    return {name for name in first if not torch.equal(first[name], second[name])}


@pytest.mark.parametrize("layouts", ["semantic-palette", "semantic-palette-partial", "sb-gan"])
@pytest.mark.parametrize("images", ["oasis", "gaugan", "crn-imle"])  # the last one's objective has a memory
def test_any_layout_system_is_fine_tuned_with_any_image_system(
    layouts: str, images: str, tune: Tune, parts: Parts
) -> None:
    folder = tune("run", layouts, images)
    table, size = parts.pairs.table, parts.pairs.size
    load_layout_generator(folder / "layouts.safetensors", layouts, table, size, LAYOUTS)
    load_image_generator(folder / "images.safetensors", images, table, size, IMAGES[images])
    assert differing(parts.folder / layouts / "weights.safetensors", folder / "layouts.safetensors")
    assert differing(parts.folder / images / "weights.safetensors", folder / "images.safetensors")
    sheet = np.asarray(Image.open(folder / "samples/final.png"))
    assert sheet.shape[2] == 3 and sheet.std() > 0


def test_an_interrupted_fine_tuning_ends_with_the_same_bits(tune: Tune, stop_at: Any) -> None:
    whole = tune("whole", images="gaugan")
    with pytest.raises(KeyboardInterrupt):
        tune("halves", images="gaugan", progress=stop_at(3))
    torch.manual_seed(9)
    again = stop_at()
    halves = tune("halves", images="gaugan", progress=again)
    assert again.first == 2
    for name in ("layouts.safetensors", "images.safetensors", "samples/final.png", "metrics.jsonl"):
        assert (whole / name).read_bytes() == (halves / name).read_bytes(), name


@pytest.mark.parametrize(("train", "frozen"), [("layouts", "images"), ("images", "layouts")])
def test_a_frozen_part_keeps_its_weights(train: Any, frozen: str, tune: Tune, parts: Parts) -> None:
    folder = tune("run", settings=replace(TUNING, train=train))
    before = {"layouts": "semantic-palette", "images": "oasis"}
    changed = differing(parts.folder / before[frozen] / "weights.safetensors", folder / f"{frozen}.safetensors")
    # Batch statistics belong to what the generator meets, not to what it learned.
    assert all("running" in name or "num_batches" in name for name in changed)
    assert differing(parts.folder / before[train] / "weights.safetensors", folder / f"{train}.safetensors")


def test_the_gradient_of_images_reaches_the_layout_generator(tune: Tune, parts: Parts) -> None:
    # Without its own losses, only what D2 says of images can change the layouts.
    folder = tune("run", settings=replace(TUNING, train="layouts", layout_weight=0.0))
    changed = differing(parts.folder / "semantic-palette/weights.safetensors", folder / "layouts.safetensors")
    assert any("to_mask" in name for name in changed) and any("from_noise" in name for name in changed)


def test_losses_of_both_parts_and_of_the_judge_are_logged(tune: Tune) -> None:
    folder = tune("run", settings=replace(TUNING, steps=20))
    (line,) = read_metrics(folder / "metrics.jsonl")
    assert {"end_to_end", "judge", "critic", "layout_adversarial", "image_generator", "image_real"} <= line.keys()


def test_a_gradient_that_is_not_finite_stops_before_a_step(
    tune: Tune, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    original, calls = end_to_end.hinge_generator_loss, []

    def broken(scores: Any) -> torch.Tensor:
        calls.append(1)
        loss = original(scores)
        return loss + (0 * loss).sqrt() if len(calls) == 4 else loss  # the root of 0 has no slope

    monkeypatch.setattr(end_to_end, "hinge_generator_loss", broken)
    with pytest.raises(TrainingError, match="gradient of the layout generator is not finite at step 3"):
        tune("run")
    assert [p.name for p in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-00000002.safetensors"]


def test_watching_leaves_the_training_as_it_is(tune: Tune, monkeypatch: pytest.MonkeyPatch) -> None:
    without = tune("without")
    monkeypatch.setattr(end_to_end, "watch_interval", lambda steps: 2)
    watched = tune("watched")
    for name in ("layouts.safetensors", "images.safetensors", "checkpoint-00000006.safetensors"):
        assert (watched / name).read_bytes() == (without / name).read_bytes(), name
    assert (watched / "samples/step-000004.png").is_file()
    lines = read_metrics(watched / "metrics.jsonl")
    assert [line["step"] for line in lines] == [2, 4, 6]
    measures = {"layout_diversity", "layout_noise_diversity", "image_diversity", "image_noise_difference"}
    assert all(measures <= line.keys() for line in lines)


def test_a_part_without_checkpoint_is_refused(tune: Tune, parts: Parts) -> None:
    for path in parts.layouts("semantic-palette").folder.glob("checkpoint-*"):
        path.unlink()
    with pytest.raises(CheckpointError, match="no checkpoint to resume from"):
        tune("run")
