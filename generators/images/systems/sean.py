"""SEAN: layout to image with one style code per class, for edits that keep appearances (Zhu et al., CVPR 2020).

What Semantic Palette edits faces with (Le Moing et al., 2021, 5.4): the codes of an image are encoded, its layout is
changed, and the new layout is turned into an image with the old codes.

What differs from SEAN: style and label map modulate through one hidden layer, as OASIS' 3D noise does, in place of two
modulations that are blended by learnt weights after a convolution of each class's code; no noise is added to features,
so that layout and codes determine the image; every block sees the codes, the last one too.

Shapes: B batch, K classes, S style channels, N codes per class in the bank, H x W pixels, w width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scenepalette.common.randomness import numpy_generator
from scenepalette.data.classes import ClassTable
from scenepalette.data.device.transfer import to_device
from scenepalette.data.labels import one_hot
from scenepalette.generators.images.base import (
    BatchSource,
    Count,
    FeatureNetwork,
    Forward,
    ImageBatch,
    ImageGenerator,
    ImageSystem,
)
from scenepalette.generators.images.noise import NoiseScheme
from scenepalette.generators.images.systems.gaugan import SpadeBlocks, SpadeSettings
from scenepalette.generators.images.systems.patch_discriminator import PatchDiscriminator
from scenepalette.generators.images.systems.patch_objective import PERCEPTUAL_LAYERS, PatchObjective
from scenepalette.generators.nn.blocks import SLOPE
from scenepalette.generators.nn.grids import spade_grid
from scenepalette.generators.nn.spectral_norm import spectral_norm

ENCODED_AT_ONCE = 16


@dataclass(frozen=True)
class SeanSettings(SpadeSettings):
    """Numbers of SEAN and its training.

    Attributes:
        style_channels: S.
        encoder_width: Channels of the style encoder's first layer.
        bank_images: Training images whose codes are kept to draw from.
    """

    betas: tuple[float, float] = (0.0, 0.999)
    style_channels: Count = 512
    encoder_width: Count = 32
    bank_images: Count = 256


class StyleEncoder(nn.Module):
    """From an image and its label map to one style code per class: features averaged over each class's region.

    The features pass a narrow middle at a quarter of the resolution, so that they tell the style and not the image.
    """

    def __init__(self, style_channels: int = 512, width: int = 32) -> None:
        """Create the network.

        Args:
            style_channels: S.
            width: Channels of the first layer; the widest before the codes has 8 times as many.
        """
        super().__init__()
        # Instance norm takes away any bias before it.
        self.convs = nn.ModuleList(
            [
                spectral_norm(nn.Conv2d(3, width, 3, padding=1, padding_mode="reflect", bias=False)),
                spectral_norm(nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False)),
                spectral_norm(nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1, bias=False)),
                spectral_norm(
                    nn.ConvTranspose2d(4 * width, 8 * width, 3, stride=2, padding=1, output_padding=1, bias=False)
                ),
            ]
        )
        self.to_style = nn.Conv2d(8 * width, style_channels, 3, padding=1, padding_mode="reflect")

    def forward(self, image: Tensor, label_map: Tensor) -> Tensor:
        """Encode styles.

        Args:
            image: B3HW in [-1, 1].
            label_map: BKHW one-hot (or soft).

        Returns:
            BKS in [-1, 1], 0 for classes that do not occur.
        """
        x = image
        for conv in self.convs:
            x = F.leaky_relu(F.instance_norm(conv(x)), SLOPE)
        style = torch.tanh(self.to_style(x))
        # Averaged down, a small region still has a share where nearest pixels might miss it.
        region = F.adaptive_avg_pool2d(label_map, (style.shape[2], style.shape[3])).flatten(2)
        total = torch.einsum("bkp,bsp->bks", region, style.flatten(2))
        return total / region.sum(dim=2)[..., None].clamp(min=1e-6)


class SeanGenerator(ImageGenerator):
    """SPADE's blocks, modulated by the label map and by each pixel's style code, the code of its class.

    The noise is the codes, BKS. Those of training images are kept in a bank, from which new images draw: each class's
    code from an image of its own ("region"), or all from one image ("image"), as far as it shows the class.

    To edit a photograph, encode it, give classes that it lacks or that shall look otherwise another code, and generate
    with the edited layout::

        codes = generator.noise_of_image(generator.sample_noise(None, label, random), image, label_map)
        edited = generator(edited_label_map, codes)
    """

    bank: Tensor
    in_bank: Tensor

    def __init__(
        self,
        num_classes: int,
        base: tuple[int, int],
        doublings: int,
        width: int = 64,
        hidden_channels: int = 128,
        style_channels: int = 512,
        encoder_width: int = 32,
        bank_images: int = 256,
    ) -> None:
        """Create the network with an empty bank, all of whose codes are 0.

        Args:
            num_classes: K.
            base: Height and width of the base grid, pixels.
            doublings: How often the base grid is doubled.
            width: Channels of the last block.
            hidden_channels: Width inside each modulation.
            style_channels: S.
            encoder_width: Channels of the style encoder's first layer.
            bank_images: N, training images whose codes are kept.
        """
        super().__init__()
        self.num_classes, self.base = num_classes, base
        self.noise_schemes = ("region", "image")
        self.encoder = StyleEncoder(style_channels, encoder_width)
        self.blocks = SpadeBlocks(num_classes + style_channels, doublings, width, hidden_channels)
        self.from_label_map = nn.Conv2d(num_classes, self.blocks.in_channels, 3, padding=1)
        self.register_buffer("bank", torch.zeros(bank_images, num_classes, style_channels))
        self.register_buffer("in_bank", torch.zeros(bank_images, num_classes, dtype=torch.bool))

    def sample_noise(self, scheme: NoiseScheme | None, label: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Draw codes BKS from the bank; classes that no image of the bank shows get 0. The layout does not matter."""
        scheme = self.choose_scheme(scheme)
        images, classes = self.in_bank.shape
        columns = classes if scheme == "region" else 1
        # The images in a random order; each class takes the first that shows it.
        orders = torch.stack([torch.rand(images, columns, generator=generator) for generator in generators])
        order = to_device(orders, label.device).expand(-1, images, classes)
        chosen = torch.where(self.in_bank, order, -1.0).argmax(dim=1)
        return self.bank[chosen, torch.arange(classes, device=label.device)]

    def forward(self, label_map: Tensor, noise: Tensor, image: Tensor | None = None) -> Tensor:
        """Generate images; see `ImageGenerator.forward`.

        Noise is codes BKS, from `sample_noise` or `encode`; in training, real images B3HW of these layouts are given,
        whose own codes are used in its place.
        """
        codes = noise if image is None else self.encoder(image, label_map)
        x = self.from_label_map(F.interpolate(label_map, size=self.base, mode="nearest"))
        return self.blocks(x, label_map, codes)

    def encode(self, image: Tensor, label_map: Tensor) -> Tensor:
        """Return the codes BKS of images B3HW in [-1, 1] with label maps BKHW; 0 for classes that do not occur."""
        return self.encoder(image, label_map)

    def is_absent(self, label_map: Tensor) -> Tensor:
        """Return bool BK, true for classes that a label map BKHW does not show, which have no code of their own."""
        return label_map.flatten(2).sum(dim=2) == 0

    def replace_codes(self, codes: Tensor, other: Tensor, classes: Tensor) -> Tensor:
        """Return codes in which some classes look like others'.

        Args:
            codes: BKS.
            other: BKS, for example the codes of another image or of `sample_noise`.
            classes: bool BK, the classes to replace.
        """
        return torch.where(classes[..., None], other, codes)

    def noise_of_image(self, noise: Tensor, image: Tensor, label_map: Tensor) -> Tensor:
        """Return the image's own codes, and drawn ones for classes that it does not show."""
        return self.replace_codes(self.encode(image, label_map), noise, self.is_absent(label_map))

    @torch.no_grad()
    def finish(self, source: BatchSource) -> None:
        """Fill the bank with the codes of training images: first so many that every class occurs, then at random."""
        labels = source.filled_labels
        order = numpy_generator(source.seed, "style bank").permutation(len(labels))
        chosen = _covering_first(labels, order)[: len(self.bank)]
        device = self.bank.device
        for first in range(0, len(chosen), ENCODED_AT_ONCE):
            some = chosen[first : first + ENCODED_AT_ONCE]
            image, _ = source.pairs.batch(some)
            label = torch.from_numpy(labels[some].astype(np.int64))
            label_map = one_hot(label.to(device), self.num_classes)
            rows = slice(first, first + len(some))
            self.bank[rows] = self.encode(image.to(device), label_map)
            self.in_bank[rows] = ~self.is_absent(label_map)


def _covering_first(labels: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return an order that begins with the images that show a class for the first time."""
    seen: set[int] = set()
    new = np.zeros(len(order), dtype=bool)
    for position, index in enumerate(order):
        shown = set(np.unique(labels[index]).tolist())
        new[position] = not shown <= seen
        seen |= shown
    return np.concatenate([order[new], order[~new]])


class SeanObjective(PatchObjective):
    """GauGAN's losses for images that are generated in the styles of their real ones."""

    def generate(self, generator: Forward, batch: ImageBatch) -> tuple[Tensor, dict[str, tuple[float, Tensor]]]:
        """Return reconstructions of the batch's images."""
        return generator(batch.label_map, batch.noise, batch.image), {}


def build_sean_generator(table: ClassTable, size: tuple[int, int], settings: SeanSettings) -> SeanGenerator:
    """Return the untrained generator for K classes and H x W.

    Raises:
        ConfigError: No base grid reaches the size.
    """
    base, doublings = spade_grid(size)
    return SeanGenerator(
        len(table),
        base,
        doublings,
        settings.width,
        settings.hidden_channels,
        settings.style_channels,
        settings.encoder_width,
        settings.bank_images,
    )


def build_sean_objective(
    table: ClassTable, size: tuple[int, int], settings: SeanSettings, features: FeatureNetwork | None
) -> SeanObjective:
    """Return the losses with an untrained discriminator."""
    return SeanObjective(
        PatchDiscriminator(len(table), size, settings.discriminator_width, settings.discriminator_scales),
        features,
        settings.feature_matching_weight,
        settings.perceptual_weight,
        lecam_weight=settings.lecam_weight,
    )


SEAN = ImageSystem(
    name="sean",
    paper="SEAN: Image Synthesis with Semantic Region-Adaptive Normalization (Zhu et al., CVPR 2020), simplified",
    settings=SeanSettings,
    build_generator=build_sean_generator,
    build_objective=build_sean_objective,
    perceptual=True,
    perceptual_layers=PERCEPTUAL_LAYERS,
    augmentable=True,
)
