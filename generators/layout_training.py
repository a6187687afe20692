"""The training loop of layout generators: progressive growing with an improved Wasserstein critic."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn

from data.classes import ClassTable
from data.labels import labels_to_palette, one_hot, soft_to_label
from data.randomness import numpy_generator
from generators.activation import conditional_loss
from generators.blocks import estimate_batch_statistics
from generators.crops import CropMode, boxes_to_crop, sample_crop
from generators.grids import base_grid
from generators.layout_losses import critic_loss, generator_loss, gradient_penalty, layout_at_level
from generators.layout_models import (
    LayoutBatch,
    LayoutDiscriminator,
    LayoutGenerator,
    PartialLayoutGenerator,
    crop_layout,
    partial_budget,
)
from generators.palettes import PaletteSampler, palette_divergence
from generators.pictures import tile_pictures
from training.average import averaged_copy, decay_at, update_average
from training.checkpoint import CheckpointFolder, load_weights, save_weights
from training.loop import NO_PROGRESS, MetricsLog, Progress, epoch_batch, require_finite, seed_step

LayoutKind = Literal["semantic-palette", "semantic-palette-partial"]
STATISTICS_BATCHES = 16
SHEET_COUNT = 16


@dataclass(frozen=True)
class LayoutSettings:
    """Numbers of a layout generator and its training; the defaults are the papers' at 128x256.

    Attributes:
        noise_features: Z.
        max_width: Largest number of feature channels.
        base_width: Level i has base_width / 2^(i+1) channels, at most `max_width`.
        hidden_channels: Width inside SPADE modulations (partial generator).
        fade_steps: Optimizer steps of fading in, one number a level; the base grid's is 0.
        stable_steps: Optimizer steps after fading in, one number a level.
        batch_sizes: One number a level.
        learning_rate: Of both Adam optimizers.
        betas: Of both Adam optimizers.
        gradient_penalty_weight: Lambda of the improved Wasserstein loss.
        conditional_weight: Weight of L_COND against the adversarial loss.
        average_decay: Of the averaged generator that is used for sampling.
        relative_sigma: Blur of softened real layouts as a fraction of the height.
        crop_mode: Where partial edits are trained.
        checkpoint_every: Optimizer steps between checkpoints.
    """

    noise_features: int = 512
    max_width: int = 512
    base_width: int = 8192
    hidden_channels: int = 128
    fade_steps: tuple[int, ...] = (0, 1500, 3000, 6000, 12000, 24000)
    stable_steps: tuple[int, ...] = (1500, 1500, 3000, 6000, 12000, 24000)
    batch_sizes: tuple[int, ...] = (1024, 512, 256, 64, 16, 8)
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.0, 0.99)
    gradient_penalty_weight: float = 10.0
    conditional_weight: float = 1.0
    average_decay: float = 0.999
    relative_sigma: float = 1 / 64
    crop_mode: CropMode = "band"
    checkpoint_every: int = 500


@dataclass(frozen=True)
class Moment:
    """Where a step lies in the growing of the network."""

    level: int
    fade: float
    batch_size: int
    ends_level: bool


def moment_of(settings: LayoutSettings, step: int) -> Moment:
    """Return level, fade-in weight and batch size of a step counted from 0."""
    first = 0
    for level, (fading, stable) in enumerate(zip(settings.fade_steps, settings.stable_steps, strict=True)):
        if step < first + fading + stable:
            fade = min(1.0, (step - first + 1) / fading) if fading else 1.0
            return Moment(level, fade, settings.batch_sizes[level], step == first + fading + stable - 1)
        first += fading + stable
    raise IndexError(f"step {step} is beyond the schedule of {first} steps")


def build_layout_generator(
    kind: LayoutKind, num_classes: int, size: tuple[int, int], settings: LayoutSettings
) -> LayoutGenerator | PartialLayoutGenerator:
    """Return the untrained network of a layout system for K classes and H x W.

    Raises:
        ConfigError: No base grid reaches the size.
    """
    base, doublings = base_grid(size)
    widths = {"max_width": settings.max_width, "base_width": settings.base_width}
    if kind == "semantic-palette":
        return LayoutGenerator(num_classes, base, doublings, settings.noise_features, **widths)
    return PartialLayoutGenerator(
        num_classes, base, doublings, settings.noise_features, hidden_channels=settings.hidden_channels, **widths
    )


def load_layout_generator(
    folder: Path, kind: LayoutKind, table: ClassTable, size: tuple[int, int], settings: LayoutSettings
) -> LayoutGenerator | PartialLayoutGenerator:
    """Load the averaged generator that `train_layout_generator` wrote, in eval mode.

    Raises:
        CheckpointError: The weights are damaged or of another class table, kind or size.
    """
    network = build_layout_generator(kind, table.num_classes, size, settings)
    load_weights(folder / "weights.safetensors", network, _identity(kind, table, size))
    return network.eval().requires_grad_(False)


def _identity(kind: LayoutKind, table: ClassTable, size: tuple[int, int]) -> dict[str, object]:
    return {"system": kind, "class_table": table.fingerprint, "size": list(size)}


class _Task(Protocol):
    """How one kind of generator is fed; `stream` tells apart draws of the critic's and the generator's use."""

    def run(self, network: nn.Module, step: int, stream: str, batch_size: int, level: int, fade: float) -> LayoutBatch:
        """Generate a training batch as a function of (seed, stream, step)."""
        ...

    def sheet(self, network: nn.Module, level: int) -> tuple[list[np.ndarray], float]:
        """Return pictures of fixed samples at a level and the mean KL of their hard layouts."""
        ...


class _FullTask:
    """Palettes from the sampler, noise from a Gaussian."""

    def __init__(
        self, sampler: PaletteSampler, settings: LayoutSettings, table: ClassTable, seed: int, device: torch.device
    ) -> None:
        self.sampler, self.settings, self.table, self.seed, self.device = sampler, settings, table, seed, device

    def run(self, network: nn.Module, step: int, stream: str, batch_size: int, level: int, fade: float) -> LayoutBatch:
        random = numpy_generator(self.seed, stream, step)
        palette = torch.from_numpy(self.sampler.sample(random, batch_size)).float().to(self.device)
        noise = torch.from_numpy(random.standard_normal((batch_size, self.settings.noise_features), np.float32))
        return network(noise.to(self.device), palette, level, fade)

    @torch.no_grad()
    def sheet(self, network: nn.Module, level: int) -> tuple[list[np.ndarray], float]:
        palettes = self.sampler.sample(numpy_generator(self.seed, "sheet", 0), SHEET_COUNT)
        labels = soft_to_label(self.run(network, 0, "sheet", SHEET_COUNT, level, 1.0).layout)
        achieved = labels_to_palette(labels, self.table.num_classes).cpu().numpy()
        pictures = [self.table.colorize(label) for label in labels.cpu().numpy()]
        return pictures, float(palette_divergence(palettes, achieved).mean())


class _PartialTask:
    """Real layouts with a crop, the crop's own shares as palette (section 5.2), noise from a Gaussian."""

    def __init__(
        self, labels: np.ndarray, settings: LayoutSettings, table: ClassTable, seed: int, device: torch.device
    ) -> None:
        self.labels, self.settings, self.table, self.seed, self.device = labels, settings, table, seed, device

    def _draw(self, step: int, stream: str, batch_size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        random = numpy_generator(self.seed, stream, step)
        indices = epoch_batch(len(self.labels), batch_size, step, self.seed, stream)
        label = torch.from_numpy(self.labels[indices].astype(np.int64))
        size = (label.shape[1], label.shape[2])
        crop = boxes_to_crop([sample_crop(random, size, self.settings.crop_mode) for _ in indices], size)
        palette = crop_palette(label, crop, self.table.num_classes)
        noise = torch.from_numpy(random.standard_normal((batch_size, self.settings.noise_features), np.float32))
        label, crop, palette, noise = (x.to(self.device) for x in (label, crop, palette, noise))
        return label, crop, palette, noise

    def run(self, network: nn.Module, step: int, stream: str, batch_size: int, level: int, fade: float) -> LayoutBatch:
        label, crop, palette, noise = self._draw(step, stream, batch_size)
        cropped = crop_layout(one_hot(label, self.table.num_classes), crop)
        return network(noise, partial_budget(palette, crop), cropped, level, fade)

    @torch.no_grad()
    def sheet(self, network: nn.Module, level: int) -> tuple[list[np.ndarray], float]:
        label, *_ = self._draw(0, "sheet", SHEET_COUNT)
        edited = soft_to_label(self.run(network, 0, "sheet", SHEET_COUNT, level, 1.0).layout)
        source = F.interpolate(label[:, None].float(), size=edited.shape[1:], mode="nearest-exact")[:, 0].long()
        count = self.table.num_classes
        divergence = palette_divergence(
            labels_to_palette(label, count).cpu().numpy(), labels_to_palette(edited, count).cpu().numpy()
        )
        half = SHEET_COUNT // 2
        pictures = [self.table.colorize(x) for x in torch.cat([source[:half], edited[:half]]).cpu().numpy()]
        return pictures, float(divergence.mean())


def crop_palette(label: Tensor, crop: Tensor, num_classes: int) -> Tensor:
    """Return each layout's class shares inside its crop.

    Args:
        label: BHW class ids without ignored pixels.
        crop: BHW bool, true somewhere in each sample.
        num_classes: K.

    Returns:
        BK, rows summing to 1.
    """
    inside = one_hot(label, num_classes) * crop[:, None]
    return inside.sum(dim=(2, 3)) / crop.sum(dim=(1, 2))[:, None]


def train_layout_generator(
    folder: Path,
    kind: LayoutKind,
    settings: LayoutSettings,
    *,
    labels: np.ndarray,
    table: ClassTable,
    sampler: PaletteSampler,
    seed: int,
    fabric: Fabric,
    progress: Progress = NO_PROGRESS,
) -> None:
    """Train a layout generator; the same call again goes on where it stopped.

    Writes `weights.safetensors` (the averaged generator), `metrics.jsonl`, `samples/*.png` and checkpoints.

    Args:
        folder: Output folder.
        kind: System to train.
        settings: Numbers of network and training.
        labels: uint8 [N, H, W] class ids of real layouts, without ignored pixels.
        table: Class table of the labels.
        sampler: Where target palettes come from.
        seed: The run's seed.
        fabric: Device and precision.
        progress: Watches the steps.

    Raises:
        TrainingError: A loss is not finite.
        CheckpointError: A checkpoint in the folder is of another set-up.
    """
    size = (labels.shape[1], labels.shape[2])
    base, doublings = base_grid(size)
    seed_step(seed, kind, -1)
    raw_generator = build_layout_generator(kind, table.num_classes, size, settings)
    raw_critic = LayoutDiscriminator(table.num_classes, base, doublings, settings.max_width, settings.base_width)
    average = fabric.to_device(averaged_copy(raw_generator))
    optimizers = {
        "generator": torch.optim.Adam(raw_generator.parameters(), settings.learning_rate, settings.betas),
        "critic": torch.optim.Adam(raw_critic.parameters(), settings.learning_rate, settings.betas),
    }
    generator, generator_optimizer = fabric.setup(raw_generator, optimizers["generator"])
    critic, critic_optimizer = fabric.setup(raw_critic, optimizers["critic"])
    modules = {"generator": raw_generator, "critic": raw_critic, "average": average}

    checkpoints = CheckpointFolder(folder)
    done, _ = checkpoints.load(modules, optimizers)
    total = sum(settings.fade_steps) + sum(settings.stable_steps)
    log = MetricsLog(folder / "metrics.jsonl", done)
    task: _Task
    if kind == "semantic-palette":
        task = _FullTask(sampler, settings, table, seed, fabric.device)
    else:
        task = _PartialTask(labels, settings, table, seed, fabric.device)

    progress.start(f"train-layouts {kind}", total, done)
    for step in range(done, total):
        moment = moment_of(settings, step)
        level, fade, count = moment.level, moment.fade, moment.batch_size
        seed_step(seed, kind, step)
        indices = epoch_batch(len(labels), count, step, seed, kind)
        flip = torch.rand(count, 1, 1) < 0.5
        label = torch.from_numpy(labels[indices].astype(np.int64))
        label = torch.where(flip, label.flip(2), label).to(fabric.device)
        level_size = (base[0] << level, base[1] << level)
        real = layout_at_level(one_hot(label, table.num_classes), level_size, fade, settings.relative_sigma)

        # Critic: real layouts score high, generated ones low, with a gradient of norm 1 between them.
        with torch.no_grad():
            fake = task.run(generator, step, "critic", count, level, fade).layout
        real_scores, fake_scores = critic(real, level, fade), critic(fake, level, fade)
        # Second derivatives in low precision are too coarse for a norm that is to be 1.
        share = torch.rand(count).to(fabric.device)
        penalty = gradient_penalty(partial(raw_critic, level=level, fade=fade), real, fake, share)
        loss_critic = critic_loss(real_scores, fake_scores)
        loss_critic_total = loss_critic + settings.gradient_penalty_weight * penalty
        require_finite(step, critic=loss_critic_total)
        critic_optimizer.zero_grad()
        fabric.backward(loss_critic_total)
        critic_optimizer.step()

        # Generator: score high, spend the palette evenly and decide on one class a pixel, at every scale.
        batch = task.run(generator, step, "generator", count, level, fade)
        raw_critic.requires_grad_(False)
        adversarial = generator_loss(critic(batch.layout, level, fade))
        raw_critic.requires_grad_(True)
        conditional = conditional_loss(batch.scales)
        loss_generator = adversarial + settings.conditional_weight * conditional
        require_finite(step, generator=loss_generator)
        generator_optimizer.zero_grad()
        fabric.backward(loss_generator)
        generator_optimizer.step()
        update_average(average, raw_generator, decay_at(step, settings.average_decay))

        finished = step + 1
        values = {
            "critic": float(loss_critic.detach()),
            "penalty": float(penalty.detach()),
            "adversarial": float(adversarial.detach()),
            "conditional": float(conditional.detach()),
        }
        progress.advance(critic=values["critic"], conditional=values["conditional"])
        if finished % 20 == 0 or moment.ends_level:
            values |= {"level": level, "fade": fade}
            if moment.ends_level:
                average.eval()
                pictures, divergence = task.sheet(average, level)
                tile_pictures(folder / "samples" / f"step-{finished:06d}.png", pictures)
                values["palette_kl"] = divergence
            log.write(finished, **values)
        if finished % settings.checkpoint_every == 0 or finished == total:
            checkpoints.save(finished, modules, optimizers)
    progress.finish()

    count = settings.batch_sizes[-1]
    with torch.no_grad():
        estimate_batch_statistics(
            average,
            (
                partial(task.run, average, index, "statistics", count, doublings, 1.0)
                for index in range(STATISTICS_BATCHES)
            ),
        )
    pictures, divergence = task.sheet(average, doublings)
    tile_pictures(folder / "samples" / "final.png", pictures)
    identity = _identity(kind, table, size)
    save_weights(folder / "weights.safetensors", average, {**identity, "settings": asdict(settings), "kl": divergence})
