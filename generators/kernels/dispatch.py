"""Which way of computing takes less time on this processor, by measurement (docs/results/speed.md).

All ways give the same up to rounding. `get_cpu_capability` is the instruction set that torch itself uses here.
"""

from __future__ import annotations

from typing import NamedTuple

import torch


class Least(NamedTuple):
    """From which sizes on a 3x3 convolution is computed by fewer multiplications and more additions.

    Attributes:
        channels: In and out.
        pixels: Of all images together; for each of them the points of the kernels are read, or computed.
    """

    channels: int
    pixels: int


class Tuning(NamedTuple):
    """The choices for a processor.

    Attributes:
        inference: For convolutions with the points of their kernels known.
        training: For convolutions that are also differentiated, and whose kernels change.
        multiplies_by_mm: Whether float32 rows are multiplied by `mm` and not by a 1x1 convolution.
    """

    inference: Least
    training: Least
    multiplies_by_mm: bool


# Multiplication is twice as fast with AVX-512, addition is not: it waits for memory.
BY_CAPABILITY = {
    "AVX512": Tuning(inference=Least(128, 512), training=Least(256, 2048), multiplies_by_mm=True),
    "AVX2": Tuning(inference=Least(64, 128), training=Least(64, 1024), multiplies_by_mm=False),
}
TUNING = BY_CAPABILITY.get(torch.backends.cpu.get_cpu_capability(), BY_CAPABILITY["AVX2"])
