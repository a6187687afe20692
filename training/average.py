"""Exponential moving average of a network's weights, used for sampling."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn
from torch.nn import Parameter

Module = TypeVar("Module", bound=nn.Module)


def averaged_copy(module: Module) -> Module:
    """Return a copy of the module that takes no gradients, as the start of an average."""
    return copy.deepcopy(module).eval().requires_grad_(False)


@torch.no_grad()
def update_average(
    average: nn.Module,
    module: nn.Module,
    decay: float,
    averages: list[Parameter] | None = None,
    parameters: list[Parameter] | None = None,
) -> None:
    """Move the averaged parameters towards the trained ones; buffers are copied.

    Args:
        average: Result of `averaged_copy`, changed in place: average = decay * average + (1 - decay) * module.
        module: The trained module.
        decay: In [0, 1).
        averages: The parameters of `average`, which take long to collect in each step; None to collect them here.
        parameters: Those of `module`, likewise.
    """
    averages, parameters = averages or list(average.parameters()), parameters or list(module.parameters())
    # All at once: a GPU gets a few kernels in place of one for each.
    torch._foreach_lerp_(averages, parameters, 1.0 - decay)  # type: ignore
    if buffers := list(average.buffers()):
        torch._foreach_copy_(buffers, list(module.buffers()))  # type: ignore


def decay_at(step: int, decay: float) -> float:
    """Return the decay to use after `step` steps: short at first, so that the random start is forgotten soon."""
    return min(decay, (1 + step) / (10 + step))
