"""Layout generators and their discriminator: progressive networks with SAA (Semantic Palette, sections 3.1 and 4.2).

Shapes: B batch, K classes, Z noise, H x W pixels. Level 0 is the base grid; each further level doubles it.

Names of the parts follow Figure 2: ToMask, FromMask, residual conditional fusion.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generators.activation import ActivatedMask, semantically_assisted_activation
from generators.blocks import SLOPE, EqualizedConv2d, EqualizedLinear, SpadeResidualBlock, pixel_norm


class LayoutBatch(NamedTuple):
    """What a layout generator puts out.

    Attributes:
        layout: Soft layout at the active level, BKHW, summing to 1 over classes: what the discriminator sees.
        scales: One activated mask per level up to the active one, for the conditional loss.
    """

    layout: Tensor
    scales: list[ActivatedMask]


def progressive_widths(doublings: int, max_width: int, base_width: int) -> list[int]:
    """Return the width of each level: min(max_width, base_width / 2^i) for the i-th block from 1 (ProGAN, table 2).

    The papers' networks have max_width 512 and base_width 8192.
    """
    return [min(max_width, max(base_width >> (level + 1), 8)) for level in range(doublings + 1)]


def upsample(x: Tensor) -> Tensor:
    """Double H and W by repeating pixels."""
    return F.interpolate(x, scale_factor=2, mode="nearest")


class ProgressiveBlock(nn.Module):
    """Two 3x3 convolutions, each followed by a leaky ReLU and pixel norm."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        """Create the block from its widths."""
        super().__init__()
        self.conv_0 = EqualizedConv2d(in_channels, out_channels, 3, padding=1)
        self.conv_1 = EqualizedConv2d(out_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map B in HW to B out HW."""
        x = pixel_norm(F.leaky_relu(self.conv_0(x), SLOPE))
        return pixel_norm(F.leaky_relu(self.conv_1(x), SLOPE))


class _ProgressiveGenerator(nn.Module):
    """What the full and the partial generator share: noise and palette in, SAA at each level, residual fusion."""

    def __init__(
        self,
        activated_classes: int,
        base: tuple[int, int],
        doublings: int,
        noise_features: int,
        widths: list[int],
        fusion_kernel: int,
    ) -> None:
        super().__init__()
        self.base, self.doublings, self.noise_features = base, doublings, noise_features
        self.first_width = widths[0]
        self.from_noise = EqualizedLinear(noise_features + activated_classes, widths[0] * base[0] * base[1])
        self.to_mask = nn.ModuleList(EqualizedConv2d(width, activated_classes, 1) for width in widths)
        # The paper speaks of a 1x1 convolution; with 3x3 the published network's parameter count is met exactly.
        self.fusion = nn.ModuleList(
            EqualizedConv2d(activated_classes, width, fusion_kernel, padding=fusion_kernel // 2)
            for width in widths[:-1]
        )

    def _start(self, noise: Tensor, palette: Tensor) -> Tensor:
        """Map noise BZ and palette BK to features of the base grid."""
        x = self.from_noise(torch.cat([pixel_norm(noise), palette], dim=1))
        return pixel_norm(F.leaky_relu(x.view(-1, self.first_width, *self.base), SLOPE))

    def _fuse(self, level: int, x: Tensor, mask: Tensor) -> Tensor:
        """Add the mask, mapped back to features, before the next doubling (residual conditional fusion)."""
        return upsample(x + self.fusion[level](mask.to(x.dtype)))


class LayoutGenerator(_ProgressiveGenerator):
    """`semantic-palette`: noise and a target palette to a soft layout whose shares follow the palette."""

    def __init__(
        self,
        num_classes: int,
        base: tuple[int, int],
        doublings: int,
        noise_features: int = 512,
        max_width: int = 512,
        base_width: int = 8192,
        fusion_kernel: int = 3,
    ) -> None:
        """Create the network; with 12 classes, base 4x8 and 5 doublings it has 27.6 M parameters.

        Args:
            num_classes: K.
            base: Height and width of the base grid, pixels.
            doublings: Number of levels beyond the base grid.
            noise_features: Z.
            max_width: Largest number of feature channels.
            base_width: Level i has base_width / 2^(i+1) channels, at most `max_width`.
            fusion_kernel: Side of the residual fusion's kernel, odd.
        """
        widths = progressive_widths(doublings, max_width, base_width)
        super().__init__(num_classes, base, doublings, noise_features, widths, fusion_kernel)
        self.num_classes = num_classes
        first = EqualizedConv2d(widths[0], widths[0], 3, padding=1)
        later = (ProgressiveBlock(widths[i], widths[i + 1]) for i in range(doublings))
        self.first, self.blocks = first, nn.ModuleList(later)

    def forward(self, noise: Tensor, palette: Tensor, level: int | None = None, fade: float = 1.0) -> LayoutBatch:
        """Generate layouts.

        Args:
            noise: BZ, standard normal.
            palette: t, BK, rows summing to 1.
            level: Active level, by default the last.
            fade: Weight of the active level's mask against the one before, in [0, 1].
        """
        level = self.doublings if level is None else level
        x = self._start(noise, palette)
        x = pixel_norm(F.leaky_relu(self.first(x), SLOPE))
        scales = [semantically_assisted_activation(self.to_mask[0](x), palette)]
        for i in range(level):
            x = self.blocks[i](self._fuse(i, x, scales[-1].mask))
            scales.append(semantically_assisted_activation(self.to_mask[i + 1](x), palette))
        layout = scales[-1].mask
        if level and fade < 1:
            layout = torch.lerp(upsample(scales[-2].mask), layout, fade)
        return LayoutBatch(layout, scales)


class PartialLayoutGenerator(_ProgressiveGenerator):
    """`semantic-palette-partial`: fills the cropped part of a layout by a target palette (section 4.2, Figure 4)."""

    def __init__(
        self,
        num_classes: int,
        base: tuple[int, int],
        doublings: int,
        noise_features: int = 512,
        max_width: int = 512,
        base_width: int = 8192,
        hidden_channels: int = 128,
        fusion_kernel: int = 3,
    ) -> None:
        """Create the network.

        Args:
            num_classes: K; the generated mask has a further class, the background.
            base: Height and width of the base grid, pixels.
            doublings: Number of levels beyond the base grid.
            noise_features: Z.
            max_width: Largest number of feature channels.
            base_width: Level i has base_width / 2^(i+1) channels, at most `max_width`.
            hidden_channels: Width inside each SPADE modulation.
            fusion_kernel: Side of the residual fusion's kernel, odd.
        """
        widths = progressive_widths(doublings, max_width, base_width)
        super().__init__(num_classes + 1, base, doublings, noise_features, widths, fusion_kernel)
        self.num_classes = num_classes
        before = [widths[0], *widths[:-1]]
        self.blocks = nn.ModuleList(
            SpadeResidualBlock(a, b, num_classes, hidden_channels, spectral=False)
            for a, b in zip(before, widths, strict=True)
        )

    def forward(
        self, noise: Tensor, budget: Tensor, cropped: Tensor, level: int | None = None, fade: float = 1.0
    ) -> LayoutBatch:
        """Fill the cropped part of layouts.

        Args:
            noise: BZ, standard normal.
            budget: B(K+1): the share of the whole frame that each class gets inside the crop, and last the share of
                the background, which keeps the input; rows sum to 1 (see `partial_budget`).
            cropped: BKHW at full size, soft or one-hot, 1/K at each pixel of the crop.
            level: Active level, by default the last.
            fade: Weight of the active level's mask against the one before, in [0, 1].

        Returns:
            The merged layout, and the generated masks with K + 1 classes for the conditional loss.
        """
        level = self.doublings if level is None else level
        x = self._start(noise, budget)
        scales: list[ActivatedMask] = []
        for i in range(level + 1):
            if i:
                x = self._fuse(i - 1, x, scales[-1].mask)
            x = self.blocks[i](x, F.interpolate(cropped, size=x.shape[2:], mode="nearest"))
            scales.append(semantically_assisted_activation(self.to_mask[i](x), budget))
        mask = scales[-1].mask
        if level and fade < 1:
            mask = torch.lerp(upsample(scales[-2].mask), mask, fade)
        generated, background = mask[:, :-1], mask[:, -1:]
        layout = generated + background * F.interpolate(cropped, size=mask.shape[2:], mode="nearest")
        return LayoutBatch(layout, scales)


def partial_budget(palette: Tensor, crop: Tensor) -> Tensor:
    """Return the partial generator's budget for filling a crop by a palette.

    Args:
        palette: BK, the wanted shares inside the crop, rows summing to 1.
        crop: BHW bool, true where the layout is to be made anew.

    Returns:
        B(K+1): palette times the crop's share of the frame, then the share of the rest.
    """
    share = crop.float().mean(dim=(1, 2))[:, None]
    return torch.cat([palette * share, 1.0 - share], dim=1)


def crop_layout(layout: Tensor, crop: Tensor) -> Tensor:
    """Mark the crop by 1/K for all classes (section 4.2).

    Args:
        layout: BKHW.
        crop: BHW bool.
    """
    return torch.where(crop[:, None], torch.full_like(layout, 1.0 / layout.shape[1]), layout)


class LayoutDiscriminator(nn.Module):
    """Progressive critic of soft layouts; its last block brings the base grid to 1x1."""

    def __init__(
        self, num_classes: int, base: tuple[int, int], doublings: int, max_width: int = 512, base_width: int = 8192
    ) -> None:
        """Create the network.

        Args:
            num_classes: K.
            base: Height and width of the base grid, pixels.
            doublings: Number of levels beyond the base grid.
            max_width: Largest number of feature channels.
            base_width: Level i has base_width / 2^(i+1) channels, at most `max_width`.
        """
        super().__init__()
        widths = progressive_widths(doublings, max_width, base_width)
        self.from_mask = nn.ModuleList(EqualizedConv2d(num_classes, width, 1) for width in widths)
        self.convs = nn.ModuleList(
            nn.ModuleList(
                [
                    EqualizedConv2d(widths[i + 1], widths[i + 1], 3, padding=1),
                    EqualizedConv2d(widths[i + 1], widths[i], 3, padding=1),
                ]
            )
            for i in range(doublings)
        )
        self.last = EqualizedConv2d(widths[0] + 1, widths[0], 3, padding=1)
        self.to_point = EqualizedConv2d(widths[0], widths[0], base)
        self.to_score = EqualizedLinear(widths[0], 1, gain=1.0)

    def forward(self, layout: Tensor, level: int, fade: float = 1.0) -> Tensor:
        """Score soft layouts.

        Args:
            layout: BKHW at the size of `level`.
            level: Active level.
            fade: Weight of the active level's path against the one before, in [0, 1].

        Returns:
            [B], higher is more real.
        """
        x = F.leaky_relu(self.from_mask[level](layout), SLOPE)
        for i in range(level - 1, -1, -1):
            for conv in cast(nn.ModuleList, self.convs[i]):
                x = F.leaky_relu(conv(x), SLOPE)
            x = F.avg_pool2d(x, 2)
            if i == level - 1 and fade < 1:
                before = F.leaky_relu(self.from_mask[i](F.avg_pool2d(layout, 2)), SLOPE)
                x = torch.lerp(before, x, fade)
        # Minibatch standard deviation (ProGAN, section 3): one more feature, the same everywhere.
        deviation = (x.float().var(dim=0, unbiased=False) + 1e-8).sqrt().mean().to(x.dtype)
        x = torch.cat([x, deviation.expand(len(x), 1, *x.shape[2:])], dim=1)
        x = F.leaky_relu(self.last(x), SLOPE)
        x = F.leaky_relu(self.to_point(x), SLOPE)
        return self.to_score(x.flatten(1)).squeeze(1)
