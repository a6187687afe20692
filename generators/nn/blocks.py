"""Blocks that several generators share: equalised layers, spatially-adaptive normalisation, batch statistics.

Shapes: B batch, K classes, C features, H x W pixels, L channels of a conditioning map.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from scenepalette.generators.nn.spectral_norm import spectral_norm
from scenepalette.training.ranks import BatchNorm2d

Upsampling = Literal["nearest", "bilinear"]
SLOPE = 0.2  # of every leaky ReLU in ProGAN, SPADE and OASIS
PIXEL_NORM_EPSILON = 1e-8


class EqualizedConv2d(nn.Module):
    """Convolution with equalised learning rate (Karras et al., 2018, 4.1): unit-variance weights, scaled when used."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int | tuple[int, int], padding: int = 0
    ) -> None:
        """Create the layer.

        Args:
            in_channels: Channels of the input.
            out_channels: Channels of the output.
            kernel_size: Side, or height and width, of the kernel.
            padding: Zeros added on each side.
        """
        super().__init__()
        height, width = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, height, width))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.scale = math.sqrt(2.0 / (in_channels * height * width))
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        """Convolve BCHW."""
        return F.conv2d(x, self.weight * self.scale, self.bias, padding=self.padding)


class EqualizedLinear(nn.Module):
    """Linear layer with equalised learning rate (Karras et al., 2018, 4.1)."""

    def __init__(self, in_features: int, out_features: int, gain: float = math.sqrt(2.0)) -> None:
        """Create the layer; `gain` is that of the activation that follows."""
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features))
        self.scale = gain / math.sqrt(in_features)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, in_features] to [B, out_features]."""
        return F.linear(x, self.weight * self.scale, self.bias)


def pixel_norm(x: Tensor) -> Tensor:
    """Divide by the root mean square over channels (Karras et al., 2018, 4.2); for BC or BCHW."""
    exact = x.to(torch.promote_types(x.dtype, torch.float32))
    return x * torch.rsqrt(exact.square().mean(dim=1, keepdim=True) + PIXEL_NORM_EPSILON).to(x.dtype)


class ActivatedPixelNorm(nn.Module):
    """Leaky ReLU, then pixel norm, as behind each 3x3 convolution of ProGAN's generator."""

    def forward(self, x: Tensor) -> Tensor:
        """Map BCHW."""
        return pixel_norm(F.leaky_relu(x, SLOPE))


def resize_condition(condition: Tensor, size: tuple[int, int], codes: Tensor | None = None) -> Tensor:
    """Return a conditioning map at a height and width, BLHW, by nearest pixels.

    Args:
        condition: BLhw; with codes, a label map BKhw.
        size: H and W.
        codes: BKS, a code for each class of each image (Zhu et al., 2020). Each pixel has its class's beside the label
            map; L is K + S.
    """
    if condition.shape[2:] != size:
        condition = F.interpolate(condition, size=size, mode="nearest")
    if codes is None:
        return condition
    styles = torch.einsum("bkhw,bks->bshw", condition, codes.to(condition.dtype))
    return torch.cat([condition, styles], dim=1)


class SpatiallyAdaptiveNorm(nn.Module):
    """SPADE: batch norm whose scale and shift are computed per pixel from a conditioning map (Park et al., 2019)."""

    def __init__(self, channels: int, condition_channels: int, hidden_channels: int = 128) -> None:
        """Create the layer.

        Args:
            channels: C of the features.
            condition_channels: L of the conditioning map.
            hidden_channels: Width of the layer between the map and the modulation.
        """
        super().__init__()
        self.norm = BatchNorm2d(channels)
        self.hidden = nn.Conv2d(condition_channels, hidden_channels, 3, padding=1)
        self.scale_and_shift = nn.Conv2d(hidden_channels, 2 * channels, 3, padding=1)

    def forward(self, x: Tensor, condition: Tensor, codes: Tensor | None = None) -> Tensor:
        """Modulate x (BCHW) by a condition and codes, as `resize_condition` takes them."""
        scale, shift = self.modulation(condition, (x.shape[2], x.shape[3]), codes).chunk(2, dim=1)
        return self.norm(x) * (1 + scale) + shift

    def modulation(self, condition: Tensor, size: tuple[int, int], codes: Tensor | None = None) -> Tensor:
        """Return scale and shift at a height and width, B2CHW."""
        return self.scale_and_shift(F.relu(self.hidden(resize_condition(condition, size, codes))))


def doubled(x: Tensor, upsampling: Upsampling) -> Tensor:
    """Return features of twice the height and width, BCHW to BC(2H)(2W).

    Repeated pixels tell a convolution by 2 x 2 which of them it looks at, which short trainings paint as lines and
    grids; interpolated ones do not (Karras et al., 2021, section 2).
    """
    return F.interpolate(x, scale_factor=2, mode=upsampling, align_corners=None if upsampling == "nearest" else False)


class SpadeResidualBlock(nn.Module):
    """SPADE residual block: two modulated convolutions and, if the width changes, a modulated 1x1 shortcut."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        condition_channels: int,
        hidden_channels: int = 128,
        spectral: bool = True,
        upsampling: Upsampling | None = None,
    ) -> None:
        """Create the block.

        Args:
            in_channels: Channels of the input.
            out_channels: Channels of the output.
            condition_channels: L of the conditioning map.
            hidden_channels: Width inside each modulation.
            spectral: Whether the convolutions (not the modulations) are spectrally normalised.
            upsampling: How the input's height and width are doubled first; None leaves them.
        """
        super().__init__()
        self.upsampling: Upsampling | None = upsampling
        wrap: Callable[[nn.Module], nn.Module] = spectral_norm if spectral else lambda module: module
        middle = min(in_channels, out_channels)
        self.norm_0 = SpatiallyAdaptiveNorm(in_channels, condition_channels, hidden_channels)
        self.conv_0 = wrap(nn.Conv2d(in_channels, middle, 3, padding=1))
        self.norm_1 = SpatiallyAdaptiveNorm(middle, condition_channels, hidden_channels)
        self.conv_1 = wrap(nn.Conv2d(middle, out_channels, 3, padding=1))
        self.shortcut: nn.Module | None = None
        if in_channels != out_channels:
            self.norm_shortcut = SpatiallyAdaptiveNorm(in_channels, condition_channels, hidden_channels)
            self.shortcut = wrap(nn.Conv2d(in_channels, out_channels, 1, bias=False))

    def forward(self, x: Tensor, condition: Tensor, codes: Tensor | None = None) -> Tensor:
        """Map x (B in HW) to B out HW, or twice that, under a condition and codes (`resize_condition`)."""
        if self.upsampling is not None:
            x = doubled(x, self.upsampling)
        skip = x if self.shortcut is None else self.shortcut(self.norm_shortcut(x, condition, codes))
        x = self.conv_0(F.leaky_relu(self.norm_0(x, condition, codes), SLOPE))
        x = self.conv_1(F.leaky_relu(self.norm_1(x, condition, codes), SLOPE))
        return x + skip


@torch.no_grad()
def estimate_batch_statistics(network: nn.Module, batches: Iterable[Callable[[], object]]) -> None:
    """Estimate the means and variances of all batch norms again, for example of averaged weights.

    Running statistics of the trained network do not belong to its average; the plain mean over batches does.

    Args:
        network: Changed in place, left in eval mode.
        batches: Calls that each run the network on one batch; none is made if there is no batch norm.
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    network.eval()
    if not norms:
        return
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative mean
        norm.train()
    for run in batches:
        run()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


def count_parameters(network: nn.Module | None) -> int:
    """Return the number of a network's parameters; 0 where there is none."""
    return sum(parameter.numel() for parameter in network.parameters()) if network is not None else 0
