"""SPADE for inference: one gather, multiplication and addition per pixel and modulation.

Scale and shift come from `label_patches`; normalisation, the 1 of `1 + scale` and spectral norm are folded into their
weights. Nothing of it is an approximation.

Shapes: B batch, C features, H x W pixels, P = BHW pixels in a row, M hidden channels.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scenepalette.generators.kernels.dispatch import TUNING
from scenepalette.generators.kernels.label_patches import (
    ConditionCache,
    Patches,
    convolve_patches,
    image_rows,
    per_symbol,
    per_tap,
    per_tap_bias,
)
from scenepalette.generators.nn.blocks import SLOPE, SpadeResidualBlock, SpatiallyAdaptiveNorm, doubled

# Bytes of features that stay in a core's second-level cache while they are multiplied, shifted and activated.
PASS_BYTES = 2**18
# Large levels go through their blocks one image at a time, so that tables stay in cache.
PIXELS_AT_ONCE = 2**13


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
        tap_weight, buffers["tap_bias"] = per_tap(weight), per_tap_bias(bias)
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

    def __init__(self, block: SpadeResidualBlock, conditions: ConditionCache, dtype: torch.dtype) -> None:
        """Take the weights of a block whose batch statistics are fixed.

        Args:
            block: The trained block, in eval mode; it computes conditions that differ at most pixels.
            conditions: The network's.
            dtype: Of features and weights: float32, or bfloat16 where the processor computes it.
        """
        super().__init__()
        self.block, self.conditions, self.dtype = block, conditions, dtype
        self.table_0, self.table_1 = ModulationTable(block.norm_0, dtype), ModulationTable(block.norm_1, dtype)
        self.conv_0, self.conv_1 = _converted(block.conv_0, dtype), _converted(block.conv_1, dtype)
        self.table_shortcut: ModulationTable | None = None
        if block.shortcut is not None:
            self.table_shortcut = ModulationTable(block.norm_shortcut, dtype)
            self.shortcut = _converted(block.shortcut, dtype)

    def forward(self, x: Tensor, condition: Tensor, codes: Tensor | None = None) -> Tensor:
        """Do what the block does. The result has the type of x, or under autocast the block's."""
        given, x = x, doubled(x, "bilinear") if self.block.upsampling == "bilinear" else x
        # Repeated pixels need not be written down: their features are modulated where they are used.
        times = 2 if self.block.upsampling == "nearest" else 1
        size = (times * x.shape[2], times * x.shape[3])
        count = max(1, PIXELS_AT_ONCE // (size[0] * size[1]))
        parts = []
        for first in range(0, len(x), count):
            patches = self.conditions.patches(condition, size, codes, (first, first + count))
            if patches is None:
                return self.block(given, condition, codes)
            with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
                parts.append(self._part(x[first : first + count], size, patches))
        result = torch.cat(parts) if len(parts) > 1 else parts[0]
        return result if torch.is_autocast_enabled(x.device.type) else result.to(x.dtype)

    def _part(self, x: Tensor, size: tuple[int, int], patches: Patches) -> Tensor:
        x = x.to(self.dtype).contiguous(memory_format=torch.channels_last)
        if self.table_shortcut is not None:
            skip = self.shortcut(_modulated(x, size, *self.table_shortcut(patches), slope=1))
        else:
            skip = x if x.shape[2:] == size else doubled(x, "nearest")
        x = self.conv_0(_modulated(x, size, *self.table_0(patches), slope=SLOPE))
        x = self.conv_1(_modulated(x, size, *self.table_1(patches), slope=SLOPE))
        return x.add_(skip)


def _converted(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return a convolution with its channels last in memory, itself if it has the type already."""
    same = next(module.parameters()).dtype == dtype
    converted = module if same else copy.deepcopy(module).to(dtype)
    return converted.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
