"""Layout generators and their discriminator: progressive networks (ProGAN) with SAA or a plain softmax.

Le Moing et al., 2021, sections 3.1 and 4.2; Azadi et al., 2019, section 3.1.

Shapes: B batch, K classes, Z noise, H x W pixels. Level 0 is the base grid; each further level doubles it.

Names of the parts follow Figure 2: ToMask, FromMask, residual conditional fusion.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scenepalette.data.device.transfer import to_device
from scenepalette.generators.layouts.networks.gumbel import gumbel_softmax, sample_gumbel
from scenepalette.generators.layouts.networks.saa import ActivatedMask, semantically_assisted_activation
from scenepalette.generators.nn.blocks import (
    SLOPE,
    ActivatedPixelNorm,
    EqualizedConv2d,
    EqualizedLinear,
    SpadeResidualBlock,
    pixel_norm,
    resize_condition,
)
from scenepalette.generators.nn.resampling import UpsampledEqualizedConv2d, upsample
from scenepalette.training.ranks import SpansRanks

# When a network draws a class at each pixel (Gumbel-softmax) rather than put out shares. "training": its discriminator
# is to see classes, while a sampled layout shows the largest shares (Le Moing et al., 2021, section 3.1). "always": a
# sampled layout is a draw too (Azadi et al., 2019, Eq. 1, where the class of a pixel is sampled from its shares).
DrawnClasses = Literal["never", "training", "always"]


class LayoutBatch(NamedTuple):
    """What a layout generator puts out.

    Attributes:
        layout: Layout at the active level, BKHW, summing to 1 over classes: what the discriminator sees. One-hot, with
            the gradient of a softmax, where classes were drawn; else the same as `soft`.
        scales: One activated mask per level up to the active one, for the conditional loss; none without SAA.
        soft: Shares at the active level, BKHW, summing to 1 over classes.
        edited: BHW bool, where a partial generator's mask has more of a class than of the background; None for full.
    """

    layout: Tensor
    scales: list[ActivatedMask]
    soft: Tensor
    edited: Tensor | None = None


def progressive_widths(doublings: int, max_width: int, base_width: int) -> list[int]:
    """Return the width of each level: min(max_width, base_width / 2^i) for the i-th block from 1.

    The networks of Karras et al., 2018, table 2, have max_width 512 and base_width 8192.
    """
    return [min(max_width, max(base_width >> (level + 1), 8)) for level in range(doublings + 1)]


class ProgressiveBlock(nn.Module):
    """Pixels repeated 2x2 times, then two 3x3 convolutions, each followed by a leaky ReLU and pixel norm."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv_0 = UpsampledEqualizedConv2d(in_channels, out_channels)
        self.conv_1 = EqualizedConv2d(out_channels, out_channels, 3, padding=1)
        self.activated = ActivatedPixelNorm()

    def forward(self, x: Tensor) -> Tensor:
        """Map B in HW to B out (2H)(2W)."""
        return self.activated(self.conv_1(self.activated(self.conv_0(x))))


class LayoutNetwork(nn.Module):
    """What every layout generator is, those of other packages included, and how it is called.

    A generator that makes whole layouts: `generator(noise, palette, level=None, fade=1.0, generators=None)`, which
    returns a `LayoutBatch`. One that edits takes a budget and a layout in the palette's place, as
    `PartialLayoutGenerator` says.
        noise: BZ, standard normal.
        palette: t, BK, rows summing to 1; a generator that is not conditional ignores it.
        level: Active level, by default the last. Level 0 is the base grid; each further level doubles it.
        fade: Weight of the active level's mask against the one before, in [0, 1].
        generators: One CPU generator per sample, the source of drawn classes; systems without ignore them. With None no
            classes are drawn, and the layout holds shares.

    Attributes:
        noise_features: Z. Trainings draw noise of `LayoutSettings.noise_features`, so it is the same number for a
            generator that is to be trained.
    """

    noise_features: int


class _ProgressiveGenerator(LayoutNetwork):
    """What all layout generators share: noise and condition in, a mask a level, residual fusion, drawn classes."""

    def __init__(
        self,
        mask_classes: int,
        condition_features: int,
        base: tuple[int, int],
        doublings: int,
        noise_features: int,
        widths: list[int],
        fusion_kernel: int | None,
        drawn_classes: DrawnClasses,
    ) -> None:
        super().__init__()
        self.base, self.doublings, self.noise_features = base, doublings, noise_features
        self.first_width, self.drawn_classes = widths[0], drawn_classes
        self.from_noise = EqualizedLinear(noise_features + condition_features, widths[0] * base[0] * base[1])
        self.to_mask = nn.ModuleList(EqualizedConv2d(width, mask_classes, 1) for width in widths)
        # The paper speaks of a 1x1 convolution; with 3x3 the published network's parameter count is met exactly.
        self.fusion = nn.ModuleList(
            EqualizedConv2d(mask_classes, width, fusion_kernel, padding=fusion_kernel // 2)
            for width in widths[:-1]
            if fusion_kernel is not None
        )

    def _start(self, noise: Tensor, condition: Tensor | None) -> Tensor:
        """Map noise BZ and what is asked for, if anything, to features of the base grid."""
        x = pixel_norm(noise)
        x = self.from_noise(x if condition is None else torch.cat([x, condition], dim=1))
        return pixel_norm(F.leaky_relu(x.view(-1, self.first_width, *self.base), SLOPE))

    def _fused(self, level: int, x: Tensor, mask: Tensor) -> Tensor:
        """Add the mask mapped back to features (residual conditional fusion), from which the next level grows."""
        return x + self.fusion[level](mask.to(x.dtype)) if self.fusion else x

    def _drawn(self, soft: Tensor, generators: Sequence[torch.Generator] | None) -> Tensor:
        """Draw a class at each pixel, if this network does so now."""
        draws = self.drawn_classes == "always" or (self.drawn_classes == "training" and self.training)
        if generators is None or not draws:
            return soft
        return gumbel_softmax(soft, to_device(sample_gumbel(soft.shape[1:], generators), soft.device))


def _faded(masks: list[Tensor], level: int, fade: float) -> Tensor:
    """Mix the last mask with the one of the level before."""
    return torch.lerp(upsample(masks[-2]), masks[-1], fade) if level and fade < 1 else masks[-1]


class FullLayoutGenerator(_ProgressiveGenerator):
    """Makes whole layouts: the ProGAN convolutions of `semantic-palette`, `sb-gan` and both baselines."""

    def __init__(
        self,
        num_classes: int,
        conditional: bool,
        base: tuple[int, int],
        doublings: int,
        noise_features: int,
        max_width: int,
        base_width: int,
        fusion_kernel: int | None,
        drawn_classes: DrawnClasses,
    ) -> None:
        widths = progressive_widths(doublings, max_width, base_width)
        condition_features = num_classes if conditional else 0
        super().__init__(
            num_classes, condition_features, base, doublings, noise_features, widths, fusion_kernel, drawn_classes
        )
        self.num_classes, self.conditional = num_classes, conditional
        first = EqualizedConv2d(widths[0], widths[0], 3, padding=1)
        later = (ProgressiveBlock(widths[i], widths[i + 1]) for i in range(doublings))
        self.first, self.blocks = first, nn.ModuleList(later)
        self.activated = ActivatedPixelNorm()

    def _first_features(self, noise: Tensor, palette: Tensor) -> Tensor:
        """Map noise BZ and, if conditional, the palette BK to the features of level 0."""
        x = self._start(noise, palette if self.conditional else None)
        return self.activated(self.first(x))


class LayoutGenerator(FullLayoutGenerator):
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
        residual_fusion: bool = True,
        sinkhorn_iterations: int = 1,
        drawn_classes: DrawnClasses = "never",
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
            residual_fusion: Whether a level's mask is added to the features that the next level grows from.
            sinkhorn_iterations: Of each semantically-assisted activation, at least 1.
            drawn_classes: When classes are drawn.
        """
        fusion = fusion_kernel if residual_fusion else None
        super().__init__(
            num_classes, True, base, doublings, noise_features, max_width, base_width, fusion, drawn_classes
        )
        self.sinkhorn_iterations = sinkhorn_iterations

    def forward(
        self,
        noise: Tensor,
        palette: Tensor,
        level: int | None = None,
        fade: float = 1.0,
        generators: Sequence[torch.Generator] | None = None,
    ) -> LayoutBatch:
        """Generate layouts; see `LayoutNetwork`."""
        level = self.doublings if level is None else level
        x = self._first_features(noise, palette)
        scales = [semantically_assisted_activation(self.to_mask[0](x), palette, self.sinkhorn_iterations)]
        for i in range(level):
            x = self.blocks[i](self._fused(i, x, scales[-1].mask))
            scales.append(semantically_assisted_activation(self.to_mask[i + 1](x), palette, self.sinkhorn_iterations))
        soft = _faded([scale.mask for scale in scales], level, fade)
        return LayoutBatch(self._drawn(soft, generators), scales, soft)


class SoftmaxLayoutGenerator(FullLayoutGenerator):
    """Plain ProGAN with a softmax over classes: `sb-gan` without a palette, `baseline-1` and `baseline-2` with one."""

    def __init__(
        self,
        num_classes: int,
        base: tuple[int, int],
        doublings: int,
        noise_features: int = 512,
        max_width: int = 512,
        base_width: int = 8192,
        conditional: bool = True,
        drawn_classes: DrawnClasses = "never",
    ) -> None:
        """Create the network; see `LayoutGenerator`. If `conditional`, the palette is an input beside the noise."""
        super().__init__(
            num_classes, conditional, base, doublings, noise_features, max_width, base_width, None, drawn_classes
        )

    def forward(
        self,
        noise: Tensor,
        palette: Tensor,
        level: int | None = None,
        fade: float = 1.0,
        generators: Sequence[torch.Generator] | None = None,
    ) -> LayoutBatch:
        """Generate layouts; see `LayoutNetwork`."""
        level = self.doublings if level is None else level
        x = self._first_features(noise, palette)
        masks = [torch.softmax(self.to_mask[0](x).float(), dim=1)]
        for i in range(level):
            x = self.blocks[i](self._fused(i, x, masks[-1]))
            masks.append(torch.softmax(self.to_mask[i + 1](x).float(), dim=1))
        soft = _faded(masks, level, fade)
        return LayoutBatch(self._drawn(soft, generators), [], soft)


class PartialLayoutGenerator(_ProgressiveGenerator):
    """`semantic-palette-partial`: edits a layout by a target palette (section 4.2, Figure 4, and section 5.4)."""

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
        residual_fusion: bool = True,
        sinkhorn_iterations: int = 1,
        drawn_classes: DrawnClasses = "never",
    ) -> None:
        """Create the network; see `LayoutGenerator`.

        The generated mask has K + 1 classes, the last of which is the background; classes are drawn from the merged
        layout. `hidden_channels` is the width inside each SPADE modulation.
        """
        widths = progressive_widths(doublings, max_width, base_width)
        fusion, classes = fusion_kernel if residual_fusion else None, num_classes + 1
        super().__init__(classes, classes, base, doublings, noise_features, widths, fusion, drawn_classes)
        self.num_classes, self.sinkhorn_iterations = num_classes, sinkhorn_iterations
        before = [widths[0], *widths[:-1]]
        self.blocks = nn.ModuleList(
            SpadeResidualBlock(a, b, num_classes, hidden_channels, spectral=False)
            for a, b in zip(before, widths, strict=True)
        )

    def forward(
        self,
        noise: Tensor,
        budget: Tensor,
        source: Tensor,
        level: int | None = None,
        fade: float = 1.0,
        generators: Sequence[torch.Generator] | None = None,
    ) -> LayoutBatch:
        """Edit layouts.

        Args:
            noise: BZ, standard normal.
            budget: B(K+1): the share of the whole frame that each class newly gets, and last the share of the
                background, which keeps the source; rows sum to 1 (see `partial_budget` and `addition_budget`).
            source: BKHW at full size, soft or one-hot: the layout, 1/K at each pixel of a crop that is to be replaced.
            level: Active level, by default the last.
            fade: Weight of the active level's mask against the one before, in [0, 1].
            generators: One CPU generator per sample, the source of drawn classes; with None none are drawn.

        Returns:
            The merged layout, and the generated masks with K + 1 classes for the conditional loss.
        """
        level = self.doublings if level is None else level
        # No level looks at pixels between those that the active one takes.
        source = resize_condition(source, (self.base[0] << level, self.base[1] << level))
        x = self._start(noise, budget)
        scales: list[ActivatedMask] = []
        for i in range(level + 1):
            if i:
                x = upsample(self._fused(i - 1, x, scales[-1].mask))
            x = self.blocks[i](x, source)
            scales.append(semantically_assisted_activation(self.to_mask[i](x), budget, self.sinkhorn_iterations))
        mask = _faded([scale.mask for scale in scales], level, fade)
        generated, background = mask[:, :-1], mask[:, -1:]
        merged = generated + background * source
        edited = mask.argmax(dim=1) < self.num_classes
        return LayoutBatch(self._drawn(merged, generators), scales, merged, edited)


def partial_budget(palette: Tensor, crop: Tensor) -> Tensor:
    """Return the partial generator's budget for filling a crop by a palette.

    Args:
        palette: BK, the wanted shares inside the crop, rows summing to 1.
        crop: BHW bool, true where the layout is to be made again.

    Returns:
        B(K+1): palette times the crop's share of the frame, then the share of the rest.
    """
    share = crop.float().mean(dim=(1, 2))[:, None]
    return torch.cat([palette * share, 1.0 - share], dim=1)


def addition_budget(target: Tensor, current: Tensor) -> Tensor:
    """Return the partial generator's budget for adding to whole layouts what they lack (section 5.4).

    Args:
        target: BK, the wanted shares, rows summing to 1.
        current: BK, the shares of the layouts, rows summing to 1.

    Returns:
        B(K+1): the positive part of target - current, then the share of the rest.
    """
    return torch.cat([(target - current).clamp(min=0), torch.minimum(target, current).sum(dim=1, keepdim=True)], dim=1)


def crop_layout(layout: Tensor, crop: Tensor) -> Tensor:
    """Mark the crop by 1/K for all classes (section 4.2).

    Args:
        layout: BKHW.
        crop: BHW bool.
    """
    return torch.where(crop[:, None], torch.full_like(layout, 1.0 / layout.shape[1]), layout)


class LayoutDiscriminator(SpansRanks):
    """Progressive discriminator of layouts; its last block brings the base grid to 1x1."""

    def __init__(
        self,
        num_classes: int,
        base: tuple[int, int],
        doublings: int,
        max_width: int = 512,
        base_width: int = 8192,
        conditional: bool = False,
    ) -> None:
        """Create the network.

        Args:
            num_classes: K.
            base: Height and width of the base grid, pixels.
            doublings: Number of levels beyond the base grid.
            max_width: Largest number of feature channels.
            base_width: Level i has base_width / 2^(i+1) channels, at most `max_width`.
            conditional: Whether the palette is an input beside the layout, as K constant planes: the condition as a
                further input (Mirza and Osindero, 2014, section 3.2), in a form that convolutions take.
        """
        super().__init__()
        self.conditional = conditional
        widths = progressive_widths(doublings, max_width, base_width)
        planes = 2 * num_classes if conditional else num_classes
        self.from_mask = nn.ModuleList(EqualizedConv2d(planes, width, 1) for width in widths)
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
        self.activated, self.pooled = nn.LeakyReLU(SLOPE), nn.AvgPool2d(2)

    def forward(self, layout: Tensor, level: int, fade: float = 1.0, palette: Tensor | None = None) -> Tensor:
        """Score layouts.

        Args:
            layout: BKHW at the size of `level`, soft or one-hot.
            level: Active level.
            fade: Weight of the active level's path against the one before, in [0, 1].
            palette: BK, rows summing to 1: what was asked for, or a real layout's own. A conditional discriminator
                needs it; others ignore it.

        Returns:
            [B], higher is more real.
        """
        if self.conditional:
            assert palette is not None
            layout = torch.cat([layout, palette[:, :, None, None].expand(-1, -1, *layout.shape[2:])], dim=1)
        x = self.activated(self.from_mask[level](layout))
        for i in range(level - 1, -1, -1):
            for conv in cast(nn.ModuleList, self.convs[i]):
                x = self.activated(conv(x))
            x = self.pooled(x)
            if i == level - 1 and fade < 1:
                before = self.activated(self.from_mask[i](self.pooled(layout)))
                x = torch.lerp(before, x, fade)
        # Minibatch standard deviation (Karras et al., 2018, section 3): one more feature, the same everywhere.
        _, variance, _ = self.ranks.moments(x.float(), (0,))
        deviation = (variance + 1e-8).sqrt().mean().to(x.dtype)
        x = torch.cat([x, deviation.expand(len(x), 1, *x.shape[2:])], dim=1)
        x = self.activated(self.last(x))
        x = self.activated(self.to_point(x))
        return self.to_score(x.flatten(1)).squeeze(1)
