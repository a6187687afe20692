"""Optimizer steps per second of the papers' networks: all losses, both optimizers."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch

from benchmarks.gpu.record import Cases, Row
from benchmarks.gpu.scenes import Options, Scenes, Size, device_memory, read_scenes, text_of
from benchmarks.measure import wait
from scenepalette.common.progress import EnoughError
from scenepalette.generators.images.base import ImageSettings
from scenepalette.generators.images.registry import IMAGE_SYSTEMS
from scenepalette.generators.images.training import train_image_generator
from scenepalette.generators.kernels.passes import FASTER
from scenepalette.generators.layouts.settings import LayoutSettings
from scenepalette.generators.layouts.training import train_layout_generator
from scenepalette.generators.nn.grids import base_grid
from scenepalette.training.device.speed import CompileMode, usual_speed
from scenepalette.training.fabric import make_fabric

NEVER = 10**9
WARM_STEPS = 5
WARM_SHARE = 0.5  # of a case's time after which warming up ends whatever the steps
PLAIN = "plain"
AS_TRAINED = "as trained"
COMPILED = "compiled"
GRAPHS = "compiled with graphs"


class StepRate:
    """Progress that counts the steps of a training for a while and then ends it; GPUs are waited for only twice."""

    def __init__(self, device: torch.device, seconds: float) -> None:
        self._device, self._began, self._seconds = device, time.perf_counter(), seconds
        self._warm = 0
        self._from: float | None = None
        self.steps, self.seconds = 0, 0.0

    def start(self, description: str, total: int, done: int = 0) -> None:
        """Do nothing: the first steps are not counted."""

    def advance(self, count: int = 1, **values: float) -> None:
        """Count a step."""
        now = time.perf_counter()
        if self._from is None:
            self._warm += 1
            if self._warm >= WARM_STEPS or now > self._began + WARM_SHARE * self._seconds:
                wait(self._device)
                self._from = time.perf_counter()
            return
        self.steps += 1
        if now > self._began + self._seconds:
            wait(self._device)
            self.seconds = time.perf_counter() - self._from
            raise EnoughError

    def finish(self) -> None:
        """Do nothing: the training has no end."""


@contextmanager
def as_written(plain: bool) -> Iterator[None]:
    """Train in contiguous memory with convolutions at every pixel if `plain`, as networks are written."""
    if not plain:
        yield
        return
    with patch.object(torch, "channels_last", torch.contiguous_format), patch.dict(FASTER, clear=True):
        yield


def last_level(size: Size, width: float, batch: int) -> LayoutSettings:
    """Return settings that train the last level alone, which takes most of the time, without an end."""
    _, doublings = base_grid(size)
    return LayoutSettings(
        max_width=round(512 * width),
        base_width=round(8192 * width),
        fade_steps=(0,) * (doublings + 1),
        stable_steps=(*(0,) * doublings, NEVER),
        batch_sizes=(batch,) * (doublings + 1),
        checkpoint_every=NEVER,
    )


def widened(standard: ImageSettings, width: float, batch: int) -> ImageSettings:
    """Return settings of a training without an end, with the widths that there are multiplied."""
    fields = ("width", "hidden_channels", "discriminator_width")
    widths = {name: max(1, round(getattr(standard, name) * width)) for name in fields if hasattr(standard, name)}
    return replace(standard, steps=NEVER, batch_size=batch, checkpoint_every=NEVER, **widths)


def cases(options: Options) -> Cases:
    """Return every training in every way, those that take long to begin last."""
    trainings = {"oasis": _oasis, "semantic-palette": _layouts, "segmenter": _segmenter}
    chosen = [(name, way) for name in trainings for way in (PLAIN, AS_TRAINED)]
    if options.device.type == "cuda":
        chosen += [(name, way) for way in (COMPILED, GRAPHS) for name in ("oasis", "segmenter")]
    return {f"{name} {way}": partial(_measure, options, name, trainings[name], way) for name, way in chosen}


def _measure(
    options: Options,
    name: str,
    build: Callable[[Options, Scenes], tuple[Callable[..., object], int]],
    way: str,
    seconds: float,
) -> Row:
    scenes = read_scenes(options, options.training_size)
    training, batch = build(options, scenes)
    if options.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(options.device)
    progress = StepRate(options.device, 0.8 * seconds)
    compiles: CompileMode = "default" if way == COMPILED else "graphs" if way == GRAPHS else "off"
    speed = usual_speed(options.device.type, plain=way == PLAIN, compile=compiles)
    fabric = make_fabric(options.device.type, options.precision, speed=speed)
    with tempfile.TemporaryDirectory() as folder, suppress(EnoughError), as_written(way == PLAIN):
        training(Path(folder), fabric=fabric, progress=progress)
    return {
        "training": name,
        "size": text_of(options.training_size),
        "batch": batch,
        "way": way,
        "precision": options.precision,
        "steps per second": progress.steps / progress.seconds,
        "steps": progress.steps,
        "MiB": round(device_memory(options.device)),
    }


def _oasis(options: Options, scenes: Scenes) -> tuple[Callable[..., object], int]:
    settings = replace(widened(IMAGE_SYSTEMS["oasis"].settings(), options.width, options.training_batch), augment=True)
    arguments = {"name": "oasis", "settings": settings, "pairs": scenes.pairs, "filled_labels": scenes.filled}
    return partial(train_image_generator, **arguments, seed=0), settings.batch_size


def _layouts(options: Options, scenes: Scenes) -> tuple[Callable[..., object], int]:
    batch = max(1, options.training_batch // 2)
    settings = last_level(options.training_size, options.width, batch)
    arguments = {"labels": scenes.filled, "table": scenes.pairs.table, "sampler": scenes.sampler, "seed": 0}
    return partial(train_layout_generator, name="semantic-palette", settings=settings, **arguments), batch


def _segmenter(options: Options, scenes: Scenes) -> tuple[Callable[..., object], int]:
    # Needs segmentation-models-pytorch, which the other parts do without.
    from scenepalette.segmenters.settings import SegmenterSettings
    from scenepalette.segmenters.train import train_segmenter

    settings = SegmenterSettings(
        steps=NEVER, batch_size=options.training_batch, encoder="resnet50", checkpoint_every=NEVER
    )
    return partial(
        train_segmenter, settings=settings, real=scenes.pairs, synthetic=None, table=scenes.pairs.table, seed=0
    ), settings.batch_size
