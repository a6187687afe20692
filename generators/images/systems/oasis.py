"""OASIS: layout to image with a segmentation discriminator (Schönfeld et al., 2021, section 3 and appendix C).

Shapes: B batch, K classes, Z noise channels, H x W pixels, w base width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Doc

from scenepalette.data.classes import IGNORE_ID, ClassTable
from scenepalette.data.device.transfer import to_device
from scenepalette.data.labels import count_ids
from scenepalette.generators.images.base import (
    Count,
    Decay,
    FeatureNetwork,
    Forward,
    ImageBatch,
    ImageGenerator,
    ImageObjective,
    ImageSettings,
    ImageSystem,
    Loss,
    Rate,
    Weight,
)
from scenepalette.generators.images.diffaugment import augment_image, augment_label
from scenepalette.generators.images.lecam import LecamAnchors, log_odds_of_real
from scenepalette.generators.images.noise import NoiseScheme, sample_noise
from scenepalette.generators.images.perceptual import feature_distances
from scenepalette.generators.images.systems.patch_losses import perceptual_loss
from scenepalette.generators.nn.blocks import SLOPE, SpadeResidualBlock, Upsampling
from scenepalette.generators.nn.grids import spade_grid
from scenepalette.generators.nn.resampling import PooledConv2d, UpsampledConv2d
from scenepalette.generators.nn.spectral_norm import spectral_norm
from scenepalette.training.ranks import ALONE, Ranks
from scenepalette.training.settings import ADDED


@dataclass(frozen=True)
class OasisSettings(ImageSettings):
    """Numbers of OASIS and its training; the defaults are the paper's for Cityscapes.

    Attributes:
        noise_channels: Z.
        hidden_channels: Width inside each modulation.
        discriminator_width: Channels of the discriminator's first two levels.
        label_mix_weight: Lambda of the LabelMix consistency.
    """

    batch_size: Count = 20
    generator_learning_rate: Rate = 1e-4
    discriminator_learning_rate: Rate = 4e-4
    betas: tuple[float, float] = (0.0, 0.999)
    average_decay: Decay = 0.9999
    noise_channels: Count = 64
    hidden_channels: Count = 128
    discriminator_width: Count = 128
    label_mix_weight: Weight = 5.0
    lecam_weight: Annotated[
        Weight, ADDED, Doc("Weight of LeCam regularisation of the discriminator; 0 leaves it out.")
    ] = 0.0
    perceptual_weight: Annotated[
        Weight, ADDED, Doc("Weight of the distance of a fixed network's features; 0, as published, leaves it out.")
    ] = 0.0
    upsampling: Annotated[
        Upsampling, ADDED, Doc("How generator blocks double their input; bilinear paints no grid when trained briefly.")
    ] = "nearest"


class OasisGenerator(ImageGenerator):
    """Generator of Table M: a label map and 3D noise, at the input and in every normalisation, to an image.

    With width 64 and 5 doublings its blocks have 1024, 1024, 512, 256, 128 and 64 channels. At 12 classes it has
    70.5 M parameters, at 151 classes 74 M (the paper: 72 M and 2 M for the noise).
    """

    def __init__(
        self,
        num_classes: int,
        base: tuple[int, int],
        doublings: int,
        width: int = 64,
        noise_channels: int = 64,
        hidden_channels: int = 128,
        upsampling: Upsampling = "nearest",
    ) -> None:
        """Create the network.

        Args:
            num_classes: K.
            base: Height and width of the base grid, pixels.
            doublings: How often the base grid is doubled; the network has one block more.
            width: Channels of the last block; the first have 16 times as many.
            noise_channels: Z.
            hidden_channels: Width inside each modulation.
            upsampling: How each block but the first doubles its input.
        """
        super().__init__()
        self.num_classes, self.base, self.noise_channels = num_classes, base, noise_channels
        self.noise_schemes = ("image", "region", "pixel", "mix")
        condition = num_classes + noise_channels
        outputs = [width * min(16, 2 ** (doublings - i)) for i in range(doublings + 1)]
        inputs = [16 * width if doublings >= 4 else outputs[0], *outputs[:-1]]
        self.from_condition = nn.Conv2d(condition, inputs[0], 3, padding=1)
        self.blocks = nn.ModuleList(
            SpadeResidualBlock(a, b, condition, hidden_channels, upsampling=upsampling if i > 0 else None)
            for i, (a, b) in enumerate(zip(inputs, outputs, strict=True))
        )
        self.to_image = nn.Conv2d(outputs[-1], 3, 3, padding=1)

    def sample_noise(self, scheme: NoiseScheme | None, label: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Draw 3D noise BZHW; see `scenepalette.generators.images.noise.sample_noise`."""
        return sample_noise(self.choose_scheme(scheme) or "image", label, self.noise_channels, generators)

    def forward(self, label_map: Tensor, noise: Tensor) -> Tensor:
        """Generate images; see `ImageGenerator.forward`. Noise is BZHW."""
        condition = torch.cat([noise, label_map], dim=1)
        x = self.from_condition(F.interpolate(condition, size=self.base, mode="nearest"))
        for block in self.blocks:
            x = block(x, condition)
        return torch.tanh(self.to_image(F.leaky_relu(x, SLOPE)).float())


class _DiscriminatorBlock(nn.Module):
    """Residual block with spectral norm, going down (average pool) or up (nearest)."""

    def __init__(self, in_channels: int, out_channels: int, direction: str, first: bool = False) -> None:
        super().__init__()
        self.direction, self.first = direction, first
        # One after the other: each draws its weights, then its spectral norm's vectors.
        if direction == "up":
            self.conv_0 = spectral_norm(UpsampledConv2d(in_channels, out_channels))
            self.conv_1 = spectral_norm(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        else:
            self.conv_0 = spectral_norm(nn.Conv2d(in_channels, out_channels, 3, padding=1))
            self.conv_1 = spectral_norm(PooledConv2d(out_channels, out_channels))
        self.shortcut = spectral_norm(nn.Conv2d(in_channels, out_channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        if self.direction == "up":
            # The 1x1 shortcut commutes with repeating pixels and costs a quarter before it.
            skip = F.interpolate(self.shortcut(x), scale_factor=2, mode="nearest")
            x = self.conv_0(F.leaky_relu(x, SLOPE))
            return self.conv_1(F.leaky_relu(x, SLOPE)) + skip
        # The same holds for average pooling.
        skip = self.shortcut(F.avg_pool2d(x, 2))
        x = self.conv_0(x if self.first else F.leaky_relu(x, SLOPE))
        return self.conv_1(F.leaky_relu(x, SLOPE)) + skip


class OasisDiscriminator(nn.Module):
    """U-Net discriminator of Table L: an image to logits of K real classes and one fake class at each pixel.

    With width 128 and 6 levels it has 22 M parameters. Sizes that cannot be halved 6 times get as many levels as
    they can.
    """

    def __init__(self, num_classes: int, size: tuple[int, int], width: int = 128) -> None:
        """Create the network.

        Args:
            num_classes: K.
            size: Height and width of the images, pixels.
            width: Channels of the first two levels; the deepest have 4 times as many.
        """
        super().__init__()
        levels = 0
        while levels < 6 and all(side % 2 ** (levels + 1) == 0 for side in size):
            levels += 1
        down = [width, width, 2 * width, 2 * width, 4 * width, 4 * width][:levels]
        up = [width // 2, width, width, 2 * width, 2 * width, 4 * width][:levels][::-1]
        self.down = nn.ModuleList(
            _DiscriminatorBlock(a, b, "down", first=i == 0)
            for i, (a, b) in enumerate(zip([3, *down[:-1]], down, strict=True))
        )
        skips = [0, *down[:-1][::-1]]
        self.up = nn.ModuleList(
            _DiscriminatorBlock(a + skip, b, "up") for a, skip, b in zip([down[-1], *up[:-1]], skips, up, strict=True)
        )
        self.to_logits = nn.Conv2d(up[-1], num_classes + 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits B(K+1)HW for an image B3HW; the last class is `fake`."""
        x, skips = image, []
        for block in self.down:
            x = block(x)
            skips.append(x)
        skips.pop()
        for block in self.up:
            x = block(x)
            if skips:
                x = torch.cat([x, skips.pop()], dim=1)
        logits = self.to_logits(x)
        # Losses are computed fastest class after class in memory.
        return logits.to(torch.promote_types(logits.dtype, torch.float32), memory_format=torch.contiguous_format)


def class_weights(label: Tensor, num_classes: int, ranks: Ranks = ALONE) -> Tensor:
    """Return alpha of Eq. 2 for a batch: the inverse of each class's frequency.

    Divided by the number of classes that occur, so that real pixels weigh 1 on average, as fake ones do; classes that
    do not occur get 0.

    Args:
        label: BHW class ids, 255 for ignored pixels.
        num_classes: K.
        ranks: The processes that have a part of the batch each.

    Returns:
        float32 [K].
    """
    counts = ranks.total(count_ids(label, 256)[:num_classes]).float()
    present = counts > 0
    return torch.where(present, counts.sum() / (counts.clamp(min=1) * present.sum().clamp(min=1)), 0.0)


def real_loss(logits: Tensor, label: Tensor, ranks: Ranks = ALONE) -> Tensor:
    """Return the mean over labelled pixels of alpha_c * cross-entropy to the true class.

    The first term of Eq. 1 for real images, and Eq. 4 (the generator's loss) for generated ones.

    Args:
        logits: B(K+1)HW.
        label: BHW class ids, 255 where the loss does not look.
        ranks: The processes that have a part of the batch each; the mean is over that of all, its sum over this part
            alone, times their number.
    """
    num_classes = logits.shape[1] - 1
    weights = F.pad(class_weights(label, num_classes, ranks), (0, 1))
    total = F.cross_entropy(logits, label, weight=weights, ignore_index=IGNORE_ID, reduction="sum")
    return total / _pixels_a_rank(label != IGNORE_ID, ranks)


def fake_loss(logits: Tensor, visible: Tensor, ranks: Ranks = ALONE) -> Tensor:
    """Return the mean cross-entropy of pixels to the fake class (second term of Eq. 1).

    Args:
        logits: B(K+1)HW.
        visible: BHW bool, false where augmentation left no pixel of the image.
        ranks: As of `real_loss`.
    """
    label = torch.where(visible, logits.shape[1] - 1, IGNORE_ID)
    total = F.cross_entropy(logits, label, ignore_index=IGNORE_ID, reduction="sum")
    return total / _pixels_a_rank(visible, ranks)


def _pixels_a_rank(chosen: Tensor, ranks: Ranks) -> Tensor:
    """Return by what a sum over one process's pixels is divided so that its mean over processes is that over pixels."""
    return ranks.total(chosen.sum()).clamp(min=1) / ranks.count


def label_mix_mask(label: Tensor, choices: Tensor) -> Tensor:
    """Return M of LabelMix: each class of each sample comes as a whole from the real or from the generated image.

    Args:
        label: BHW class ids, 255 for ignored pixels (which count as one more class).
        choices: [B, 256] bool, true where a class is taken from the real image.

    Returns:
        B1HW bool.
    """
    return torch.gather(choices, 1, label.flatten(1)).view_as(label)[:, None]


def label_mix(real: Tensor, fake: Tensor, mask: Tensor) -> Tensor:
    """Return LabelMix(x, x_hat, M) = M * x + (1 - M) * x_hat for BCHW tensors and a B1HW mask."""
    return torch.where(mask, real, fake)


def label_mix_loss(mixed_logits: Tensor, real_logits: Tensor, fake_logits: Tensor, mask: Tensor) -> Tensor:
    """Return L_cons of Eq. 3 as a mean square over samples, classes and pixels.

    Args:
        mixed_logits: Logits of the mixed image, B(K+1)HW.
        real_logits: Logits of the real image.
        fake_logits: Logits of the generated image.
        mask: M, B1HW bool.
    """
    return F.mse_loss(mixed_logits, label_mix(real_logits, fake_logits, mask))


class OasisObjective(ImageObjective):
    """Adversarial supervision by a segmentation discriminator, and nothing else (section 3.1 and 3.2) if not asked."""

    discriminator: OasisDiscriminator
    chance_level = MappingProxyType({"fake": math.log(2)})  # a generated pixel is as likely fake as of its class

    def __init__(
        self,
        discriminator: OasisDiscriminator,
        label_mix_weight: float,
        lecam_weight: float = 0.0,
        features: FeatureNetwork | None = None,
        perceptual_weight: float = 0.0,
    ) -> None:
        """Train against a discriminator.

        Args:
            discriminator: Labels pixels.
            label_mix_weight: Lambda of LabelMix.
            lecam_weight: Lambda of LeCam regularisation; 0 leaves it out.
            features: Network of the perceptual loss; None only where the loss is not computed.
            perceptual_weight: Weight of the perceptual loss; 0 leaves it out.
        """
        self.discriminator, self.label_mix_weight = discriminator, label_mix_weight
        self.lecam_weight, self.features, self.perceptual_weight = lecam_weight, features, perceptual_weight
        self.memory = LecamAnchors() if lecam_weight else None

    def generator_loss(
        self, generator: Forward, discriminator: Forward | None, batch: ImageBatch
    ) -> tuple[Tensor, Loss]:
        """Each pixel is to be taken for a real pixel of its class (Eq. 4), and features to be like the real image's."""
        assert discriminator is not None
        fake = generator(batch.label_map, batch.noise)
        seen, label = fake, batch.label
        if batch.augmentation is not None:
            seen, label = augment_image(fake, batch.augmentation), augment_label(batch.label, batch.augmentation)
        total = real_loss(discriminator(seen), label, batch.ranks)
        parts = {"generator": total}
        if self.perceptual_weight:
            assert self.features is not None
            with torch.no_grad():
                wanted = self.features(batch.image)
            parts["perceptual"] = perceptual_loss(feature_distances(self.features(fake), wanted))
            total = total + self.perceptual_weight * parts["perceptual"]
        return fake, Loss(total, parts)

    def discriminator_loss(self, discriminator: Forward, batch: ImageBatch, fake: Tensor) -> Loss:
        """Real pixels have their class, generated ones the fake class, mixtures are told apart alike (Eq. 1 and 3)."""
        real, label = batch.image, batch.label
        visible = torch.ones_like(label, dtype=torch.bool)
        if batch.augmentation is not None:
            real, fake = augment_image(real, batch.augmentation), augment_image(fake, batch.augmentation)
            label, visible = augment_label(label, batch.augmentation), batch.augmentation.kept
        choices = torch.rand(len(real) * batch.ranks.count, 256)[batch.ranks.part] < 0.5
        mask = label_mix_mask(label, to_device(choices, real.device))
        stacked = torch.cat([real, fake, label_mix(real, fake, mask)])
        real_logits, fake_logits, mixed_logits = discriminator(stacked).chunk(3)
        loss_real = real_loss(real_logits, label, batch.ranks)
        loss_fake = fake_loss(fake_logits, visible, batch.ranks)
        loss_mix = label_mix_loss(mixed_logits, real_logits, fake_logits, mask)
        total = loss_real + loss_fake + self.label_mix_weight * loss_mix
        parts = {"real": loss_real, "fake": loss_fake, "label_mix": loss_mix}
        if self.memory is not None:
            scores = [log_odds_of_real(logits) for logits in (real_logits, fake_logits)]
            parts["lecam"] = self.memory([scores[0]], [scores[1]], visible, batch.ranks)
            total = total + self.lecam_weight * parts["lecam"]
        return Loss(total, parts)


def build_oasis_generator(table: ClassTable, size: tuple[int, int], settings: OasisSettings) -> OasisGenerator:
    """Return the untrained generator for K classes and H x W.

    Raises:
        ConfigError: No base grid reaches the size.
    """
    base, doublings = spade_grid(size)
    return OasisGenerator(
        len(table),
        base,
        doublings,
        settings.width,
        settings.noise_channels,
        settings.hidden_channels,
        settings.upsampling,
    )


def build_oasis_objective(
    table: ClassTable, size: tuple[int, int], settings: OasisSettings, features: FeatureNetwork | None
) -> OasisObjective:
    """Return the losses with an untrained discriminator; features are needed where the perceptual loss weighs some."""
    discriminator = OasisDiscriminator(len(table), size, settings.discriminator_width)
    return OasisObjective(
        discriminator, settings.label_mix_weight, settings.lecam_weight, features, settings.perceptual_weight
    )


def predict_labels(discriminator: nn.Module, image: Tensor) -> Tensor:
    """Use the discriminator as a segmenter: the likeliest real class of each pixel (Schönfeld et al., 2021, App. B.4).

    Args:
        discriminator: A trained OasisDiscriminator.
        image: B3HW in [-1, 1].

    Returns:
        BHW class ids.
    """
    return discriminator(image)[:, :-1].argmax(dim=1)


OASIS = ImageSystem(
    name="oasis",
    paper="You Only Need Adversarial Supervision for Semantic Image Synthesis (Schönfeld et al., ICLR 2021)",
    settings=OasisSettings,
    build_generator=build_oasis_generator,
    build_objective=build_oasis_objective,
    augmentable=True,
    predict_labels=predict_labels,
    perceptual_if=lambda settings: settings.perceptual_weight > 0,
)
