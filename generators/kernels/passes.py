"""Passes over a network that make it faster and leave its function as it is; models know nothing of them.

`accelerate` is for training, `prepare_for_inference` for weights that do not change any more. Both go by the classes
of a network's modules: what they do not know, they leave alone.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import TypeGuard, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations, type_before_parametrizations

from scenepalette.generators.kernels.label_patches import ConditionCache, convolve_patches, per_symbol, per_tap
from scenepalette.generators.kernels.spade_tables import TabulatedSpadeBlock
from scenepalette.generators.kernels.winograd import convolve_3x3, points_of
from scenepalette.generators.nn.blocks import EqualizedConv2d, SpadeResidualBlock, SpatiallyAdaptiveNorm

Network = TypeVar("Network", bound=nn.Module)


def _convolve(self: nn.Conv2d, x: Tensor) -> Tensor:
    return convolve_3x3(x, self.weight, self.bias, getattr(self, "points", None))


def _convolve_equalized(self: EqualizedConv2d, x: Tensor) -> Tensor:
    weight = self.weight if self.scale == 1 else self.weight * self.scale
    return convolve_3x3(x, weight, self.bias, getattr(self, "points", None), second_order=True)


def _modulation(
    self: SpatiallyAdaptiveNorm, condition: Tensor, size: tuple[int, int], codes: Tensor | None = None
) -> Tensor:
    conditions = cast(ConditionCache, self.conditions)
    patches = conditions.patches(condition, size, codes)
    if patches is None or patches.is_dense:
        return SpatiallyAdaptiveNorm.modulation(self, conditions.resized(condition, size, codes), size)
    first, second = self.hidden, self.scale_and_shift
    assert first.bias is not None and second.bias is not None
    weights = (per_symbol(first.weight), first.bias, *per_tap(second.weight, second.bias))
    return patches.to_pixels(convolve_patches(patches, *weights))


# By class: the method that another one, which computes the same, takes the place of. A subclass may compute something
# else and is left alone.
FASTER: dict[type[nn.Module], tuple[str, Callable[..., Tensor]]] = {
    nn.Conv2d: ("forward", _convolve),
    EqualizedConv2d: ("forward", _convolve_equalized),
    SpatiallyAdaptiveNorm: ("modulation", _modulation),
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
        name, method = FASTER.get(type_before_parametrizations(module), ("", None))
        if isinstance(module, SpatiallyAdaptiveNorm):
            module.conditions = conditions  # type: ignore[assignment]
        elif not _is_3x3(module):
            continue
        if method is not None:
            setattr(module, name, MethodType(method, module))
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
