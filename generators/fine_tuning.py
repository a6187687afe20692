"""End-to-end fine-tuning of a layout and an image generator (SB-GAN, section 3.3; Semantic Palette, section 3.3).

Both generators go on with their own losses. A further, unconditional discriminator D2 tells real images from those that
are made from generated layouts; its gradient reaches the layout generator through one-hot layouts (straight-through).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from scenepalette.common.errors import CheckpointError
from scenepalette.common.progress import NO_PROGRESS, Progress
from scenepalette.common.randomness import torch_generator
from scenepalette.data.arrays import Pairs, images_to_uint8
from scenepalette.data.labels import soft_to_label
from scenepalette.generators.collapse import LayoutDiversity
from scenepalette.generators.images.base import FeatureNetwork, ImageSettings
from scenepalette.generators.images.registry import find_image_system
from scenepalette.generators.images.systems.patch_discriminator import PatchDiscriminator
from scenepalette.generators.images.systems.patch_losses import hinge_discriminator_loss, hinge_generator_loss
from scenepalette.generators.images.training import TrainingBatches, image_identity, watch_images
from scenepalette.generators.kernels.passes import accelerate
from scenepalette.generators.layouts.gumbel import straight_through
from scenepalette.generators.layouts.registry import layout_system
from scenepalette.generators.layouts.settings import LayoutSettings
from scenepalette.generators.layouts.training import LayoutObjective, Moment, layout_identity
from scenepalette.generators.nn.blocks import estimate_batch_statistics
from scenepalette.generators.palettes import PaletteSampler
from scenepalette.training.average import averaged_copy, update_average
from scenepalette.training.checkpoint import CheckpointFolder, save_weights
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
from scenepalette.training.monitor import CollapseMonitor, watch_interval
from scenepalette.training.ranks import ALONE, Ranks

LAYOUT_WEIGHTS = "layouts.safetensors"
IMAGE_WEIGHTS = "images.safetensors"
STAGE = "end-to-end"
STATISTICS_BATCHES = 16
SHEET_COUNT = 8


@dataclass(frozen=True)
class FineTuneSettings:
    """Numbers of an end-to-end fine-tuning; the defaults are SB-GAN's for Cityscapes (section 4).

    Attributes:
        steps: Optimizer steps.
        batch_size: Real pairs, and generated layouts, a step.
        train: Which generators go on learning.
        layout_learning_rate: Of the layout generator and its critic; 1e-4 for ADE-Indoor.
        image_learning_rate: Of the image generator.
        discriminator_learning_rate: Of the image discriminators.
        layout_weight: Lambda of Eq. 3, the weight of the layout generator's own losses.
        width: Channels of D2's first layer.
        average_decay: Of both averaged generators.
        checkpoint_every: Optimizer steps between checkpoints.
    """

    steps: int = 10000
    batch_size: int = 8
    train: Literal["both", "layouts", "images"] = "both"
    layout_learning_rate: float = 1e-5
    image_learning_rate: float = 1e-4
    discriminator_learning_rate: float = 4e-4
    layout_weight: float = 10.0
    width: int = 64
    average_decay: float = 0.999
    checkpoint_every: int = 500


@dataclass(frozen=True)
class TrainedPart:
    """One finished training that a fine-tuning goes on from.

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
    """Train both generators together; the same call again, from any number of processes, goes on where it stopped.

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
    size, count = pairs.size, pairs.table.num_classes
    noise_scheme = images.settings.noise_scheme
    seed_step(seed, STAGE, -1)
    layout_kind, image_kind = layout_system(layouts.system), find_image_system(images.system)
    raw_layout = layout_kind.build_generator(count, size, layouts.settings)
    raw_layout_critic = layout_kind.build_critic(count, size, layouts.settings)
    raw_image = image_kind.build_generator(count, size, images.settings)
    objective = image_kind.build_objective(count, size, images.settings, features)
    raw_judge = PatchDiscriminator(0, size, settings.width)
    layout_average, image_average = averaged_copy(raw_layout), averaged_copy(raw_image)
    _load_part(layouts.folder, {"generator": raw_layout, "critic": raw_layout_critic, "average": layout_average})
    image_parts: dict[str, nn.Module] = {"generator": raw_image, "average": image_average}
    if objective.critic is not None:
        image_parts["discriminator"] = objective.critic
    if objective.memory is not None:
        image_parts["memory"] = objective.memory
    _load_part(images.folder, image_parts)

    ranks.join(raw_layout, raw_layout_critic, raw_image)
    rates = {
        "layout": (raw_layout, settings.layout_learning_rate, layouts.settings.betas),
        "layout_critic": (raw_layout_critic, settings.layout_learning_rate, layouts.settings.betas),
        "image": (raw_image, settings.image_learning_rate, images.settings.betas),
        "judge": (raw_judge, settings.discriminator_learning_rate, images.settings.betas),
    }
    if objective.critic is not None:
        rates["image_critic"] = (objective.critic, settings.discriminator_learning_rate, images.settings.betas)
    accelerate(*(module for module, _, _ in rates.values()), layout_average, image_average)
    optimizers = {
        name: torch.optim.Adam(module.parameters(), rate, betas) for name, (module, rate, betas) in rates.items()
    }
    ready = {name: fabric.setup(rates[name][0], optimizer) for name, optimizer in optimizers.items()}
    modules = {name: module for name, (module, _, _) in rates.items()}
    modules |= {"layout_average": fabric.to_device(layout_average), "image_average": fabric.to_device(image_average)}
    if objective.memory is not None:
        modules["memory"] = fabric.to_device(objective.memory)
    if features is not None:
        fabric.to_device(features).eval().requires_grad_(False)

    source = TrainingBatches(pairs, filled_labels, raw_image, images.settings, seed, fabric.device)
    objective.begin(source, fabric.device)
    layout_objective = LayoutObjective(
        layout_kind,
        layouts.settings,
        generator=ready["layout"][0],
        critic=ready["layout_critic"][0],
        raw_critic=raw_layout_critic,
        labels=filled_labels,
        table=pairs.table,
        sampler=sampler,
        seed=seed,
        fabric=fabric,
        stage=STAGE,
        ranks=ranks,
    )
    last = Moment(layout_objective.doublings, 1.0, settings.batch_size, False)
    trains_layouts, trains_images = settings.train != "images", settings.train != "layouts"
    checkpoints = CheckpointFolder(folder)
    done, _ = checkpoints.load(modules, optimizers)
    if not done:
        raw_image.finish(source)
    trained_critics = {"judge": 2.0}  # a hinge loss
    if trains_images:
        trained_critics |= {f"image_{name}": value for name, value in objective.chance_level.items()}
    watch = CollapseMonitor(trained_critics, "critic" if trains_layouts else None)
    log = MetricsLog(folder / "metrics.jsonl", done, watch=watch, tensorboard=tensorboard) if ranks.first else None
    diversity, interval = LayoutDiversity(layout_objective.inputs, filled_labels), watch_interval(settings.steps)
    raw_layout.requires_grad_(trains_layouts)
    raw_image.requires_grad_(trains_images)

    def step_with(step: int, loss: Tensor, names: list[str]) -> None:
        for name in names:
            optimizers[name].zero_grad()
        fabric.backward(loss)
        ranks.average_gradients(*(rates[name][0] for name in names))
        require_finite_gradients(step, **{name: rates[name][0] for name in names})
        for name in names:
            ready[name][1].step()

    def painted(layout: Tensor, step: int, stream: str, generator: nn.Module, ranks: Ranks = ALONE) -> Tensor:
        samples = range(len(layout) * ranks.count)[ranks.part]
        randoms = [torch_generator(seed, STAGE, stream, step, sample) for sample in samples]
        noise = raw_image.sample_noise(noise_scheme, soft_to_label(layout), randoms)
        return generator(straight_through(layout), noise)

    progress.start(f"finetune {layouts.system} {images.system}", settings.steps, done)
    for step in range(done, settings.steps):
        seed_step(seed, STAGE, step)
        parts: dict[str, Tensor] = {}
        if trains_layouts:
            loss_layout_critic, parts = layout_objective.critic_loss(step, last)
            require_finite(step, layout_critic=loss_layout_critic)
            step_with(step, loss_layout_critic, ["layout_critic"])

        # Generators: images of generated layouts are to pass for real ones (D2); each keeps its own losses (Eq. 3).
        for frozen in (objective.critic, raw_judge):
            if frozen is not None:
                frozen.requires_grad_(False)
        loss_layout, layout_parts, generated = layout_objective.generator_loss(step, last)
        image = painted(generated.layout, step, "paint", ready["image"][0], ranks)
        adversarial = hinge_generator_loss([output.scores for output in ready["judge"][0](image)])
        total, parts = adversarial, parts | {"end_to_end": adversarial}
        if trains_layouts:
            total = total + settings.layout_weight * loss_layout
            parts |= {f"layout_{name}": part for name, part in layout_parts.items()}
        indices = epoch_batch(len(pairs), settings.batch_size, step, seed, STAGE)
        batch, fake = None, None
        if trains_images:
            batch = objective.batch(source, step, STAGE, indices, ready["image"][0], ranks)
            fake, loss_image = objective.generator_loss(
                ready["image"][0], ready["image_critic"][0] if objective.critic is not None else None, batch
            )
            total = total + loss_image.total
            parts |= {f"image_{name}": part for name, part in loss_image.parts.items()}
        require_finite(step, **parts, generators=total)
        step_with(step, total, [*(["layout"] if trains_layouts else []), *(["image"] if trains_images else [])])
        for frozen in (objective.critic, raw_judge):
            if frozen is not None:
                frozen.requires_grad_(True)
        for trained, averaged, module in (
            (trains_layouts, layout_average, raw_layout),
            (trains_images, image_average, raw_image),
        ):
            if trained:
                update_average(averaged, module, settings.average_decay)

        if batch is not None and fake is not None and objective.critic is not None:
            loss_image_critic = objective.critic_loss(ready["image_critic"][0], batch, fake.detach())
            require_finite(step, image_discriminator=loss_image_critic.total)
            step_with(step, loss_image_critic.total, ["image_critic"])
            parts |= {f"image_{name}": part for name, part in loss_image_critic.parts.items()}
        real = pairs.batch(indices[ranks.part].tolist())[0].to(fabric.device)
        judge = ready["judge"][0]
        loss_judge = hinge_discriminator_loss(
            [output.scores for output in judge(real)], [output.scores for output in judge(image.detach())]
        )
        require_finite(step, end_to_end_discriminator=loss_judge)
        step_with(step, loss_judge, ["judge"])

        finished = step + 1
        parts |= {"judge": loss_judge}
        values = ranks.means({name: float(part.detach()) for name, part in parts.items()})
        progress.advance(1, end_to_end=values["end_to_end"], judge=values["judge"])
        if log is None:
            continue
        if finished % interval == 0:
            values |= diversity.measure(layout_average, last.level, last.fade)
            values |= watch_images(folder, finished, image_average, source, f"{STAGE} sheet")
        if finished % LOG_EVERY == 0 or finished % interval == 0:
            log.write(finished, **values)
        if finished % settings.checkpoint_every == 0 or finished == settings.steps:
            checkpoints.save(finished, modules, optimizers)
    progress.finish()
    if log is None:
        return
    log.close()

    image_average.finish(source)

    @torch.no_grad()
    def scenes(step: int) -> tuple[Tensor, Tensor]:
        inputs = layout_objective.inputs.draw(step, f"{STAGE} statistics", settings.batch_size)
        layout = inputs.run(layout_average, layout_objective.doublings, 1.0).layout
        return layout, painted(layout, step, "statistics", image_average)

    # Both averages meet generated layouts from now on, so their statistics are taken over these.
    batches = [partial(scenes, step) for step in range(STATISTICS_BATCHES)]
    estimate_batch_statistics(layout_average, batches)
    estimate_batch_statistics(image_average, batches)
    layout, image = scenes(STATISTICS_BATCHES)
    pictures = [
        *(pairs.table.colorize(label) for label in soft_to_label(layout[:SHEET_COUNT]).cpu().numpy()),
        *images_to_uint8(image[:SHEET_COUNT].float().cpu()),
    ]
    tile_pictures(folder / "samples" / "final.png", pictures, columns=min(SHEET_COUNT, len(layout)))
    metadata = {
        "fine_tuning": settings_of_result(settings),
        "perceptual_features": None if features is None else features.description,
    }
    layout_numbers, image_numbers = (settings_of_result(part.settings) for part in (layouts, images))
    identity = layout_identity(layouts.system, pairs.table, size)
    save_weights(folder / LAYOUT_WEIGHTS, layout_average, {**identity, "settings": layout_numbers, **metadata})
    identity = image_identity(images.system, pairs.table, size)
    save_weights(folder / IMAGE_WEIGHTS, image_average, {**identity, "settings": image_numbers, **metadata})


def _load_part(folder: Path, modules: dict[str, nn.Module]) -> None:
    steps, _ = CheckpointFolder(folder).load(modules, {})
    if not steps:
        raise CheckpointError(
            f"{folder} has no checkpoint to go on from. Train that part first, or put back its "
            "checkpoint-*.safetensors."
        )
