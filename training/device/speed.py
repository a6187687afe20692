"""How a device is used: what a GPU is used with and a CPU is not; results are equal up to rounding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from lightning_fabric import Fabric

CompileMode = Literal["off", "default", "graphs"]


@dataclass(frozen=True)
class Speed:
    """The choices for a device; the defaults are those of a CPU.

    Attributes:
        fused: Whether an optimizer takes its step in one kernel.
        deferred: Whether losses and gradients are looked at when they are logged, and not at every step: looking waits
            for the device.
        resident: Whether pairs lie on the device as bytes, if they fit.
        tuned: Whether cuDNN tries its kernels out in trainings.
        beside: Whether pairs are encoded and written while the next ones are generated.
        compile: How networks are compiled: not at all, by `torch.compile`, or with CUDA graphs as well.
        label_patches: Whether modulations are computed once per distinct label patch on a GPU too.
    """

    fused: bool = True
    deferred: bool = False
    resident: bool = False
    tuned: bool = False
    beside: bool = False
    compile: CompileMode = "off"
    label_patches: bool = False


def usual_speed(
    device_type: str, *, plain: bool = False, compile: CompileMode = "off", label_patches: bool = False
) -> Speed:
    """Return the choices for a device.

    Args:
        device_type: "cpu" or "cuda".
        plain: Whether a GPU takes its steps as a CPU does.
        compile: As of `Speed`.
        label_patches: As of `Speed`.
    """
    gpu = device_type == "cuda" and not plain
    return Speed(True, gpu, gpu, gpu, gpu, compile, label_patches)


def speed_of(fabric: Fabric) -> Speed:
    """Return the choices that a Fabric was made with; those of a CPU for any other."""
    speed = getattr(fabric, "speed", None)
    return speed if isinstance(speed, Speed) else Speed()


def wait_for_device() -> None:
    """Wait until a GPU has done what this process gave it; nothing to wait for if none was used."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
