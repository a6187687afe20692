"""The units of a run, each after those that it reads, and how one is made with all that it needs.

`run.make` makes units of the run directory and whatever unfinished unit they are made from; what a unit does is in its
stage's file in `pipeline/stages/`. The command line and the flows call this and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from scenepalette.common.errors import ConfigError, TrainingError
from scenepalette.common.storage.files import writing_explained
from scenepalette.pipeline.checks.preflight import data_problems, device_problems, settings_problems
from scenepalette.pipeline.config import RunConfig, load_config
from scenepalette.pipeline.device.beside import make_beside, trainings_at_once
from scenepalette.pipeline.device.memory import memory_explained
from scenepalette.pipeline.run_directory.activity import told
from scenepalette.pipeline.run_directory.manifests import MANIFEST
from scenepalette.pipeline.run_directory.ownership import CONFIG, check_holds_run, exclusive, remember
from scenepalette.pipeline.run_directory.study_results import CURVE_RESULT, LOOP_RESULT
from scenepalette.pipeline.run_state import RunState
from scenepalette.pipeline.stages.generate import PairsUnit, model_units
from scenepalette.pipeline.stages.inputs.data import DataUnit
from scenepalette.pipeline.stages.inputs.extra_tests import ExtraTestUnit
from scenepalette.pipeline.stages.inputs.segmenter_data import SegmenterDataUnit
from scenepalette.pipeline.stages.inputs.source_unit import SourceUnit
from scenepalette.pipeline.stages.inputs.unlabelled_images import UnlabelledUnit
from scenepalette.pipeline.stages.pair_quality.quality import quality_units
from scenepalette.pipeline.stages.pair_quality.teachers import TeacherUnit, needs_teachers
from scenepalette.pipeline.stages.palettes import PalettesUnit
from scenepalette.pipeline.stages.reporting.pooling import pooling_problems
from scenepalette.pipeline.stages.reporting.report import ReportUnit
from scenepalette.pipeline.stages.segment import SegmenterUnit
from scenepalette.pipeline.stages.segment_by_command import CommandSegmenterUnit
from scenepalette.pipeline.stages.studies.compare import STAGE as COMPARISON
from scenepalette.pipeline.stages.studies.compare import comparison_units
from scenepalette.pipeline.stages.studies.curve import curve_units
from scenepalette.pipeline.stages.studies.loop_report import loop_units
from scenepalette.pipeline.units.borrowing import lending_problems
from scenepalette.pipeline.units.records import begin, finish, is_finished, misfits, timed, work_folder
from scenepalette.pipeline.units.sources import Sources
from scenepalette.pipeline.units.tracking import tracked
from scenepalette.pipeline.units.workspace import PlannedUnits, Unit, ancestors, in_order


def units_of(config: RunConfig, sources: Sources | None = None) -> dict[str, Unit]:
    """Return all units of a run by name, each after those that it reads.

    Without `sources`, what is read from outside is as if it were read for the first time.
    """
    sources = sources or Sources()
    pairs = PairsUnit.of_kinds(config)
    units: list[Unit] = [
        DataUnit.of(config, sources),
        *ExtraTestUnit.of_names(config, sources),
        *SegmenterDataUnit.of_config(config),
        *([UnlabelledUnit.of(config, sources)] if config.generate.predicts else []),
        PalettesUnit.of(config),
        *model_units(config, sources, [unit.models for unit in pairs]),
        *pairs,
        *(TeacherUnit.of_folds(config, sources) if needs_teachers(config) else []),
        *quality_units(config),
        *(CommandSegmenterUnit if config.segmenters.command.train else SegmenterUnit).of_arms(config, sources),
    ]
    return in_order([*units, ReportUnit.of(config, sources, units)])


@dataclass
class Run(RunState):
    """A configuration, its run directory, and the work that turns the one into the other."""

    _checked: set[str] = field(default_factory=set, repr=False)

    @classmethod
    def open(cls, run_dir: Path) -> Run:
        """Return a run that is there, to use what it has made; nothing outside its directory is needed for that.

        Raises:
            ScenepaletteError: The folder holds no run of this version.
        """
        check_holds_run(run_dir)
        # Trackers are told of trainings, and need not be installed where none is.
        return cls(load_config(str(run_dir / CONFIG), ["compute.tracking=[]"], written=True), run_dir, look=False)

    def plan(self) -> PlannedUnits:
        """Return the units that the configuration has."""
        config, sources = self.config, self.sources
        run = units_of(config, sources)
        comparison, loop = comparison_units(config, sources, run), loop_units(config, sources, run)
        curve = {unit.name: unit for unit in curve_units(config, sources)}
        studies = comparison | curve | loop
        # The report shows what is finished with these settings. What lies there unfinished, or damaged, concerns
        # whoever asks for the study, and no other verb.
        shown = [
            name
            for name in (CURVE_RESULT, LOOP_RESULT)
            if name in studies
            and (self.run_dir / name / MANIFEST).is_file()
            and is_finished(self.run_dir, studies[name], run | studies)
        ]
        run["report"] = replace(run["report"], inputs=(*run["report"].inputs, *shown))
        return PlannedUnits(run, comparison, curve, loop)

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
        unread = {name for name in states if isinstance(units[name], SourceUnit) and states[name].status == "missing"}
        others = [
            name
            for name in units
            if name in states and states[name].status == "other" and not unread & ancestors(units, units[name].inputs)
        ]
        if others:
            raise misfits(self.run_dir, others, units)
        missing = [name for name in units if name in states and states[name].status != "finished"]
        self._check_before(missing)
        return missing

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

        That is one unit, or trainings of which at least two can begin now, with those that wait for them alone.
        """
        missing = self.missing(names)
        self.ranks.wait()  # all have planned before the first of them changes anything
        while missing:
            together = self._beside(missing)
            yield together
            if any(self.units[name].replans for name in together):
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
        """Return the next unit, or the trainings that can be done beside it."""
        if self.ranks.count > 1:  # all of whom do the same; the first may still be writing what is looked at here
            return [missing[0]]
        units, finished = self.units, cache(self.is_finished)
        trainings = [name for name in missing if self._trains_beside(units[missing[0]], units[name])]
        ready = [name for name in trainings if all(finished(other) for other in units[name].inputs)]
        if missing[0] not in trainings or len(ready) < 2 or self._at_once(units[missing[0]]) == 1:
            return [missing[0]]
        together = list[str]()
        for name in trainings:
            if all(other in together or finished(other) for other in units[name].inputs):
                together.append(name)
        return together

    def _trains_beside(self, first: Unit, unit: Unit) -> bool:
        """Tell whether a unit may be made at the same time as the first."""
        segmenters = [isinstance(each, SegmenterUnit) for each in (first, unit)]
        if self.config.segmenters.parallel is not None and any(segmenters):
            return all(segmenters)
        # How long the systems of a comparison take is compared.
        return first.trains and unit.trains and COMPARISON not in (first.stage, unit.stage)

    def _at_once(self, first: Unit) -> int:
        """Return how many trainings are done at once, given the first."""
        if isinstance(first, SegmenterUnit) and (count := self.config.segmenters.parallel) is not None:
            return count
        return trainings_at_once(self.config, self.threads.threads)

    def make_together(self, names: Sequence[str]) -> None:
        """Make what `each_missing` yields, as far as it is not finished; raises as `make_one` does."""
        if len(names) == 1:
            self.make_one(names[0])
            return
        with writing_explained(self.run_dir):
            # None, if a flow tries again what had been made when it failed.
            if left := [name for name in names if not self.is_finished(name)]:
                make_beside(self, left, min(len(left), self._at_once(self.units[names[0]])))

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
        if unit.replans:
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
        self._kept.pop("units", None)
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
