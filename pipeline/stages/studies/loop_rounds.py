"""Stage loop: rounds of pairs asked for what the current segmenter lacks, each followed by a training.

A round reads the segmenters of the one before it (of the first, the arm "real"), finds from their predictions on
validation images what they lack, asks that many pairs for each class, adds the pairs to those of earlier rounds, and
trains segmenters on real and all added pairs. Whether there is another round depends on what a round gained: its units
are planned once it is known (`loop_units` in `loop_report.py`). At last the control is trained: the same number of
pairs at random palettes, the same steps and seeds. No round reads a test split; the page that compares the two does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from scenepalette.common.errors import DataError, ScenepaletteError
from scenepalette.common.randomness import derive_seed
from scenepalette.common.storage.files import read_json, write_json
from scenepalette.data.arrays import Pairs
from scenepalette.data.class_counts import class_counts
from scenepalette.data.sequences import blocks_of
from scenepalette.data.shards.pairs import JoinedPairs, ShardPairs
from scenepalette.evaluation.deficits import class_deficits
from scenepalette.evaluation.oracle import oracle_confusion
from scenepalette.generators.pairs.base import PairMaker
from scenepalette.generators.pairs.class_budget import ClassBudget, divide_rows
from scenepalette.generators.pairs.registry import PAIR_KINDS
from scenepalette.generators.pairs.segment_bank import bank_problems, build_bank, chosen_classes
from scenepalette.pipeline.config import RunConfig
from scenepalette.pipeline.report.results import REAL_ARM, ArmRun
from scenepalette.pipeline.report.statistics import compare
from scenepalette.pipeline.run_directory.study_results import LOOP
from scenepalette.pipeline.stages.generate import PairsUnit, pair_models
from scenepalette.pipeline.stages.segment import (
    CONFUSION,
    SegmenterUnit,
    arm_settings,
    read_confusion,
    segmenter_name,
    train_arm,
)
from scenepalette.pipeline.units.sources import Sources
from scenepalette.pipeline.units.workspace import PreparedData, Unit, Workspace
from scenepalette.segmenters.loading import WEIGHTS_FILE
from scenepalette.segmenters.stride import decoder_stride
from scenepalette.training.loop import METRICS_FILE

VERSION = 1
STAGE = LOOP
BUDGET = "budget.json"
DECISION = "decision.json"
CACHE_BYTES = 256 * 2**20
"""Of encoded pairs that a training keeps in memory, of all rounds together."""
TRAINED_LIKE = "real+syn"
"""The arm whose settings the segmenters of the loop have: real pairs and generated ones, nothing else."""


@dataclass(frozen=True, kw_only=True)
class BudgetUnit(Unit):
    """How many pairs of a round are asked for each class.

    Attributes:
        before: Units of the current segmenters, one for each seed.
    """

    computes: ClassVar[bool] = False

    before: tuple[str, ...]

    @classmethod
    def problems(cls, units: Sequence[BudgetUnit], config: RunConfig, *, fetch: bool) -> list[str]:
        """Say if there is no kind of pairs to ask, or nothing to ask them for."""
        able = ", ".join(name for name, kind in PAIR_KINDS.items() if kind.takes_budget)
        problems = []
        if config.segmenters.command.train:
            problems.append(
                "segmenters.command: the loop trains this package's networks, and asks them what they lack; leave the "
                "commands out, in another run directory"
            )
        if not config.loop_kinds():
            problems.append(f"generate.kinds: the loop asks pairs for classes, which these kinds take: {able}; add one")
        if "full" in config.loop_kinds() and config.generate.palette:
            problems.append(
                "generate.palette: it is the palette of every full layout, so that the loop can ask for none; leave it "
                "out, or set loop.kinds to other kinds"
            )
        return problems

    @classmethod
    def problems_of_data(cls, units: Sequence[BudgetUnit], config: RunConfig, data: PreparedData) -> list[str]:
        """Say if no evaluated class can be asked of a kind."""
        table, problems = data.train.table, []
        for kind in config.loop_kinds():
            if PAIR_KINDS[kind].layout_section is None and bank_problems(data.train, config.generate.insert_classes):
                continue  # told with the pairs
            out = unable(config, kind, data.train)
            if all(table.names[index] in out for index in table.eval_ids):
                reasons = "; ".join(f"{name} is {reason}" for name, reason in out.items())
                problems.append(f"loop.kinds: no evaluated class can be asked of {kind} pairs ({reasons})")
        return problems

    def make(self, run: Workspace, folder: Path) -> None:
        """Find what the segmenters lack, and divide the round's pairs."""
        budget = _budget_for(run, self.before)
        if not any(budget["asked"].values()):
            raise DataError(
                f"{self.name}: there is nothing to ask for. {nothing_lacking(budget['lacking'], budget['left_out'])} "
                "Generated pairs for single classes cannot help here; see the report for what can."
            )
        write_json(folder / BUDGET, budget)


def _budget_for(run: Workspace, segmenters: Sequence[str]) -> dict[str, Any]:
    """Return what `read_budget` does: what segmenters lack, and how many pairs are asked for it."""
    config, train, validation = run.config, run.data.train, run.segmenter_data.validation
    names = train.table.names
    confusions = [read_confusion(run.run_dir / name) for name in segmenters]
    stride = decoder_stride(arm_settings(config.segmenters, REAL_ARM), config.segmenter_size)
    oracle = None if stride is None else oracle_confusion(validation.labels, len(names), stride)
    reached, lacking = class_deficits(confusions, train.table.eval_ids, oracle)
    asked, left_out = {}, dict[str, dict[str, str]]()
    for kind in config.loop_kinds():
        out = {name: text for name, text in unable(config, kind, train).items() if lacking[names.index(name)] > 0}
        weights = [0.0 if name in out else float(value) for name, value in zip(names, lacking, strict=True)]
        counts = divide_rows(config.loop.pairs, config.loop.share, weights)
        asked[kind] = {name: int(count) for name, count in zip(names, counts, strict=True) if count}
        left_out[kind] = out
    found = {"reached": _by_name(names, reached), "lacking": _by_name(names, lacking)}
    return {**found, "asked": asked, "left_out": left_out}


def _by_name(names: Sequence[str], values: np.ndarray) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else float(value) for name, value in zip(names, values, strict=True)}


def nothing_lacking(lacking: Mapping[str, float | None], left_out: Mapping[str, Mapping[str, str]]) -> str:
    """Say why no class is asked for."""
    missed = ", ".join(name for name, value in lacking.items() if value)
    if not missed:
        return "The segmenters lack nothing on validation images that a network of their stride can reach."
    reasons = "; ".join(
        f"{kind}: {name} is {text}" for kind, entries in left_out.items() for name, text in entries.items()
    )
    return f"What they lack ({missed}) cannot be generated ({reasons})."


def unable(config: RunConfig, kind: str, train: Pairs) -> dict[str, str]:
    """Return the classes that rows of a kind cannot be asked for, each with the reason."""
    table, reasons, present = train.table, dict[str, str](), class_counts(train).pixels > 0
    placeable = range(table.num_classes)
    if PAIR_KINDS[kind].layout_section is None:
        placeable = build_bank(train, chosen_classes(train, config.generate.insert_classes)).classes
    for index, name in enumerate(table.names):
        if not present[index]:
            reasons[name] = "in no training image"
        elif index not in placeable:
            reasons[name] = "not among the objects that are inserted (generate.insert_classes)"
        elif name in config.generate.ban and PAIR_KINDS[kind].layout_section is not None:
            reasons[name] = "banned by generate.ban"
    return reasons


def read_budget(folder: Path) -> dict[str, Any]:
    """Return what `BudgetUnit` wrote.

    Raises:
        DataError: The file is missing or damaged.
    """
    return _read(folder / BUDGET, ("reached", "lacking", "asked", "left_out"))


def _read(path: Path, keys: Sequence[str]) -> dict[str, Any]:
    try:
        document = read_json(path)
        if missing := [key for key in keys if key not in document]:
            raise KeyError(*missing)
    except (ScenepaletteError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} cannot be read ({error!r}). Remove {path.parent} and rerun the same command."
        ) from error
    return document


@dataclass(frozen=True, kw_only=True)
class LoopPairsUnit(PairsUnit):
    """Pairs of a round, asked for classes, or those of the control, which are not.

    Attributes:
        budget: Name of the unit of the budget; None for pairs of the control.
    """

    budget: str | None

    @classmethod
    def of_round(cls, config: RunConfig, kind: str, part: str, rows: int, budget: str | None) -> LoopPairsUnit:
        """Return the unit of a name within the stage."""
        like = PairsUnit.of(config, part, pair_models(config, kind), rows, config.generate.noise_scheme, stage=STAGE)
        inputs, settings = (*like.inputs, *([budget] if budget else [])), {**like.settings, "part": part}
        return cls(**{**vars(like), "inputs": inputs, "settings": settings}, budget=budget)

    def pair_maker(self, run: Workspace) -> PairMaker:
        """Return what makes the pairs, from randomness of their own."""
        maker = super().pair_maker(run)
        return replace(maker, seed=self.seed_of_rows(run.config), budget=budget_of(run, self))

    def seed_of_rows(self, config: RunConfig) -> int:
        """Return the seed of the rows' randomness."""
        return derive_seed(config.seed, STAGE, self.part)


def budget_of(run: Workspace, unit: LoopPairsUnit) -> ClassBudget:
    """Return what each row of a unit is asked for; its budget is finished."""
    names, asked = run.data.train.table.names, dict[str, int]()
    if unit.budget is not None:
        asked = read_budget(run.run_dir / unit.budget)["asked"][unit.models.kind.name]
    assert unit.rows is not None
    return ClassBudget(tuple(asked.get(name, 0) for name in names), unit.rows, unit.seed_of_rows(run.config))


@dataclass(frozen=True, kw_only=True)
class LoopSegmenterUnit(Unit):
    """The training of a segmenter on real pairs and those of rounds, and its predictions on validation images.

    Attributes:
        pools: Units of the generated pairs.
        seed: Seed of the training.
    """

    pools: tuple[str, ...]
    seed: int

    @classmethod
    def of_round(
        cls, config: RunConfig, sources: Sources, part: str, seed: int, pools: Sequence[str], pairs: int
    ) -> LoopSegmenterUnit:
        """Return the unit of a name within the stage; `pairs` is the number of rows in all pools."""
        like = SegmenterUnit.of(config, sources, part, TRAINED_LIKE, seed, None, stage=STAGE)
        settings = {**like.settings, "pairs": pairs, "segmenter_version": like.version}
        files = (WEIGHTS_FILE, METRICS_FILE, CONFUSION)
        return cls(
            STAGE, part, VERSION, settings, (*config.data_of_segmenters, *pools), files, pools=tuple(pools), seed=seed
        )

    @classmethod
    def problems(cls, units: Sequence[LoopSegmenterUnit], config: RunConfig, *, fetch: bool) -> list[str]:
        """Return what is wrong with the segmenters' settings."""
        like = [SegmenterUnit.of(config, Sources(), units[0].part, TRAINED_LIKE, units[0].seed, None, stage=STAGE)]
        texts = SegmenterUnit.problems(like, config, fetch=fetch)
        return [text.replace(f"(arms: {TRAINED_LIKE})", "(the loop's segmenters)") for text in texts]

    @classmethod
    def problems_of_data(cls, units: Sequence[LoopSegmenterUnit], config: RunConfig, data: PreparedData) -> list[str]:
        """Return what is wrong with the classes that settings name."""
        return SegmenterUnit.problems_of_data([], config, data)

    def make(self, run: Workspace, folder: Path) -> None:
        """Train the segmenter and evaluate it on validation images."""
        data, size = run.segmenter_data, run.config.segmenter_size
        cache = CACHE_BYTES // len(self.pools)
        train_arm(
            folder,
            TRAINED_LIKE,
            run.config.segmenters,
            train=data.train,
            validation=data.validation,
            synthetic=JoinedPairs(
                [ShardPairs(run.run_dir / name, cache_bytes=cache, size=size) for name in self.pools]
            ),
            seed=self.seed,
            fabric=run.fabric,
            progress=run.progress,
            tensorboard=run.config.compute.writes_tensorboard,
        )


@dataclass(frozen=True, kw_only=True)
class DecisionUnit(Unit):
    """What a round gained, and whether that is reason for another: if something to ask for is lacking still.

    It reads units of segmenters before and after the round, one for each seed.
    """

    computes: ClassVar[bool] = False
    replans: ClassVar[bool] = True

    before: tuple[str, ...]
    after: tuple[str, ...]

    def make(self, run: Workspace, folder: Path) -> None:
        """Compare the segmenters before and after the round on validation images."""
        config, table = run.config, run.data.train.table
        seeds, names = config.segmenters.seeds, ("before", "after")
        runs = [
            ArmRun(name, name, seed, config.segmenters.steps, read_confusion(run.run_dir / unit))
            for name, units in zip((REAL_ARM, *names), (self.before, self.before, self.after), strict=True)
            for seed, unit in zip(seeds, units, strict=True)
        ]
        found = compare(
            runs,
            table.eval_ids,
            config.report.bootstrap_samples,
            config.seed,
            blocks=blocks_of_validation(run),
            treatments=("after",),
            controls=("before",),
        ).primary
        assert found is not None
        gain, detectable = found.miou.mean, None if math.isnan(found.detectable) else found.detectable
        least = least_gain(config.report.smallest_gain, detectable)
        found = {"gain": gain, "ci95": [found.miou.low, found.miou.high], "detectable": detectable}
        goes_on = bool(gain >= least) and any(_budget_for(run, self.after)["asked"].values())
        write_json(folder / DECISION, {**found, "least": least, "continue": goes_on})


def least_gain(smallest: float, detectable: float | None) -> float:
    """Return the gain in mIoU below which a round is the last.

    Args:
        smallest: `report.smallest_gain`.
        detectable: Smallest effect that these seeds and images can show; None with one seed, which says nothing of it.
    """
    return max(smallest, detectable or 0.0)


def blocks_of_validation(run: Workspace) -> np.ndarray | None:
    """Return the block of consecutive frames of each validation image; None if images are independent."""
    return blocks_of(run.segmenter_data.validation.image_ids) if run.config.data.recordings else None


def read_decision(folder: Path) -> dict[str, Any]:
    """Return what `DecisionUnit` wrote.

    Raises:
        DataError: The file is missing or damaged.
    """
    return _read(folder / DECISION, ("gain", "ci95", "detectable", "least", "continue"))


def decision_name(number: int) -> str:
    """Return the unit that decides whether a round, from 1, was the last."""
    return f"{STAGE}/{_decision_part(number)}"


def _decision_part(number: int) -> str:
    return f"round{number}/decision"


class Round:
    """The units of a round, from 1: their parts within the stage, and their names; round 0 is the arm "real"."""

    def __init__(self, config: RunConfig, number: int) -> None:
        self.number, home = number, f"round{number}"
        seeds, kinds = config.segmenters.seeds, config.loop_kinds()
        self.budget_part, self.decision_part = f"{home}/budget", _decision_part(number)
        self.pair_parts = tuple(f"{home}/pairs/{kind}" for kind in kinds) if number else ()
        self.segmenter_parts = tuple(f"{home}/seed{seed}" for seed in seeds) if number else ()
        self.budget, self.decision = f"{STAGE}/{self.budget_part}", decision_name(number)
        self.pairs = tuple(f"{STAGE}/{part}" for part in self.pair_parts)
        self.segmenters = tuple(f"{STAGE}/{part}" for part in self.segmenter_parts)
        if not number:
            self.segmenters = tuple(segmenter_name(REAL_ARM, seed) for seed in seeds)


def units_of_round(config: RunConfig, sources: Sources, number: int) -> list[Unit]:
    """Return the units of a round, from 1."""
    rounds = [Round(config, each) for each in range(number + 1)]
    now, before = rounds[-1], rounds[-2]
    loop, identity = config.loop, {"round": number, "seed": config.seed}
    settings = {**identity, "pairs": loop.pairs, "share": loop.share, "kinds": list(config.loop_kinds())}
    settings |= {"ban": list(config.generate.ban), "insert_classes": list(config.generate.insert_classes)}
    pools = [name for each in rounds for name in each.pairs]
    deciding = config.report.model_dump(mode="json", include={"smallest_gain", "bootstrap_samples"})
    return [
        BudgetUnit(
            STAGE,
            now.budget_part,
            VERSION,
            settings,
            (*config.data_of_segmenters, *before.segmenters),
            (BUDGET,),
            resumable=False,
            before=before.segmenters,
        ),
        *(
            LoopPairsUnit.of_round(config, kind, part, loop.pairs, now.budget)
            for kind, part in zip(config.loop_kinds(), now.pair_parts, strict=True)
        ),
        *(
            LoopSegmenterUnit.of_round(config, sources, part, seed, pools, loop.pairs * len(pools))
            for seed, part in zip(config.segmenters.seeds, now.segmenter_parts, strict=True)
        ),
        DecisionUnit(
            STAGE,
            now.decision_part,
            VERSION,
            {**identity, **deciding},
            (*config.data_of_segmenters, *before.segmenters, *now.segmenters),
            (DECISION,),
            renewed=True,
            resumable=False,
            before=before.segmenters,
            after=now.segmenters,
        ),
    ]


def units_of_control(config: RunConfig, sources: Sources, rounds: int) -> list[Unit]:
    """Return the units of the control: as many pairs as some rounds added, at random palettes."""
    count, kinds = rounds * config.loop.pairs, config.loop_kinds()
    pairs = [LoopPairsUnit.of_round(config, kind, f"random/pairs/{kind}", count, None) for kind in kinds]
    pools = [unit.name for unit in pairs]
    return [
        *pairs,
        *(
            LoopSegmenterUnit.of_round(config, sources, _control_part(seed), seed, pools, count * len(kinds))
            for seed in config.segmenters.seeds
        ),
    ]


def control_segmenters(config: RunConfig) -> tuple[str, ...]:
    """Return the units of the control's segmenters, one for each seed."""
    return tuple(f"{STAGE}/{_control_part(seed)}" for seed in config.segmenters.seeds)


def _control_part(seed: int) -> str:
    return f"random/seed{seed}"
