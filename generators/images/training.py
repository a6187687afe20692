"""The training loop of all layout-to-image systems."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from scenepalette.common.errors import ConfigError, ScenepaletteError
from scenepalette.common.progress import NO_PROGRESS, Progress
from scenepalette.common.randomness import epoch_batch, seed_step, torch_generator
from scenepalette.data.arrays import Pairs, images_to_uint8
from scenepalette.data.device.resident import TrainingSamples
from scenepalette.data.device.transfer import to_device
from scenepalette.data.labels import one_hot
from scenepalette.generators.images.base import FeatureNetwork, ImageBatch, ImageGenerator, ImageSettings, Loss
from scenepalette.generators.images.diffaugment import Augmentation, draw_augmentation
from scenepalette.generators.images.diversity import image_diversity
from scenepalette.generators.images.loading import DISCRIMINATOR_WEIGHTS, WEIGHTS, files_identity
from scenepalette.generators.images.registry import find_image_system
from scenepalette.generators.images.warping import draw_warp, warp_image, warp_label
from scenepalette.generators.kernels.passes import accelerate
from scenepalette.generators.nn.blocks import estimate_batch_statistics
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
        resident: bool = False,
    ) -> None:
        """Draw from pairs.

        Args:
            pairs: Real images and labels.
            filled_labels: uint8 [N, H, W], the labels with ignored pixels filled.
            generator: Knows its noise.
            settings: Noise scheme and augmentation.
            seed: The run's seed.
            device: Where batches go.
            resident: Whether all pairs lie there, if they fit.
        """
        self.pairs, self.filled_labels, self.generator, self.settings = pairs, filled_labels, generator, settings
        self.seed, self.device = seed, device
        self._samples = TrainingSamples(pairs, filled_labels, device, resident)

    def batch(self, indices: np.ndarray, step: int, stream: str, ranks: Ranks = ALONE) -> ImageBatch:
        """Return this process's part of the samples at `indices`.

        They are flipped, warped and have noise as functions of (seed, stream, step) and their positions in `indices`.
        """
        count, part = len(indices), ranks.part
        flip = torch.rand(count, 1, 1, generator=torch_generator(self.seed, stream, step, "flip"))[part] < 0.5
        flip, indices = to_device(flip, self.device), indices[part]
        image, label, layout = self._samples.batch(indices)
        image = torch.where(flip[:, None], image.flip(3), image)
        label, layout = (torch.where(flip, x.flip(2), x) for x in (label, layout))
        if self.settings.warp:
            randoms = [torch_generator(self.seed, stream, step, "warp", sample) for sample in range(count)[part]]
            field = to_device(draw_warp(self.settings.warp, self.pairs.size, randoms), self.device)
            image, label, layout = warp_image(image, field), warp_label(label, field), warp_label(layout, field)
        noise = self.generator.sample_noise(
            self.settings.noise_scheme,
            layout,
            [torch_generator(self.seed, stream, step, sample) for sample in range(count)[part]],
        )
        image, noise = image.contiguous(memory_format=torch.channels_last), noise.to(self.device)
        augmentation = None
        if self.settings.augment:
            drawn = draw_augmentation(count, self.pairs.size, self.device, self.settings.augment_policies)
            augmentation = Augmentation(*(parameter[part] for parameter in drawn))
        label_map = one_hot(layout, self.pairs.table.num_classes, checked=self._samples.checked)
        return ImageBatch(indices, image, label, layout, label_map, noise, augmentation, ranks)


class ImageTrainees:
    """The networks of an image system under training, their batches and losses, for this training and for fine-tuning.

    Optimizer steps are left to the caller: the generator's first, then the discriminator's.
    """

    def __init__(
        self,
        name: str,
        settings: ImageSettings,
        *,
        pairs: Pairs,
        filled_labels: np.ndarray,
        features: FeatureNetwork | None,
        seed: int,
        fabric: Fabric,
        ranks: Ranks = ALONE,
        prefix: str = "",
    ) -> None:
        """Build the untrained networks, ready to be trained; the arguments are those of `train_image_generator`.

        Errors call the networks by the names "generator" and "discriminator" behind `prefix`.

        Raises:
            ConfigError: There is no such system, it comes trained, or no base grid reaches the size.
        """
        system, size, table = find_image_system(name), pairs.size, pairs.table
        if system.build_objective is None:
            raise ConfigError(f"The image system {name!r} comes trained and has no losses. Choose another to train.")
        network = system.build_generator(table, size, settings)
        self.objective = system.build_objective(table, size, settings, features)
        adam = partial(torch.optim.Adam, lr=settings.generator_learning_rate, betas=settings.betas)
        # On a CPU, `accelerate` beats a compiler, which needs ten minutes and then takes twice as long for a step.
        compiles = speed_of(fabric).compile != "off" and fabric.device.type != "cpu"
        if not compiles:
            accelerate(network)
        self.generator = Trainee(
            f"{prefix}generator", network, adam, fabric, ranks=ranks, averaged=True, compiles=compiles
        )
        self.discriminator = None
        if self.objective.discriminator is not None:
            adam = partial(torch.optim.Adam, lr=settings.discriminator_learning_rate, betas=settings.betas)
            if not compiles:
                accelerate(self.objective.discriminator)
            self.discriminator = Trainee(
                f"{prefix}discriminator", self.objective.discriminator, adam, fabric, ranks=ranks, compiles=compiles
            )
        if self.objective.memory is not None:
            fabric.to_device(self.objective.memory)
        if features is not None:
            fabric.to_device(features).eval().requires_grad_(False)
        resident = speed_of(fabric).resident
        self.source = TrainingBatches(pairs, filled_labels, network, settings, seed, fabric.device, resident)
        self.objective.begin(self.source, fabric.device)

    def generator_loss(self, step: int, stream: str, indices: np.ndarray) -> tuple[ImageBatch, Tensor, Loss]:
        """Return the batch of a step, the images generated for it, for the discriminator, and the generator's loss.

        Args:
            step: Optimizer step, from 0.
            stream: Name of the training's stream of randomness.
            indices: [B] positions in the training set that a plain training uses.
        """
        forward, opponent = self.generator.forward, self.discriminator
        batch = self.objective.batch(self.source, step, stream, indices, forward, self.generator.ranks)
        if opponent is None:
            return batch, *self.objective.generator_loss(forward, None, batch)
        with frozen(opponent.module):
            fake, loss = self.objective.generator_loss(forward, opponent.forward, batch)
        # A copy: CUDA graphs write over what they returned as soon as the discriminator looks at the first images.
        return batch, fake.detach().clone(), loss

    def discriminator_loss(self, batch: ImageBatch, fake: Tensor) -> Loss:
        """Return the discriminator's loss for the images of `generator_loss`; only if there is one."""
        assert self.discriminator is not None
        return self.objective.discriminator_loss(self.discriminator.forward, batch, fake)

    def watch(self, folder: Path, finished: int, stream: str) -> dict[str, float]:
        """Write the average's sample sheet after `finished` steps, leaving it and all random state as they are.

        Returns:
            Measures of the sheet's diversity by name.
        """
        with preserve_state(self.generator.average):
            self.generator.average.finish(self.source)
            sheet = sample_sheet(self.generator.average, self.source, stream)
        tile_images(folder / "samples" / f"step-{finished:06d}.png", sheet, columns=SHEET_COLUMNS)
        rows = [sheet[first + 1 : first + SHEET_COLUMNS] for first in range(0, len(sheet), SHEET_COLUMNS)]
        return image_diversity(rows, noisy=bool(self.generator.average.noise_schemes))

    def finish_average(self, stream: str, batch_size: int) -> None:
        """Let the average take what it needs and estimate its batch statistics; leave it in eval mode."""
        source, average = self.source, self.generator.average
        average.finish(source)
        source.generator = average  # noise may come from what it has just taken

        def run(step: int) -> None:
            indices = epoch_batch(len(source.pairs), batch_size, step, source.seed, stream)
            batch = source.batch(indices, step, stream)
            average(batch.label_map, batch.noise)

        estimate_batch_statistics(average, (partial(run, step) for step in range(STATISTICS_BATCHES)))


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
    """Train an image system; called again, with any number of processes, it resumes where it stopped.

    A system that comes trained is written as it is, once it has seen the training set.

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
    if system.comes_trained(settings):
        if ranks.first:
            _keep_trained(folder, name, settings, pairs, filled_labels, seed, fabric)
        return
    if system.cpu_warning and fabric.device.type == "cpu" and ranks.first:
        print(f"Warning: {system.cpu_warning}.", file=sys.stderr, flush=True)
    if system.compares_features(settings) and features is None:
        raise ConfigError(f"The image system {name!r} has a perceptual loss and needs a network of features for it.")
    if (problem := system.augmentation_problem(settings)) is not None:
        raise ConfigError(f"The image system {name!r} cannot be trained so.", [problem])
    ranks.check_batches({"batch_size": [settings.batch_size]})
    seed_step(seed, name, -1)
    trainees = ImageTrainees(
        name,
        settings,
        pairs=pairs,
        filled_labels=filled_labels,
        features=features,
        seed=seed,
        fabric=fabric,
        ranks=ranks,
    )
    generator, discriminator = trainees.generator, trainees.discriminator
    training = Training(
        folder,
        name,
        settings.steps,
        {"generator": generator, "discriminator": discriminator},
        {"average": generator.average, "memory": trainees.objective.memory},
        seed=seed,
        watch=CollapseMonitor(trainees.objective.chance_level),
        progress=progress,
        tensorboard=tensorboard,
        ranks=ranks,
    )
    interval = watch_interval(settings.steps)

    for step in training.steps(f"train-images {name}"):
        indices = epoch_batch(len(pairs), settings.batch_size, step, seed, name)

        batch, fake, loss = trainees.generator_loss(step, name, indices)
        take_step(step, loss.total, generator)
        generator.update_average(decay_at(step, settings.average_decay))
        parts = dict(loss.parts)

        if discriminator is not None:
            loss = trainees.discriminator_loss(batch, fake)
            take_step(step, loss.total, discriminator)
            parts |= loss.parts

        values = training.advance(parts)
        if not ranks.first:
            continue
        if training.due(interval):
            values |= trainees.watch(folder, training.finished, f"{name}-sheet")
        if training.due(LOG_EVERY, interval):
            training.log(values)
        if training.due(settings.checkpoint_every, settings.steps):
            training.save()
    if not ranks.first:
        return

    trainees.finish_average(f"{name}-statistics", settings.batch_size)
    sheet = sample_sheet(generator.average, trainees.source, f"{name}-sheet")
    tile_images(folder / "samples" / "final.png", sheet, columns=SHEET_COLUMNS)
    description = None if features is None else features.description
    metadata = {**_metadata(name, settings, pairs), "perceptual_features": description}
    if discriminator is not None:
        save_weights(folder / DISCRIMINATOR_WEIGHTS, discriminator.module, metadata)
    generator.average.export(folder)
    save_weights(folder / WEIGHTS, generator.average, metadata)


@torch.no_grad()
def sample_sheet(network: ImageGenerator, source: TrainingBatches, stream: str) -> list[np.ndarray]:
    """Return rows of layout, real image and three images that a network makes with different noise."""
    images: list[np.ndarray] = []
    pairs = source.pairs
    for row, index in enumerate(epoch_batch(len(pairs), SHEET_COUNT, 0, source.seed, stream)):
        image, _ = pairs.batch([int(index)])
        layout = torch.from_numpy(source.filled_labels[index : index + 1].astype(np.int64))
        label = layout.expand(SHEET_DRAWS, -1, -1).to(source.device)
        generators = [torch_generator(source.seed, stream, row, draw) for draw in range(SHEET_DRAWS)]
        noise = network.sample_noise(None, label, generators)
        generated = network(one_hot(label, pairs.table.num_classes), noise).cpu()
        if generated.shape != (wanted := (SHEET_DRAWS, 3, *pairs.size)):
            raise ScenepaletteError(
                f"{type(network).__name__} makes images of shape {tuple(generated.shape)}; required are {wanted}, B3HW "
                "at the size of the layouts. Correct its forward."
            )
        images += [
            pairs.table.colorize(source.filled_labels[index]),
            *images_to_uint8(image),
            *images_to_uint8(generated),
        ]
    return images


def _keep_trained(
    folder: Path, name: str, settings: ImageSettings, pairs: Pairs, filled_labels: np.ndarray, seed: int, fabric: Fabric
) -> None:
    """Write a system that comes trained as if its training had ended; it sees the training set once, by `finish`."""
    seed_step(seed, name, -1)
    network = find_image_system(name).build_generator(pairs.table, pairs.size, settings)
    network.to(fabric.device).eval().requires_grad_(False)
    source = TrainingBatches(pairs, filled_labels, network, settings, seed, fabric.device)
    network.finish(source)
    sheet = sample_sheet(network, source, f"{name}-sheet")
    tile_images(folder / "samples" / "final.png", sheet, columns=SHEET_COLUMNS)
    save_weights(folder / WEIGHTS, network, _metadata(name, settings, pairs))


def _metadata(name: str, settings: ImageSettings, pairs: Pairs) -> dict[str, Any]:
    """Return what a weights file says of where its weights come from, as JSON values."""
    return {
        **system_identity(name, pairs.table, pairs.size),
        **files_identity(name, settings),
        "settings": settings_of_result(settings),
        **find_image_system(name).terms(settings),
    }
