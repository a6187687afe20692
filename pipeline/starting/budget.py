"""What fits into some minutes on this machine: size, kinds of pairs, arms and seeds, and steps of every training."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from scenepalette.common.errors import ConfigError
from scenepalette.common.progress import Progress
from scenepalette.common.storage.files import temporary_folder
from scenepalette.data.sample import SegmentationDataset
from scenepalette.generators.layouts.schedule import lists_of
from scenepalette.generators.nn.grids import base_grid
from scenepalette.pipeline.config import RunConfig, make_config, merge, with_following_lists
from scenepalette.pipeline.device.beside import trainings_at_once
from scenepalette.pipeline.doctor.machine.measure import timed_steps
from scenepalette.pipeline.doctor.machine.timing import Estimate, Measured, estimates_of, measure, total_of
from scenepalette.pipeline.recipes import RECIPES
from scenepalette.pipeline.starting.sizes import architecture_for
from scenepalette.segmenters.settings import SegmenterSettings

Values = dict[str, Any]
Size = tuple[int, int]

RESERVE = 0.1
"""Part of the time that is left for palettes, evaluation and the report, which are not measured."""
MEASURED_SECONDS = 40.0
MOST_TRIALS = 3
MOST_GROWTH = 4
"""How many times the pixels of the last measurement the next one may have: memory is not known before."""
LEAST_PAIRS = 100


@dataclass(frozen=True)
class Base:
    """The recipe that a first one begins as.

    Attributes:
        recipe: Its name; it says networks and batch sizes.
        enough: Part of its steps and pairs from which a larger size is worth it.
        least: Part below which nothing is learned.
        most: Part above which a larger size is worth more.
        reference: Pixels that `enough` takes about an hour for, where the search for a size begins.
    """

    recipe: str
    enough: float
    least: float
    most: float
    reference: int


CPU = Base("camvid-cpu", 1 / 3, 1 / 12, 4 / 3, 96 * 128)
GPU = Base("camvid", 1 / 3, 1 / 12, 4 / 3, 192 * 256)


def base_of_machine() -> Base:
    """Return the recipe to begin with on this machine."""
    return GPU if torch.cuda.is_available() else CPU


@dataclass(frozen=True)
class Extent:
    """How much is compared."""

    kinds: tuple[str, ...]
    arms: tuple[str, ...]
    seeds: tuple[int, ...]


EXTENTS = (
    Extent(("full", "partial"), ("real", "real-long", "copy-paste", "syn", "real+syn", "real+partial"), (0, 1, 2)),
    Extent(("full",), ("real", "real-long", "copy-paste", "real+syn"), (0, 1, 2)),
    Extent(("full",), ("real", "copy-paste", "real+syn"), (0,)),
)
"""From the most to the least; a size is chosen at which the second one has enough time."""
_USUAL = EXTENTS[1]


@dataclass(frozen=True)
class Choice:
    """What was chosen.

    Attributes:
        values: Changes to the base's recipe: sizes, steps, arms.
        seconds: What the run takes by the measured steps, without evaluation and report.
        part: Part of the base's steps.
        larger: The next larger size that could be chosen, or None.
    """

    values: Values
    seconds: float
    part: float
    larger: Size | None


@dataclass(frozen=True)
class Trial:
    """What was measured at a size.

    Attributes:
        config: The configuration that was measured.
        measured: Seconds of its steps.
        at_once: How many trainings are done at once.
    """

    config: RunConfig
    measured: Measured
    at_once: int

    def is_whole(self, extent: Extent) -> bool:
        """Tell whether at least one step of everything that an extent needs was measured."""
        known = self.measured.seconds
        layouts = all(any(name.startswith(f"layouts/{kind}/") for name in known) for kind in extent.kinds)
        needed = {"images", "segmenter", *(f"generate/{kind}" for kind in extent.kinds)}
        return layouts and needed <= known.keys() and not self.measured.out_of_memory

    def changed(self, values: Values) -> RunConfig:
        """Return the configuration with other steps, pairs, kinds and arms, which need no check, to estimate it."""
        layouts, levels = self.config.layouts, base_grid(self.config.generator_size)[1] + 1
        numbers = {
            name: getattr(layouts, name).model_copy(update=lists_of(each["steps"], levels)._asdict())
            for name, each in values["layouts"].items()
        }
        sections = {
            name: getattr(self.config, name).model_copy(update=values[name])
            for name in ("images", "generate", "segmenters")
        }
        return self.config.model_copy(update={**sections, "layouts": layouts.model_copy(update=numbers)})


@dataclass(frozen=True)
class Search:
    """Looks for the largest size at which everything gets enough steps.

    Attributes:
        base: What is begun with.
        data: Section `data` of the configuration, without the size.
        train: The training split.
        read_seconds: Seconds that reading all samples once takes.
        samples: Number of samples of all splits.
        progress: Watches the measurements.
        timed: Measures some steps of a configuration.
    """

    base: Base
    data: Values
    train: SegmentationDataset
    read_seconds: float
    samples: int
    progress: Progress
    timed: Callable[..., Measured] = measure

    def choose(self, sizes: Sequence[Size], minutes: float) -> Choice:
        """Choose size, extent and steps.

        Args:
            sizes: Sizes to choose among, from small to large.
            minutes: What the run may take.

        Raises:
            ConfigError: The time is too short at the smallest size; or no step can be taken at any.
        """
        seconds = 60 * minutes * (1 - RESERVE)
        trials: dict[int, Trial] = {}
        parts: dict[int, float] = {}
        first = self.base.reference * min(minutes / 60, MOST_GROWTH)
        at = max((index for index, size in enumerate(sizes) if _pixels(size) <= first), default=0)
        while at not in parts:
            trials[at] = self._try(sizes[at])
            parts[at] = self._part(trials[at], _USUAL, seconds)
            at = self._next(sizes, parts, at)
        trial = trials[at]
        of_extents = [(extent, self._part(trial, extent, seconds)) for extent in EXTENTS]
        extent, part = next((each for each in of_extents if each[1] >= self.base.enough), of_extents[-1])
        if part < self.base.least:
            raise self._too_short(trial, minutes)
        part = min(part, self.base.most)
        larger = sizes[at + 1] if at + 1 < len(sizes) else None
        return Choice(self._values(sizes[at], extent, part), self._seconds(trial, extent, part), part, larger)

    def _next(self, sizes: Sequence[Size], parts: dict[int, float], last: int) -> int:
        """Return the size to try after the last one; one that was tried before is to be taken."""
        enough = [index for index, part in parts.items() if part >= self.base.enough]
        if len(parts) >= MOST_TRIALS:
            return max(enough, default=0)
        too_large = min((index for index, part in parts.items() if part < self.base.enough), default=len(sizes))
        # A step takes as long as it has pixels.
        work = parts[last] * _pixels(sizes[last])
        most = min(work / self.base.enough, MOST_GROWTH * _pixels(sizes[last]))
        promising = [index for index in range(too_large) if _pixels(sizes[index]) <= most]
        return max([*enough, *promising], default=0)

    def _try(self, size: Size) -> Trial:
        changes = merge({"data": self.data}, self._values(size, EXTENTS[0], self.base.enough))
        config = make_config(with_following_lists(merge(RECIPES[self.base.recipe](), changes), changes))
        self.progress.start(f"measuring steps at {size[0]} x {size[1]}", len(timed_steps(config)))
        with temporary_folder("init") as folder:
            measured = self.timed(
                config, self.train, folder, seconds=MEASURED_SECONDS, report=lambda name: self.progress.advance(1)
            )
        self.progress.finish()
        if measured.errors and not measured.out_of_memory:
            problems = [f"{name}: {text}" for name, text in measured.errors.items()]
            raise ConfigError(f"Trainings fail in their first steps at {size[0]}x{size[1]}.", problems)
        return Trial(config, measured, trainings_at_once(config))

    def _values(self, size: Size, extent: Extent, part: float) -> Values:
        """Return the changes for a size, an extent and a part of the base's steps and pairs."""
        recipe = RECIPES[self.base.recipe]()
        pairs = max(LEAST_PAIRS, _rounded(part * recipe["generate"]["pairs"]))
        values: Values = {
            "data": {"size": list(size)},
            "layouts": {
                name: {"steps": _rounded(part * sum((*section["fade_steps"], *section["stable_steps"])))}
                for name, section in recipe["layouts"].items()
                if name in extent.kinds
            },
            "images": {"steps": _rounded(part * recipe["images"]["steps"])},
            "generate": {"kinds": list(extent.kinds), "pairs": pairs},
            "segmenters": {
                "arms": list(extent.arms),
                "seeds": list(extent.seeds),
                "steps": _rounded(part * recipe["segmenters"]["steps"]),
                "class_weights": "root-median-frequency",
            },
            "report": {"evaluated_pairs": min(400, pairs)},
        }
        encoder = recipe["segmenters"].get("encoder", SegmenterSettings.encoder)
        values["segmenters"] |= {
            "architecture": architecture_for(SegmenterSettings(encoder=encoder), size),
            "encoder": encoder,
        }
        return values

    def _part(self, trial: Trial, extent: Extent, seconds: float) -> float:
        """Return the part of the base's steps that fits into some seconds; 0 if a step could not be taken."""
        if not trial.is_whole(extent):
            return 0.0
        reading, *others = self._estimates(trial, extent, 1.0)
        return max(0.0, seconds - reading.seconds) / total_of(others, trial.at_once)

    def _seconds(self, trial: Trial, extent: Extent, part: float) -> float:
        return total_of(self._estimates(trial, extent, part), trial.at_once)

    def _estimates(self, trial: Trial, extent: Extent, part: float) -> list[Estimate]:
        """Return what reading the data takes, and after that each part that its steps decide."""
        config = trial.changed(self._values(trial.config.data.size, extent, part))
        return estimates_of(config, trial.measured, self.read_seconds, self.samples)

    def _too_short(self, trial: Trial, minutes: float) -> ConfigError:
        size, measured = trial.config.data.size, trial.measured
        where = f"at {size[0]}x{size[1]}, the smallest size to choose from"
        if measured.out_of_memory:
            return ConfigError(
                f"This machine has too little memory for a training {where}. Close other programs, or use another "
                "machine."
            )
        if not trial.is_whole(EXTENTS[-1]):
            missing = ", ".join(measured.missing) or "every training"
            return ConfigError(
                f"No step was finished in {MEASURED_SECONDS:.0f} s {where}: {missing}. The machine is too slow, or too "
                "busy now; rerun when it is idle, or use another machine."
            )
        needed = self._seconds(trial, EXTENTS[-1], self.base.least) / 60 / (1 - RESERVE)
        return ConfigError(
            f"--minutes {minutes:g} is too short to learn anything from these images {where}: on this machine, as busy "
            f"as it is now, use --minutes {math.ceil(1.1 * needed)} or more."
        )


def _pixels(size: Size) -> int:
    return size[0] * size[1]


def _rounded(count: float) -> int:
    """Return a number of steps with two digits that say something, at least 1."""
    unit = 10 ** max(0, len(str(round(count))) - 2)
    return max(1, int(count // unit) * unit)
