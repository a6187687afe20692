"""Times some real steps of every training of a run: `python -m scenepalette.pipeline.doctor.machine.measure FOLDER`.

A process of its own, so that whoever started it can end it when its time is over, and so that its memory is that of a
training. FOLDER holds `config.yaml` and `data/` with some training pairs. Each measurement is a line of JSON on
standard output as soon as it is made, the most important first.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import psutil
import torch

from scenepalette.common.errors import ScenepaletteError
from scenepalette.common.progress import NO_PROGRESS, EnoughError
from scenepalette.common.storage.files import temporary_folder
from scenepalette.data.arrays import Pairs, read_arrays
from scenepalette.generators.images.registry import find_image_system
from scenepalette.generators.images.training import train_image_generator
from scenepalette.generators.kernels.passes import prepare_for_inference
from scenepalette.generators.layouts.registry import LAYOUT_SYSTEMS
from scenepalette.generators.layouts.training import train_layout_generator
from scenepalette.generators.nn.grids import base_grid
from scenepalette.generators.pairs.base import PairMaker
from scenepalette.generators.pairs.registry import PAIR_KINDS
from scenepalette.generators.palettes import PaletteSampler, fit_palette_sampler
from scenepalette.pipeline.config import RunConfig, load_config
from scenepalette.pipeline.run import Run
from scenepalette.pipeline.stages.generate import hardening_of, make_shard, pair_models
from scenepalette.pipeline.stages.images import image_model, untrained_features
from scenepalette.pipeline.stages.inputs.data import FILLED
from scenepalette.pipeline.stages.inputs.segmenter_data import NAME as SEGMENTER_DATA
from scenepalette.pipeline.stages.palettes import real_palettes
from scenepalette.pipeline.stages.segment import arm_settings
from scenepalette.pipeline.stages.shard_files import ShardPlan
from scenepalette.segmenters.train import train_segmenter
from scenepalette.training.device.abilities import inference_type
from scenepalette.training.device.speed import wait_for_device

if TYPE_CHECKING:
    from lightning_fabric import Fabric

TIMED_STEPS = 2
READY = "ready"
START = "start"
"""Name of what comes before the first step: reading the samples and fitting palettes."""
NEVER = 10**9


class StepTimes:
    """Progress that times steps from outside, the first left out, and ends the training after some."""

    def __init__(self, steps: int, clock: Callable[[], float] = time.perf_counter) -> None:
        """Say how many steps are timed, and by which clock; that of the processor is little disturbed by others."""
        self.steps, self.seconds, self._clock, self._began = steps, [], clock, 0.0

    def start(self, description: str, total: int, done: int = 0) -> None:
        """Begin to time the first step."""
        self._began = self._clock()

    def advance(self, count: int = 1, **values: float) -> None:
        """Note how long a step took; after enough of them, raise `EnoughError`."""
        wait_for_device()
        now = self._clock()
        self.seconds.append(now - self._began)
        if len(self.seconds) > self.steps:
            raise EnoughError
        self._began = now

    def finish(self) -> None:
        """Do nothing: a training of one step ends by itself."""


def step_seconds(training: Callable[..., object], *arguments: object, **named: object) -> float:
    """Return the median seconds of some steps of a training, which is given a folder first, then these arguments.

    The first step is left out; 0 if there are none.
    """
    times = StepTimes(TIMED_STEPS)
    with temporary_folder("doctor") as folder, contextlib.suppress(EnoughError):
        training(folder, *arguments, **named, progress=times)
    return median(times.seconds[1:] or [0.0])


class Step(NamedTuple):
    """What is timed: a step of a training, or the making of a pair.

    Attributes:
        work: Which training, or "generate".
        part: Of layouts their section of the configuration, of pairs their kind.
        level: Of layouts.
    """

    work: Literal["images", "segmenter", "layouts", "generate"]
    part: str = ""
    level: int | None = None

    @property
    def name(self) -> str:
        """What results call it: "images", "segmenter", "layouts/full/5", "generate/full"."""
        return "/".join(str(value) for value in self if value not in ("", None))


def timed_steps(config: RunConfig) -> list[Step]:
    """Return what is measured for a configuration, the most important first."""
    kinds = [kind for kind in config.generate.kinds if PAIR_KINDS[kind].costs_like is None]
    layouts = list(dict.fromkeys(section for kind in kinds if (section := PAIR_KINDS[kind].layout_section)))
    levels = list(range(base_grid(config.generator_size)[1], -1, -1))
    return [
        Step("images"),
        Step("segmenter"),
        *(Step("layouts", section, levels[0]) for section in layouts),
        *(Step("generate", kind) for kind in kinds),
        *(Step("layouts", section, level) for level in levels[1:] for section in layouts),
    ]


def measurements(folder: Path) -> dict[str, Callable[[], float]]:
    """Return what can be measured, each a function that returns seconds, by the names of `timed_steps`."""
    config = load_config(str(folder / "config.yaml"))
    pairs, filled = read_arrays(folder / "data", "train"), np.load(folder / "data" / FILLED, allow_pickle=False)
    sampler = fit_palette_sampler(real_palettes(pairs), pairs.table.names, 2, config.seed)
    fabric = Run(config, folder).fabric
    layout = partial(_layout_seconds, config, filled, pairs, sampler, fabric)
    generate = partial(_generate_seconds, config, filled, pairs, sampler, fabric)
    work: dict[str, Callable[[], float]] = {}
    for step in timed_steps(config):
        match step:
            case Step("layouts", section, int(level)):
                work[step.name] = partial(layout, section, level)
            case Step("generate", kind):
                work[step.name] = partial(generate, kind)
            case Step("images"):
                work[step.name] = partial(_image_seconds, config, filled, pairs, fabric)
            case _:
                own = config.segmenter_size != config.generator_size
                segmented = read_arrays(folder / SEGMENTER_DATA, "train") if own else pairs
                work[step.name] = partial(_segmenter_seconds, config, segmented, fabric)
    return work


def _image_seconds(config: RunConfig, filled: np.ndarray, pairs: Pairs, fabric: Fabric) -> float:
    name, settings = config.images.system, config.images.settings()
    if not find_image_system(name).comes_trained(settings):
        settings = replace(settings, steps=NEVER)
    return step_seconds(
        train_image_generator,
        name,
        replace(settings, checkpoint_every=NEVER),
        pairs=pairs,
        filled_labels=filled,
        features=untrained_features(config, name, pairs.table),
        seed=config.seed,
        fabric=fabric,
    )


def _segmenter_seconds(config: RunConfig, pairs: Pairs, fabric: Fabric) -> float:
    settings = replace(
        arm_settings(config.segmenters, "real"), steps=NEVER, checkpoint_every=NEVER, encoder_weights=None
    )
    return step_seconds(
        train_segmenter, settings, real=pairs, synthetic=None, table=pairs.table, seed=config.seed, fabric=fabric
    )


def _layout_seconds(
    config: RunConfig,
    filled: np.ndarray,
    pairs: Pairs,
    sampler: PaletteSampler,
    fabric: Fabric,
    section: str,
    level: int,
) -> float:
    chosen = getattr(config.layouts, section)
    stable = tuple(NEVER if i == level else 0 for i in range(len(chosen.stable_steps)))
    settings = replace(chosen.settings(), fade_steps=(0,) * len(stable), stable_steps=stable, checkpoint_every=NEVER)
    return step_seconds(
        train_layout_generator,
        chosen.system,
        settings,
        labels=filled,
        table=pairs.table,
        sampler=sampler,
        seed=config.seed,
        fabric=fabric,
    )


def _generate_seconds(
    config: RunConfig, filled: np.ndarray, pairs: Pairs, sampler: PaletteSampler, fabric: Fabric, kind: str
) -> float:
    """Return the seconds that one pair takes, drawn, painted and written."""
    size = pairs.size
    models = pair_models(config, kind)
    image = image_model(config)
    painter = find_image_system(image.system).build_generator(pairs.table, size, image.settings)
    fabric.to_device(painter)
    drawer = None
    if models.layout is not None:
        drawer = LAYOUT_SYSTEMS[models.layout.system].build_generator(pairs.table, size, models.layout.settings)
        fabric.to_device(drawer)
        prepare_for_inference(drawer, inference_type(fabric))
    maker = PairMaker(
        kind=models.kind,
        seed=config.seed,
        train=pairs,
        filled_labels=filled,
        sampler=sampler,
        image_generator=prepare_for_inference(painter, inference_type(fabric)),
        image_model="",
        layout_generator=drawer,
        layout_model=None,
        fabric=fabric,
        noise_scheme=config.generate.noise_scheme,
        crop_mode=config.layouts.partial.crop_mode,
        edits=config.layouts.partial.edits,
        **config.generate.for_composites(),
        hardening=hardening_of(config, models, "shards"),
    )
    generation = config.generate.of_kind(models.kind)
    count = generation.batch_size
    seconds = []
    for repetition in range(2):
        with temporary_folder("doctor") as folder:
            began = time.perf_counter()
            make_shard(folder, ShardPlan("x.parquet", repetition * count, count), maker, generation, NO_PROGRESS)
            seconds.append((time.perf_counter() - began) / count)
    return seconds[-1]


def _peak_bytes() -> int:
    """Return the most memory that this process, or on a GPU its tensors, took so far."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved()
    try:
        import resource
    except ImportError:  # Windows
        return psutil.Process().memory_info().peak_wset  # type: ignore[attr-defined]
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def _in_one_line(error: Exception) -> str:
    """Return an error's text, after its type unless it is written for users."""
    text = " ".join(str(error).split())
    return (text if isinstance(error, ScenepaletteError) else f"{type(error).__name__}: {text}")[:1000]


def _is_out_of_memory(error: Exception) -> bool:
    """Tell whether memory was lacking; PyTorch has no exception of its own for that of a CPU."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def main(folder: Path) -> None:
    """Measure everything and print each result at once."""

    def say(name: str, **values: object) -> None:
        print(json.dumps({"name": name, **values}), flush=True)

    try:
        work = measurements(folder)
    except (ScenepaletteError, MemoryError) as error:
        say(START, error=_in_one_line(error), out_of_memory=_is_out_of_memory(error))
        sys.exit(1)
    say(READY, names=list(work))
    for name, measure in work.items():
        try:
            seconds = measure()
        except Exception as error:
            # Whatever it is, a training would meet it too; the one who asked says so in words.
            say(name, error=_in_one_line(error), out_of_memory=_is_out_of_memory(error))
            continue
        say(name, seconds=seconds, peak_bytes=_peak_bytes())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
