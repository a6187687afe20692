"""Stage teachers: segmenters trained on all folds of the real pairs but one, which judge what is of that."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from torch import nn

from scenepalette.data.classes import ClassTable
from scenepalette.data.shards.pairs import ChosenPairs
from scenepalette.data.splits.folds import classes_by_fold, folds_of
from scenepalette.pipeline.arms import ARMS
from scenepalette.pipeline.config import MOST_FOLDS, RunConfig, SegmentersConfig
from scenepalette.pipeline.stages.segment import SegmenterUnit, arm_settings, size_field
from scenepalette.pipeline.units.sources import Sources
from scenepalette.pipeline.units.workspace import PreparedData, Unit, Workspace
from scenepalette.segmenters.loading import WEIGHTS_FILE, load_segmenter
from scenepalette.segmenters.settings import SegmenterSettings
from scenepalette.segmenters.train import size_problems, train_segmenter
from scenepalette.training.loop import METRICS_FILE

VERSION = 1
STAGE = "teachers"
FILES = (WEIGHTS_FILE, METRICS_FILE)
LEAST_FOLD = 2
"""Images that a fold has at least."""


@dataclass(frozen=True, kw_only=True)
class TeacherUnit(Unit):
    """The training of a teacher.

    Attributes:
        fold: The fold that it does not see.
        folds: How many folds there are.
        seed: Seed of the training.
    """

    trains: ClassVar[bool] = True

    fold: int
    folds: int
    seed: int

    @classmethod
    def of_folds(cls, config: RunConfig, sources: Sources) -> list[TeacherUnit]:
        """Return the units of all folds."""
        folds, seed = config.teachers.folds, config.segmenters.seeds[0]
        trained = config.model_copy(update={"segmenters": _segmenters_of_teachers(config)})
        units = []
        for fold in range(folds):
            like = SegmenterUnit.of(trained, sources, f"fold{fold}", "real", seed, None, stage=STAGE)
            settings = {**like.settings, "fold": fold, "folds": folds, "segmenter_version": like.version}
            units.append(
                cls(STAGE, like.part, VERSION, settings, like.inputs, FILES, fold=fold, folds=folds, seed=seed)
            )
        return units

    @classmethod
    def problems(cls, units: Sequence[TeacherUnit], config: RunConfig, *, fetch: bool) -> list[str]:
        """Return what is wrong with the teachers' settings for the images' size."""
        return [
            f"{size_field(config)}: {text}" for text in size_problems(teacher_settings(config), config.segmenter_size)
        ]

    @classmethod
    def problems_of_data(cls, units: Sequence[TeacherUnit], config: RunConfig, data: PreparedData) -> list[str]:
        """Return which folds are too small, and which classes a teacher would never see."""
        why = "; generate.candidates needs teachers, 1 does without" if config.generate.candidates > 1 else ""
        found = fold_problems(data.train.ids, data.train.labels, data.train.table, config.teachers.folds)
        return [text + why for text in found]

    def make(self, run: Workspace, folder: Path) -> None:
        """Train the teacher."""
        train = run.segmenter_data.train
        train_segmenter(
            folder,
            teacher_settings(run.config),
            real=ChosenPairs(train, np.flatnonzero(folds_of(train.ids, self.folds) != self.fold)),
            synthetic=None,
            table=train.table,
            seed=self.seed,
            fabric=run.fabric,
            progress=run.progress,
            tensorboard=run.config.compute.writes_tensorboard,
        )


def judged_kinds(config: RunConfig) -> list[str]:
    """Return the kinds of pairs whose rows teachers judge: of trusting arms, named ones, all with candidates."""
    asked = {ARMS[arm].synthetic for arm in config.segmenters.arms if ARMS[arm].trust != "none"}
    if config.generate.candidates > 1:
        asked.update(config.generate.kinds)
    return [kind for kind in config.generate.kinds if kind in asked or kind in config.teachers.kinds]


def needs_teachers(config: RunConfig) -> bool:
    """Return whether anything of a run is judged or relabelled by teachers."""
    return bool(judged_kinds(config)) or any(ARMS[arm].teacher_labels for arm in config.segmenters.arms)


def teacher_settings(config: RunConfig) -> SegmenterSettings:
    """Return the numbers of a teacher's training: those of the real arm, and what the teachers name themselves."""
    return arm_settings(_segmenters_of_teachers(config), "real")


def _segmenters_of_teachers(config: RunConfig) -> SegmentersConfig:
    own = config.teachers.model_dump(include={"steps", "architecture"}, exclude_none=True)
    return config.segmenters.model_copy(update=own)


def load_teachers(run: Workspace) -> list[nn.Module]:
    """Return the finished teachers, in the order of their folds."""
    settings = teacher_settings(run.config)
    return [
        load_segmenter(run.run_dir / STAGE / f"fold{fold}", settings, run.data.train.table)
        for fold in range(run.config.teachers.folds)
    ]


def fold_problems(ids: Sequence[str], labels: np.ndarray, table: ClassTable, count: int) -> list[str]:
    """Return why teachers cannot be trained on all folds but one, one text each.

    Args:
        ids: N ids of the training samples.
        labels: uint8 [N, H, W].
        table: The classes; those that are not evaluated need not be seen.
        count: Number of folds.
    """
    folds = folds_of(ids, count)
    smallest = int(np.bincount(folds, minlength=count).min())
    if smallest < LEAST_FOLD:
        return [
            f"teachers.folds: {count} folds of {len(ids)} training images leave one with {smallest}, at least "
            f"{LEAST_FOLD} are needed; lower it, or add images"
        ]
    unseen = _unseen_classes(labels, folds, table, count)
    if not unseen:
        return []
    names = ", ".join(f"{table.names[index]} (fold {fold})" for fold, index in unseen)
    larger = (number for number in range(count + 1, MOST_FOLDS + 1) if len(ids) >= LEAST_FOLD * number)
    fitting = next((number for number in larger if _all_seen(ids, labels, table, number)), None)
    remedy = f"set it to {fitting}" if fitting else "add images, or leave out the arms that need teachers"
    return [
        f"teachers.folds: with {count} folds a class occurs in a single one, whose teacher never sees it: {names}; "
        f"{remedy}"
    ]


def _all_seen(ids: Sequence[str], labels: np.ndarray, table: ClassTable, count: int) -> bool:
    folds = folds_of(ids, count)
    return int(np.bincount(folds, minlength=count).min()) >= LEAST_FOLD and not _unseen_classes(
        labels, folds, table, count
    )


def _unseen_classes(labels: np.ndarray, folds: np.ndarray, table: ClassTable, count: int) -> Iterable[tuple[int, int]]:
    """Return folds and evaluated classes that occur in no other fold."""
    present = classes_by_fold(labels, folds, count, table.num_classes)
    alone = present & (present.sum(axis=0) == 1)
    return [(fold, index) for fold, index in np.argwhere(alone).tolist() if index in table.eval_ids]
