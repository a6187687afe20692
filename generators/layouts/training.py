"""The training of layout generators of every system: progressive growing with an improved Wasserstein critic."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from scenepalette.common.progress import NO_PROGRESS, Progress
from scenepalette.common.randomness import torch_generator
from scenepalette.data.classes import ClassTable
from scenepalette.data.labels import one_hot
from scenepalette.generators.collapse import LayoutDiversity
from scenepalette.generators.kernels.passes import accelerate
from scenepalette.generators.layouts.inputs import FullInputs, InputSource, PartialInputs, palettes_of
from scenepalette.generators.layouts.losses import (
    critic_loss,
    generator_loss,
    gradient_penalty,
    hard_layout_at_level,
    layout_at_level,
)
from scenepalette.generators.layouts.networks import LayoutBatch, LayoutDiscriminator
from scenepalette.generators.layouts.registry import LayoutNetwork, LayoutSystem, layout_system
from scenepalette.generators.layouts.settings import LayoutSettings
from scenepalette.generators.nn.blocks import estimate_batch_statistics
from scenepalette.generators.nn.grids import base_grid
from scenepalette.generators.palettes import PaletteSampler
from scenepalette.training.average import averaged_copy, decay_at, update_average
from scenepalette.training.checkpoint import CheckpointFolder, load_weights, save_weights
from scenepalette.training.image_grid import tile_pictures
from scenepalette.training.loop import (
    LOG_EVERY,
    MetricsLog,
    epoch_batch,
    require_finite,
    require_finite_gradients,
    seed_step,
    settings_of_result,
)
from scenepalette.training.monitor import CollapseMonitor, preserve_state, watch_interval
from scenepalette.training.ranks import ALONE, Ranks

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


def build_layout_generator(
    kind: str, num_classes: int, size: tuple[int, int], settings: LayoutSettings
) -> LayoutNetwork:
    """Return the untrained network of a layout system for K classes and H x W.

    Raises:
        ConfigError: There is no such system, the settings do not fit it, or no base grid reaches the size.
    """
    return layout_system(kind).build_generator(num_classes, size, settings)


def load_layout_generator(
    path: Path, kind: str, table: ClassTable, size: tuple[int, int], settings: LayoutSettings
) -> LayoutNetwork:
    """Load the averaged generator that a training wrote to a weights file, in eval mode.

    Raises:
        ConfigError: There is no such system, or the settings do not fit it.
        CheckpointError: The weights are damaged or of another class table, kind or size.
    """
    network = build_layout_generator(kind, table.num_classes, size, settings)
    load_weights(path, network, layout_identity(kind, table, size))
    return network.eval().requires_grad_(False)


def layout_identity(kind: str, table: ClassTable, size: tuple[int, int]) -> dict[str, object]:
    """Return the metadata by which weights of a layout system are recognised."""
    return {"system": kind, "class_table": table.fingerprint, "size": list(size)}


class LayoutObjective:
    """The losses of a layout system at a step, for this training and for one that adds losses of its own.

    Batches are functions of (seed, stage, step). Backward passes and optimizer steps are left to the caller: the
    critic's first, then the generator's.
    """

    def __init__(
        self,
        system: LayoutSystem,
        settings: LayoutSettings,
        *,
        generator: nn.Module,
        critic: nn.Module,
        raw_critic: LayoutDiscriminator,
        labels: np.ndarray,
        table: ClassTable,
        sampler: PaletteSampler,
        seed: int,
        fabric: Fabric,
        stage: str | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        """Keep what the losses are computed from.

        Args:
            system: The generator's system.
            settings: Numbers of network and training.
            generator: As Fabric set it up, in training mode.
            critic: As Fabric set it up.
            raw_critic: The same critic, bare.
            labels: uint8 [N, H, W] class ids of real layouts, without ignored pixels.
            table: Class table of the labels.
            sampler: Where sampled palettes come from.
            seed: The run's seed.
            fabric: Device and precision.
            stage: Name of a training that goes on from another one's weights, so that its batches differ from that
                one's; None for the first.
            ranks: The processes that share the batches.
        """
        self.system, self.settings, self.seed, self.fabric, self.ranks = system, settings, seed, fabric, ranks
        device = self.device = fabric.device
        self.generator, self.critic, self.raw_critic = generator, critic, raw_critic
        self.labels, self.num_classes = labels, table.num_classes
        self.base, self.doublings = base_grid((labels.shape[1], labels.shape[2]))
        self.losses = dict(system.losses(settings))
        self.palettes = palettes_of(labels, table.num_classes)
        self._prefix = f"{stage} " if stage else ""
        drawn = system.drawn_classes(settings)
        self.hard = drawn != "never"
        shared = {"draws_classes": self.hard, "sampler": sampler, "palettes": self.palettes}
        self.inputs: InputSource
        if system.partial:
            self.inputs = PartialInputs(settings, table, seed, device, labels=labels, **shared)
        else:
            self.inputs = FullInputs(settings, table, seed, device, conditional=system.conditional, **shared)

    def _real_layouts(self, step: int, moment: Moment, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return real layouts as the critic sees them and their palettes."""
        name = f"{self._prefix}{self.system.name}"
        part = self.ranks.part
        indices = epoch_batch(len(self.labels), moment.batch_size, step, self.seed, name)[part]
        flip = torch.rand(moment.batch_size, 1, 1, generator=random)[part] < 0.5
        label = torch.from_numpy(self.labels[indices].astype(np.int64))
        layout = one_hot(torch.where(flip, label.flip(2), label).to(self.device), self.num_classes)
        size = (self.base[0] << moment.level, self.base[1] << moment.level)
        if self.hard:
            uniform = torch.rand(moment.batch_size, 1, *size, generator=random)[part]
            layout = hard_layout_at_level(layout, size, moment.fade, uniform.to(self.device))
        else:
            layout = layout_at_level(layout, size, moment.fade, self.settings.relative_sigma)
        return layout, self.palettes[indices].to(self.device)

    def critic_loss(self, step: int, moment: Moment) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the critic's loss: real layouts score high, generated ones low, with a gradient of norm 1 between.

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
            fake = inputs.run(self.generator, level, fade).layout
        real_scores = self.critic(real, level, fade, real_palette)
        fake_scores = self.critic(fake, level, fade, inputs.target)
        share = torch.rand(count, generator=random)[self.ranks.part].to(self.device)
        palette = torch.lerp(real_palette, inputs.target, share[:, None])
        # On a part of the batch the penalty is the same on average and the dearest part of a step costs less. Every
        # process has some of the part.
        count = max(self.ranks.count, round(count * self.settings.penalty_share))
        own = len(range(count)[self.ranks.part])
        mixed_critic = partial(self.raw_critic, level=level, fade=fade, palette=palette[:own])
        with self.fabric.autocast():
            penalty = gradient_penalty(mixed_critic, real[:own], fake[:own], share[:own])
        penalty = penalty * (own * self.ranks.count / count)
        loss = critic_loss(real_scores, fake_scores)
        return loss + self.settings.gradient_penalty_weight * penalty, {"critic": loss, "penalty": penalty}

    def generator_loss(self, step: int, moment: Moment) -> tuple[Tensor, dict[str, Tensor], LayoutBatch]:
        """Return the generator's loss: score high and keep to what the system asks for; the critic gets no gradient.

        Args:
            step: Optimizer step, from 0.
            moment: Level, fade-in weight and batch size.

        Returns:
            The loss to go down, its parts by name and without weights ("adversarial" first), and the layouts, through
            which the gradient of a further loss may pass.
        """
        level, fade, count = moment.level, moment.fade, moment.batch_size
        inputs = self.inputs.draw(step, f"{self._prefix}generator", count).part(self.ranks.part)
        batch = inputs.run(self.generator, level, fade)
        self.raw_critic.requires_grad_(False)
        total = generator_loss(self.critic(batch.layout, level, fade, inputs.target))
        self.raw_critic.requires_grad_(True)
        parts = {"adversarial": total}
        for name, loss in self.losses.items():
            parts[name] = loss.compute(batch, inputs)
            total = total + loss.weight * parts[name]
        return total, parts, batch


def train_layout_generator(
    folder: Path,
    kind: str,
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
    """Train a layout generator; the same call again, from any number of processes, goes on where it stopped.

    Writes `weights.safetensors` (the averaged generator), `metrics.jsonl`, `samples/*.png` and checkpoints: the last
    two and, of a system that keeps to palettes, the best. The best is the one of the full-grown generator (last level,
    faded in) whose fixed samples are nearest to their palettes (mean KL divergence). About twenty times in a training
    the diversity of fixed samples is measured.

    Args:
        folder: Output folder.
        kind: Name of the system to train, one of LAYOUT_SYSTEMS.
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
    system, size = layout_system(kind), (labels.shape[1], labels.shape[2])
    ranks.check_batches({"batch_sizes": settings.batch_sizes})
    seed_step(seed, kind, -1)
    raw_generator = system.build_generator(table.num_classes, size, settings)
    raw_critic = system.build_critic(table.num_classes, size, settings)
    accelerate(raw_generator, raw_critic)
    average = fabric.to_device(averaged_copy(raw_generator))
    ranks.join(raw_generator, raw_critic)
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
    watch = CollapseMonitor(score_gap="critic")
    log = MetricsLog(folder / "metrics.jsonl", done, watch=watch, tensorboard=tensorboard) if ranks.first else None
    objective = LayoutObjective(
        system,
        settings,
        generator=generator,
        critic=critic,
        raw_critic=raw_critic,
        labels=labels,
        table=table,
        sampler=sampler,
        seed=seed,
        fabric=fabric,
        ranks=ranks,
    )
    diversity, interval = LayoutDiversity(objective.inputs, labels), watch_interval(total)

    progress.start(f"train-layouts {kind}", total, done)
    for step in range(done, total):
        moment = moment_of(settings, step)

        loss_critic, critic_parts = objective.critic_loss(step, moment)
        require_finite(step, critic=loss_critic)
        critic_optimizer.zero_grad()
        fabric.backward(loss_critic)
        ranks.average_gradients(raw_critic)
        require_finite_gradients(step, critic=raw_critic)
        critic_optimizer.step()

        loss_generator, generator_parts, _ = objective.generator_loss(step, moment)
        require_finite(step, generator=loss_generator)
        generator_optimizer.zero_grad()
        fabric.backward(loss_generator)
        ranks.average_gradients(raw_generator)
        require_finite_gradients(step, generator=raw_generator)
        generator_optimizer.step()
        update_average(average, raw_generator, decay_at(step, settings.average_decay))

        finished = step + 1
        parts = (critic_parts | generator_parts).items()
        values = ranks.means({name: float(part.detach()) for name, part in parts})
        progress.advance(1, **{name: values[name] for name in ("critic", *objective.losses)})
        if log is None:
            continue
        if finished % LOG_EVERY == 0 or finished % interval == 0 or moment.ends_level:
            values |= {"level": moment.level, "fade": moment.fade}
            if moment.ends_level:
                average.eval()
                pictures, divergence = objective.inputs.sheet(average, moment.level)
                tile_pictures(folder / "samples" / f"step-{finished:06d}.png", pictures)
                if divergence is not None:
                    values["palette_kl"] = divergence
            if finished % interval == 0 or moment.ends_level:
                values |= diversity.measure(average, moment.level, moment.fade)
            log.write(finished, **values)
        if finished % settings.checkpoint_every == 0 or finished == total:
            score = None
            if moment.level == objective.doublings and moment.fade == 1.0:
                with preserve_state(average):
                    _, score = objective.inputs.sheet(average, moment.level)
            checkpoints.save(finished, modules, optimizers, score=score)
    progress.finish()
    if log is None:
        return
    log.close()

    level, count = objective.doublings, settings.batch_sizes[-1]
    with torch.no_grad():
        estimate_batch_statistics(
            average,
            (
                partial(objective.inputs.draw(index, "statistics", count).run, average, level, 1.0)
                for index in range(STATISTICS_BATCHES)
            ),
        )
    pictures, divergence = objective.inputs.sheet(average, level)
    tile_pictures(folder / "samples" / "final.png", pictures)
    metadata = {**layout_identity(kind, table, size), "settings": settings_of_result(settings), "kl": divergence}
    save_weights(folder / "weights.safetensors", average, metadata)
