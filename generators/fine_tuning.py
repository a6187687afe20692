"""End-to-end fine-tuning of a layout and an image generator (SB-GAN, section 3.3; Semantic Palette, section 3.3).

Both generators go on with their own losses. A further, unconditional discriminator D2 tells real images from those that
are made from generated layouts; its gradient reaches the layout generator through one-hot layouts (straight-through).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge
from lightning_fabric import Fabric
from torch import Tensor, nn
from typing_extensions import Doc

from scenepalette.common.errors import CheckpointError
from scenepalette.common.progress import NO_PROGRESS, Progress
from scenepalette.common.randomness import epoch_batch, seed_step, torch_generator
from scenepalette.data.arrays import Pairs, images_to_uint8
from scenepalette.data.labels import soft_to_label
from scenepalette.generators.images.base import FeatureNetwork, Forward, ImageSettings
from scenepalette.generators.images.loading import FINE_TUNED_WEIGHTS as IMAGE_WEIGHTS
from scenepalette.generators.images.systems.patch_discriminator import PatchDiscriminator
from scenepalette.generators.images.systems.patch_losses import hinge_discriminator_loss, hinge_generator_loss
from scenepalette.generators.images.training import ImageTrainees
from scenepalette.generators.kernels.passes import accelerate
from scenepalette.generators.layouts.diversity import LayoutDiversity
from scenepalette.generators.layouts.gumbel import straight_through
from scenepalette.generators.layouts.loading import FINE_TUNED_WEIGHTS as LAYOUT_WEIGHTS
from scenepalette.generators.layouts.settings import LayoutSettings
from scenepalette.generators.layouts.training import LayoutTrainees, Moment
from scenepalette.generators.nn.blocks import estimate_batch_statistics
from scenepalette.generators.palettes import PaletteSampler
from scenepalette.training.checkpoint import CheckpointFolder, save_weights, system_identity
from scenepalette.training.image_grid import tile_pictures
from scenepalette.training.loop import LOG_EVERY, Training
from scenepalette.training.monitor import CollapseMonitor, watch_interval
from scenepalette.training.ranks import ALONE, Ranks
from scenepalette.training.settings import Count, Decay, Rate, Weight, settings_of_result
from scenepalette.training.trainee import Trainee, frozen, require_finite, take_step

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
    layout_learning_rate: Annotated[Rate, Doc("Adam's for the layout generator.")] = 1e-5
    image_learning_rate: Annotated[Rate, Doc("Adam's for the image generator.")] = 1e-4
    discriminator_learning_rate: Annotated[Rate, Doc("Adam's for image discriminators.")] = 4e-4
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
    assert isinstance(layouts.settings, LayoutSettings) and isinstance(images.settings, ImageSettings)
    ranks.check_batches({"batch_size": [settings.batch_size]})
    seed_step(seed, STAGE, -1)
    shared: dict[str, Any] = {"seed": seed, "fabric": fabric, "ranks": ranks}
    layout_trainees = LayoutTrainees(
        layouts.system,
        replace(layouts.settings, learning_rate=settings.layout_learning_rate),
        labels=filled_labels,
        table=pairs.table,
        sampler=sampler,
        stage=STAGE,
        **shared,
    )
    image_trainees = ImageTrainees(
        images.system,
        replace(
            images.settings,
            generator_learning_rate=settings.image_learning_rate,
            discriminator_learning_rate=settings.discriminator_learning_rate,
        ),
        pairs=pairs,
        filled_labels=filled_labels,
        features=features,
        prefix="image ",
        **shared,
    )
    layout, layout_discriminator = layout_trainees.generator, layout_trainees.discriminator
    image, image_discriminator = image_trainees.generator, image_trainees.discriminator
    layout_average, image_average = layout.average, image.average
    source, memory = image_trainees.source, image_trainees.objective.memory
    for average in (layout_average, image_average):
        # Channels first, as ever: the two orders round differently, and equal runs are to end with equal bits.
        average.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    adam = partial(torch.optim.Adam, lr=settings.discriminator_learning_rate, betas=images.settings.betas)
    network = PatchDiscriminator(0, pairs.size, settings.width)
    accelerate(network)
    discriminator = Trainee("end-to-end discriminator", network, adam, fabric, ranks=ranks)
    _load_part(
        layouts.folder, {"generator": layout.module, "critic": layout_discriminator.module, "average": layout_average}
    )
    _load_part(
        images.folder,
        {
            "generator": image.module,
            "discriminator": None if image_discriminator is None else image_discriminator.module,
            "average": image_average,
            # What an objective remembers is about its own training's steps; here starting from step 0.
            "memory": copy.deepcopy(memory),
        },
    )

    last = Moment(layout_trainees.doublings, 1.0, settings.batch_size, False)
    trains_layouts, trains_images = settings.train != "images", settings.train != "layouts"
    chance_level = {"judge": 2.0}  # a hinge loss
    if trains_images:
        chance_level |= {f"image_{name}": value for name, value in image_trainees.objective.chance_level.items()}
    training = Training(
        folder,
        STAGE,
        settings.steps,
        {
            "layout": layout,
            "layout_critic": layout_discriminator,
            "image": image,
            "judge": discriminator,
            "image_critic": image_discriminator,
        },
        {"layout_average": layout_average, "image_average": image_average, "memory": memory},
        seed=seed,
        watch=CollapseMonitor(chance_level, "critic" if trains_layouts else None),
        progress=progress,
        tensorboard=tensorboard,
        ranks=ranks,
    )
    if not training.finished:
        image.module.finish(source)
    diversity, interval = LayoutDiversity(layout_trainees.inputs, filled_labels), watch_interval(settings.steps)
    layout.module.requires_grad_(trains_layouts)
    image.module.requires_grad_(trains_images)
    generators = [*([layout] if trains_layouts else []), *([image] if trains_images else [])]

    def painted(layouts: Tensor, step: int, stream: str, generator: Forward, ranks: Ranks = ALONE) -> Tensor:
        samples = range(len(layouts) * ranks.count)[ranks.part]
        randoms = [torch_generator(seed, STAGE, stream, step, sample) for sample in samples]
        noise = image.module.sample_noise(source.settings.noise_scheme, soft_to_label(layouts), randoms)
        return generator(straight_through(layouts), noise)

    def scores(image: Tensor) -> list[Tensor]:
        return [output.scores for output in discriminator.forward(image)]

    for step in training.steps(f"finetune {layouts.system} {images.system}"):
        parts: dict[str, Tensor] = {}
        if trains_layouts:
            loss, parts = layout_trainees.discriminator_loss(step, last)
            take_step(step, loss, layout_discriminator)

        # Generators: images of generated layouts are to pass for real ones (D2); each keeps its own losses (Eq. 3).
        loss_layout, layout_parts, generated = layout_trainees.generator_loss(step, last)
        scene = painted(generated.layout, step, "paint", image.forward, ranks)
        with frozen(discriminator.module):
            total = hinge_generator_loss(scores(scene))
        parts |= {"end_to_end": total}
        if trains_layouts:
            total = total + settings.layout_weight * loss_layout
            parts |= {f"layout_{name}": part for name, part in layout_parts.items()}
        indices = epoch_batch(len(pairs), settings.batch_size, step, seed, STAGE)
        batch = fake = None
        if trains_images:
            batch, fake, loss_image = image_trainees.generator_loss(step, STAGE, indices)
            total = total + loss_image.total
            parts |= {f"image_{name}": part for name, part in loss_image.parts.items()}
        require_finite(step, **parts)
        take_step(step, total, *generators)
        for generator in generators:
            generator.update_average(settings.average_decay)

        # Discriminators: the image system's own, then D2.
        if batch is not None and fake is not None and image_discriminator is not None:
            loss_image = image_trainees.discriminator_loss(batch, fake)
            take_step(step, loss_image.total, image_discriminator)
            parts |= {f"image_{name}": part for name, part in loss_image.parts.items()}
        real = pairs.batch(indices[ranks.part].tolist())[0].to(fabric.device)
        loss = hinge_discriminator_loss(scores(real), scores(scene.detach()))
        take_step(step, loss, discriminator)

        values = training.advance(parts | {"judge": loss}, ("end_to_end", "judge"))
        if not ranks.first:
            continue
        if training.due(interval):
            values |= diversity.measure(layout_average, last.level, last.fade)
            values |= image_trainees.watch(folder, training.finished, f"{STAGE} sheet")
        if training.due(LOG_EVERY, interval):
            training.log(values)
        if training.due(settings.checkpoint_every, settings.steps):
            training.save()
    if not ranks.first:
        return

    image_average.finish(source)

    @torch.no_grad()
    def scenes(step: int) -> tuple[Tensor, Tensor]:
        inputs = layout_trainees.inputs.draw(step, f"{STAGE} statistics", settings.batch_size)
        generated = inputs.run(layout_average, last.level, last.fade).layout
        return generated, painted(generated, step, "statistics", image_average)

    # Both averages meet generated layouts from now on, so their statistics are taken over these.
    batches = [partial(scenes, step) for step in range(STATISTICS_BATCHES)]
    estimate_batch_statistics(layout_average, batches)
    estimate_batch_statistics(image_average, batches)
    drawn, scene = scenes(STATISTICS_BATCHES)
    pictures = [
        *(pairs.table.colorize(label) for label in soft_to_label(drawn[:SHEET_COUNT]).cpu().numpy()),
        *images_to_uint8(scene[:SHEET_COUNT].float().cpu()),
    ]
    tile_pictures(folder / "samples" / "final.png", pictures, columns=min(SHEET_COUNT, len(drawn)))
    metadata = {
        "fine_tuning": settings_of_result(settings),
        "perceptual_features": None if features is None else features.description,
    }
    for path, average, part in (
        (folder / LAYOUT_WEIGHTS, layout_average, layouts),
        (folder / IMAGE_WEIGHTS, image_average, images),
    ):
        identity = system_identity(part.system, pairs.table, pairs.size)
        save_weights(path, average, {**identity, "settings": settings_of_result(part.settings), **metadata})


def _load_part(folder: Path, modules: dict[str, nn.Module | None]) -> None:
    steps, _ = CheckpointFolder(folder).load({name: part for name, part in modules.items() if part is not None}, {})
    if not steps:
        raise CheckpointError(
            f"{folder} has no checkpoint to resume from. Train that part first, or put back its "
            "checkpoint-*.safetensors."
        )
