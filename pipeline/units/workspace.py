"""A unit of work, and the workspace that it is made in: what every stage of `pipeline/stages/` is written against."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np
import torch

from scenepalette.common.processors import ThreadChoice, choose_threads
from scenepalette.common.progress import NO_PROGRESS, Progress
from scenepalette.data.arrays import Pairs
from scenepalette.pipeline.config import RunConfig
from scenepalette.pipeline.run_directory.manifests import check_contents
from scenepalette.training.device.abilities import chosen_accelerator, computes_bfloat16
from scenepalette.training.device.speed import usual_speed
from scenepalette.training.ranks import ALONE, Ranks

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class Unit(ABC):
    """One folder of the run directory, what identifies its content, and the work that fills it.

    Each stage has a class of units in `pipeline/stages/`.

    Attributes:
        stage: What a verb asks for, for example "layouts": all units of that stage.
        part: Which of them, for example "semantic-palette"; empty for a stage's only unit.
        version: Raised when a change of the code changes the unit's results.
        settings: JSON values that identify the result.
        inputs: Names of the units whose results are read.
        files: Glob patterns of the result's files, which the manifest lists; manifests of shards have their own list.
        rows: Of pairs: how many are wanted. They do not identify the result, since more can be added to it.
        renewed: Whether the unit is made again, in place of an earlier result, whenever settings or inputs change: what
            costs little and shows what else there is.
        resumable: Whether an interrupted unit has partial results that the same command resumes from.
    """

    stage: str
    part: str
    version: int
    settings: Mapping[str, Any]
    inputs: tuple[str, ...] = ()
    files: tuple[str, ...] = ("*",)
    rows: int | None = None
    renewed: bool = False
    resumable: bool = True

    shared: ClassVar[bool] = False
    """Whether processes that were started together share the work: batches of a training, or shards."""
    replans: ClassVar[bool] = False
    """Whether its result decides which further units there are."""
    trains: ClassVar[bool] = False
    """Whether it is a training that can be done beside others, in a process of its own."""
    computes: ClassVar[bool] = True
    """Whether the work needs the device; else it reads and counts."""

    @property
    def name(self) -> str:
        """Path of the folder within the run directory, for example "layouts/semantic-palette"."""
        return f"{self.stage}/{self.part}" if self.part else self.stage

    @property
    def batch_sizes(self) -> list[int]:
        """Of a training whose batches processes share: their sizes."""
        return []

    @classmethod
    def problems(cls, units: Sequence[Self], config: RunConfig, *, fetch: bool) -> list[str]:
        """Return what, before anything is made, can be known to keep units from being made; one text each.

        Args:
            units: Units of this class that are still to be made, one or more.
            config: The run's configuration.
            fetch: Whether pre-trained weights may be downloaded to see that they can be had.
        """
        return []

    @classmethod
    def problems_of_data(cls, units: Sequence[Self], config: RunConfig, data: PreparedData) -> list[str]:
        """Return what only the prepared data set can tell; see `problems`."""
        return []

    def of_partial(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return those of a record's settings that the partial results of an interrupted unit depend on: all of them.

        Where only others differ, the unit is resumed.
        """
        return settings

    def begin(self, run: Workspace) -> None:
        """Prepare the folder, which is marked as begun; no one else writes into it."""
        return

    @abstractmethod
    def make(self, run: Workspace, folder: Path) -> None:
        """Fill the unit's folder; the units that it reads are finished.

        Args:
            run: Where and with what.
            folder: Where to write: the unit's folder, or one that takes its place once it is finished.

        Raises:
            ScenepaletteError: Anything that a user can fix.
        """

    def record(self) -> Mapping[str, Any]:
        """Return what the unit's manifest says beside what identifies it."""
        return {}

    def manifest_writer(self, run: Workspace) -> Callable[[dict[str, Any]], None] | None:
        """Return what writes the manifest from the fields that identify the unit, where it has a form of its own."""
        return None


def in_order(units: list[Unit]) -> dict[str, Unit]:
    """Return units by name, each moved behind those that it reads and otherwise as given."""
    by_name = {unit.name: unit for unit in units}
    ordered: dict[str, Unit] = {}

    def place(unit: Unit) -> None:
        if unit.name not in ordered:
            for name in unit.inputs:
                place(by_name[name])
            ordered[unit.name] = unit

    for unit in units:
        place(unit)
    return ordered


@dataclass(frozen=True, eq=False)
class PreparedData:
    """The labelled data set as the unit "data" keeps it; test splits, opened when asked for, are for evaluations alone.

    Attributes:
        train: Real training pairs.
        validation: Real validation pairs.
        filled_labels: uint8 [N, H, W], the training labels with ignored pixels filled.
        open_test: Opens the test split; None if there is none.
        open_extra_tests: What opens each extra test set, by name.
    """

    train: Pairs
    validation: Pairs
    filled_labels: np.ndarray
    open_test: Callable[[], Pairs] | None = None
    open_extra_tests: Mapping[str, Callable[[], Pairs]] = field(default_factory=dict)

    @cached_property
    def test(self) -> Pairs | None:
        """Real pairs of the test split, or None if there is none.

        Raises:
            DataError: A file is missing or not what was written.
        """
        return None if self.open_test is None else self.open_test()

    @cached_property
    def extra_tests(self) -> Mapping[str, Pairs]:
        """Pairs of the extra test sets by name; raises as `test` does."""
        return {name: open_one() for name, open_one in self.open_extra_tests.items()}

    def summary(self) -> dict[str, Any]:
        """Return what reports say of the data set, as JSON values."""
        return {
            "name": self.train.name,
            "train": len(self.train.image_ids),
            "val": len(self.validation.image_ids),
            "test": None if self.test is None else len(self.test.image_ids),
            "size": list(self.train.size),
            "licence": self.train.licence,
        }

    @property
    def has_test(self) -> bool:
        """Whether there is a test split, told without opening it."""
        return self.open_test is not None


class PlannedUnits(NamedTuple):
    """The units of a run by name, each after those that it reads, in the families in which verbs ask for them.

    Attributes:
        run: From the data set to the report.
        comparison: Those of the comparison of systems, with those that it shares with the run.
        curve: What the curve of labels and doses needs beside those of the run.
        loop: Those of the loop, as far as they are known, with those that it shares with the run.
    """

    run: dict[str, Unit]
    comparison: dict[str, Unit]
    curve: dict[str, Unit]
    loop: dict[str, Unit]


def ancestors(units: Mapping[str, Unit], names: Iterable[str]) -> set[str]:
    """Return some units with all that they are made from, directly or not."""
    found, open_names = set[str](), list(names)
    while open_names:
        name = open_names.pop()
        if name not in found:
            found.add(name)
            open_names += units[name].inputs
    return found


@dataclass
class Workspace(ABC):
    """What the making of a unit needs beside the unit itself.

    Attributes:
        config: What to make.
        run_dir: Where.
        progress: Watches long work.
        command: The command that the report names for making it again.
        ranks: The processes that all have this run; they share trainings of generators, and shards, and the first of
            them does everything else.
    """

    config: RunConfig
    run_dir: Path
    progress: Progress = NO_PROGRESS
    command: str = field(default_factory=lambda: shlex.join(["scenepalette", *sys.argv[1:]]))
    ranks: Ranks = ALONE

    @property
    @abstractmethod
    def planned(self) -> PlannedUnits:
        """The units of the run."""

    @property
    @abstractmethod
    def data(self) -> PreparedData:
        """The prepared data set, read once.

        Raises:
            DataError: A file of the unit "data" is missing or not what was written.
        """

    @property
    @abstractmethod
    def segmenter_data(self) -> PreparedData:
        """The data set as segmenters take it, at the size that they work at; raises as `data` does."""

    @abstractmethod
    def is_finished(self, name: str) -> bool:
        """Tell whether a unit is finished."""

    @abstractmethod
    def begin(self, name: str) -> None:
        """Mark a unit as begun."""

    @abstractmethod
    def finish(self, name: str) -> None:
        """Write the manifest of a unit whose work is done."""

    @property
    def units(self) -> dict[str, Unit]:
        """All units by name, each after those that it reads: the report, which may show studies, is the last."""
        planned = self.planned
        units = planned.run | planned.comparison | planned.curve | planned.loop
        report = units.pop("report")
        return {**units, "report": report}

    @cached_property
    def threads(self) -> ThreadChoice:
        """The threads of torch in this process; processes of one training divide the processors among them."""
        choice, threads = choose_threads(), self.config.compute.threads
        if threads is not None:
            choice = choice._replace(threads=threads, chosen_by="compute.threads")
        elif not choice.chosen_by:
            choice = choice._replace(threads=max(1, choice.threads // self.ranks.count))
        if self.ranks.first and (warning := choice.warning):
            print(f"Warning: {warning}", file=sys.stderr, flush=True)
        return choice

    @cached_property
    def fabric(self) -> Fabric:
        """This process's device, and precision."""
        from scenepalette.training.fabric import make_fabric

        compute = self.config.compute
        torch.set_num_threads(self.threads.threads)
        accelerator = chosen_accelerator(compute.accelerator)
        precision = compute.precision
        if precision == "auto":
            precision = "bf16-mixed" if computes_bfloat16(accelerator) else "32-true"
        speed = usual_speed(
            accelerator, plain=compute.plain, compile=compute.compile, label_patches=compute.label_patches
        )
        return make_fabric(accelerator, precision, self.ranks.local, speed)

    def check_inputs(self, name: str) -> None:
        """Compare the files that a unit is made from with the manifests beside them; files are read once a process.

        Raises:
            ScenepaletteError: One of them is damaged.
        """
        for other in self.units[name].inputs:
            check_contents(self.run_dir / other)

    def environment(self) -> dict[str, str]:
        """Return what rounding and the bytes of images depend on beside code and settings."""
        device = torch.cuda.get_device_name() if self.fabric.device.type == "cuda" else _processor()
        return {
            "hardware": f"{device}, {os.cpu_count()} CPU cores",
            "threads": str(self.threads),
            "precision": str(self.fabric._precision.precision),
            **({} if self.config.compute.compile == "off" else {"compile": self.config.compute.compile}),
            "python": platform.python_version(),
            "torch": torch.__version__,
            **{package: version(package) for package in ("numpy", "pillow", "pyarrow")},
        }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
