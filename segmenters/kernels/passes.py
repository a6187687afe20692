"""A pass over a segmenter that makes it faster on CPUs and leaves its function and its state as they are.

It goes by the classes of the network's modules: what it does not know, it leaves alone. On a GPU, modules compute as
ever.
"""

from __future__ import annotations

from types import MethodType
from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scenepalette.segmenters.kernels.enlarging import enlarge
from scenepalette.segmenters.kernels.small_maps import convolve_small, idle_taps, pays

Pair = tuple[int, int]


def _normalize(self: nn.GroupNorm, x: Tensor) -> Tensor:
    # torch's kernel for bfloat16 features and float32 weights takes eight times as long as both conversions and this.
    if x.device.type != "cpu" or x.dtype != torch.bfloat16 or self.weight.dtype != torch.float32:
        return nn.GroupNorm.forward(self, x)
    return F.group_norm(x.float(), self.num_groups, self.weight, self.bias, self.eps).to(x.dtype)


def _convolve(self: nn.Conv2d, x: Tensor) -> Tensor:
    if x.device.type != "cpu":
        return nn.Conv2d.forward(self, x)
    (stride, padding, dilation), weight = _geometry(self), self.weight
    sides = zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
    idle = [idle_taps(*side) for side in sides]
    if any(idle):
        rows, columns = (slice(count, length - count) for count, length in zip(idle, weight.shape[2:], strict=True))
        weight = weight[:, :, rows, columns]
        padding = (padding[0] - idle[0] * dilation[0], padding[1] - idle[1] * dilation[1])
    if self.bias is None and self.groups == 1 and (dtype := _computed_type(x)) in (torch.float32, torch.bfloat16):
        reach = [1 + step * (length - 1) for step, length in zip(dilation, weight.shape[2:], strict=True)]
        if reach == list(weight.shape[2:]) and pays(x.shape, weight.shape, stride, padding):
            return convolve_small(x.to(dtype), weight.to(dtype), stride, padding)
    if any(idle):
        return F.conv2d(x, weight, self.bias, stride, padding, dilation, self.groups)
    return nn.Conv2d.forward(self, x)


def _enlarge(self: nn.Upsample, x: Tensor) -> Tensor:
    if x.device.type != "cpu":
        return nn.Upsample.forward(self, x)
    return enlarge(x, _factor(self))


def accelerate(network: nn.Module) -> None:
    """Compute a segmenter faster on a CPU, in place, in training too: the same function of the same parameters.

    Group norms of bfloat16 features are taken in float32; weights of convolutions that meet no pixel but the zeros
    around are left out; convolutions over a handful of pixels are matrix products; and the head enlarges class
    scores, in float32 at least, by two matrix products. State and copies of the network, made afterwards, are as ever.
    """
    head = getattr(network, "segmentation_head", None)
    of_head = set(head.modules()) if isinstance(head, nn.Module) else set()
    for module in network.modules():
        if type(module) is nn.GroupNorm and module.affine:
            module.forward = MethodType(_normalize, module)
        elif _convolves(module):
            module.forward = MethodType(_convolve, module)
        elif module in of_head and _enlarges(module):
            module.forward = MethodType(_enlarge, module)


def _convolves(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Return whether a module convolves by more than single weights, with zeros around, and does nothing else."""
    return (
        type(module) is nn.Conv2d
        and max(module.kernel_size) > 1
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    )


def _geometry(module: nn.Conv2d) -> tuple[Pair, Pair, Pair]:
    """Return stride, padding and dilation, each of rows and columns."""
    padding = module.padding
    assert not isinstance(padding, str)
    return ((module.stride[0], module.stride[1]), (padding[0], padding[1]), (module.dilation[0], module.dilation[1]))


def _enlarges(module: nn.Module) -> TypeGuard[nn.Upsample]:
    """Return whether a module enlarges bilinearly by a whole factor, with corners aligned."""
    return (
        type(module) in (nn.Upsample, nn.UpsamplingBilinear2d)
        and isinstance(module, nn.Upsample)
        and module.mode == "bilinear"
        and bool(module.align_corners)
        and _factor(module) > 1
    )


def _factor(module: nn.Upsample) -> int:
    """Return by how much a module enlarges both sides; 0 if that is no whole number, or not one for both."""
    factor = module.scale_factor
    return int(factor) if isinstance(factor, int | float) and factor == int(factor) else 0


def _computed_type(x: Tensor) -> torch.dtype:
    """Return the type in which a convolution of features would compute on the CPU."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
