"""How much memory there is, and what to do when that of a device is too small for a unit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import torch

from scenepalette.common.errors import ScenepaletteError
from scenepalette.pipeline.units.workspace import Unit

SETTINGS = {
    "images": "images.batch_size",
    "layouts": "the last numbers of layouts.full.batch_sizes (or layouts.partial.batch_sizes)",
    "finetuned": "finetune.batch_size",
    "shards": "generate.batch_size",
}
"""By stage: what decides how much memory its steps take; all other stages train or use segmenters."""
KILLED = -9
"""Exit status of a process that the system has killed, mostly for want of memory."""


def ending_of(status: int) -> str:
    """Say how a process ended that said nothing of it, from its exit status (-N for the signal N)."""
    if status == KILLED:
        return "the process was killed, probably because it ran out of memory"
    return f"the process was ended by signal {-status}" if status < 0 else f"the process ended with status {status}"


@contextmanager
def memory_explained(unit: Unit) -> Iterator[None]:
    """Turn a lack of memory on a GPU into a text that names the setting.

    Raises:
        ScenepaletteError: There was too little for the work in the block.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ScenepaletteError(
            f"{unit.name}: the memory of the GPU is too small ({str(error).partition('. ')[0]}). Free it, if others "
            "use it (nvidia-smi shows who; segmenters.parallel and compute.parallel train several at once), try "
            "compute.precision=bf16-mixed, or take a smaller "
            f"{SETTINGS.get(unit.stage, 'segmenters.batch_size')}, which needs a new --out folder if this unit has "
            "begun."
        ) from error


def available_memory(root: Path = Path("/")) -> int:
    """Return the bytes of memory that this process may still take, by the machine and by its control group.

    Args:
        root: Where the file system /sys is.
    """
    available, groups = psutil.virtual_memory().available, root / "sys/fs/cgroup"
    for folder, limit, usage, cache in (
        (groups, "max", "current", "inactive_file"),
        (groups / "memory", "limit_in_bytes", "usage_in_bytes", "total_inactive_file"),  # cgroup v1
    ):
        with suppress(OSError, ValueError):  # no such control groups, or one without a limit
            most, used = (int((folder / f"memory.{name}").read_text()) for name in (limit, usage))
            statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            # Files that were read count as used, and make room when memory is needed.
            available = min(available, max(0, most - used + int(statistics.get(cache, 0))))
    return available
