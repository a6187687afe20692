"""The training loop of OASIS, and loading what it wrote."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from data.arrays import Pairs, images_to_uint8
from data.classes import ClassTable
from data.labels import one_hot
from data.randomness import torch_generator
from generators.augmentation import augment_image, augment_label, draw_augmentation
from generators.blocks import estimate_batch_statistics
from generators.grids import base_grid
from generators.noise import NoiseScheme, sample_noise
from generators.oasis import OasisDiscriminator, OasisGenerator
from generators.oasis_losses import fake_loss, label_mix, label_mix_loss, label_mix_mask, real_loss
from generators.pictures import tile_pictures
from training.average import averaged_copy, decay_at, update_average
from training.checkpoint import CheckpointFolder, load_weights, save_weights
from training.loop import NO_PROGRESS, MetricsLog, Progress, epoch_batch, require_finite, seed_step

STAGE = "oasis"
STATISTICS_BATCHES = 32
SHEET_COUNT = 4  # layouts on a sample sheet; each is shown with its real image and with 3 draws of noise
DOUBLINGS = 5  # Table M: 256x256 from 8x8


@dataclass(frozen=True)
class OasisSettings:
    """Numbers of OASIS and its training; the defaults are the paper's for Cityscapes.

    Attributes:
        width: Channels of the generator's last block; the first have 16 times as many.
        noise_channels: Z.
        hidden_channels: Width inside each modulation.
        discriminator_width: Channels of the discriminator's first two levels.
        steps: Optimizer steps.
        batch_size: Real and generated images a step.
        generator_learning_rate: Adam's for the generator.
        discriminator_learning_rate: Adam's for the discriminator.
        betas: Of both Adam optimizers.
        label_mix_weight: Lambda of the LabelMix consistency.
        average_decay: Of the averaged generator that is used for sampling.
        noise_scheme: How 3D noise is drawn in training.
        augment: Whether the discriminator sees differentiably augmented images (for small data sets).
        checkpoint_every: Optimizer steps between checkpoints.
    """

    width: int = 64
    noise_channels: int = 64
    hidden_channels: int = 128
    discriminator_width: int = 128
    steps: int = 30000
    batch_size: int = 20
    generator_learning_rate: float = 1e-4
    discriminator_learning_rate: float = 4e-4
    betas: tuple[float, float] = (0.0, 0.999)
    label_mix_weight: float = 5.0
    average_decay: float = 0.9999
    noise_scheme: NoiseScheme = "image"
    augment: bool = False
    checkpoint_every: int = 500


def build_oasis_generator(num_classes: int, size: tuple[int, int], settings: OasisSettings) -> OasisGenerator:
    """Return the untrained generator for K classes and H x W.

    Raises:
        ConfigError: No base grid reaches the size.
    """
    _, reachable = base_grid(size, smallest_side=1)
    doublings = min(DOUBLINGS, reachable)
    base = (size[0] >> doublings, size[1] >> doublings)
    return OasisGenerator(
        num_classes, base, doublings, settings.width, settings.noise_channels, settings.hidden_channels
    )


def load_oasis_generator(
    folder: Path, table: ClassTable, size: tuple[int, int], settings: OasisSettings
) -> OasisGenerator:
    """Load the averaged generator that `train_oasis` wrote, in eval mode.

    Raises:
        CheckpointError: The weights are damaged or of another class table or size.
    """
    network = build_oasis_generator(table.num_classes, size, settings)
    load_weights(folder / "weights.safetensors", network, _identity(table, size))
    return network.eval().requires_grad_(False)


def _identity(table: ClassTable, size: tuple[int, int]) -> dict[str, object]:
    return {"system": "oasis", "class_table": table.fingerprint, "size": list(size)}


def train_oasis(
    folder: Path,
    settings: OasisSettings,
    *,
    pairs: Pairs,
    filled_labels: np.ndarray,
    seed: int,
    fabric: Fabric,
    progress: Progress = NO_PROGRESS,
) -> None:
    """Train OASIS; the same call again goes on where it stopped.

    Writes `weights.safetensors` (the averaged generator), `metrics.jsonl`, `samples/*.png` and checkpoints.

    Args:
        folder: Output folder.
        settings: Numbers of networks and training.
        pairs: Real images and labels; ignored pixels take no part in the loss.
        filled_labels: uint8 [N, H, W], the labels with ignored pixels filled: what the generator is conditioned on.
        seed: The run's seed.
        fabric: Device and precision.
        progress: Watches the steps.

    Raises:
        TrainingError: A loss is not finite.
        CheckpointError: A checkpoint in the folder is of another set-up.
    """
    size, num_classes = pairs.size, pairs.table.num_classes
    seed_step(seed, STAGE, -1)
    raw_generator = build_oasis_generator(num_classes, size, settings)
    raw_discriminator = OasisDiscriminator(num_classes, size, settings.discriminator_width)
    for module in (raw_generator, raw_discriminator):
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = fabric.to_device(averaged_copy(raw_generator))
    optimizers = {
        "generator": torch.optim.Adam(raw_generator.parameters(), settings.generator_learning_rate, settings.betas),
        "discriminator": torch.optim.Adam(
            raw_discriminator.parameters(), settings.discriminator_learning_rate, settings.betas
        ),
    }
    generator, generator_optimizer = fabric.setup(raw_generator, optimizers["generator"])
    discriminator, discriminator_optimizer = fabric.setup(raw_discriminator, optimizers["discriminator"])
    modules = {"generator": raw_generator, "discriminator": raw_discriminator, "average": average}

    checkpoints = CheckpointFolder(folder)
    done, _ = checkpoints.load(modules, optimizers)
    log = MetricsLog(folder / "metrics.jsonl", done)

    def draw(step: int, stream: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return images, labels, one-hot conditions and noise of a batch as a function of (seed, stream, step)."""
        indices = epoch_batch(len(pairs), settings.batch_size, step, seed, stream)
        image, label = pairs.batch(indices.tolist())
        condition = torch.from_numpy(filled_labels[indices].astype(np.int64))
        flip = torch.rand(len(indices), 1, 1, generator=torch_generator(seed, stream, step, "flip")) < 0.5
        image = torch.where(flip[:, None], image.flip(3), image)
        label, condition = (torch.where(flip, x.flip(2), x) for x in (label, condition))
        noise = sample_noise(
            settings.noise_scheme,
            condition,
            settings.noise_channels,
            [torch_generator(seed, stream, step, sample) for sample in range(len(indices))],
        )
        image = image.contiguous(memory_format=torch.channels_last)
        image, label, noise = (x.to(fabric.device) for x in (image, label, noise))
        return image, label, one_hot(condition.to(fabric.device), num_classes), noise

    progress.start("train-images oasis", settings.steps, done)
    for step in range(done, settings.steps):
        seed_step(seed, STAGE, step)
        real, label, condition, noise = draw(step, STAGE)
        fake = generator(condition, noise)
        seen_label = label
        seen_real, seen_fake = real, fake
        if settings.augment:
            augmentation = draw_augmentation(len(real), size, fabric.device)
            seen_label = augment_label(label, augmentation)
            seen_real, seen_fake = augment_image(real, augmentation), augment_image(fake, augmentation)

        # Generator: each pixel is to be taken for a real pixel of its class.
        raw_discriminator.requires_grad_(False)
        loss_generator = real_loss(discriminator(seen_fake), seen_label)
        raw_discriminator.requires_grad_(True)
        require_finite(step, generator=loss_generator)
        generator_optimizer.zero_grad()
        fabric.backward(loss_generator)
        generator_optimizer.step()
        update_average(average, raw_generator, decay_at(step, settings.average_decay))

        # Discriminator: real pixels have their class, generated ones the fake class, mixtures are told apart alike.
        choices = (torch.rand(len(real), 256) < 0.5).to(fabric.device)
        mask = label_mix_mask(seen_label, choices)
        seen_fake = seen_fake.detach()
        stacked = torch.cat([seen_real, seen_fake, label_mix(seen_real, seen_fake, mask)])
        real_logits, fake_logits, mixed_logits = discriminator(stacked).chunk(3)
        loss_real = real_loss(real_logits, seen_label)
        loss_fake = fake_loss(fake_logits, augmentation.kept if settings.augment else torch.ones_like(label) > 0)
        loss_mix = label_mix_loss(mixed_logits, real_logits, fake_logits, mask)
        loss_discriminator = loss_real + loss_fake + settings.label_mix_weight * loss_mix
        require_finite(step, discriminator=loss_discriminator)
        discriminator_optimizer.zero_grad()
        fabric.backward(loss_discriminator)
        discriminator_optimizer.step()

        finished = step + 1
        values = {
            "generator": float(loss_generator.detach()),
            "real": float(loss_real.detach()),
            "fake": float(loss_fake.detach()),
            "label_mix": float(loss_mix.detach()),
        }
        progress.advance(generator=values["generator"], real=values["real"], fake=values["fake"])
        if finished % 20 == 0:
            log.write(finished, **values)
        if finished % settings.checkpoint_every == 0 or finished == settings.steps:
            checkpoints.save(finished, modules, optimizers)
    progress.finish()

    def run_average(step: int) -> None:
        _, _, condition, noise = draw(step, "oasis-statistics")
        average(condition, noise)

    estimate_batch_statistics(average, (partial(run_average, step) for step in range(STATISTICS_BATCHES)))
    tile_pictures(folder / "samples" / "final.png", _sheet(average, settings, pairs, filled_labels, seed), columns=5)
    save_weights(
        folder / "weights.safetensors", average, {**_identity(pairs.table, size), "settings": asdict(settings)}
    )


@torch.no_grad()
def _sheet(
    network: nn.Module, settings: OasisSettings, pairs: Pairs, filled_labels: np.ndarray, seed: int
) -> list[np.ndarray]:
    """Return rows of layout, real image and three generated images with different noise."""
    device = next(network.parameters()).device
    pictures: list[np.ndarray] = []
    for row, index in enumerate(epoch_batch(len(pairs), SHEET_COUNT, 0, seed, "oasis-sheet")):
        image, _ = pairs.batch([int(index)])
        label = torch.from_numpy(filled_labels[index : index + 1].astype(np.int64)).expand(3, -1, -1).to(device)
        generators = [torch_generator(seed, "oasis-sheet", row, draw) for draw in range(3)]
        noise = sample_noise("image", label, settings.noise_channels, generators)
        generated = network(one_hot(label, pairs.table.num_classes), noise).cpu()
        pictures += [pairs.table.colorize(filled_labels[index]), *images_to_uint8(image), *images_to_uint8(generated)]
    return pictures
