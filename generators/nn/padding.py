"""What 3x3 convolutions see beyond the borders of their input."""

from __future__ import annotations

from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from scenepalette.generators.nn.blocks import EqualizedConv2d, SpatiallyAdaptiveNorm

PaddingMode = Literal["zeros", "replicate"]


def replicate_borders(network: nn.Module) -> None:
    """Let the 3x3 convolutions of a generator see its outer pixels repeated beyond the borders, in place of zeros.

    Zeros tell a generator where the borders are (Karras et al., 2021), and one that has been trained briefly puts other
    things there than a pixel further in: a frame. SPADE's modulations keep their zeros, as what lies outside of a label
    map has no class.

    Args:
        network: Changed in place; its parameters and their names stay.
    """
    norms = [module for module in network.modules() if isinstance(module, SpatiallyAdaptiveNorm)]
    modulations = {part for norm in norms for part in norm.modules()}
    for module in network.modules():
        if isinstance(module, nn.Conv2d | EqualizedConv2d) and module not in modulations and _adds_a_pixel(module):
            # Around the forward pass, whichever computes it: faster ones add zeros too.
            module.register_forward_pre_hook(_repeat)
            module.register_forward_hook(_cut)


def _adds_a_pixel(module: nn.Conv2d | EqualizedConv2d) -> bool:
    if isinstance(module, nn.Conv2d) and (module.stride, module.dilation, module.padding_mode) != (
        (1, 1),
        (1, 1),
        "zeros",
    ):
        return False
    return module.weight.shape[2:] == (3, 3) and module.padding in (1, (1, 1))


def _repeat(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return (F.pad(arguments[0], (1, 1, 1, 1), mode="replicate"), *arguments[1:])


def _cut(module: nn.Module, arguments: tuple[Any, ...], result: Tensor) -> Tensor:
    # Of a convolution that doubles its input, the pixels that were added are two.
    added = result.shape[-1] // arguments[0].shape[-1]
    return result[..., added:-added, added:-added]
