"""GauGAN: SPADE's generator against multi-scale patches (Park et al., 2019; Azadi et al., 2019, 3.2), and SPADE+.

Shapes: B batch, K classes, L condition channels, Z latent, H x W pixels, w base width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scenepalette.data.classes import ClassTable
from scenepalette.data.device.transfer import to_device
from scenepalette.generators.images.base import (
    Count,
    Decay,
    FeatureNetwork,
    Forward,
    ImageBatch,
    ImageGenerator,
    ImageSystem,
    Rate,
    Weight,
)
from scenepalette.generators.images.noise import NoiseScheme
from scenepalette.generators.images.systems.patch_discriminator import PatchDiscriminator
from scenepalette.generators.images.systems.patch_losses import kl_divergence
from scenepalette.generators.images.systems.patch_objective import PERCEPTUAL_LAYERS, PatchObjective, PatchSettings
from scenepalette.generators.nn.blocks import SLOPE, SpadeResidualBlock
from scenepalette.generators.nn.grids import spade_grid
from scenepalette.generators.nn.spectral_norm import spectral_norm

ENCODER_LAYERS = 6  # 256x256 to 4x4
ENCODER_SIDE = 4  # shorter side of the encoder's last map, pixels


@dataclass(frozen=True)
class SpadeSettings(PatchSettings):
    """Numbers that SPADE and the systems built from its blocks share.

    Attributes:
        hidden_channels: Width inside each modulation.
    """

    # A rate of 2e-4 (Le Moing et al., 2021, appendix F) halved and doubled: SPADE's two time scales, as in SB-GAN.
    generator_learning_rate: Rate = 1e-4
    discriminator_learning_rate: Rate = 4e-4
    hidden_channels: Count = 128


@dataclass(frozen=True)
class GauganSettings(SpadeSettings):
    """Numbers of GauGAN and its training; the defaults are those of Semantic Palette.

    Attributes:
        vae: Whether images have a latent style, which an encoder of real images learns; else a layout has one image.
        latent_features: Z, of the VAE.
        kl_weight: Weight of the VAE's divergence from the standard normal distribution.
    """

    vae: bool = False
    latent_features: Count = 256
    kl_weight: Weight = 0.05


@dataclass(frozen=True)
class SpadePlusSettings(GauganSettings):
    """Numbers of SPADE+: GauGAN without feature matching, with averaged weights (Schönfeld et al., 2021, 4, C.3)."""

    batch_size: Count = 20
    betas: tuple[float, float] = (0.0, 0.999)
    average_decay: Decay = 0.9999
    feature_matching_weight: Weight = 0.0


class Reconstruction(NamedTuple):
    """An image in the style of a real one, and the distribution that its latent came from.

    Attributes:
        image: B3HW in [-1, 1].
        mean: BZ.
        log_variance: BZ.
    """

    image: Tensor
    mean: Tensor
    log_variance: Tensor


class SpadeBlocks(nn.Module):
    """SPADE's residual blocks, from features of the base grid and a condition to an image.

    With width 64 and 5 doublings they have 1024, 1024, 1024, 512, 256, 128 and 64 channels. The resolution doubles
    before every block but the first and the third.

    Attributes:
        in_channels: Channels of the features.
    """

    def __init__(self, condition_channels: int, doublings: int, width: int = 64, hidden_channels: int = 128) -> None:
        """Create the blocks.

        Args:
            condition_channels: L.
            doublings: How often the base grid is doubled; there are two blocks more.
            width: Channels of the last block; the first have 16 times as many.
            hidden_channels: Width inside each modulation.
        """
        super().__init__()
        widths = [width * min(16, 2 ** (doublings - i)) for i in range(doublings + 1)]
        outputs = [widths[0], *widths]
        inputs = [widths[0], *outputs[:-1]]
        self.in_channels = inputs[0]
        self.blocks = nn.ModuleList(
            SpadeResidualBlock(a, b, condition_channels, hidden_channels, upsampling=None if i in (0, 2) else "nearest")
            for i, (a, b) in enumerate(zip(inputs, outputs, strict=True))
        )
        self.to_image = nn.Conv2d(outputs[-1], 3, 3, padding=1)

    def forward(self, x: Tensor, label_map: Tensor, codes: Tensor | None = None) -> Tensor:
        """Generate images.

        Args:
            x: Features of the base grid, B in_channels h0 w0.
            label_map: BKHW.
            codes: BKS, a style code for each class of each image (SEAN), or None; L is K, or K + S.

        Returns:
            B3HW in [-1, 1].
        """
        for block in self.blocks:
            x = block(x, label_map, codes)
        return torch.tanh(self.to_image(F.leaky_relu(x, SLOPE)).float())


class ImageEncoder(nn.Module):
    """SPADE's encoder: strided convolutions with spectral and instance norm, then mean and variance of the latent.

    At 256x256 it has 10.5 M parameters (Schönfeld et al., 2021, C.2: 10 M). Smaller images, which the published encoder
    enlarges to 256x256, have fewer layers instead.
    """

    def __init__(self, size: tuple[int, int], latent_features: int = 256, width: int = 64) -> None:
        """Create the network.

        Args:
            size: Height and width of the images, pixels.
            latent_features: Z.
            width: Channels of the first layer; the deepest have 8 times as many.
        """
        super().__init__()
        layers = max(1, min(ENCODER_LAYERS, (min(size) // ENCODER_SIDE).bit_length() - 1))
        widths = [width * min(8, 2**i) for i in range(layers)]
        self.convs = nn.ModuleList(
            # Instance norm takes away any bias before it.
            spectral_norm(nn.Conv2d(a, b, 3, stride=2, padding=1, bias=False))
            for a, b in zip([3, *widths[:-1]], widths, strict=True)
        )
        for _ in range(layers):
            size = ((size[0] + 1) // 2, (size[1] + 1) // 2)
        self.to_mean = nn.Linear(widths[-1] * size[0] * size[1], latent_features)
        self.to_log_variance = nn.Linear(widths[-1] * size[0] * size[1], latent_features)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance, BZ each, for images B3HW."""
        x = image
        for conv in self.convs:
            x = F.leaky_relu(F.instance_norm(conv(x)), SLOPE)
        x = x.flatten(1)
        return self.to_mean(x), self.to_log_variance(x)


class GauganGenerator(ImageGenerator):
    """SPADE's generator: from the label map alone, or with a latent of a VAE that chooses the style of the image.

    At 151 classes it has 96 M parameters, at 12 classes 92.3 M, without the VAE.
    """

    def __init__(
        self,
        num_classes: int,
        base: tuple[int, int],
        doublings: int,
        width: int = 64,
        hidden_channels: int = 128,
        latent_features: int = 0,
    ) -> None:
        """Create the network.

        Args:
            num_classes: K.
            base: Height and width of the base grid, pixels.
            doublings: How often the base grid is doubled.
            width: Channels of the last block and of the encoder's first layer.
            hidden_channels: Width inside each modulation.
            latent_features: Z; 0 for no VAE.
        """
        super().__init__()
        self.num_classes, self.base, self.latent_features = num_classes, base, latent_features
        self.noise_schemes = ("image",) if latent_features else ()
        self.blocks = SpadeBlocks(num_classes, doublings, width, hidden_channels)
        first = self.blocks.in_channels
        self.encoder: ImageEncoder | None = None
        if latent_features:
            size = (base[0] << doublings, base[1] << doublings)
            self.encoder = ImageEncoder(size, latent_features, width)
            self.from_latent = nn.Linear(latent_features, first * base[0] * base[1])
        else:
            self.from_label_map = nn.Conv2d(num_classes, first, 3, padding=1)

    def sample_noise(self, scheme: NoiseScheme | None, label: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Draw standard normal latents BZ; without a VAE there is nothing to draw and Z is 0."""
        self.choose_scheme(scheme)
        noise = [torch.randn(self.latent_features, generator=generator) for generator in generators]
        return to_device(torch.stack(noise), label.device)

    def forward(self, label_map: Tensor, noise: Tensor, image: Tensor | None = None) -> Tensor | Reconstruction:
        """Generate images.

        Args:
            label_map: BKHW one-hot (or soft).
            noise: Result of `sample_noise`: the latent.
            image: Real images B3HW whose style is to be met, in training; the latent is then drawn around theirs, by
                this noise. Only with a VAE.

        Returns:
            B3HW in [-1, 1]; with `image`, also the distribution of the latent.
        """
        if image is None:
            return self._decode(label_map, noise)
        assert self.encoder is not None
        mean, log_variance = self.encoder(image)
        latent = mean + noise * torch.exp(0.5 * log_variance)
        return Reconstruction(self._decode(label_map, latent), mean, log_variance)

    def _decode(self, label_map: Tensor, latent: Tensor) -> Tensor:
        if self.latent_features:
            x = self.from_latent(latent).view(len(latent), self.blocks.in_channels, *self.base)
        else:
            x = self.from_label_map(F.interpolate(label_map, size=self.base, mode="nearest"))
        return self.blocks(x, label_map)


class GauganObjective(PatchObjective):
    """GauGAN's losses; with a VAE, images are generated in the style of their real ones."""

    def __init__(
        self,
        discriminator: PatchDiscriminator,
        features: FeatureNetwork | None,
        feature_matching_weight: float,
        perceptual_weight: float,
        kl_weight: float | None = None,
        lecam_weight: float = 0.0,
    ) -> None:
        """Train against a discriminator.

        Args:
            discriminator: Conditional on the label map.
            features: Network of the perceptual loss; None only where the loss is not computed.
            feature_matching_weight: Weight of feature matching; 0 leaves it out.
            perceptual_weight: Weight of the perceptual loss; 0 leaves it out.
            kl_weight: Weight of the latent's divergence from the standard normal distribution; None without a VAE.
            lecam_weight: Weight of LeCam regularisation; 0 leaves it out.
        """
        super().__init__(discriminator, features, feature_matching_weight, perceptual_weight, lecam_weight=lecam_weight)
        self.kl_weight = kl_weight

    def generate(self, generator: Forward, batch: ImageBatch) -> tuple[Tensor, dict[str, tuple[float, Tensor]]]:
        """Return images, and the divergence of their latents."""
        if self.kl_weight is None:
            return super().generate(generator, batch)
        result: Reconstruction = generator(batch.label_map, batch.noise, batch.image)
        return result.image, {"kl": (self.kl_weight, kl_divergence(result.mean, result.log_variance))}


def build_gaugan_generator(table: ClassTable, size: tuple[int, int], settings: GauganSettings) -> GauganGenerator:
    """Return the untrained generator for K classes and H x W.

    Raises:
        ConfigError: No base grid reaches the size.
    """
    base, doublings = spade_grid(size)
    latent_features = settings.latent_features if settings.vae else 0
    return GauganGenerator(len(table), base, doublings, settings.width, settings.hidden_channels, latent_features)


def build_gaugan_objective(
    table: ClassTable, size: tuple[int, int], settings: GauganSettings, features: FeatureNetwork | None
) -> GauganObjective:
    """Return the losses with an untrained discriminator."""
    return GauganObjective(
        PatchDiscriminator(len(table), size, settings.discriminator_width, settings.discriminator_scales),
        features,
        settings.feature_matching_weight,
        settings.perceptual_weight,
        settings.kl_weight if settings.vae else None,
        settings.lecam_weight,
    )


GAUGAN = ImageSystem(
    name="gaugan",
    paper="Semantic Image Synthesis with Spatially-Adaptive Normalization (Park et al., CVPR 2019)",
    settings=GauganSettings,
    build_generator=build_gaugan_generator,
    build_objective=build_gaugan_objective,
    perceptual=True,
    perceptual_layers=PERCEPTUAL_LAYERS,
    augmentable=True,
)
SPADE_PLUS = replace(
    GAUGAN,
    name="spade+",
    paper="You Only Need Adversarial Supervision for Semantic Image Synthesis (Schönfeld et al., ICLR 2021), SPADE+",
    settings=SpadePlusSettings,
)
