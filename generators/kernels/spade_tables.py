"""SPADE for inference: one gather, multiplication and addition per pixel and modulation.

Scale and shift come from `label_patches`; normalisation, the 1 of `1 + scale` and spectral norm are folded into their
weights. Nothing of it is an approximation.

Shapes: B batch, C features, H x W pixels, P = BHW pixels in a row, M hidden channels.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations

from scenepalette.generators.kernels.dispatch import TUNING
from scenepalette.generators.kernels.label_patches import (
    Patches,
    SymbolMap,
    convolve_patches,
    image_rows,
    per_symbol,
    per_tap,
)
from scenepalette.generators.nn.blocks import SLOPE, SpadeResidualBlock, SpatiallyAdaptiveNorm

# Bytes of features that stay in a core's second-level cache while they are multiplied, shifted and activated.
PASS_BYTES = 2**18
# Large levels go through their blocks one image at a time, so that tables stay in cache.
PIXELS_AT_ONCE = 2**13


def fold_parametrizations(network: nn.Module) -> None:
    """Make every parametrized weight, such as a spectrally normalised one, a plain one of its present value."""
    for module in network.modules():
        if is_parametrized(module):
            for name in list(module.parametrizations):  # type: ignore[arg-type, union-attr]
                remove_parametrizations(module, name)


class ModulationTable(nn.Module):
    """Scale and shift of a SPADE normalisation with everything folded in: y = x * scale + shift."""

    hidden_weight: Tensor
    hidden_bias: Tensor
    weight: Tensor
    bias: Tensor
    symbol_weight: Tensor
    tap_weight: Tensor
    tap_bias: Tensor

    def __init__(self, norm: SpatiallyAdaptiveNorm, dtype: torch.dtype) -> None:
        """Take the weights of a normalisation whose batch statistics are fixed.

        Args:
            norm: The trained layer.
            dtype: Of all numbers but the statistics that are folded.
        """
        super().__init__()
        statistics, last = norm.norm, norm.scale_and_shift
        assert statistics.running_mean is not None and statistics.running_var is not None and last.bias is not None
        rate = torch.rsqrt(statistics.running_var + statistics.eps)
        offset = -statistics.running_mean * rate
        scale, shift = last.weight.chunk(2)
        scale_bias, shift_bias = last.bias.chunk(2)
        weight = torch.cat([scale * rate[:, None, None, None], shift + scale * offset[:, None, None, None]])
        bias = torch.cat([(1 + scale_bias) * rate, shift_bias + (1 + scale_bias) * offset])
        hidden = norm.hidden
        assert hidden.bias is not None
        buffers = {
            "hidden_weight": hidden.weight,
            "hidden_bias": hidden.bias,
            "weight": weight,
            "bias": bias,
            "symbol_weight": per_symbol(hidden.weight),
        }
        tap_weight, buffers["tap_bias"] = per_tap(weight, bias)
        # In the order in which products read it.
        by_mm = TUNING.multiplies_by_mm and dtype == torch.float32
        buffers["tap_weight"] = tap_weight.T.contiguous().T if by_mm else tap_weight
        for name, value in buffers.items():
            self.register_buffer(name, value.detach().clone().to(dtype), persistent=False)

    def forward(self, patches: Patches) -> tuple[Tensor, Tensor | None]:
        """Return rows [N, 2C] of scale and shift, and the row of each pixel, int64 [P]; None for one row a pixel."""
        if patches.is_dense:
            condition = patches.condition.to(self.weight.dtype)
            hidden = F.relu(F.conv2d(condition, self.hidden_weight, self.hidden_bias, padding=1))
            return image_rows(F.conv2d(hidden, self.weight, self.bias, padding=1)), None
        rows = convolve_patches(patches, self.symbol_weight, self.hidden_bias, self.tap_weight, self.tap_bias)
        return rows, patches.index


def _modulated(x: Tensor, size: tuple[int, int], rows: Tensor, index: Tensor | None, slope: float) -> Tensor:
    """Return x * scale + shift, activated.

    Args:
        x: BChw, the features, channels last in memory.
        size: H and W, as x has them or twice that: then its pixels are repeated.
        rows: [N, 2C] of scale and shift.
        index: int64 [P], the row of each pixel; None if they are the pixels'.
        slope: Of the leaky ReLU; 1 for none.

    Returns:
        BCHW, channels last in memory.
    """
    batch, channels, height, width = x.shape
    times = size[0] // height
    features = x.permute(0, 2, 3, 1).reshape(batch * height, 1, width, 1, channels)
    pixels = times * times * width  # of all that a row of features becomes
    result = x.new_empty(batch * height, times, width, times, channels)
    step = max(1, PASS_BYTES // (pixels * channels * x.element_size()))
    for first in range(0, batch * height, step):
        out = result[first : first + step]
        part = slice(first * pixels, (first + len(out)) * pixels)
        both = rows[part] if index is None else rows.index_select(0, index[part])
        scale, shift = both.view(*out.shape[:-1], 2 * channels).split(channels, dim=-1)
        torch.addcmul(shift, features[first : first + step], scale, out=out)
        if slope != 1:
            F.leaky_relu_(out, slope)
    return result.view(batch, *size, channels).permute(0, 3, 1, 2)


class TabulatedSpadeBlock(nn.Module):
    """A SPADE residual block for inference; the same function as the block that it was made from."""

    def __init__(self, block: SpadeResidualBlock, dtype: torch.dtype) -> None:
        """Take the weights of a block whose batch statistics are fixed.

        Args:
            block: The trained block, in eval mode.
            dtype: Of features and weights.
        """
        super().__init__()
        self.dtype = dtype
        self.table_0, self.table_1 = ModulationTable(block.norm_0, dtype), ModulationTable(block.norm_1, dtype)
        self.conv_0, self.conv_1 = _converted(block.conv_0, dtype), _converted(block.conv_1, dtype)
        self.table_shortcut: ModulationTable | None = None
        if block.shortcut is not None:
            self.table_shortcut = ModulationTable(block.norm_shortcut, dtype)
            self.shortcut = _converted(block.shortcut, dtype)

    def forward(self, x: Tensor, patches: Patches) -> Tensor:
        """Map x (BCHW, or half as high and wide: then its pixels are repeated) to B out HW, of the block's type."""
        x = x.to(self.dtype)
        size = (patches.symbols.ids.shape[1], patches.symbols.ids.shape[2])
        if self.table_shortcut is not None:
            skip = self.shortcut(_modulated(x, size, *self.table_shortcut(patches), slope=1))
        else:
            skip = x if x.shape[2:] == size else F.interpolate(x, scale_factor=2, mode="nearest")
        x = self.conv_0(_modulated(x, size, *self.table_0(patches), slope=SLOPE))
        x = self.conv_1(_modulated(x, size, *self.table_1(patches), slope=SLOPE))
        return x.add_(skip)


def _converted(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return a convolution with its channels last in memory, itself if it has the type already."""
    assert not is_parametrized(module), "spectral norm has to be folded into the weights before"
    same = next(module.parameters()).dtype == dtype
    converted = module if same else copy.deepcopy(module).to(dtype)
    return converted.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


class TabulatedBlocks(nn.Module):
    """A chain of SPADE blocks from features of the base grid to an image, for inference."""

    def __init__(self, blocks: nn.ModuleList, doubled: Sequence[bool], to_image: nn.Module, dtype: torch.dtype) -> None:
        """Take the weights of trained blocks, in eval mode.

        Args:
            blocks: The chain, of SpadeResidualBlock.
            doubled: Whether the size doubles before each block.
            to_image: The convolution to three channels.
            dtype: Of features and weights: float32, or bfloat16 where the processor computes it.
        """
        super().__init__()
        self.blocks = nn.ModuleList(
            TabulatedSpadeBlock(block, dtype) for block in blocks if isinstance(block, SpadeResidualBlock)
        )
        assert len(self.blocks) == len(blocks) == len(doubled)
        self.doubled, self.to_image, self.dtype = tuple(doubled), _converted(to_image, dtype), dtype

    @torch.no_grad()
    def forward(self, x: Tensor, symbols: SymbolMap) -> Tensor:
        """Generate images.

        Args:
            x: Features of the base grid, BChw.
            symbols: The condition at full size.

        Returns:
            float32 B3HW in [-1, 1].
        """
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(self.dtype).contiguous(memory_format=torch.channels_last)
            patches: dict[tuple[int, int, int], Patches] = {}
            for block, double in zip(self.blocks, self.doubled, strict=True):
                height, width = (side * 2 if double else side for side in x.shape[2:])
                count = max(1, PIXELS_AT_ONCE // (height * width))
                parts = []
                for first in range(0, len(x), count):
                    key = (height, width, first)
                    if key not in patches:
                        here = symbols.of_images(first, first + count)
                        patches[key] = Patches(here.resized((height, width)))
                    parts.append(block(x[first : first + count], patches[key]))
                x = torch.cat(parts) if len(parts) > 1 else parts[0]
            return torch.tanh(self.to_image(F.leaky_relu_(x, SLOPE)).float()).contiguous()
