"""Lightning Fabric as every training loop uses it."""

from __future__ import annotations

from pathlib import Path

import torch
from lightning_fabric import Fabric

from scenepalette.common.errors import ConfigError
from scenepalette.training.device.speed import DeviceFabric, Speed
from scenepalette.training.memory import keep_freed_memory


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


def chosen_accelerator(accelerator: str) -> str:
    """Return "cpu" or "cuda" for a setting, of which "auto" is a GPU where torch sees one."""
    if accelerator == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return accelerator


def computes_bfloat16(accelerator: str) -> bool:
    """Tell whether a device computes bfloat16 in hardware, where it is faster than float32.

    Args:
        accelerator: "cpu" or "cuda".
    """
    if accelerator == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    try:
        capable = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "avx512_bf16" in capable or "amx_bf16" in capable


def inference_type(fabric: Fabric) -> torch.dtype:
    """Return the type of the numbers that networks which are not trained compute with."""
    return torch.bfloat16 if str(fabric._precision.precision).startswith("bf16") else torch.float32
