"""Cascaded refinement networks: one output, k outputs, or any number by conditional IMLE (Li et al., 2019, 3.3).

Shapes: B batch, K classes, Z noise channels, k outputs per layout, C features, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scenepalette.data.classes import ClassTable
from scenepalette.data.device.transfer import to_device
from scenepalette.generators.images.base import (
    BatchSource,
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
)
from scenepalette.generators.images.noise import NoiseScheme, sample_noise
from scenepalette.generators.images.systems.crn_losses import (
    balance_layers,
    class_distances,
    diversity_loss,
    total_distance,
)
from scenepalette.generators.images.systems.imle import ImleObjective
from scenepalette.generators.nn.blocks import SLOPE
from scenepalette.generators.nn.grids import base_grid

# Channels of modules 0 to 8 with width 32: 1024 five times, 512, 512, 128 and 32 (3.3.1).
WIDTHS = (32, 32, 32, 32, 32, 16, 16, 4, 1)


@dataclass(frozen=True)
class CrnSettings(ImageSettings):
    """Numbers of CRN and its training; the defaults are its authors', but for the single output.

    Attributes:
        outputs: k, how many images it makes of a layout; the baseline of Li et al., 2019 makes 9.
    """

    width: Count = 32
    batch_size: Count = 1
    generator_learning_rate: Rate = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    average_decay: Decay = 0.0
    outputs: Count = 1


@dataclass(frozen=True)
class CrnImleSettings(ImageSettings):
    """Numbers of CRN under conditional IMLE; the defaults are the paper's (4.2).

    Attributes:
        noise_channels: Z.
        encoder_channels: Width of the noise encoder's first two layers.
        round_size: |S|, samples that get their nearest candidate in one search.
        candidates: m, of each sample.
        round_steps: K, optimizer steps after each search.
        rebalance_data: Whether images of rare colours are drawn more often.
        rebalance_loss: Whether pixels of classes in rare colours weigh more.
    """

    width: Count = 32
    batch_size: Count = 1
    generator_learning_rate: Rate = 1e-5
    betas: tuple[float, float] = (0.9, 0.999)
    average_decay: Decay = 0.0
    noise_channels: Count = 10
    encoder_channels: Count = 100
    round_size: Count = 400
    candidates: Count = 10
    round_steps: Count = 10000
    rebalance_data: bool = True
    rebalance_loss: bool = True


class RefinementModule(nn.Sequential):
    """Two 3x3 convolutions with layer normalisation and leaky ReLU (3.3.1)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        """Create the module; layer normalisation goes over channels and pixels, with a scale and shift per channel."""
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, padding=1),
            nn.GroupNorm(1, out_channels),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
            nn.GroupNorm(1, out_channels),
            nn.LeakyReLU(SLOPE),
        )


class RefinementCascade(nn.Module):
    """Modules from the base grid to the full size, each doubling the resolution and seeing the condition (3.3.1)."""

    def __init__(self, condition_channels: int, base: tuple[int, int], doublings: int, width: int) -> None:
        """Create the network.

        Args:
            condition_channels: Channels of the layout, with the noise if there is any.
            base: Height and width of the base grid, pixels.
            doublings: How often the base grid is doubled; there is one module more.
            width: A 32nd of the first modules' channels, 32 in the paper.
        """
        super().__init__()
        self.base = base
        outputs = [width * WIDTHS[min(i, len(WIDTHS) - 1)] for i in range(doublings + 1)]
        self.out_channels = outputs[-1]
        self.stages = nn.ModuleList(
            RefinementModule(before + condition_channels, after)
            for before, after in zip([0, *outputs[:-1]], outputs, strict=True)
        )

    def forward(self, condition: Tensor) -> Tensor:
        """Map the condition, B and its channels at H x W, to features BCHW."""
        x: Tensor | None = None
        for i, stage in enumerate(self.stages):
            size = (self.base[0] << i, self.base[1] << i)
            seen = F.interpolate(condition, size=size, mode="bilinear", align_corners=False)
            if x is not None:
                x = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
                seen = torch.cat([seen, x], dim=1)
            x = stage(seen)
        assert x is not None
        return x


class CrnGenerator(ImageGenerator):
    """CRN: a label map to k fixed images, of which noise picks one; with k = 1 it takes no noise."""

    def __init__(
        self, num_classes: int, base: tuple[int, int], doublings: int, width: int = 32, outputs: int = 1
    ) -> None:
        """Create the network.

        Args:
            num_classes: K.
            base: Height and width of the base grid, pixels.
            doublings: How often the base grid is doubled.
            width: A 32nd of the first modules' channels.
            outputs: k.
        """
        super().__init__()
        self.num_classes, self.outputs = num_classes, outputs
        self.noise_schemes = ("image",) if outputs > 1 else ()
        self.cascade = RefinementCascade(num_classes, base, doublings, width)
        self.to_images = nn.Conv2d(self.cascade.out_channels, 3 * outputs, 1)

    def sample_noise(self, scheme: NoiseScheme | None, label: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Choose one of the k outputs for each layout.

        Returns:
            float32 Bk11, 1 at the chosen output.
        """
        self.choose_scheme(scheme)
        chosen = torch.stack([torch.randint(self.outputs, (), generator=generator) for generator in generators])
        every = torch.arange(self.outputs, device=label.device)[:, None, None]
        return (to_device(chosen, label.device)[:, None, None, None] == every).float()

    def forward(self, label_map: Tensor, noise: Tensor, every_output: bool = False) -> Tensor:
        """Generate images; see `ImageGenerator.forward`. With `every_output` all outputs are returned, Bk3HW."""
        images = torch.tanh(self.to_images(self.cascade(label_map))).unflatten(1, (self.outputs, 3))
        return images if every_output else choose_output(images, noise)


def choose_output(images: Tensor, noise: Tensor) -> Tensor:
    """Return the chosen of k outputs.

    Args:
        images: Bk3HW.
        noise: Bk11, 1 at the chosen output.

    Returns:
        B3HW.
    """
    return (images * noise[:, :, None]).sum(dim=1)


class CrnImleGenerator(ImageGenerator):
    """CRN with encoded noise beside the layout at every module: any number of images of a label map (3.3.2)."""

    def __init__(
        self,
        num_classes: int,
        base: tuple[int, int],
        doublings: int,
        width: int = 32,
        noise_channels: int = 10,
        encoder_channels: int = 100,
    ) -> None:
        """Create the network.

        Args:
            num_classes: K.
            base: Height and width of the base grid, pixels.
            doublings: How often the base grid is doubled.
            width: A 32nd of the first modules' channels.
            noise_channels: Z.
            encoder_channels: Width of the noise encoder's first two layers.
        """
        super().__init__()
        self.num_classes, self.noise_channels = num_classes, noise_channels
        self.noise_schemes = ("pixel",)
        self.noise_encoder = nn.Sequential(
            nn.Conv2d(num_classes + noise_channels, encoder_channels, 3, padding=1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(encoder_channels, encoder_channels, 3, padding=1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(encoder_channels, noise_channels, 3, padding=1),
        )
        self.cascade = RefinementCascade(num_classes + noise_channels, base, doublings, width)
        self.to_image = nn.Conv2d(self.cascade.out_channels, 3, 1)

    def sample_noise(self, scheme: NoiseScheme | None, label: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Draw a vector for each pixel, BZHW."""
        return sample_noise(self.choose_scheme(scheme) or "pixel", label, self.noise_channels, generators)

    def forward(self, label_map: Tensor, noise: Tensor) -> Tensor:
        """Generate images; see `ImageGenerator.forward`. Noise is BZHW."""
        encoded = self.noise_encoder(torch.cat([label_map, noise], dim=1))
        return torch.tanh(self.to_image(self.cascade(torch.cat([label_map, encoded], dim=1))))


class CrnMemory(nn.Module):
    """The weights of the feature layers, float32 [L]; empty before the training set was looked at."""

    layer_weights: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("layer_weights", torch.zeros(0))


class CrnObjective(ImageObjective):
    """Perceptual regression to the real image, by the best of k outputs for each class.

    Chen and Koltun, 2017, sections 3.3 and 3.4.
    """

    memory: CrnMemory

    def __init__(self, features: FeatureNetwork | None) -> None:
        self.features = features
        self.memory = CrnMemory()

    def begin(self, source: BatchSource, device: torch.device) -> None:
        """Balance the feature layers."""
        assert self.features is not None
        self.memory.layer_weights = balance_layers(self.features, source.pairs, source.seed, device)

    def generator_loss(
        self, generator: Forward, discriminator: Forward | None, batch: ImageBatch
    ) -> tuple[Tensor, Loss]:
        """In each class the output that comes nearest to the real image is to come nearer still."""
        assert self.features is not None
        images = generator(batch.label_map, batch.noise, every_output=True)
        with torch.no_grad():
            real = self.features(batch.image)
        distances = class_distances(self.features(images.flatten(0, 1)), real, batch.label_map)
        total = diversity_loss(total_distance(distances, self.memory.layer_weights))
        return choose_output(images, batch.noise), Loss(total, {"generator": total})


def build_crn_generator(table: ClassTable, size: tuple[int, int], settings: CrnSettings) -> CrnGenerator:
    """Return the untrained generator for K classes and H x W.

    Raises:
        ConfigError: No base grid reaches the size.
    """
    base, doublings = base_grid(size)
    return CrnGenerator(len(table), base, doublings, settings.width, settings.outputs)


def build_crn_objective(
    table: ClassTable, size: tuple[int, int], settings: CrnSettings, features: FeatureNetwork | None
) -> CrnObjective:
    """Return the losses; without features nothing can be trained."""
    return CrnObjective(features)


def build_crn_imle_generator(table: ClassTable, size: tuple[int, int], settings: CrnImleSettings) -> CrnImleGenerator:
    """Return the untrained generator for K classes and H x W.

    Raises:
        ConfigError: No base grid reaches the size.
    """
    base, doublings = base_grid(size)
    return CrnImleGenerator(
        len(table), base, doublings, settings.width, settings.noise_channels, settings.encoder_channels
    )


def build_crn_imle_objective(
    table: ClassTable, size: tuple[int, int], settings: CrnImleSettings, features: FeatureNetwork | None
) -> ImleObjective:
    """Return the rounds of Algorithm 1; without features nothing can be trained."""
    return ImleObjective(
        features,
        noise_channels=settings.noise_channels,
        round_size=settings.round_size,
        candidates=settings.candidates,
        round_steps=settings.round_steps,
        rebalance_data=settings.rebalance_data,
        rebalance_loss=settings.rebalance_loss,
    )


CRN = ImageSystem(
    name="crn",
    paper="Photographic Image Synthesis with Cascaded Refinement Networks (Chen and Koltun, ICCV 2017)",
    settings=CrnSettings,
    build_generator=build_crn_generator,
    build_objective=build_crn_objective,
    perceptual=True,
)

CRN_IMLE = ImageSystem(
    name="crn-imle",
    paper="Diverse Image Synthesis from Semantic Layouts via Conditional IMLE (Li, Zhang and Malik, ICCV 2019)",
    settings=CrnImleSettings,
    build_generator=build_crn_imle_generator,
    build_objective=build_crn_imle_objective,
    perceptual=True,
)
