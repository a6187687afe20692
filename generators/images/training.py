"""The training loop of all layout-to-image systems, and loading what it wrote."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from scenepalette.common.errors import ConfigError
from scenepalette.common.progress import NO_PROGRESS, Progress
from scenepalette.common.randomness import torch_generator
from scenepalette.data.arrays import Pairs, images_to_uint8
from scenepalette.data.classes import ClassTable
from scenepalette.data.labels import one_hot
from scenepalette.generators.collapse import image_diversity
from scenepalette.generators.images.base import FeatureNetwork, ImageBatch, ImageGenerator, ImageSettings
from scenepalette.generators.images.diffaugment import Augmentation, draw_augmentation
from scenepalette.generators.images.registry import find_image_system
from scenepalette.generators.kernels.passes import accelerate
from scenepalette.generators.nn.blocks import estimate_batch_statistics
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

WEIGHTS = "weights.safetensors"
CRITIC_WEIGHTS = "critic.safetensors"
STATISTICS_BATCHES = 32
SHEET_COUNT = 4  # layouts on a sample sheet
SHEET_DRAWS = 3  # images of each, with different noise
SHEET_COLUMNS = 2 + SHEET_DRAWS  # layout and real image come first


class TrainingBatches:
    """Batches of real pairs with noise, each a function of (seed, stream, step); satisfies BatchSource."""

    def __init__(
        self,
        pairs: Pairs,
        filled_labels: np.ndarray,
        generator: ImageGenerator,
        settings: ImageSettings,
        seed: int,
        device: torch.device,
    ) -> None:
        """Draw from pairs.

        Args:
            pairs: Real images and labels.
            filled_labels: uint8 [N, H, W], the labels with ignored pixels filled.
            generator: Knows its noise.
            settings: Noise scheme and augmentation.
            seed: The run's seed.
            device: Where batches go.
        """
        self.pairs, self.filled_labels, self.generator, self.settings = pairs, filled_labels, generator, settings
        self.seed, self.device = seed, device

    def batch(self, indices: np.ndarray, step: int, stream: str, ranks: Ranks = ALONE) -> ImageBatch:
        """Return this process's part of the samples at `indices`.

        They are flipped and have noise as functions of (seed, stream, step) and their positions in `indices`.
        """
        count, part = len(indices), ranks.part
        flip = torch.rand(count, 1, 1, generator=torch_generator(self.seed, stream, step, "flip"))[part] < 0.5
        indices = indices[part]
        image, label = self.pairs.batch(indices.tolist())
        layout = torch.from_numpy(self.filled_labels[indices].astype(np.int64))
        image = torch.where(flip[:, None], image.flip(3), image)
        label, layout = (torch.where(flip, x.flip(2), x) for x in (label, layout))
        noise = self.generator.sample_noise(
            self.settings.noise_scheme,
            layout,
            [torch_generator(self.seed, stream, step, sample) for sample in range(count)[part]],
        )
        image = image.contiguous(memory_format=torch.channels_last)
        image, label, layout, noise = (x.to(self.device) for x in (image, label, layout, noise))
        augmentation = None
        if self.settings.augment:
            drawn = draw_augmentation(count, self.pairs.size, self.device)
            augmentation = Augmentation(*(parameter[part] for parameter in drawn))
        label_map = one_hot(layout, self.pairs.table.num_classes)
        return ImageBatch(indices, image, label, layout, label_map, noise, augmentation, ranks)


def image_identity(name: str, table: ClassTable, size: tuple[int, int]) -> dict[str, object]:
    """Return the metadata by which weights of an image system are recognised."""
    return {"system": name, "class_table": table.fingerprint, "size": list(size)}


def load_image_generator(
    path: Path, name: str, table: ClassTable, size: tuple[int, int], settings: ImageSettings
) -> ImageGenerator:
    """Load the averaged generator that `train_image_generator` wrote, in eval mode.

    Args:
        path: The weights file.
        name: Name of the system.
        table: Class table that it was trained on.
        size: Height and width, pixels.
        settings: Settings that it was trained with.

    Raises:
        CheckpointError: The weights are damaged or of another class table, system or size.
        ConfigError: There is no such system, or no base grid reaches the size.
    """
    network = find_image_system(name).build_generator(table.num_classes, size, settings)
    load_weights(path, network, image_identity(name, table, size))
    return network.eval().requires_grad_(False)


def load_image_critic(
    path: Path, name: str, table: ClassTable, size: tuple[int, int], settings: ImageSettings
) -> nn.Module:
    """Load the critic that `train_image_generator` trained against the generator, in eval mode.

    Raises:
        CheckpointError: The weights are damaged or of another class table, system or size.
        ConfigError: There is no such system, or it has no critic.
    """
    critic = find_image_system(name).build_objective(table.num_classes, size, settings, None).critic
    if critic is None:
        raise ConfigError(f"The image system {name!r} is trained without a discriminator. Choose another one.")
    load_weights(path, critic, image_identity(name, table, size))
    accelerate(critic)
    return critic.eval().requires_grad_(False)


def train_image_generator(
    folder: Path,
    name: str,
    settings: ImageSettings,
    *,
    pairs: Pairs,
    filled_labels: np.ndarray,
    features: FeatureNetwork | None = None,
    seed: int,
    fabric: Fabric,
    progress: Progress = NO_PROGRESS,
    tensorboard: bool = False,
    ranks: Ranks = ALONE,
) -> None:
    """Train an image system; the same call again, from any number of processes, goes on where it stopped.

    Writes `weights.safetensors` (the averaged generator), `critic.safetensors`, `metrics.jsonl`, `samples/*.png` and
    the last two checkpoints. There is no best one: no loss of a GAN measures quality. About twenty times in a training
    (`watch_interval`) the averaged generator makes a sample sheet of fixed layouts and noise, from which its diversity
    is measured as well.

    Args:
        folder: Output folder.
        name: Name of the system.
        settings: Numbers of networks and training, of the system's own class.
        pairs: Real images and labels; ignored pixels take no part in losses that look at labels.
        filled_labels: uint8 [N, H, W], the labels with ignored pixels filled: what the generator is conditioned on.
        features: Network of the perceptual loss, for systems that have one.
        seed: The run's seed.
        fabric: Device and precision.
        progress: Watches the steps.
        tensorboard: Whether numbers are also written for TensorBoard.
        ranks: The processes that all make this call and share its batches; the first of them writes.

    Raises:
        ConfigError: There is no such system, it lacks what its losses need, or batches cannot be divided.
        TrainingError: A loss or a gradient is not finite.
        CheckpointError: A checkpoint in the folder is of another set-up.
    """
    system = find_image_system(name)
    if system.perceptual and features is None:
        raise ConfigError(f"The image system {name!r} has a perceptual loss and needs a network of features for it.")
    if settings.augment and not system.augmentable:
        raise ConfigError(f"augment was asked of {name!r}, whose losses compare images pixel by pixel; leave it out.")
    ranks.check_batches({"batch_size": [settings.batch_size]})
    size, num_classes = pairs.size, pairs.table.num_classes
    seed_step(seed, name, -1)
    raw_generator = system.build_generator(num_classes, size, settings)
    objective = system.build_objective(num_classes, size, settings, features)
    raw_critic = objective.critic
    modules: dict[str, nn.Module] = {"generator": raw_generator}
    optimizers = {
        "generator": torch.optim.Adam(raw_generator.parameters(), settings.generator_learning_rate, settings.betas)
    }
    accelerate(raw_generator)
    average = fabric.to_device(averaged_copy(raw_generator))
    ranks.join(raw_generator)
    generator, generator_optimizer = fabric.setup(raw_generator, optimizers["generator"])
    critic, critic_optimizer = None, None
    if raw_critic is not None:
        accelerate(raw_critic)
        optimizers["discriminator"] = torch.optim.Adam(
            raw_critic.parameters(), settings.discriminator_learning_rate, settings.betas
        )
        critic, critic_optimizer = fabric.setup(raw_critic, optimizers["discriminator"])
        modules["discriminator"] = raw_critic
    modules["average"] = average
    if objective.memory is not None:
        modules["memory"] = fabric.to_device(objective.memory)
    if features is not None:
        fabric.to_device(features).eval().requires_grad_(False)

    source = TrainingBatches(pairs, filled_labels, raw_generator, settings, seed, fabric.device)
    objective.begin(source, fabric.device)
    checkpoints = CheckpointFolder(folder)
    done, _ = checkpoints.load(modules, optimizers)
    watch, interval = CollapseMonitor(objective.chance_level), watch_interval(settings.steps)
    log = MetricsLog(folder / "metrics.jsonl", done, watch=watch, tensorboard=tensorboard) if ranks.first else None

    progress.start(f"train-images {name}", settings.steps, done)
    for step in range(done, settings.steps):
        seed_step(seed, name, step)
        indices = epoch_batch(len(pairs), settings.batch_size, step, seed, name)
        batch = objective.batch(source, step, name, indices, generator, ranks)

        if raw_critic is not None:
            raw_critic.requires_grad_(False)
        fake, loss = objective.generator_loss(generator, critic, batch)
        if raw_critic is not None:
            raw_critic.requires_grad_(True)
        require_finite(step, generator=loss.total)
        generator_optimizer.zero_grad()
        fabric.backward(loss.total)
        ranks.average_gradients(raw_generator)
        require_finite_gradients(step, generator=raw_generator)
        generator_optimizer.step()
        update_average(average, raw_generator, decay_at(step, settings.average_decay))
        parts = dict(loss.parts)

        if raw_critic is not None and critic is not None and critic_optimizer is not None:
            loss = objective.critic_loss(critic, batch, fake.detach())
            require_finite(step, discriminator=loss.total)
            critic_optimizer.zero_grad()
            fabric.backward(loss.total)
            ranks.average_gradients(raw_critic)
            require_finite_gradients(step, discriminator=raw_critic)
            critic_optimizer.step()
            parts |= loss.parts

        finished = step + 1
        values = ranks.means({key: float(part.detach()) for key, part in parts.items()})
        progress.advance(1, **values)
        if log is None:
            continue
        if finished % interval == 0:
            values |= watch_images(folder, finished, average, source, f"{name}-sheet")
        if finished % LOG_EVERY == 0 or finished % interval == 0:
            log.write(finished, **values)
        if finished % settings.checkpoint_every == 0 or finished == settings.steps:
            checkpoints.save(finished, modules, optimizers)
    progress.finish()
    if log is None:
        return
    log.close()

    finish_average(average, source, f"{name}-statistics", settings.batch_size)
    sheet = sample_sheet(average, source, f"{name}-sheet")
    tile_pictures(folder / "samples" / "final.png", sheet, columns=SHEET_COLUMNS)
    metadata: Mapping[str, Any] = {
        **image_identity(name, pairs.table, size),
        "settings": settings_of_result(settings),
        "perceptual_features": None if features is None else features.description,
    }
    if raw_critic is not None:
        save_weights(folder / CRITIC_WEIGHTS, raw_critic, metadata)
    save_weights(folder / WEIGHTS, average, metadata)


def finish_average(average: nn.Module, source: TrainingBatches, stream: str, batch_size: int) -> None:
    """Let the averaged generator take what it needs and estimate its batch statistics; leave it in eval mode."""
    assert isinstance(average, ImageGenerator)
    average.finish(source)
    source.generator = average  # noise may come from what it has just taken

    def run(step: int) -> None:
        indices = epoch_batch(len(source.pairs), batch_size, step, source.seed, stream)
        batch = source.batch(indices, step, stream)
        average(batch.label_map, batch.noise)

    estimate_batch_statistics(average, (partial(run, step) for step in range(STATISTICS_BATCHES)))


def watch_images(
    folder: Path, finished: int, average: nn.Module, source: TrainingBatches, stream: str
) -> dict[str, float]:
    """Write the sample sheet of a step, leaving the generator and all random state as they are.

    Args:
        folder: Folder of the training.
        finished: Finished steps.
        average: The averaged generator.
        source: The training set.
        stream: Name of the sheet's fixed layouts and noise.

    Returns:
        Measures of the sheet's diversity by name.
    """
    assert isinstance(average, ImageGenerator)
    with preserve_state(average):
        average.finish(source)
        sheet = sample_sheet(average, source, stream)
    tile_pictures(folder / "samples" / f"step-{finished:06d}.png", sheet, columns=SHEET_COLUMNS)
    rows = [sheet[first + 1 : first + SHEET_COLUMNS] for first in range(0, len(sheet), SHEET_COLUMNS)]
    return image_diversity(rows, noisy=bool(average.noise_schemes))


@torch.no_grad()
def sample_sheet(network: nn.Module, source: TrainingBatches, stream: str) -> list[np.ndarray]:
    """Return rows of layout, real image and three generated images with different noise."""
    assert isinstance(network, ImageGenerator)
    pictures: list[np.ndarray] = []
    pairs = source.pairs
    for row, index in enumerate(epoch_batch(len(pairs), SHEET_COUNT, 0, source.seed, stream)):
        image, _ = pairs.batch([int(index)])
        layout = torch.from_numpy(source.filled_labels[index : index + 1].astype(np.int64))
        label = layout.expand(SHEET_DRAWS, -1, -1).to(source.device)
        generators = [torch_generator(source.seed, stream, row, draw) for draw in range(SHEET_DRAWS)]
        noise = network.sample_noise(None, label, generators)
        generated = network(one_hot(label, pairs.table.num_classes), noise).cpu()
        pictures += [
            pairs.table.colorize(source.filled_labels[index]),
            *images_to_uint8(image),
            *images_to_uint8(generated),
        ]
    return pictures
