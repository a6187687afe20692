"""pix2pixHD: the global generator against multi-scale patches (Wang et al., 2018), as PCGAN uses it.

Instance maps, which the paper adds to the input as outlines, are not part of the data here.

Shapes: B batch, K classes, H x W pixels, w width.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scenepalette.data.classes import ClassTable
from scenepalette.generators.images.base import Count, FeatureNetwork, ImageGenerator, ImageSystem, Rate
from scenepalette.generators.images.noise import NoiseScheme
from scenepalette.generators.images.systems.patch_discriminator import PatchDiscriminator
from scenepalette.generators.images.systems.patch_losses import (
    least_squares_discriminator_loss,
    least_squares_generator_loss,
)
from scenepalette.generators.images.systems.patch_objective import PERCEPTUAL_LAYERS, PatchObjective, PatchSettings
from scenepalette.generators.nn.grids import base_grid

DOUBLINGS = 4
# Shorter side of the residual blocks' grid, where all of the layout must pass: 8x16 at 128x256, the size of PCGAN.
SMALLEST_SIDE = 8


@dataclass(frozen=True)
class Pix2PixHdSettings(PatchSettings):
    """Numbers of pix2pixHD and its training.

    Attributes:
        residual_blocks: Blocks at the lowest resolution.
    """

    generator_learning_rate: Rate = 2e-4
    discriminator_learning_rate: Rate = 2e-4
    residual_blocks: Count = 9


class _ResidualBlock(nn.Module):
    """Two 3x3 convolutions with instance norm beside a skip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        # Instance norm takes away any bias before it.
        self.conv_0 = nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect", bias=False)
        self.conv_1 = nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect", bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(F.instance_norm(self.conv_0(x)))
        return x + F.instance_norm(self.conv_1(y))


class GlobalGenerator(ImageGenerator):
    """Encoder, residual blocks and decoder of pix2pixHD's first network G1; a layout always gives the same image.

    With width 64, 4 doublings and 9 blocks at 1024 channels it has 182.4 M parameters at 35 classes.
    """

    def __init__(self, num_classes: int, doublings: int, width: int = 64, residual_blocks: int = 9) -> None:
        """Create the network.

        Args:
            num_classes: K.
            doublings: How often the resolution is halved and doubled again; the width doubles and halves with it.
            width: Channels at full resolution.
            residual_blocks: Blocks at the lowest resolution.
        """
        super().__init__()
        self.num_classes = num_classes
        self.noise_schemes = ()
        widths = [width * 2**i for i in range(doublings + 1)]
        self.from_label_map = nn.Conv2d(num_classes, width, 7, padding=3, padding_mode="reflect", bias=False)
        self.down = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1, bias=False) for a, b in itertools.pairwise(widths)
        )
        self.blocks = nn.ModuleList(_ResidualBlock(widths[-1]) for _ in range(residual_blocks))
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(b, a, 3, stride=2, padding=1, output_padding=1, bias=False)
            for a, b in zip(widths[-2::-1], widths[:0:-1], strict=True)
        )
        self.to_image = nn.Conv2d(width, 3, 7, padding=3, padding_mode="reflect")

    def sample_noise(self, scheme: NoiseScheme | None, label: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Return [B, 0]: there is nothing to draw."""
        self.choose_scheme(scheme)
        return torch.zeros(len(label), 0, device=label.device)

    def forward(self, label_map: Tensor, noise: Tensor) -> Tensor:
        """Generate images; see `ImageGenerator.forward`."""
        x = F.relu(F.instance_norm(self.from_label_map(label_map)))
        for conv in self.down:
            x = F.relu(F.instance_norm(conv(x)))
        for block in self.blocks:
            x = block(x)
        for conv in self.up:
            x = F.relu(F.instance_norm(conv(x)))
        return torch.tanh(self.to_image(x))


def build_pix2pixhd_generator(table: ClassTable, size: tuple[int, int], settings: Pix2PixHdSettings) -> GlobalGenerator:
    """Return the untrained generator for K classes and H x W.

    Raises:
        ConfigError: No base grid reaches the size.
    """
    _, reachable = base_grid(size, smallest_side=2)  # their padding mirrors one pixel
    sensible = max(1, (min(size) // SMALLEST_SIDE).bit_length() - 1)
    doublings = min(DOUBLINGS, reachable, sensible)
    return GlobalGenerator(len(table), doublings, settings.width, settings.residual_blocks)


def build_pix2pixhd_objective(
    table: ClassTable, size: tuple[int, int], settings: Pix2PixHdSettings, features: FeatureNetwork | None
) -> PatchObjective:
    """Return the losses with an untrained discriminator."""
    width, scales = settings.discriminator_width, settings.discriminator_scales
    return PatchObjective(
        PatchDiscriminator(len(table), size, width, scales, spectral=False),
        features,
        settings.feature_matching_weight,
        settings.perceptual_weight,
        (least_squares_generator_loss, least_squares_discriminator_loss),
        settings.lecam_weight,
    )


PIX2PIXHD = ImageSystem(
    name="pix2pixhd",
    paper="High-Resolution Image Synthesis and Semantic Manipulation with Conditional GANs (Wang et al., CVPR 2018)",
    settings=Pix2PixHdSettings,
    build_generator=build_pix2pixhd_generator,
    build_objective=build_pix2pixhd_objective,
    perceptual=True,
    perceptual_layers=PERCEPTUAL_LAYERS,
    augmentable=True,
)
