"""End-to-end fine-tuning of a layout and an image generator (Azadi et al., 2019, 3.3; Le Moing et al., 2021, 3.3).

Both generators keep their own losses. A further, unconditional discriminator D2 tells real images from those that
are made from generated layouts; its gradient reaches the layout generator through one-hot layouts (straight-through).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor, nn
from typing_extensions import Doc

from scenepalette.common.errors import CheckpointError
from scenepalette.common.progress import NO_PROGRESS, Progress
from scenepalette.common.randomness import epoch_batch, seed_step, torch_generator
from scenepalette.data.arrays import Pairs, images_to_uint8
from scenepalette.data.device.transfer import to_device
from scenepalette.data.labels import soft_to_label
from scenepalette.generators.images.base import FeatureNetwork, Forward, ImageBatch, ImageSettings
from scenepalette.generators.images.loading import FINE_TUNED_WEIGHTS as IMAGE_WEIGHTS
from scenepalette.generators.images.systems.patch_discriminator import PatchDiscriminator
from scenepalette.generators.images.systems.patch_losses import hinge_discriminator_loss, hinge_generator_loss
from scenepalette.generators.images.training import ImageTrainees
from scenepalette.generators.kernels.passes import accelerate
from scenepalette.generators.layouts.diversity import LayoutDiversity
from scenepalette.generators.layouts.loading import FINE_TUNED_WEIGHTS as LAYOUT_WEIGHTS
from scenepalette.generators.layouts.networks.gumbel import straight_through
from scenepalette.generators.layouts.settings import LayoutSettings
from scenepalette.generators.layouts.training import LayoutTrainees, Moment
from scenepalette.generators.nn.blocks import estimate_batch_statistics
from scenepalette.generators.palettes import PaletteSampler
from scenepalette.training.checkpoint import CheckpointFolder, save_weights, system_identity
from scenepalette.training.image_grid import tile_images
from scenepalette.training.loop import LOG_EVERY, Training
from scenepalette.training.monitor import CollapseMonitor, watch_interval
from scenepalette.training.ranks import ALONE, Ranks
from scenepalette.training.settings import Count, Decay, Rate, Weight, settings_of_result
from scenepalette.training.trainee import Trainee, frozen, require_finite, take_step

if TYPE_CHECKING:
    from lightning_fabric import Fabric

STAGE = "end-to-end"
STATISTICS_BATCHES = 16
SHEET_COUNT = 8


@dataclass(frozen=True)
class FineTuneSettings:
    """Numbers of an end-to-end fine-tuning; the defaults are SB-GAN's for Cityscapes (section 4)."""

    steps: Annotated[Count, Doc("Optimizer steps.")] = 10000
    batch_size: Annotated[int, Ge(2), Doc("Real pairs, and generated layouts, per step.")] = 8
    train: Annotated[Literal["both", "layouts", "images"], Doc("Which generators are trained further.")] = "both"
    # 1e-4 for ADE-Indoor
    layout_learning_rate: Annotated[Rate, Doc("Adam's learning rate for the layout generator.")] = 1e-5
    image_learning_rate: Annotated[Rate, Doc("Adam's learning rate for the image generator.")] = 1e-4
    discriminator_learning_rate: Annotated[Rate, Doc("Adam's learning rate for the image discriminators.")] = 4e-4
    # lambda of Eq. 3
    layout_weight: Annotated[Weight, Doc("Weight of the layout generator's own losses.")] = 10.0
    width: Annotated[Count, Doc("Channels of the further discriminator's first layer.")] = 64
    average_decay: Annotated[Decay, Doc("Of the averaged generators.")] = 0.999
    checkpoint_every: Annotated[Count, Doc("Steps between checkpoints.")] = 500


@dataclass(frozen=True)
class TrainedPart:
    """One finished training that a fine-tuning resumes from.

    Attributes:
        system: Name of its system.
        settings: What it was trained with.
        folder: Where it lies, with its last checkpoint.
    """

    system: str
    settings: LayoutSettings | ImageSettings
    folder: Path


class GeneratorStep(NamedTuple):
    """What both generators made in a step, and what they learn from it.

    Attributes:
        total: The loss to go down.
        parts: Its parts by the names of the metrics log.
        scene: B3HW images of generated layouts, for the discriminator D2: no gradient passes.
        own: The image system's own batch and the images generated for it; None if its generator is not trained.
    """

    total: Tensor
    parts: dict[str, Tensor]
    scene: Tensor
    own: tuple[ImageBatch, Tensor] | None


class FineTuneTrainees:
    """Both systems under training, and the discriminator D2 of images of generated layouts.

    Batches are functions of (seed, step). Optimizer steps are left to the caller: first the layout system's
    discriminator, then the generators together, then the image system's discriminator and D2.

    Attributes:
        layouts: Networks and losses of the layout system.
        images: Networks and losses of the image system.
        discriminator: D2.
        moment: Every step is one of the full-grown layout generator.
        generators: Those that are trained further; the weights of the other are frozen.
    """

    def __init__(self, layouts: LayoutTrainees, images: ImageTrainees, settings: FineTuneSettings) -> None:
        """Add D2 to the networks of both systems, and freeze the generator that is not trained further."""
        self.layouts, self.images, self.settings = layouts, images, settings
        self.pairs, self.seed, self.ranks = images.source.pairs, images.source.seed, images.generator.ranks
        self.layout_average, self.image_average = layouts.generator.average, images.generator.average
        for average in (self.layout_average, self.image_average):
            # Channels first, as ever: the two orders round differently, and equal runs are to end with equal bits.
            average.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        rate, betas = settings.discriminator_learning_rate, images.source.settings.betas
        network = PatchDiscriminator(0, self.pairs.size, settings.width)
        accelerate(network)
        self.discriminator = Trainee(
            "end-to-end discriminator",
            network,
            partial(torch.optim.Adam, lr=rate, betas=betas),
            images.generator.fabric,
            ranks=self.ranks,
            compiles=images.generator.fabric.device.type != "cpu",
        )
        self.moment = Moment(layouts.doublings, 1.0, settings.batch_size, False)
        self.trains_layouts, self.trains_images = settings.train != "images", settings.train != "layouts"
        layouts.generator.module.requires_grad_(self.trains_layouts)
        images.generator.module.requires_grad_(self.trains_images)
        self.generators: list[Trainee[Any]] = [
            *([layouts.generator] if self.trains_layouts else []),
            *([images.generator] if self.trains_images else []),
        ]

    def load(self, layouts: Path, images: Path) -> None:
        """Load the last checkpoints of both systems' own trainings.

        Raises:
            CheckpointError: One is missing or of another set-up.
        """
        trainees = {"generator": self.layouts.generator, "critic": self.layouts.discriminator}
        _load_part(layouts, trainees, {"average": self.layout_average})
        trainees = {"generator": self.images.generator, "discriminator": self.images.discriminator}
        # What an objective remembers is about its own training's steps; here it starts from step 0.
        memory = copy.deepcopy(self.images.objective.memory)
        _load_part(images, trainees, {"average": self.image_average, "memory": memory})

    @property
    def chance_level(self) -> dict[str, float]:
        """The value of each discriminator's loss if real and generated images cannot be told apart."""
        levels = {"judge": 2.0}  # a hinge loss
        if self.trains_images:
            levels |= _prefixed("image", self.images.objective.chance_level)
        return levels

    def _paint(self, layouts: Tensor, step: int, stream: str, generator: Forward, ranks: Ranks = ALONE) -> Tensor:
        """Return images of this process's part of the generated layouts; the gradient reaches the layouts."""
        samples = range(len(layouts) * ranks.count)[ranks.part]
        randoms = [torch_generator(self.seed, STAGE, stream, step, sample) for sample in samples]
        scheme = self.images.source.settings.noise_scheme
        noise = self.images.generator.module.sample_noise(scheme, soft_to_label(layouts), randoms)
        return generator(straight_through(layouts), noise)

    def _scores(self, image: Tensor) -> list[Tensor]:
        return [output.scores for output in self.discriminator.forward(image)]

    def generator_loss(self, step: int, indices: np.ndarray) -> GeneratorStep:
        """Return the generators' loss: images of generated layouts pass for real ones, each keeps its own (Eq. 3).

        Args:
            step: Optimizer step, from 0.
            indices: [B] positions in the training set.
        """
        loss_layout, layout_parts, generated = self.layouts.generator_loss(step, self.moment)
        scene = self._paint(generated.layout, step, "paint", self.images.generator.forward, self.ranks)
        with frozen(self.discriminator.module):
            total = hinge_generator_loss(self._scores(scene))
        parts = {"end_to_end": total}
        if self.trains_layouts:
            total = total + self.settings.layout_weight * loss_layout
            parts |= _prefixed("layout", layout_parts)
        own = None
        if self.trains_images:
            batch, fake, loss_image = self.images.generator_loss(step, STAGE, indices)
            total = total + loss_image.total
            parts |= _prefixed("image", loss_image.parts)
            own = batch, fake
        return GeneratorStep(total, parts, scene.detach().clone(), own)  # see `ImageTrainees.generator_loss`

    def discriminator_loss(self, indices: np.ndarray, scene: Tensor) -> Tensor:
        """Return D2's loss for the real images at `indices` and the scene of `generator_loss`."""
        real = self.pairs.batch(indices[self.ranks.part].tolist())[0]
        real_scores = self._scores(to_device(real, self.discriminator.fabric.device))
        return hinge_discriminator_loss(real_scores, self._scores(scene))

    @torch.no_grad()
    def _scenes(self, step: int) -> tuple[Tensor, Tensor]:
        """Return layouts BKHW that the averages make, and their images B3HW."""
        inputs = self.layouts.inputs.draw(step, f"{STAGE} statistics", self.settings.batch_size)
        generated = inputs.run(self.layout_average, self.moment.level, self.moment.fade).layout
        return generated, self._paint(generated, step, "statistics", self.image_average)

    def finish_averages(self) -> list[np.ndarray]:
        """Make the averages ready for use, in eval mode, and return layouts and then images of a final sheet."""
        self.image_average.finish(self.images.source)
        # Both averages meet generated layouts from now on, so their statistics are taken over these.
        batches = [partial(self._scenes, step) for step in range(STATISTICS_BATCHES)]
        estimate_batch_statistics(self.layout_average, batches)
        estimate_batch_statistics(self.image_average, batches)
        layouts, images = (drawn[:SHEET_COUNT] for drawn in self._scenes(STATISTICS_BATCHES))
        labels = soft_to_label(layouts).cpu().numpy()
        return [*map(self.pairs.table.colorize, labels), *images_to_uint8(images.float().cpu())]


def fine_tune(
    folder: Path,
    layouts: TrainedPart,
    images: TrainedPart,
    settings: FineTuneSettings,
    *,
    pairs: Pairs,
    filled_labels: np.ndarray,
    sampler: PaletteSampler,
    features: FeatureNetwork | None,
    seed: int,
    fabric: Fabric,
    progress: Progress = NO_PROGRESS,
    tensorboard: bool = False,
    ranks: Ranks = ALONE,
) -> None:
    """Train both generators together; called again, with any number of processes, it resumes where it stopped.

    Writes `layouts.safetensors` and `images.safetensors` (the averaged generators), `metrics.jsonl`, `samples/*.png`
    and the last two checkpoints. There is no best one: no loss measures layouts and images together. About twenty
    times in a training the averaged image generator makes a sample sheet, and the diversity of both is measured.

    Args:
        folder: Output folder.
        layouts: The trained layout system, full or partial.
        images: The trained image system.
        settings: Numbers of the fine-tuning.
        pairs: Real images and labels.
        filled_labels: uint8 [N, H, W], the labels with ignored pixels filled.
        sampler: Where target palettes come from.
        features: Network of the image system's perceptual loss, if it has one.
        seed: The run's seed.
        fabric: Device and precision.
        progress: Watches the steps.
        tensorboard: Whether numbers are also written for TensorBoard.
        ranks: The processes that all make this call and share its batches; the first of them writes.

    Raises:
        ConfigError: Batches cannot be divided.
        CheckpointError: A part's last checkpoint is missing or of another set-up.
        TrainingError: A loss or a gradient is not finite.
    """
    ranks.check_batches({"batch_size": [settings.batch_size]})
    seed_step(seed, STAGE, -1)
    assert isinstance(layouts.settings, LayoutSettings) and isinstance(images.settings, ImageSettings)
    layout_trainees = LayoutTrainees(
        layouts.system,
        replace(layouts.settings, learning_rate=settings.layout_learning_rate),
        labels=filled_labels,
        table=pairs.table,
        sampler=sampler,
        seed=seed,
        fabric=fabric,
        stage=STAGE,
        ranks=ranks,
    )
    rates = {
        "generator_learning_rate": settings.image_learning_rate,
        "discriminator_learning_rate": settings.discriminator_learning_rate,
    }
    image_trainees = ImageTrainees(
        images.system,
        replace(images.settings, **rates),
        pairs=pairs,
        filled_labels=filled_labels,
        features=features,
        seed=seed,
        fabric=fabric,
        ranks=ranks,
        prefix="image ",
    )
    trainees = FineTuneTrainees(layout_trainees, image_trainees, settings)
    trainees.load(layouts.folder, images.folder)
    image_discriminator = image_trainees.discriminator
    training = Training(
        folder,
        STAGE,
        settings.steps,
        {
            "layout": layout_trainees.generator,
            "layout_critic": layout_trainees.discriminator,
            "image": image_trainees.generator,
            "judge": trainees.discriminator,
            "image_critic": image_discriminator,
        },
        {
            "layout_average": trainees.layout_average,
            "image_average": trainees.image_average,
            "memory": image_trainees.objective.memory,
        },
        seed=seed,
        watch=CollapseMonitor(trainees.chance_level, "critic" if trainees.trains_layouts else None),
        progress=progress,
        tensorboard=tensorboard,
        ranks=ranks,
    )
    if not training.finished:
        image_trainees.generator.module.finish(image_trainees.source)
    diversity, interval = LayoutDiversity(layout_trainees.inputs, filled_labels), watch_interval(settings.steps)

    for step in training.steps(f"finetune {layouts.system} {images.system}"):
        indices = epoch_batch(len(pairs), settings.batch_size, step, seed, STAGE)
        parts: dict[str, Tensor] = {}
        if trainees.trains_layouts:
            loss, parts = layout_trainees.discriminator_loss(step, trainees.moment)
            take_step(step, loss, layout_trainees.discriminator)

        made = trainees.generator_loss(step, indices)
        parts |= made.parts
        checks = layout_trainees.generator.checks
        if checks is None:
            require_finite(step, **parts)
        else:
            checks.note_losses(step, **parts)
        take_step(step, made.total, *trainees.generators)
        for generator in trainees.generators:
            generator.update_average(settings.average_decay)

        if made.own is not None and image_discriminator is not None:
            loss_image = image_trainees.discriminator_loss(*made.own)
            take_step(step, loss_image.total, image_discriminator)
            parts |= _prefixed("image", loss_image.parts)
        loss = trainees.discriminator_loss(indices, made.scene)
        take_step(step, loss, trainees.discriminator)

        values = training.advance(parts | {"judge": loss}, ("end_to_end", "judge"))
        if not ranks.first:
            continue
        if training.due(interval):
            values |= diversity.measure(trainees.layout_average, trainees.moment.level, trainees.moment.fade)
            values |= image_trainees.watch(folder, training.finished, f"{STAGE} sheet")
        if training.due(LOG_EVERY, interval):
            training.log(values)
        if training.due(settings.checkpoint_every, settings.steps):
            training.save()
    if not ranks.first:
        return

    sheet = trainees.finish_averages()
    tile_images(folder / "samples" / "final.png", sheet, columns=len(sheet) // 2)
    metadata = {
        "fine_tuning": settings_of_result(settings),
        "perceptual_features": None if features is None else features.description,
    }
    for path, average, part in (
        (folder / LAYOUT_WEIGHTS, trainees.layout_average, layouts),
        (folder / IMAGE_WEIGHTS, trainees.image_average, images),
    ):
        identity = system_identity(part.system, pairs.table, pairs.size)
        save_weights(path, average, {**identity, "settings": settings_of_result(part.settings), **metadata})


def _prefixed(part: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{part}_{name}": value for name, value in values.items()}


def _load_part(
    folder: Path, trainees: Mapping[str, Trainee[Any] | None], others: Mapping[str, nn.Module | None]
) -> None:
    modules = {name: trainee.module for name, trainee in trainees.items() if trainee is not None}
    modules |= {name: module for name, module in others.items() if module is not None}
    if not CheckpointFolder(folder).load(modules, {})[0]:
        raise CheckpointError(
            f"{folder} has no checkpoint to resume from. Train that part first, or put back its "
            "checkpoint-*.safetensors."
        )
