"""Multi-scale PatchGAN discriminator: patches of an image at several scales.

Wang et al., 2018, section 3.2; Park et al., 2019, appendix A.

Shapes: B batch, L channels of the condition, H x W pixels.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scenepalette.generators.nn.blocks import SLOPE
from scenepalette.generators.nn.spectral_norm import spectral_norm

STRIDED_LAYERS = 3  # published: patches of 70x70 pixels
SMALLEST_MAP = 4  # shorter side of the map of patches at the coarsest scale, pixels


class PatchOutput(NamedTuple):
    """What the discriminator finds at one scale.

    Attributes:
        features: Outputs of all layers before the last, BCHW, for feature matching.
        scores: B1HW, one score per patch; higher is more real.
    """

    features: list[Tensor]
    scores: Tensor


class _PatchNetwork(nn.Module):
    """4x4 convolutions, all but first and last with instance norm: `strided` halve the map, two more keep it."""

    def __init__(self, in_channels: int, width: int, strided: int, spectral: bool) -> None:
        super().__init__()
        widths = [width * min(8, 2**i) for i in range(strided + 1)]
        convs = [
            # Instance norm takes away any bias before it.
            nn.Conv2d(a, b, 4, stride=2 if i < strided else 1, padding=2, bias=i == 0)
            for i, (a, b) in enumerate(zip([in_channels, *widths[:-1]], widths, strict=True))
        ]
        convs.append(nn.Conv2d(widths[-1], 1, 4, padding=2))
        self.convs = nn.ModuleList(spectral_norm(conv) if spectral else conv for conv in convs)

    def forward(self, x: Tensor) -> PatchOutput:
        features: list[Tensor] = []
        *layers, last = self.convs
        for i, conv in enumerate(layers):
            x = conv(x)
            x = F.leaky_relu(F.instance_norm(x) if i else x, SLOPE)
            features.append(x)
        return PatchOutput(features, last(x))


class PatchDiscriminator(nn.Module):
    """The same PatchGAN at several scales, each with its own weights, on an image beside its condition or alone.

    With width 64, 2 scales and 36 label channels it has 5.6 M parameters (Schönfeld et al., 2021, C.1: 5.5 M). Sizes
    that cannot be halved so often get fewer strided layers.
    """

    def __init__(
        self,
        num_condition_channels: int,
        size: tuple[int, int],
        width: int = 64,
        scales: int = 2,
        spectral: bool = True,
    ) -> None:
        """Create the network.

        Args:
            num_condition_channels: L, for example the number of classes; 0 for an unconditional discriminator.
            size: Height and width of the images, pixels.
            width: Channels of the first layer; the deepest have 8 times as many.
            scales: How many networks there are; each sees half the resolution of the one before.
            spectral: Whether the convolutions are spectrally normalised (SPADE, not pix2pixHD).
        """
        super().__init__()
        coarsest = min(size) >> (scales - 1)
        strided = max(1, min(STRIDED_LAYERS, (coarsest // SMALLEST_MAP).bit_length() - 1))
        self.num_condition_channels = num_condition_channels
        self.networks = nn.ModuleList(
            _PatchNetwork(num_condition_channels + 3, width, strided, spectral) for _ in range(scales)
        )

    def forward(self, image: Tensor, condition: Tensor | None = None) -> list[PatchOutput]:
        """Judge images.

        Args:
            image: B3HW in [-1, 1].
            condition: BLHW, for example a one-hot label map; None if L is 0.

        Returns:
            One output per scale, the finest first.
        """
        assert (0 if condition is None else condition.shape[1]) == self.num_condition_channels
        x = image if condition is None else torch.cat([condition, image], dim=1)
        outputs: list[PatchOutput] = []
        for i, network in enumerate(self.networks):
            if i:
                x = F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)
            outputs.append(cast(PatchOutput, network(x)))
        return outputs
