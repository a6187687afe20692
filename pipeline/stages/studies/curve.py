"""Stage curve: segmenters on parts of the real pairs and on fewer or more generated ones, and what follows from them.

A point of the curve is a part of the real pairs and a dose, the number of generated pairs as a multiple of those that
arms take; dose 0 is the arm without them. All points take equally many steps of equally many images. The generators are
those of the run, which learned from all real pairs: on parts they flatter generated pairs, and the report says so.
Generated pairs that are made from real ones outside the part are left out with these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

from scenepalette.common.errors import DataError
from scenepalette.common.storage.files import write_json
from scenepalette.data.arrays import Pairs
from scenepalette.data.classes import IGNORE_ID, ClassTable
from scenepalette.data.sequences import blocks_of
from scenepalette.data.sequences import sources_of as images_of
from scenepalette.data.shards.pairs import ChosenPairs
from scenepalette.data.shards.schema import as_text
from scenepalette.data.splits.parts import order_of_parts, part_of, size_of_part
from scenepalette.pipeline.arms import ARMS, added_kind
from scenepalette.pipeline.config import RunConfig
from scenepalette.pipeline.report.results import REAL_ARM, ArmRun
from scenepalette.pipeline.report.sections.curve import CurvePoint, curve_document, to_percent
from scenepalette.pipeline.run_directory.study_results import CURVE, RESULT
from scenepalette.pipeline.stages.generate import PairsUnit, pair_models
from scenepalette.pipeline.stages.pair_quality.quality import QualityUnit, sources_of
from scenepalette.pipeline.stages.segment import (
    CONFUSION,
    TEST_CONFUSION,
    SegmenterUnit,
    part_of_arm,
    read_confusion,
    segmenter_name,
    taken_pairs,
)
from scenepalette.pipeline.trusted import TakenPairs
from scenepalette.pipeline.units.records import seconds_spent
from scenepalette.pipeline.units.sources import Sources
from scenepalette.pipeline.units.workspace import PreparedData, Unit, Workspace

VERSION = 1
STAGE = CURVE
RESULT_FILE = "curve.json"
PAIRS, QUALITY = "pairs", "quality"
MORE_PAIRS, THEIR_SCORES = f"{STAGE}/{PAIRS}", f"{STAGE}/{QUALITY}"
"""The units of the pairs for doses above 1, those of the kind's shards and more, and of their scores."""


class Point(NamedTuple):
    """A point of the curve.

    Attributes:
        labels: Fraction of the real pairs.
        dose: Generated pairs as a multiple of `generate.pairs`; 0 for none.
    """

    labels: float
    dose: float


def points_of(config: RunConfig) -> list[Point]:
    """Return all points: every part of the real pairs with and without generated pairs, and all of them with doses."""
    labels, doses = sorted({*config.curve.labels, 1.0}), sorted({*config.curve.doses, 1.0})
    alone = [Point(fraction, 0.0) for fraction in labels]
    return [*alone, *(Point(fraction, 1.0) for fraction in labels[:-1]), *(Point(1.0, dose) for dose in doses)]


def control_of(arm: str) -> str:
    """Return the arm that differs from one in its lack of generated pairs alone; "real" if there is none.

    What pastes real classes into real images, say, has to be set against an arm that does so too.
    """
    wanted = replace(ARMS[arm], description="", synthetic=None, adaptation="none", trust="none")
    return next((name for name in ARMS if replace(ARMS[name], description="") == wanted), REAL_ARM)


def seeds_of(config: RunConfig) -> tuple[int, ...]:
    """Return the seeds that every point is trained with."""
    return config.curve.seeds or config.segmenters.seeds


def pairs_of(config: RunConfig, dose: float) -> int:
    """Return how many generated pairs a dose is."""
    return max(1, int(dose * config.generate.pairs + 0.5))


@dataclass(frozen=True, kw_only=True)
class PointUnit(SegmenterUnit):
    """The segmenter of a point and seed that no arm of the run has.

    Attributes:
        labels: Fraction of the real pairs.
    """

    labels: float

    @classmethod
    def at(cls, config: RunConfig, sources: Sources, point: Point, arm: str, seed: int) -> PointUnit:
        """Return the unit of a point."""
        kind = added_kind(arm)
        assert kind is not None  # which the configuration sees to
        pairs = taken_pairs(config, kind)._replace(count=pairs_of(config, point.dose)) if point.dose else None
        if pairs is not None and point.dose > 1:
            pairs = pairs._replace(unit=MORE_PAIRS, scores=THEIR_SCORES)
        where = f"dose{point.dose:g}" if point.labels == 1 and point.dose else f"labels{to_percent(point.labels)}"
        trained = arm if point.dose else control_of(arm)
        like = SegmenterUnit.of(
            config, sources, f"{where}/{part_of_arm(trained, seed)}", trained, seed, pairs, stage=STAGE
        )
        settings = {**like.settings, "segmenter_version": like.version}
        if point.labels < 1:
            settings |= {"labels": point.labels, "seed_of_parts": config.data_seed}
        return cls(**{**vars(like), "version": VERSION, "settings": settings}, labels=point.labels)

    @classmethod
    def problems(cls, units: Sequence[SegmenterUnit], config: RunConfig, *, fetch: bool) -> list[str]:
        """Return what is wrong with the segmenters, and which doses are smaller than a batch."""
        if config.segmenters.command.train:
            return [
                "segmenters.command: the curve trains this package's networks; leave the commands out, in another run "
                "directory"
            ]
        size, counts = config.segmenters.batch_size, {unit.pairs.count for unit in units if unit.pairs is not None}
        unchosen = [
            f"curve.doses: generate.candidates is {config.generate.candidates}, so that generate.pairs rows are chosen "
            "and a larger dose would hold others that are not; leave out doses above 1, or set generate.candidates to 1"
            for unit in units
            if config.generate.candidates > 1 and unit.pairs is not None and unit.pairs.unit == MORE_PAIRS
        ]
        small = [
            f"curve.doses: {count / config.generate.pairs:g} of {config.generate.pairs} generated pairs are {count}, "
            f"fewer than the {size} images of a step; raise it or generate.pairs, or lower segmenters.batch_size"
            for count in sorted(counts)
            if count < size
        ]
        return [*super().problems(units, config, fetch=fetch), *unchosen[:1], *small]

    @classmethod
    def problems_of_data(cls, units: Sequence[SegmenterUnit], config: RunConfig, data: PreparedData) -> list[str]:
        """Return what is wrong with classes, and which parts are too small or lack one."""
        parts = sorted({unit.labels for unit in units if isinstance(unit, PointUnit)} - {1.0})
        train = data.train
        order = order_of_parts(train.ids, config.data_seed, recordings=config.data.recordings)
        return super().problems_of_data(units, config, data) + part_problems(
            order, train.labels, train.table, parts, config.segmenters.batch_size
        )

    def real_pairs(self, run: Workspace) -> Pairs | ChosenPairs:
        """Return the part of the real pairs that the point takes."""
        train = super().real_pairs(run)
        if self.labels == 1:
            return train
        assert isinstance(train, Pairs)
        return ChosenPairs(train, chosen_part(run, self.labels))

    def generated_pairs(self, run: Workspace) -> ChosenPairs | None:
        """Return the generated pairs that were made from no real one outside the part.

        Raises:
            DataError: They are fewer than the images of a step.
        """
        pairs = super().generated_pairs(run)
        if pairs is None or self.labels == 1:
            return pairs
        assert self.pairs is not None
        rows, size = rows_within(run, self.pairs, self.labels), run.config.segmenters.batch_size
        if len(rows) < size:
            raise DataError(
                f"curve.labels: of {len(pairs)} {added_kind(self.arm)} pairs, {len(rows)} are made from nothing but "
                f"the {to_percent(self.labels)} % of the real pairs that they are added to, fewer than the {size} "
                f"images of a step. Raise generate.pairs, or take {self.labels:g} out of curve.labels."
            )
        return ChosenPairs(pairs, rows)


def part_problems(
    order: np.ndarray, labels: np.ndarray, table: ClassTable, fractions: Sequence[float], batch_size: int
) -> list[str]:
    """Return why segmenters cannot be trained on parts of the real pairs, one text each.

    Args:
        order: Result of `order_of_parts`.
        labels: uint8 [N, H, W].
        table: The classes; those that are not evaluated, or that no image shows, need not be seen.
        fractions: The parts.
        batch_size: Images of a step.
    """
    count, problems = len(order), []
    if not fractions:
        return []
    # The place in the order at which each class is first seen; N if never.
    first = np.full(IGNORE_ID + 1, count)
    for place, index in enumerate(order):
        found = np.unique(labels[index])
        first[found] = np.minimum(first[found], place)
    needed = max((int(first[index]) + 1 for index in table.eval_ids if first[index] < count), default=1)
    for fraction in fractions:
        size = size_of_part(count, fraction)
        part = f"curve.labels: {fraction:g} of {count} real pairs are {size}"
        lacking = [table.names[index] for index in table.eval_ids if size <= first[index] < count]
        if size < batch_size:
            problems.append(
                f"{part}, fewer than the {batch_size} images of a step; raise it, or lower segmenters.batch_size"
            )
        if lacking:
            shown = np.ceil(1000 * needed / count) / 1000
            remedy = f"the smallest part that shows every class is {shown:g}" if shown < 1 else "leave it out"
            problems.append(f"{part}, which show no {', '.join(lacking)}; {remedy}")
    return problems


def chosen_part(run: Workspace, fraction: float) -> np.ndarray:
    """Return the indices of a part of the real training pairs, ascending."""
    config, train = run.config, run.segmenter_data.train
    return part_of(train.ids, fraction, config.data_seed, recordings=config.data.recordings)


def rows_within(run: Workspace, pairs: TakenPairs, fraction: float) -> np.ndarray:
    """Return the rows of some pairs that were made from no real pair outside a part."""
    ids = [as_text(name) for name in run.segmenter_data.train.ids]
    outside = set(ids) - {ids[index] for index in chosen_part(run, fraction)}
    sources = sources_of(run.run_dir / pairs.unit)[: pairs.count]
    return np.flatnonzero([outside.isdisjoint(of_row) for of_row in sources])


@dataclass(frozen=True, kw_only=True)
class CurveUnit(Unit):
    """What the trainings of all points say.

    Attributes:
        arm: The arm with generated pairs.
        trained: Units of the segmenters of each point, in the order of `seeds`.
        seeds: Their seeds.
    """

    # The report shows it from then on.
    replans: ClassVar[bool] = True

    arm: str
    trained: Mapping[Point, tuple[str, ...]]
    seeds: tuple[int, ...]

    def make(self, run: Workspace, folder: Path) -> None:
        """Compare the points."""
        config, data = run.config, run.segmenter_data
        file = TEST_CONFUSION if data.has_test else CONFUSION
        reported = data.validation if data.test is None else data.test
        kind = added_kind(self.arm)
        assert kind is not None
        points = []
        for point, names in self.trained.items():
            unit = run.units[names[0]]
            assert isinstance(unit, SegmenterUnit)
            pairs = 0 if unit.pairs is None else unit.pairs.count
            if unit.pairs is not None and point.labels < 1:
                pairs = len(rows_within(run, unit.pairs, point.labels))
            points.append(
                CurvePoint(
                    labels=point.labels,
                    images=len(images_of([data.train.ids[index] for index in chosen_part(run, point.labels)])[0]),
                    dose=point.dose,
                    pairs=pairs,
                    runs=[
                        ArmRun(
                            name=f"{point.labels:g} {point.dose:g}",
                            description="",
                            seed=seed,
                            steps=unit.steps,
                            confusion=read_confusion(run.run_dir / name, file),
                            images_per_step=config.segmenters.batch_size,
                        )
                        for seed, name in zip(self.seeds, names, strict=True)
                    ],
                )
            )
        made = [unit for name in self.inputs if (unit := run.units[name]).stage == STAGE]
        document = curve_document(
            arm=self.arm,
            kind=kind,
            control=control_of(self.arm),
            points=points,
            eval_ids=data.train.table.eval_ids,
            blocks=blocks_of(reported.image_ids) if config.data.recordings else None,
            bootstrap_samples=config.report.bootstrap_samples,
            seed=config.seed,
            evaluated_on="test" if data.has_test else "validation",
            seconds=sum(seconds_spent(run.run_dir, unit) for unit in made),
            judged=ARMS[self.arm].trust != "none",
        )
        write_json(folder / RESULT_FILE, document)


def curve_units(config: RunConfig, sources: Sources) -> list[Unit]:
    """Return the pairs, scores and segmenters that the curve needs beside those of the run, and its result.

    Nothing if no arm adds generated pairs to real labels.
    """
    arm = config.curve_arm()
    if arm is None:
        return []
    kind = added_kind(arm)
    assert kind is not None  # which the configuration sees to
    points, seeds = points_of(config), seeds_of(config)
    made = {segmenter_name(arm, seed) for arm in config.segmenters.arms for seed in config.segmenters.seeds}
    units: list[Unit] = []
    rows = pairs_of(config, max(point.dose for point in points))
    more = rows > config.generate.pairs
    if more:
        units.append(
            PairsUnit.of(config, PAIRS, pair_models(config, kind), rows, config.generate.noise_scheme, stage=STAGE)
        )
        if ARMS[arm].trust != "none":
            units.append(QualityUnit.of(config, STAGE, QUALITY, kind, MORE_PAIRS, rows))
    trained: dict[Point, list[str]] = {point: [] for point in points}
    for point in points:
        for seed in seeds:
            name = segmenter_name(arm if point.dose else control_of(arm), seed)
            if point.labels == 1 and point.dose in (0, 1) and name in made:
                trained[point].append(name)
            else:
                unit = PointUnit.at(config, sources, point, arm, seed)
                units.append(unit)
                trained[point].append(unit.name)
    settings = {
        "arm": arm,
        "labels": sorted({point.labels for point in points}),
        "doses": sorted({point.dose for point in points} - {0.0}),
        "seeds": seeds,
        "pairs": config.generate.pairs,
        "bootstrap_samples": config.report.bootstrap_samples,
        "seed": config.seed,
    }
    inputs = (*config.data_of_segmenters, config.generate.unit_of_pairs(kind), *([MORE_PAIRS] if more else []))
    inputs += tuple(name for names in trained.values() for name in names)
    result = CurveUnit(
        STAGE,
        RESULT,
        VERSION,
        settings,
        inputs,
        (RESULT_FILE,),
        renewed=True,
        resumable=False,
        arm=arm,
        trained={point: tuple(names) for point, names in trained.items()},
        seeds=seeds,
    )
    return [*units, result]
