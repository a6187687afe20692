"""Lightning Fabric as every training loop uses it."""

from __future__ import annotations

from typing import Any

import torch
from lightning_fabric import Fabric

from scenepalette.common.errors import ConfigError
from scenepalette.training.allocator import keep_freed_memory
from scenepalette.training.device.speed import Speed, usual_speed


class DeviceFabric(Fabric):
    """A Fabric with the choices for its device."""

    def __init__(self, speed: Speed | None = None, **arguments: Any) -> None:
        """Set up a Fabric; `speed` is the usual one of its device if it is left out."""
        super().__init__(**arguments)
        self.speed = speed or usual_speed(self.device.type)


def make_fabric(
    accelerator: str = "cpu", precision: str = "32-true", index: int = 0, speed: Speed | None = None
) -> DeviceFabric:
    """Return a launched Fabric of one device; several processes that train together have one each.

    Args:
        accelerator: "cpu", "cuda" or "auto".
        precision: "32-true" or "bf16-mixed".
        index: Number of the GPU, if one is used.
        speed: How the device is used; None for its usual way.

    Raises:
        ConfigError: A GPU is asked for and there is none, or none of this number.
    """
    if accelerator == "cuda" and not torch.cuda.is_available():
        raise ConfigError("compute.accelerator is cuda, but torch sees no GPU. Use compute.accelerator=cpu or auto.")
    if accelerator == "cuda" and index >= torch.cuda.device_count():
        raise ConfigError(
            f"{index + 1} processes or more were started on a machine on which torch sees {torch.cuda.device_count()} "
            "GPU(s). Start as many processes as it has GPUs, or use compute.accelerator=cpu."
        )
    keep_freed_memory()
    devices = [index] if accelerator == "cuda" else 1
    fabric = DeviceFabric(speed, accelerator=accelerator, devices=devices, precision=precision)
    fabric.launch()
    return fabric
