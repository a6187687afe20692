"""How much memory there is, and what to do when that of a device is too small for a unit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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


def available_memory() -> int:
    """Return the bytes of memory that this process may still take, by the machine and by its control group."""
    available = psutil.virtual_memory().available
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (int((group / f"memory.{name}").read_text()) for name in ("max", "current"))
        available = min(available, max(0, limit - used))
    except (OSError, ValueError):
        pass  # no control groups, or one without a limit
    return available
