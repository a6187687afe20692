"""Real scenes in memory for what needs no run directory, and how work is timed on a device."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import torch

from benchmarks.measure import peak_memory, wait
from scenepalette.data.arrays import Pairs, read_arrays, write_arrays
from scenepalette.data.datasets import open_dataset
from scenepalette.data.labels import fill_ignored
from scenepalette.data.splits.holdout import PartOfDataset
from scenepalette.generators.layouts.inputs import palettes_of
from scenepalette.generators.palettes import PaletteSampler, fit_palette_sampler
from scenepalette.training.device.abilities import computes_bfloat16

Size = tuple[int, int]
SCENES = 64
WARM_CALLS = 3
FEWEST_CALLS = 3


class Options(NamedTuple):
    """What the user asks for.

    Attributes:
        camvid: Folder of CamVid; None for embedded scenes.
        out: Where everything is written.
        device: Where it is computed.
        sizes: Heights and widths at which generators are measured.
        training_size: That at which trainings are.
        batch: Images at once in generation.
        training_batch: Samples per step.
        width: Factor on the papers' widths.
    """

    camvid: Path | None
    out: Path
    device: torch.device
    sizes: tuple[Size, ...]
    training_size: Size
    batch: int
    training_batch: int
    width: float

    @property
    def precision(self) -> str:
        """As runs choose it: bf16 where the device computes it in hardware."""
        return "bf16-mixed" if computes_bfloat16(self.device.type) else "32-true"


class Scenes(NamedTuple):
    """Pairs of one size, as a training takes them.

    Attributes:
        pairs: Images and labels.
        filled: uint8 [N, H, W], the labels with ignored pixels filled.
        sampler: Fitted to their class shares.
    """

    pairs: Pairs
    filled: np.ndarray
    sampler: PaletteSampler


def read_scenes(options: Options, size: Size) -> Scenes:
    """Return some training pairs, spread over the split; they are decoded once for all cases and calls."""
    folder = options.out / "scenes" / text_of(size)
    if not (folder / "train.json").is_file():
        name = "streets" if options.camvid is None else "camvid"
        drawn = {"count": SCENES, "size": size} if options.camvid is None else {}
        whole = open_dataset(name, "train", options.camvid, seed=0, **drawn)
        places = np.linspace(0, len(whole) - 1, min(SCENES, len(whole))).round().astype(int)
        write_arrays(PartOfDataset(whole, "train", places.tolist()), size, folder)
    pairs = read_arrays(folder, "train")
    filled = np.stack([fill_ignored(np.asarray(label)) for label in pairs.labels])
    palettes = palettes_of(filled, pairs.table.num_classes).numpy()
    return Scenes(pairs, filled, fit_palette_sampler(palettes, pairs.table.names, 2, 0))


def text_of(size: Size) -> str:
    """Return a size as the command line takes it."""
    return f"{size[0]}x{size[1]}"


class Timing(NamedTuple):
    """What a call takes.

    Attributes:
        seconds: Median of the timed calls.
        first: Seconds of the first, which compiles and chooses kernels.
        mebibytes: Most memory of the device; of a CPU the process's.
    """

    seconds: float
    first: float
    mebibytes: float


def time_calls(work: Callable[[], object], device: torch.device, seconds: float) -> Timing:
    """Call something again and again for about so many seconds, after some calls that are left out."""
    end = time.perf_counter() + seconds
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)

    def timed() -> float:
        wait(device)
        began = time.perf_counter()
        work()
        wait(device)
        return time.perf_counter() - began

    first = timed()
    for _ in range(WARM_CALLS - 1):
        if time.perf_counter() + first < end:
            timed()
    taken = [timed()]
    while time.perf_counter() + max(taken) < end or (len(taken) < FEWEST_CALLS and time.perf_counter() < end):
        taken.append(timed())
    return Timing(median(taken), first, device_memory(device))


def device_memory(device: torch.device) -> float:
    """Return the most MiB that tensors took on a GPU since it was asked to forget, or that this process did."""
    return torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else peak_memory()
