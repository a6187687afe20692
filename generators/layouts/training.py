"""The training of layout generators of every system: progressive growing with an improved Wasserstein discriminator."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from scenepalette.common.errors import ConfigError
from scenepalette.common.progress import NO_PROGRESS, Progress
from scenepalette.common.randomness import epoch_batch, seed_step, torch_generator
from scenepalette.data.classes import ClassTable
from scenepalette.data.device.resident import PlacedLabels
from scenepalette.data.device.transfer import to_device
from scenepalette.data.labels import labels_to_palette, one_hot
from scenepalette.generators.kernels.passes import accelerate
from scenepalette.generators.layouts.diversity import LayoutDiversity
from scenepalette.generators.layouts.inputs import FullInputs, InputSource, PartialInputs, palettes_of
from scenepalette.generators.layouts.loading import WEIGHTS
from scenepalette.generators.layouts.losses import (
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    hard_layout_at_level,
    layout_at_level,
)
from scenepalette.generators.layouts.networks.progressive import LayoutBatch
from scenepalette.generators.layouts.registry import layout_system
from scenepalette.generators.layouts.settings import LayoutSettings
from scenepalette.generators.layouts.warping import warp_labels
from scenepalette.generators.nn.blocks import estimate_batch_statistics
from scenepalette.generators.nn.grids import base_grid
from scenepalette.generators.palettes import PaletteSampler
from scenepalette.training.average import decay_at
from scenepalette.training.checkpoint import save_weights, system_identity
from scenepalette.training.device.speed import speed_of
from scenepalette.training.image_grid import tile_images
from scenepalette.training.loop import LOG_EVERY, Training
from scenepalette.training.monitor import CollapseMonitor, preserve_state, watch_interval
from scenepalette.training.ranks import ALONE, Ranks
from scenepalette.training.settings import settings_of_result
from scenepalette.training.trainee import Trainee, frozen, take_step

if TYPE_CHECKING:
    from lightning_fabric import Fabric

STATISTICS_BATCHES = 16


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


class LayoutTrainees:
    """The networks of a layout system under training and their losses, also for a training that adds losses of its own.

    Batches are functions of (seed, stage, step). Optimizer steps are left to the caller: the discriminator's first,
    then the generator's.
    """

    def __init__(
        self,
        name: str,
        settings: LayoutSettings,
        *,
        labels: np.ndarray,
        table: ClassTable,
        sampler: PaletteSampler,
        seed: int,
        fabric: Fabric,
        stage: str | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        """Build the untrained networks, ready to be trained; the arguments are those of `train_layout_generator`.

        `stage` names a training that resumes from another one's weights, so that its batches differ from that one's.

        Raises:
            ConfigError: There is no such system, the settings do not fit it, or no base grid reaches the size.
        """
        system, size = layout_system(name), (labels.shape[1], labels.shape[2])
        if system.losses is None:
            raise ConfigError(f"The layout system {name!r} comes trained and has no losses. Choose another to train.")
        self.system, self.settings, self.seed, self.ranks = system, settings, seed, ranks
        device = self.device = fabric.device
        adam = partial(torch.optim.Adam, lr=settings.learning_rate, betas=settings.betas)
        prefix = "layout " if stage else ""
        network = system.build_generator(table, size, settings)
        accelerate(network)
        self.generator = Trainee(
            f"{prefix}generator", network, adam, fabric, ranks=ranks, averaged=True, compiles=False
        )
        network = system.build_discriminator(table, size, settings)
        accelerate(network)
        self.discriminator = Trainee(f"{prefix}discriminator", network, adam, fabric, ranks=ranks, compiles=False)
        self.labels, self.num_classes = labels, table.num_classes
        self.placed = PlacedLabels(labels, table.num_classes, device, speed_of(fabric).resident)
        self.base, self.doublings = base_grid(size)
        self.losses = dict(system.losses(settings))
        self.palettes = palettes_of(labels, table.num_classes)
        self._prefix = f"{stage} " if stage else ""
        drawn = system.drawn_classes(settings)
        self.hard = drawn != "never"
        shared = {"draws_classes": self.hard, "sampler": sampler, "palettes": self.palettes}
        self.inputs: InputSource
        if system.partial:
            self.inputs = PartialInputs(settings, table, seed, device, labels=self.placed, **shared)
        else:
            self.inputs = FullInputs(settings, table, seed, device, conditional=system.conditional, **shared)

    def _real_layouts(self, step: int, moment: Moment, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return real layouts as the discriminator sees them and their palettes."""
        name = f"{self._prefix}{self.system.name}"
        part = self.ranks.part
        indices = epoch_batch(len(self.labels), moment.batch_size, step, self.seed, name)
        flip = torch.rand(moment.batch_size, 1, 1, generator=random)[part] < 0.5
        palettes = self.palettes[indices[part]]
        label = self.placed.batch(indices[part])
        label = torch.where(to_device(flip, self.device), label.flip(2), label)
        if self.settings.warp:
            warp = torch_generator(self.seed, f"{name} warp", step)
            label = warp_labels(label, self.settings.warp, warp, self.ranks.count, part)
            palettes = labels_to_palette(label, self.num_classes, checked=self.placed.checked)
        layout = one_hot(label, self.num_classes, checked=self.placed.checked)
        size = (self.base[0] << moment.level, self.base[1] << moment.level)
        if self.hard:
            uniform = torch.rand(moment.batch_size, 1, *size, generator=random)[part]
            layout = hard_layout_at_level(layout, size, moment.fade, to_device(uniform, self.device))
        else:
            layout = layout_at_level(layout, size, moment.fade, self.settings.relative_sigma)
        return layout, to_device(palettes, self.device)

    def discriminator_loss(self, step: int, moment: Moment) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the discriminator's loss: real layouts score high, generated ones low, with slope 1 between them.

        Args:
            step: Optimizer step, from 0.
            moment: Level, fade-in weight and batch size.

        Returns:
            The loss to go down, and its parts by name: "critic" and, without its weight, "penalty".
        """
        level, fade, count = moment.level, moment.fade, moment.batch_size
        random = torch_generator(self.seed, f"{self._prefix}{self.system.name}", step)
        real, real_palette = self._real_layouts(step, moment, random)
        inputs = self.inputs.draw(step, f"{self._prefix}critic", count).part(self.ranks.part)
        with torch.no_grad():
            fake = inputs.run(self.generator.forward, level, fade).layout
        real_scores = self.discriminator.forward(real, level, fade, real_palette)
        fake_scores = self.discriminator.forward(fake, level, fade, inputs.target)
        share = to_device(torch.rand(count, generator=random)[self.ranks.part], self.device)
        palette = torch.lerp(real_palette, inputs.target, share[:, None])
        # On a part of the batch the penalty is the same on average and the dearest part of a step costs less. Every
        # process has some of the part.
        count = max(self.ranks.count, round(count * self.settings.penalty_share))
        own = len(range(count)[self.ranks.part])
        mixed_discriminator = partial(self.discriminator.module, level=level, fade=fade, palette=palette[:own])
        with self.discriminator.fabric.autocast():
            penalty = gradient_penalty(mixed_discriminator, real[:own], fake[:own], share[:own])
        penalty = penalty * (own * self.ranks.count / count)
        loss = discriminator_loss(real_scores, fake_scores)
        return loss + self.settings.gradient_penalty_weight * penalty, {"critic": loss, "penalty": penalty}

    def generator_loss(self, step: int, moment: Moment) -> tuple[Tensor, dict[str, Tensor], LayoutBatch]:
        """Return the generator's loss: score high and keep to what the system asks for; only the generator learns.

        Args:
            step: Optimizer step, from 0.
            moment: Level, fade-in weight and batch size.

        Returns:
            The loss to go down, its parts by name and without weights ("adversarial" first), and the layouts, through
            which the gradient of a further loss may pass.
        """
        level, fade, count = moment.level, moment.fade, moment.batch_size
        inputs = self.inputs.draw(step, f"{self._prefix}generator", count).part(self.ranks.part)
        batch = inputs.run(self.generator.forward, level, fade)
        with frozen(self.discriminator.module):
            total = generator_loss(self.discriminator.forward(batch.layout, level, fade, inputs.target))
        parts = {"adversarial": total}
        for name, loss in self.losses.items():
            parts[name] = loss.compute(batch, inputs)
            total = total + loss.weight * parts[name]
        return total, parts, batch


def train_layout_generator(
    folder: Path,
    name: str,
    settings: LayoutSettings,
    *,
    labels: np.ndarray,
    table: ClassTable,
    sampler: PaletteSampler,
    seed: int,
    fabric: Fabric,
    progress: Progress = NO_PROGRESS,
    tensorboard: bool = False,
    ranks: Ranks = ALONE,
) -> None:
    """Train a layout generator; called again, with any number of processes, it resumes where it stopped.

    Of a system that comes trained, only `weights.safetensors` is written.

    Writes `weights.safetensors` (the averaged generator), `metrics.jsonl`, `samples/*.png` and checkpoints: the last
    two and, of a system that keeps to palettes, the best. The best is the one of the full-grown generator (last level,
    faded in) whose fixed samples are nearest to their palettes (mean KL divergence). About twenty times in a training
    the diversity of fixed samples is measured.

    Args:
        folder: Output folder.
        name: Name of the system to train, one of LAYOUT_SYSTEMS.
        settings: Numbers of network and training.
        labels: uint8 [N, H, W] class ids of real layouts, without ignored pixels.
        table: Class table of the labels.
        sampler: Where sampled palettes come from.
        seed: The run's seed.
        fabric: Device and precision.
        progress: Watches the steps.
        tensorboard: Whether numbers are also written for TensorBoard.
        ranks: The processes that all make this call and share its batches; the first of them writes.

    Raises:
        ConfigError: There is no such system, the settings do not fit it, or batches cannot be divided.
        TrainingError: A loss or a gradient is not finite.
        CheckpointError: A checkpoint in the folder is of another set-up.
    """
    seed_step(seed, name, -1)
    system, size = layout_system(name), (labels.shape[1], labels.shape[2])
    if system.losses is None:
        if ranks.first:
            network = system.build_generator(table, size, settings)
            metadata = {**system_identity(name, table, size), "settings": settings_of_result(settings), "kl": None}
            save_weights(folder / WEIGHTS, network, metadata)
        return
    ranks.check_batches({"batch_sizes": settings.batch_sizes})
    trainees = LayoutTrainees(
        name, settings, labels=labels, table=table, sampler=sampler, seed=seed, fabric=fabric, ranks=ranks
    )
    generator, discriminator, inputs = trainees.generator, trainees.discriminator, trainees.inputs
    average = generator.average
    total = sum(settings.fade_steps) + sum(settings.stable_steps)
    training = Training(
        folder,
        name,
        total,
        {"generator": generator, "critic": discriminator},
        {"average": average},
        seed=seed,
        watch=CollapseMonitor(score_gap="critic"),
        progress=progress,
        tensorboard=tensorboard,
        ranks=ranks,
    )
    diversity, interval = LayoutDiversity(inputs, labels), watch_interval(total)

    for step in training.steps(f"train-layouts {name}"):
        moment = moment_of(settings, step)

        loss, discriminator_parts = trainees.discriminator_loss(step, moment)
        take_step(step, loss, discriminator)

        loss, generator_parts, _ = trainees.generator_loss(step, moment)
        take_step(step, loss, generator)
        generator.update_average(decay_at(step, settings.average_decay))

        values = training.advance(discriminator_parts | generator_parts, ("critic", *trainees.losses))
        if not ranks.first:
            continue
        if training.due(LOG_EVERY, interval) or moment.ends_level:
            values |= {"level": moment.level, "fade": moment.fade}
            if moment.ends_level:
                average.eval()
                images, divergence = inputs.sheet(average, moment.level)
                tile_images(folder / "samples" / f"step-{training.finished:06d}.png", images)
                if divergence is not None:
                    values["palette_kl"] = divergence
            if training.due(interval) or moment.ends_level:
                values |= diversity.measure(average, moment.level, moment.fade)
            training.log(values)
        if training.due(settings.checkpoint_every, total):
            score = None
            if moment.level == trainees.doublings and moment.fade == 1.0:
                with preserve_state(average):
                    _, score = inputs.sheet(average, moment.level)
            training.save(score)
    if not ranks.first:
        return

    level, count = trainees.doublings, settings.batch_sizes[-1]
    with torch.no_grad():
        estimate_batch_statistics(
            average,
            (
                partial(inputs.draw(index, "statistics", count).run, average, level, 1.0)
                for index in range(STATISTICS_BATCHES)
            ),
        )
    images, divergence = inputs.sheet(average, level)
    tile_images(folder / "samples" / "final.png", images)
    metadata = {**system_identity(name, table, size), "settings": settings_of_result(settings), "kl": divergence}
    save_weights(folder / WEIGHTS, average, metadata)
