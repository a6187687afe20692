"""The page of the loop: its last segmenters against those of the control, on the reported split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from scenepalette.common.errors import ScenepaletteError
from scenepalette.data.class_counts import class_counts
from scenepalette.data.shards.reading import iterate_rows
from scenepalette.evaluation.native import confusion_of_images
from scenepalette.pipeline.config import RunConfig
from scenepalette.pipeline.report.loop_page import (
    DESCRIPTIONS,
    LOOP,
    RANDOM,
    LoopInputs,
    RoundResult,
    round_name,
    write_loop,
)
from scenepalette.pipeline.report.results import REAL_ARM, ArmRun, PairSample
from scenepalette.pipeline.run_directory.study_results import REPORT
from scenepalette.pipeline.stages.inputs.fitted import resolution_of
from scenepalette.pipeline.stages.palettes import real_palettes, stored_palettes
from scenepalette.pipeline.stages.reporting.report import provenance, rare_class_problems, rare_ids_of, reported_split
from scenepalette.pipeline.stages.segment import EVALUATION_BATCH, TEST_CONFUSION, arm_settings, read_confusion
from scenepalette.pipeline.stages.studies.loop_rounds import (
    STAGE,
    TRAINED_LIKE,
    VERSION,
    LoopPairsUnit,
    Round,
    blocks_of_validation,
    budget_of,
    control_segmenters,
    read_budget,
    read_decision,
    units_of_control,
    units_of_round,
)
from scenepalette.pipeline.units.records import is_finished, seconds_spent
from scenepalette.pipeline.units.sources import Sources
from scenepalette.pipeline.units.workspace import PreparedData, Unit, Workspace, ancestors, in_order
from scenepalette.segmenters.loading import load_segmenter

SHOWN_PAIRS = 6


@dataclass(frozen=True, kw_only=True)
class LoopReportUnit(Unit):
    """The page of the loop, of as many rounds as there are.

    Attributes:
        rounds: Number of rounds.
        ended: Whether the last of them is known to be the last: then there is a control.
    """

    # The report shows it from then on.
    replans: ClassVar[bool] = True

    rounds: int
    ended: bool

    @classmethod
    def of(cls, config: RunConfig, rounds: int, units: Sequence[Unit], *, ended: bool) -> LoopReportUnit:
        """Return the unit that reads all others of the loop."""
        settings = {
            **config.report.model_dump(mode="json", include={"bootstrap_samples", "rare_classes"}),
            "rounds": config.loop.rounds,
            "seed": config.seed,
        }
        inputs = (*config.data_of_segmenters, *Round(config, 0).segmenters, *(unit.name for unit in units))
        return cls(STAGE, REPORT, VERSION, settings, inputs, renewed=True, resumable=False, rounds=rounds, ended=ended)

    @classmethod
    def problems_of_data(cls, units: Sequence[LoopReportUnit], config: RunConfig, data: PreparedData) -> list[str]:
        """Say if classes are named that there are not."""
        return rare_class_problems(config, data.train)

    def make(self, run: Workspace, folder: Path) -> None:
        """Evaluate the last segmenters on the reported split, and write the page."""
        assert self.ended, "the loop goes on"
        write_loop(folder, _measure(run, self.rounds))


def _measure(run: Workspace, count: int) -> LoopInputs:
    config, data, run_dir = run.config, run.data, run.run_dir
    train = data.train
    rounds = [Round(config, number) for number in range(count + 1)]
    seeds, control, kinds = config.segmenters.seeds, control_segmenters(config), config.loop_kinds()
    split = reported_split(run)

    def runs(name: str, units: Sequence[str], evaluated: str) -> list[ArmRun]:
        found = []
        for seed, unit in zip(seeds, units, strict=True):
            if evaluated == "validation":
                confusion = read_confusion(run_dir / unit)
            elif name == REAL_ARM:
                confusion = read_confusion(run_dir / unit, TEST_CONFUSION)
            else:
                test = run.segmenter_data.test
                assert test is not None
                segmenter = load_segmenter(run_dir / unit, arm_settings(config.segmenters, TRAINED_LIKE), train.table)
                confusion = confusion_of_images(segmenter, test, EVALUATION_BATCH, run.fabric, run.progress)
            found.append(ArmRun(name, DESCRIPTIONS.get(name, name), seed, config.segmenters.steps, confusion))
        return found

    of_rounds = {round_name(each.number) if each.number else REAL_ARM: each.segmenters for each in rounds}
    asked_pairs = {kind: [each.pairs[number] for each in rounds[1:]] for number, kind in enumerate(kinds)}
    return LoopInputs(
        dataset={**data.summary(), **resolution_of(config)},
        table=train.table,
        rounds=[
            RoundResult(
                each.number,
                each.number * config.loop.pairs * len(kinds),
                read_budget(run_dir / each.budget),
                read_decision(run_dir / each.decision),
            )
            for each in rounds[1:]
        ],
        most_rounds=config.loop.rounds,
        on_validation=[
            each for name, units in {**of_rounds, RANDOM: control}.items() for each in runs(name, units, "validation")
        ],
        validation_blocks=blocks_of_validation(run),
        reported=[
            each
            for name, units in {REAL_ARM: rounds[0].segmenters, LOOP: rounds[-1].segmenters, RANDOM: control}.items()
            for each in runs(name, units, split.name)
        ],
        split=split,
        rare_ids=rare_ids_of(config, train, class_counts(train).pixels),
        shares={
            kind: {
                "real": real_palettes(train).mean(axis=0),
                "asked": np.concatenate([stored_palettes(run_dir / name)[1] for name in names]).mean(axis=0),
                "random": stored_palettes(run_dir / STAGE / "random/pairs" / kind, count * config.loop.pairs)[1].mean(
                    axis=0
                ),
            }
            for kind, names in asked_pairs.items()
        },
        samples={kind: found for kind, names in asked_pairs.items() if (found := _samples(run, names[0]))},
        durations={
            name: seconds_spent(run_dir, unit)
            for name, unit in run.planned.loop.items()
            if unit.stage == STAGE and not isinstance(unit, LoopReportUnit)
        },
        provenance=provenance(run),
        bootstrap_samples=config.report.bootstrap_samples,
        seed=config.seed,
    )


def _samples(run: Workspace, name: str) -> list[tuple[str, PairSample]]:
    """Return pairs that were asked for a class, with its name, of as many classes as can be shown."""
    unit, names = run.units[name], run.data.train.table.names
    assert isinstance(unit, LoopPairsUnit)
    budget = budget_of(run, unit)
    asked = {index: each for index in range(budget.rows) if (each := budget.class_of(index)) is not None}
    first = {each: index for index, each in reversed(asked.items())}
    others = [index for index in asked if index not in first.values()]
    chosen = set([*first.values(), *others][:SHOWN_PAIRS])
    return [
        (
            names[asked[index]],
            PairSample(row.image, row.label, np.asarray(row.palette_target), np.asarray(row.palette_achieved)),
        )
        for index, row in enumerate(iterate_rows(run.run_dir / name))
        if index in chosen
    ]


def loop_units(config: RunConfig, sources: Sources, run_units: Mapping[str, Unit]) -> dict[str, Unit]:
    """Return the units of the loop, by name, each after those that it reads.

    There are as many rounds as finished ones gave reason for, and one more; after the last round come the control and
    the page. Pairs and segmenters of the run that the loop needs are the same units.
    """
    rounds = list[Unit]()
    for number in range(1, config.loop.rounds + 1):
        rounds += units_of_round(config, sources, number)
        decided = _decision(sources, rounds[-1], {**run_units, **{unit.name: unit for unit in rounds}})
        if decided is None or not decided:
            break
    number = rounds[-1].settings["round"]
    ended = decided is False or (decided is True and number == config.loop.rounds)
    control = units_of_control(config, sources, number) if ended else []
    units = [*rounds, *control, LoopReportUnit.of(config, number, [*rounds, *control], ended=ended)]
    own = {unit.name: unit for unit in units}
    needed = ancestors({**run_units, **own}, own)
    return in_order([*(unit for name, unit in run_units.items() if name in needed), *units])


def _decision(sources: Sources, unit: Unit, units: dict[str, Unit]) -> bool | None:
    """Return whether a round gave reason for another; None until that is known."""
    if sources.run_dir is None:
        return None
    try:
        if not is_finished(sources.run_dir, unit, units):
            return None
        return read_decision(sources.run_dir / unit.name)["continue"]
    except ScenepaletteError:
        return None  # told when the unit's state is asked for, or its result is read
