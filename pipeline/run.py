"""A run: its directory, how far its units are, and how one is made with all that it needs.

`run.make` makes units of the run directory and whatever unfinished unit they are made from; what a unit does is in its
stage's file in `pipeline/stages/`. The command line and the flows call this and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from scenepalette.common.errors import ConfigError, TrainingError
from scenepalette.common.storage.files import writing_explained
from scenepalette.common.urls import is_url
from scenepalette.generators.pairs.base import PairMaker
from scenepalette.pipeline.checks.preflight import data_problems, device_problems, settings_problems
from scenepalette.pipeline.config import RunConfig, config_text, load_config
from scenepalette.pipeline.device.beside import MakesUnits, make_beside
from scenepalette.pipeline.device.memory import memory_explained
from scenepalette.pipeline.plan import comparison_units_of, curve_units_of, loop_units_of, units_of
from scenepalette.pipeline.run_directory.activity import told
from scenepalette.pipeline.run_directory.curve_result import RESULT as CURVE_RESULT
from scenepalette.pipeline.run_directory.manifests import MANIFEST
from scenepalette.pipeline.run_directory.ownership import (
    CONFIG,
    check_holds_run,
    exclusive,
    read_mark,
    remember,
    write_document,
    write_shards_card,
)
from scenepalette.pipeline.stages.data import EXTRA_TESTS, SourceUnit, data_paths, read_data, unlabelled_paths
from scenepalette.pipeline.stages.generate import PairsUnit
from scenepalette.pipeline.stages.reporting.pooling import pooling_problems
from scenepalette.pipeline.stages.segment import SegmenterUnit
from scenepalette.pipeline.stages.segmenter_data import read_segmenter_data
from scenepalette.pipeline.stages.studies.compare import STAGE as COMPARISON
from scenepalette.pipeline.stages.studies.curve import STAGE as CURVE
from scenepalette.pipeline.stages.studies.loop import STAGE as LOOP
from scenepalette.pipeline.stages.studies.loop import decision_name
from scenepalette.pipeline.units.borrowing import lending_problems
from scenepalette.pipeline.units.records import State, begin, finish, is_finished, misfits, state_of, timed, work_folder
from scenepalette.pipeline.units.sources import Sources, may_be_there
from scenepalette.pipeline.units.tracking import tracked
from scenepalette.pipeline.units.workspace import PreparedData, Unit


@dataclass
class Run(MakesUnits):
    """A configuration, its run directory, and the work that turns the one into the other.

    Attributes:
        look: Whether what lies outside the run directory is compared with what was read of it; see `Sources`.
    """

    look: bool = True
    _checked: set[str] = field(default_factory=set, repr=False)
    _units: tuple[Any, tuple[dict[str, Unit], ...]] | None = field(default=None, repr=False)
    _data: tuple[Any, PreparedData] | None = field(default=None, repr=False)
    _segmenter_data: tuple[Any, PreparedData] | None = field(default=None, repr=False)

    @classmethod
    def open(cls, run_dir: Path) -> Run:
        """Return a run that is there, to use what it has made; nothing outside its directory is needed for that.

        Raises:
            ScenepaletteError: The folder holds no run of this version.
        """
        check_holds_run(run_dir)
        # Trackers are told of trainings, and need not be installed where none is.
        return cls(load_config(str(run_dir / CONFIG), ["compute.tracking=[]"]), run_dir, look=False)

    @property
    def run_units(self) -> dict[str, Unit]:
        """The units of the run by name, without those of the comparison."""
        return self._known_units()[0]

    @property
    def comparison_units(self) -> dict[str, Unit]:
        """The units of the comparison of systems by name, with those that it shares with the run."""
        return self._known_units()[1]

    @property
    def curve_units(self) -> dict[str, Unit]:
        """What the curve of labels and doses needs beside the units of the run, by name."""
        return self._known_units()[2]

    @property
    def loop_units(self) -> dict[str, Unit]:
        """The units of the loop by name, as far as they are known, with those that it shares with the run."""
        return self._known_units()[3]

    def _known_units(self) -> tuple[dict[str, Unit], ...]:
        # Known again when a unit that reads sources, or decides on others, is finished, in this process or another.
        curve = self.run_dir / CURVE_RESULT
        read = [self.run_dir / "data", self.run_dir / "unlabelled", *self._extra_tests.values()]
        read += [self.run_dir / decision_name(number) for number in range(1, self.config.loop.rounds + 1)]
        state = tuple(_stamp(folder / MANIFEST) for folder in (*read, curve))
        if self._units is None or self._units[0] != state:
            makers = (units_of, comparison_units_of, curve_units_of, loop_units_of)
            units = tuple(make(self.config, self.sources) for make in makers)
            if state[-1] is not None:
                units = (_with_curve(self.run_dir, *units[:3]), *units[1:])
            self._units = (state, units)
        return self._units[1]

    @property
    def data(self) -> PreparedData:
        """The prepared data set, read once."""
        state = _stamp(self.run_dir / "data" / MANIFEST)
        if self._data is None or self._data[0] != state:
            self._data = (state, read_data(self.run_dir / "data", self._extra_tests))
        return self._data[1]

    @property
    def segmenter_data(self) -> PreparedData:
        """The data set as segmenters take it, at the size that they work at."""
        state = tuple(_stamp(self.run_dir / name / MANIFEST) for name in self.config.data_of_segmenters)
        if self._segmenter_data is None or self._segmenter_data[0] != state:
            read = read_segmenter_data(self.config, self.run_dir, self.data, self._extra_tests)
            self._segmenter_data = (state, read)
        return self._segmenter_data[1]

    @property
    def _extra_tests(self) -> dict[str, Path]:
        return {name: self.run_dir / EXTRA_TESTS / name for name in self.config.report.extra_test}

    @cached_property
    def sources(self) -> Sources:
        """Identities of what is read from outside the run directory."""
        return Sources(self.run_dir, self.look, self.progress)

    def names_of(self, stage: str) -> list[str]:
        """Return the names of a stage's units, for example of "layouts", "shards" or "comparison".

        Raises:
            ConfigError: Fine-tuning or a curve is asked for, and the configuration names nothing for it.
        """
        units = {COMPARISON: self.comparison_units, CURVE: self.curve_units, LOOP: self.loop_units}.get(
            stage, self.run_units
        )
        names = [name for name, unit in units.items() if unit.stage == stage]
        if stage == CURVE:
            if not names:
                raise ConfigError(
                    "There is no curve to draw: no arm adds generated pairs to real labels. Name one in "
                    "segmenters.arms, for example --set 'segmenters.arms=[real, semi]'."
                )
            names.append("report")  # which shows it
        if stage == "finetuned" and not names:
            raise ConfigError(
                "No generators are to be fine-tuned. Name the kinds of pairs whose generators are: "
                "--set 'finetune.kinds=[full]', [partial] or both."
            )
        return names

    def state(self, name: str) -> State:
        """Return how far a unit is.

        Raises:
            ScenepaletteError: Its record is damaged, or its folder holds files of somebody else.
        """
        return state_of(self.run_dir, self.units[name], self.units)

    def is_finished(self, name: str) -> bool:
        """Tell whether a unit is finished; raises as `state` does."""
        return self.state(name).status == "finished"

    def missing(self, names: Sequence[str]) -> list[str]:
        """Return the units to make among `names` and among all that they are made from, in order.

        What is made from a data set is compared with what is there once the unit "data" is finished.

        Raises:
            ScenepaletteError: Units have results of other settings or inputs, all told at once with what differs, or
                the configuration cannot be run.
        """
        lender = self.config.models_from
        if lender is not None and os.path.realpath(lender) == os.path.realpath(self.run_dir):
            raise ConfigError(f"models_from: {lender} is this run directory itself. Give another --out folder.")
        units, states = self.units, {}

        def visit(name: str) -> None:
            if name in states:
                return
            states[name] = self.state(name)
            # A finished unit fits through all that it was made from.
            if states[name].status != "finished":
                for other in units[name].inputs:
                    visit(other)

        for name in names:
            visit(name)
        unread = {name for name in states if self._reads_source(name) and states[name].status == "missing"}
        others = [
            name
            for name in units
            if name in states and states[name].status == "other" and not unread & self._ancestors(name)
        ]
        if others:
            raise misfits(self.run_dir, others, units)
        missing = [name for name in units if name in states and states[name].status != "finished"]
        self._check_before(missing)
        return missing

    def _ancestors(self, name: str) -> set[str]:
        """Return the units that a unit is made from, directly or not."""
        units, found, names = self.units, set[str](), [*self.units[name].inputs]
        while names:
            other = names.pop()
            if other not in found:
                found.add(other)
                names += units[other].inputs
        return found

    def _reads_source(self, name: str) -> bool:
        return isinstance(self.units[name], SourceUnit)

    def _replans(self, name: str) -> bool:
        return self._reads_source(name) or self.units[name].replans

    def _check_before(self, names: Sequence[str]) -> None:
        """Check everything that can be known before anything is made; what was checked before is taken as it was."""
        missing, problems = [self.units[name] for name in names], list[str]()
        if not self._checked.issuperset(names):
            problems += [*settings_problems(self.config, missing), *device_problems(self.config, missing)]
            if not problems:
                self._checked.update(names)
        finished = bool(missing) and self.is_finished("data")
        if finished:
            problems += data_problems(self.config, missing, self.data)
        lender = self.config.models_from
        if lender is not None:
            # What is fine-tuned may be fine-tuned here, from generators that were trained there.
            lent = [unit.name for unit in missing if unit.stage in ("layouts", "images")]
            problems += lending_problems(lender, lent, self.data.train.table if finished else None) if lent else []
        if any(unit.stage == "report" for unit in missing):
            problems += pooling_problems(self)
        if problems:
            raise ConfigError("The configuration cannot be run; nothing was made.", problems)

    def each_missing(self, names: Sequence[str]) -> Iterator[list[str]]:
        """Yield the units to make, in order, all that are made at once to be finished before the next are asked for.

        That is one unit, or as many segmenters as can be trained now if `segmenters.parallel` trains several at once.
        """
        missing = self.missing(names)
        self.ranks.wait()  # all have planned before the first of them changes anything
        while missing:
            together = self._beside(missing)
            yield together
            if any(map(self._replans, together)):
                missing = self.missing(names)
                self.ranks.wait()
            else:
                missing = [name for name in missing if name not in together]

    def make(self, names: Sequence[str], wait: float = 0.0, on_wait: Callable[[], object] | None = None) -> None:
        """Make units and whatever they are made from, as far as it is not finished.

        Args:
            names: The units.
            wait: Seconds to wait while another process works in the run directory.
            on_wait: Called once if there is something to wait for.

        Raises:
            ScenepaletteError: Anything that a user can fix; finished units stay.
        """
        ranks = self.ranks
        if not self.run_dir.exists():
            self.missing(names)  # what cannot be made leaves no folder behind
        with exclusive(self.run_dir, wait, on_wait) if ranks.first else nullcontext():
            ranks.wait()
            # Refused here if the folder holds another run, before its config is touched.
            missing = self.missing(names)
            sizes = {f"{name} (batch sizes)": self.units[name].batch_sizes for name in missing}
            ranks.check_batches({name: values for name, values in sizes.items() if values})
            ranks.wait()
            if ranks.first:
                self.write_documents()
            for together in self.each_missing(names):
                self.make_together(together)
            ranks.wait()

    def _beside(self, missing: Sequence[str]) -> list[str]:
        """Return the next unit, or the segmenters that can be trained with it if several are trained at once."""
        if (
            self.config.segmenters.parallel == 1
            or self.ranks.count > 1
            or not isinstance(self.units[missing[0]], SegmenterUnit)
        ):
            return [missing[0]]
        return [
            name
            for name in missing
            if isinstance(self.units[name], SegmenterUnit)
            and all(self.is_finished(needed) for needed in self.units[name].inputs)
        ]

    def make_together(self, names: Sequence[str]) -> None:
        """Make what `each_missing` yields, as far as it is not finished; raises as `make_one` does."""
        if len(names) == 1:
            self.make_one(names[0])
            return
        with writing_explained(self.run_dir):
            left = [name for name in names if not self.is_finished(name)]
            make_beside(self, left, self.config.segmenters.parallel)

    def write_documents(self) -> None:
        """Write the resolved configuration and the card above all shards; the caller holds the run directory."""
        write_document(self.run_dir, CONFIG, config_text(self._with_known_paths()))
        write_shards_card(self.run_dir)
        for name, unit in self.units.items():
            paths = dict(unit.paths) if isinstance(unit, SourceUnit) else {}
            # Where it lies now, since its content was found to be what was read.
            if paths and all(map(may_be_there, paths.values())) and self.is_finished(name):
                remember(self.run_dir, lambda mark, name=name, paths=paths: mark.sources.update({name: paths}))

    def _with_known_paths(self) -> RunConfig:
        """Return the configuration with the paths that data was read from in place of paths that are not there."""
        given = {**data_paths(self.config.data), **unlabelled_paths(self.config.data)}
        known = {key: path for paths in read_mark(self.run_dir).sources.values() for key, path in paths.items()}
        gone = {key: path for key, path in given.items() if not may_be_there(path) and known.get(key, path) != path}
        for key, path in gone.items():
            print(f"data.{key}: there is no {path}; this run uses what it read from {known[key]}.", flush=True)
        update = {key: known[key] if is_url(known[key]) else Path(known[key]) for key in gone}
        return self.config.model_copy(update={"data": self.config.data.model_copy(update=update)})

    def make_one(self, name: str) -> None:
        """Make one unit whose inputs are finished.

        Raises:
            ScenepaletteError: Anything that a user can fix, such as a full disk; what is finished stays.
        """
        with writing_explained(self.run_dir):
            try:
                self._make_one(name)
            except TrainingError as error:
                raise TrainingError(f"{self.run_dir / name}: {error.summary}", error.problems) from error

    def _make_one(self, name: str) -> None:
        ranks = self.ranks
        if ranks.first:  # which alone knows that the manifests before are written; the others wait for it
            self.check_inputs(name)
            self.begin(name)
        ranks.wait()
        unit = self.units[name]
        if ranks.first or unit.shared:
            with self.making(unit) if ranks.first else nullcontext(), memory_explained(unit):
                unit.make(self, work_folder(self.run_dir, unit))
        ranks.wait()
        if ranks.first:
            self.finish(name)
        if self._replans(name):
            ranks.wait()  # what is made from it is planned by all processes alike

    @contextmanager
    def making(self, unit: Unit) -> Iterator[None]:
        """Count the time that the block takes, and tell others how far it is: whoever looks on, and trackers."""
        own = self.progress
        with timed(self.run_dir, unit), tracked(self, unit), told(self.run_dir, unit.name, own) as self.progress:
            try:
                yield
            finally:
                self.progress = own

    def begin(self, name: str) -> None:
        """Mark a unit as begun; the caller holds the run directory."""
        self.sources.forget(name)
        self._units = None
        begin(self.run_dir, self.units[name], self.units)
        self.units[name].begin(self)

    def finish(self, name: str) -> None:
        """Write the manifest of a unit whose work is done."""
        unit = self.units[name]
        if isinstance(unit, SourceUnit) and unit.paths:
            # What was read, and where it lay, is known now.
            unit = replace(unit, settings={**unit.settings, "content": unit.content(self.run_dir / name)})
            paths = dict(unit.paths)
            remember(self.run_dir, lambda mark: mark.sources.update({name: paths}))
        units = {**self.units, name: unit}
        finish(self.run_dir, unit, units, unit.manifest_writer(self), extra=unit.record())

    def pairs(self, name: str) -> PairsUnit:
        """Return a unit of generated pairs, "shards/KIND", "comparison/ROW/pairs" or "curve/pairs"."""
        unit = self.units[name]
        assert isinstance(unit, PairsUnit)
        return unit

    def pair_maker(self, name: str) -> PairMaker:
        """Return what makes the pairs of a unit from finished models.

        Raises:
            ScenepaletteError: Files that they are made from are damaged.
        """
        return self.pairs(name).pair_maker(self)


def _with_curve(
    run_dir: Path, units: dict[str, Unit], comparison: dict[str, Unit], curve: dict[str, Unit]
) -> dict[str, Unit]:
    """Return the units of a run whose report shows the curve, if that of these settings is finished."""
    result = curve.get(CURVE_RESULT)
    if result is None or not is_finished(run_dir, result, units | comparison | curve):
        return units
    report = units["report"]
    return {**units, "report": replace(report, inputs=(*report.inputs, CURVE_RESULT))}


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
