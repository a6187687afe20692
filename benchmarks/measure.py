"""What all benchmarks share: interleaved timing, this machine's matrix-product rate, and tables.

Machines are shared and noisy, so that only ratios within one run mean anything: the cases of a comparison take turns,
and the median of each is printed.
"""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median

import torch


def interleaved_seconds(
    cases: Mapping[str, Callable[[], object]], repetitions: int, warmups: int = 1
) -> dict[str, float]:
    """Return the median wall time in seconds of each case, the cases taking turns.

    On a GPU, a case must wait for its result.
    """
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for repetition in range(warmups + repetitions):
        for name, work in cases.items():
            began = time.perf_counter()
            work()
            if repetition >= warmups:
                seconds[name].append(time.perf_counter() - began)
    return {name: median(values) for name, values in seconds.items()}


def product_rate(dtype: torch.dtype, device: torch.device, seconds: float = 1.0) -> float:
    """Return this machine's measured rate of matrix products in GFLOP/s.

    It is the better one of a product and a convolution, each measured for about `seconds`.
    """
    side = 2048 if device.type == "cpu" else 8192
    a = torch.randn(side, side, device=device, dtype=dtype)
    image = torch.randn(8, 256, 64, 64, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    layer = torch.nn.Conv2d(256, 256, 3, padding=1, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    work = {2.0 * side**3: lambda: torch.mm(a, a), 2.0 * 9 * 256 * 256 * image.shape[0] * 64 * 64: lambda: layer(image)}
    best = 0.0
    with torch.inference_mode():
        for operations, call in work.items():
            call()
            end = time.perf_counter() + seconds
            while time.perf_counter() < end:
                wait(device)
                began = time.perf_counter()
                call()
                wait(device)
                best = max(best, operations / (time.perf_counter() - began) / 1e9)
    return best


def wait(device: torch.device) -> None:
    """Wait until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def forget_peak_memory() -> None:
    """Let `peak_memory` begin again, for example after imports; Linux alone."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> float:
    """Return this process's peak memory in MiB; `resource` would count what its parent had before it. Linux alone."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]


def machine() -> str:
    """Describe processor or GPU, threads and versions in one line."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        models = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = models[0] if models else name
    parts = [f"{name}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"]
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    return "; ".join([*parts, f"torch {torch.__version__}", f"Python {platform.python_version()}"])


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
