"""Passes over a network that make it faster and leave its function as it is; models know nothing of them.

`accelerate` is for training, `prepare_for_inference` for weights that do not change any more. Both go by the classes
of a network's modules: what they do not know, they leave alone.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import TypeGuard, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations, type_before_parametrizations

from scenepalette.generators.kernels.activations import activated_pixel_norm, average_2x2, leaky_relu
from scenepalette.generators.kernels.label_patches import ConditionCache, convolve_patches, per_symbol, per_tap
from scenepalette.generators.kernels.modulation import modulated
from scenepalette.generators.kernels.resampled import convolve_and_pool, upsample_and_convolve
from scenepalette.generators.kernels.spade_tables import TabulatedSpadeBlock
from scenepalette.generators.kernels.spectral import spectrally_normalised
from scenepalette.generators.kernels.winograd import convolve_3x3, multiplies_less, points_of
from scenepalette.generators.nn.blocks import (
    PIXEL_NORM_EPSILON,
    SLOPE,
    ActivatedPixelNorm,
    EqualizedConv2d,
    SpadeResidualBlock,
    SpatiallyAdaptiveNorm,
)
from scenepalette.generators.nn.resampling import PooledConv2d, UpsampledConv2d, UpsampledEqualizedConv2d, upsample

Network = TypeVar("Network", bound=nn.Module)


def _convolve(self: nn.Conv2d, x: Tensor) -> Tensor:
    return convolve_3x3(x, self.weight, self.bias, getattr(self, "points", None))


def _convolve_equalized(self: EqualizedConv2d, x: Tensor) -> Tensor:
    return convolve_3x3(x, _scaled(self), self.bias, getattr(self, "points", None), second_order=True)


def _scaled(layer: EqualizedConv2d) -> Tensor:
    return layer.weight if layer.scale == 1 else layer.weight * layer.scale


def _convolve_pooled(self: PooledConv2d, x: Tensor) -> Tensor:
    weight, points = self.weight, getattr(self, "points", None)
    if points is not None or _computes_each_pixel(x, weight, pixels=x[:, 0].numel()):
        return F.avg_pool2d(convolve_3x3(x, weight, self.bias, points), 2)
    return convolve_and_pool(x, weight, self.bias)


def _convolve_upsampled(self: UpsampledConv2d | UpsampledEqualizedConv2d, x: Tensor) -> Tensor:
    weight = _scaled(self) if isinstance(self, UpsampledEqualizedConv2d) else self.weight
    points = getattr(self, "points", None)
    if points is not None or _computes_each_pixel(x, weight, pixels=4 * x[:, 0].numel()):
        return convolve_3x3(upsample(x), weight, self.bias, points)
    return upsample_and_convolve(x, weight, self.bias)


def _computes_each_pixel(x: Tensor, weight: Tensor, pixels: int) -> bool:
    """Return whether all pixels of a larger size are to be computed: on a GPU, and where these multiply less."""
    return x.device.type != "cpu" or multiplies_less(x, weight, pixels)


def scale_and_shift(
    norm: SpatiallyAdaptiveNorm, condition: Tensor, size: tuple[int, int], codes: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return scale and shift of an accelerated layer at a height and width, BCHW each; see its `modulation`."""
    conditions = cast(ConditionCache, norm.conditions)
    patches = conditions.patches(condition, size, codes)
    if patches is None or patches.is_dense:
        scale, shift = norm.modulation(conditions.resized(condition, size, codes), size).chunk(2, dim=1)
        return scale, shift
    first, second = norm.hidden, norm.scale_and_shift
    assert first.bias is not None and second.bias is not None
    rows = convolve_patches(patches, per_symbol(first.weight), first.bias, per_tap(second.weight), None)
    # Apart, so that what is computed with them at each pixel goes through memory in one piece.
    scales, shifts = (
        part + bias.to(rows.dtype) for part, bias in zip(rows.chunk(2, dim=1), second.bias.chunk(2), strict=True)
    )
    return patches.to_pixels(scales), patches.to_pixels(shifts)


def _modulate(self: SpatiallyAdaptiveNorm, x: Tensor, condition: Tensor, codes: Tensor | None = None) -> Tensor:
    return modulated(self.norm(x), *scale_and_shift(self, condition, (x.shape[2], x.shape[3]), codes))


def _activate(self: nn.LeakyReLU, x: Tensor) -> Tensor:
    if x.device.type != "cpu" or self.inplace or self.negative_slope <= 0 or not torch.is_grad_enabled():
        return F.leaky_relu(x, self.negative_slope, self.inplace)
    return leaky_relu(x, self.negative_slope)


def _average(self: nn.AvgPool2d, x: Tensor) -> Tensor:
    plain = x.device.type != "cpu" or not torch.is_grad_enabled() or x.ndim != 4
    shape = (self.kernel_size, self.stride, self.padding, self.ceil_mode, self.divisor_override)
    return nn.AvgPool2d.forward(self, x) if plain or shape != (2, 2, 0, False, None) else average_2x2(x)


def _activate_and_normalise(self: ActivatedPixelNorm, x: Tensor) -> Tensor:
    if x.device.type != "cpu":
        return ActivatedPixelNorm.forward(self, x)
    return activated_pixel_norm(x, SLOPE, PIXEL_NORM_EPSILON)


def _normalise(self: _SpectralNorm, weight: Tensor) -> Tensor:
    if weight.ndim != 4 or self.dim != 0 or self.n_power_iterations != 1:
        return _SpectralNorm.forward(self, weight)
    return spectrally_normalised(weight, self._u, self._v, self.eps, moves=self.training)


# By class: the forward pass that another one, which computes the same, takes the place of. A subclass may compute
# something else and is left alone.
FASTER: dict[type[nn.Module], Callable[..., Tensor]] = {
    nn.Conv2d: _convolve,
    EqualizedConv2d: _convolve_equalized,
    PooledConv2d: _convolve_pooled,
    UpsampledConv2d: _convolve_upsampled,
    UpsampledEqualizedConv2d: _convolve_upsampled,
    SpatiallyAdaptiveNorm: _modulate,
    _SpectralNorm: _normalise,
    nn.LeakyReLU: _activate,
    nn.AvgPool2d: _average,
    ActivatedPixelNorm: _activate_and_normalise,
}


def _is_3x3(module: nn.Module) -> TypeGuard[nn.Conv2d | EqualizedConv2d]:
    """Return whether a module convolves by 3x3 kernels with a pixel of zeros around, and does nothing else."""
    if isinstance(module, EqualizedConv2d):
        shape = (tuple(module.weight.shape[2:]), module.padding)
        expected = ((3, 3), 1)
    elif isinstance(module, nn.Conv2d):
        shape = (module.kernel_size, module.stride, module.padding, module.dilation, module.groups, module.padding_mode)
        expected = ((3, 3), (1, 1), (1, 1), (1, 1), 1, "zeros")
    else:
        return False
    return shape == expected and type_before_parametrizations(module) in FASTER


def _can_be_tabulated(block: SpadeResidualBlock) -> bool:
    """Return whether a block lies on a CPU and has no parts of another kind."""
    parts = {type(part) for part in block.children()}
    return parts <= {SpatiallyAdaptiveNorm, nn.Conv2d} and next(block.parameters()).device.type == "cpu"


def accelerate(*networks: nn.Module) -> None:
    """Compute networks faster, in place, in training too: the same function of the same parameters.

    Channels lie last in memory. On CPUs, 3x3 convolutions and their gradients take fewer multiplications where that
    pays, and SPADE's modulations are computed once per distinct label patch. State, parametrizations and copies of the
    networks, made afterwards, are as ever.
    """
    for network in networks:
        _accelerate(network)


def _accelerate(network: nn.Module, patches: bool = False) -> ConditionCache:
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    conditions = ConditionCache(patches)
    conditions.attach(network)
    for module in network.modules():
        forward = FASTER.get(type_before_parametrizations(module))
        if forward is None or (isinstance(module, nn.Conv2d | EqualizedConv2d) and not _is_3x3(module)):
            continue
        if isinstance(module, SpatiallyAdaptiveNorm):
            module.conditions = conditions  # type: ignore[assignment]
        module.forward = MethodType(forward, module)
    return conditions


@torch.no_grad()
def prepare_for_inference(
    network: Network, dtype: torch.dtype = torch.float32, *, patches: bool = False, faster: bool = True
) -> Network:
    """Make a network ready for inference alone, in place: the same function, computed in less time.

    Beyond what `accelerate` does, spectral norms and other parametrizations are folded into the weights, points of 3x3
    convolutions are kept, and SPADE's residual blocks are tabulated. Weights can no longer be trained or saved
    afterwards.

    Args:
        network: On the device where it will be used.
        dtype: Of features and weights in SPADE's residual blocks: float32, or bfloat16 where the processor computes
            it. The rest follows autocast.
        patches: Whether modulations are computed once per distinct label patch on a GPU too.
        faster: Whether modules are replaced; a network that is compiled as a whole is better left as it is.

    Returns:
        The network itself, in eval mode.
    """
    network.eval().requires_grad_(False)
    for module in network.modules():
        if is_parametrized(module):
            for name in list(module.parametrizations):  # type: ignore[arg-type, union-attr]
                remove_parametrizations(module, name)
    if not faster:
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    conditions = _accelerate(network, patches)
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if type(child) is SpadeResidualBlock and _can_be_tabulated(child):
                setattr(parent, name, TabulatedSpadeBlock(child, conditions, dtype))
    # Points take four times the memory of weights; modulations, which are in tables, do without.
    norms = [module for module in network.modules() if isinstance(module, SpatiallyAdaptiveNorm)]
    modulations = {module for norm in norms for module in norm.modules()}
    for module in network.modules():
        if _is_3x3(module) and module not in modulations:
            if isinstance(module, EqualizedConv2d):
                module.weight.mul_(module.scale)
                module.scale = 1.0
            if dtype == torch.float32 and module.weight.device.type == "cpu":
                module.register_buffer("points", points_of(module.weight), persistent=False)
    return network
