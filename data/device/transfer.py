"""Moving tensors to a device without waiting for it."""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device; a GPU is not waited for.

    A copy from ordinary memory waits until the GPU has done all that it was given before; one from page-locked memory
    takes its turn.

    Args:
        tensor: On the CPU, or on the device already.
        device: Where it is needed.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
