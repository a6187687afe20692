"""Compiled networks, where a compiler is there; without one everything is computed as ever."""

from __future__ import annotations

import functools
import sys
import threading
from typing import Any, TypeVar, cast

import torch
from torch import nn

from scenepalette.training.device.speed import CompileMode

Module = TypeVar("Module", bound=nn.Module)


@functools.cache
def compiler_problem(device_type: str) -> str:
    """Return why nothing can be compiled for a device, or nothing; a small function is, with its gradient."""
    try:
        value = torch.ones(8, device=device_type, requires_grad=True)
        torch.compile(lambda x: (2 * x).relu().sum())(value).backward()
    except Exception as error:  # of the compiler, of its absence, of a disk without room: each has its own kind
        return (str(error).strip() or type(error).__name__).splitlines()[0]
    return ""


def compiled(module: Module, mode: CompileMode, device: torch.device) -> Module:
    """Return a network that computes the same and is compiled when it is first called; itself where that is off.

    It shares its parameters with the network, which stays as it is. Shapes are compiled one by one; parts that cannot
    be compiled are computed as ever, and so is everything, with a warning, where there is no compiler. "graphs" are of
    CUDA and of the main thread, as torch keeps them by thread: on a CPU, and in tasks of a flow, they are as "default".

    Args:
        module: The network.
        mode: As `Speed.compile`.
        device: Where it computes.
    """
    if mode == "off":
        return module
    if problem := compiler_problem(device.type):
        print(
            f"Warning: compute.compile is {mode}, but nothing can be compiled for {device.type} here ({problem}); "
            "networks are computed without. Install a C++ compiler, or leave compute.compile off.",
            file=sys.stderr,
            flush=True,
        )
        return module
    graphs = mode == "graphs" and device.type == "cuda" and threading.current_thread() is threading.main_thread()
    kind = "reduce-overhead" if graphs else "default"
    return cast(Module, torch.compile(cast(Any, module), dynamic=False, mode=kind))
