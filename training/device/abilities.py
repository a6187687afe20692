"""Which device there is, and what it computes with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from lightning_fabric import Fabric


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
