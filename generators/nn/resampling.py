"""3x3 convolutions of features that are doubled before them, or averaged after them."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from scenepalette.generators.nn.blocks import EqualizedConv2d


class PooledConv2d(nn.Conv2d):
    """A 3x3 convolution with zeros outside, whose result is averaged over 2x2 pixels."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        """Create the layer."""
        super().__init__(in_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map BCHW to BO(H/2)(W/2)."""
        return F.avg_pool2d(super().forward(x), 2)


class UpsampledConv2d(nn.Conv2d):
    """A 3x3 convolution with zeros outside, of an input whose pixels are repeated 2x2 times."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        """Create the layer."""
        super().__init__(in_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map BCHW to BO(2H)(2W)."""
        return super().forward(upsample(x))


class UpsampledEqualizedConv2d(EqualizedConv2d):
    """The same with equalised learning rate."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        """Create the layer."""
        super().__init__(in_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map BCHW to BO(2H)(2W)."""
        return super().forward(upsample(x))


def upsample(x: Tensor) -> Tensor:
    """Double H and W by repeating pixels."""
    return F.interpolate(x, scale_factor=2, mode="nearest")
