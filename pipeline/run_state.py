"""A run as it stands in its directory: its units and how far each is, its prepared data, what its documents say."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from scenepalette.common.errors import ConfigError
from scenepalette.generators.pairs.base import PairMaker
from scenepalette.pipeline.config import config_text
from scenepalette.pipeline.run_directory.manifests import MANIFEST
from scenepalette.pipeline.run_directory.ownership import CONFIG, remember, write_document, write_shards_card
from scenepalette.pipeline.run_directory.study_results import CURVE_RESULT, LOOP_RESULT
from scenepalette.pipeline.stages.generate import PairsUnit
from scenepalette.pipeline.stages.inputs.data import read_data
from scenepalette.pipeline.stages.inputs.extra_tests import EXTRA_TESTS
from scenepalette.pipeline.stages.inputs.segmenter_data import read_segmenter_data
from scenepalette.pipeline.stages.inputs.source_unit import SourceUnit, with_known_paths
from scenepalette.pipeline.stages.studies.compare import STAGE as COMPARISON
from scenepalette.pipeline.stages.studies.curve import STAGE as CURVE
from scenepalette.pipeline.stages.studies.loop_rounds import STAGE as LOOP
from scenepalette.pipeline.stages.studies.loop_rounds import decision_name
from scenepalette.pipeline.units.records import State, state_of
from scenepalette.pipeline.units.sources import Sources, may_be_there
from scenepalette.pipeline.units.workspace import PlannedUnits, PreparedData, Workspace

Read = TypeVar("Read")


@dataclass
class RunState(Workspace):
    """What there is of a run. What depends on files of the run directory is found again when these have changed.

    Attributes:
        look: Whether what lies outside the run directory is compared with what was read of it; see `Sources`.
    """

    look: bool = True
    _kept: dict[str, tuple[Any, Any]] = field(default_factory=dict, repr=False)

    @abstractmethod
    def plan(self) -> PlannedUnits:
        """Return the units that the configuration has."""

    @property
    def planned(self) -> PlannedUnits:
        """The units; planned again when one that reads sources, or decides on others, is finished in any process."""
        folders = ["data", "unlabelled", *(f"{EXTRA_TESTS}/{name}" for name in self.config.report.extra_test)]
        folders += [decision_name(number) for number in range(1, self.config.loop.rounds + 1)]
        return self._keep("units", self.plan, *folders, CURVE_RESULT, LOOP_RESULT)

    @property
    def data(self) -> PreparedData:
        """The prepared data set, read once."""
        return self._keep("data", lambda: read_data(self.run_dir / "data", self._extra_tests), "data")

    @property
    def segmenter_data(self) -> PreparedData:
        """The data set as segmenters take it, at the size that they work at."""

        def read() -> PreparedData:
            return read_segmenter_data(self.config, self.run_dir, self.data, self._extra_tests)

        return self._keep("segmenter-data", read, *self.config.data_of_segmenters)

    def _keep(self, key: str, find: Callable[[], Read], *folders: str) -> Read:
        """Return what `find` does, which is asked again once the manifests of these units have changed."""
        stamps = tuple(_stamp(self.run_dir / folder / MANIFEST) for folder in folders)
        if key not in self._kept or self._kept[key][0] != stamps:
            self._kept[key] = (stamps, find())
        return self._kept[key][1]

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
        planned = self.planned
        units = {COMPARISON: planned.comparison, CURVE: planned.curve, LOOP: planned.loop}.get(stage, planned.run)
        names = [name for name, unit in units.items() if unit.stage == stage]
        if stage == CURVE:
            if not names:
                raise ConfigError(
                    "There is no curve to draw: no arm adds generated pairs to real labels. Name one in "
                    "segmenters.arms, for example --set 'segmenters.arms=[real, semi]'."
                )
            names.append("report")  # which shows it
        there = stage == LOOP and (self.run_dir / "report" / MANIFEST).is_file()
        if there and all(map(self.is_finished, planned.run["report"].inputs)):  # there is no more to make for it
            names.append("report")
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

    def write_documents(self) -> None:
        """Write the resolved configuration and the card above all shards; the caller holds the run directory."""
        write_document(self.run_dir, CONFIG, config_text(with_known_paths(self.config, self.run_dir)))
        write_shards_card(self.run_dir)
        for name, unit in self.units.items():
            paths = dict(unit.paths) if isinstance(unit, SourceUnit) else {}
            # Where it lies now, since its content was found to be what was read.
            if paths and all(map(may_be_there, paths.values())) and self.is_finished(name):
                remember(self.run_dir, lambda mark, name=name, paths=paths: mark.sources.update({name: paths}))

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


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
