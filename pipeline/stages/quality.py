"""Stage quality: teachers label the real pairs that they did not see, and score the rows of generated pairs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scenepalette.common.files import write_json
from scenepalette.data.arrays import Pairs, write_label_array
from scenepalette.data.classes import IGNORE_ID
from scenepalette.data.folds import folds_of, judges_of
from scenepalette.data.shards.manifest import read_manifest
from scenepalette.data.shards.pairs import FirstPairs, ShardPairs
from scenepalette.data.shards.reading import open_shard, read_group
from scenepalette.evaluation.features import segmenter_features
from scenepalette.evaluation.judging import judge_pairs, quality_row
from scenepalette.evaluation.miou import intersection_over_union, overlaps
from scenepalette.evaluation.nearest import nearest
from scenepalette.evaluation.quality import ROWS_FILE, QualityRow, summary_of, write_quality
from scenepalette.generators.pairs.registry import PAIR_KINDS
from scenepalette.generators.palettes import palette_divergence
from scenepalette.pipeline.config import RunConfig
from scenepalette.pipeline.stages.palettes import stored_palettes
from scenepalette.pipeline.stages.segment import EVALUATION_BATCH, load_reference_segmenter, reference_segmenter_of
from scenepalette.pipeline.stages.teachers import STAGE as TEACHERS
from scenepalette.pipeline.stages.teachers import judged_kinds, load_teachers, needs_teachers
from scenepalette.pipeline.trusted import STAGE, TEACHERS_FILE, TEACHERS_LABELS, TEACHERS_UNIT, read_teachers
from scenepalette.pipeline.units.workspace import Unit, Workspace

VERSION = 1


def quality_units(config: RunConfig) -> list[Unit]:
    """Return the units of what teachers judge; none if nothing asks for them."""
    if not needs_teachers(config):
        return []
    return [LabelsOfTeachersUnit.of(config), *(QualityUnit.of(config, kind) for kind in judged_kinds(config))]


def _teacher_names(config: RunConfig) -> list[str]:
    return [f"{TEACHERS}/fold{fold}" for fold in range(config.teachers.folds)]


@dataclass(frozen=True)
class LabelsOfTeachersUnit(Unit):
    """What the teachers make of the real pairs, each by the teacher that did not see it: what they are good for."""

    @classmethod
    def of(cls, config: RunConfig) -> LabelsOfTeachersUnit:
        """Return the unit."""
        inputs = ("data", *_teacher_names(config))
        stage, part = TEACHERS_UNIT.split("/")
        return cls(stage, part, VERSION, {"folds": config.teachers.folds}, inputs, (TEACHERS_FILE, TEACHERS_LABELS))

    def make(self, run: Workspace, folder: Path) -> None:
        """Let the teachers label the training pairs."""
        train, count = run.data.train, run.config.teachers.folds
        folds = folds_of(train.ids, count)
        classes = train.table.num_classes
        losses, pixels = np.zeros(classes), np.zeros(classes, dtype=np.int64)
        confusion = np.zeros((count, classes, classes), dtype=np.int64)

        def labels() -> Iterator[np.ndarray]:
            judges = [(int(fold),) for fold in folds]
            judged = judge_pairs(
                load_teachers(run), train, judges, EVALUATION_BATCH, run.fabric, run.progress, "Teachers label images"
            )
            for fold, judgement in zip(folds, judged, strict=True):
                assert judgement is not None
                labelled = judgement.label != IGNORE_ID
                own, found = judgement.label[labelled].astype(np.int64), judgement.predicted[labelled].astype(np.int64)
                losses[:] += np.bincount(own, judgement.losses[labelled], classes)
                pixels[:] += np.bincount(own, minlength=classes)
                cells = np.bincount(own * classes + found, minlength=classes**2)
                confusion[fold] += cells.reshape(classes, classes)
                yield np.where(labelled, judgement.predicted, IGNORE_ID).astype(np.uint8)

        write_label_array(folder / TEACHERS_LABELS, labels(), train.labels.shape)
        means = np.divide(losses, pixels, out=np.full(classes, np.nan), where=pixels > 0)
        write_json(folder / TEACHERS_FILE, _document(train, means, intersection_over_union(overlaps(confusion))))
        for text in read_teachers(folder, train.table.names).warnings:
            print(f"Warning: {text}", file=sys.stderr, flush=True)


def _document(train: Pairs, means: np.ndarray, overlaps_of_folds: np.ndarray) -> dict[str, Any]:
    names = train.table.names

    def defined(values: np.ndarray) -> dict[str, float | None]:
        return {name: float(value) if np.isfinite(value) else None for name, value in zip(names, values, strict=True)}

    return {"mean_loss": defined(means), "iou": [defined(values) for values in overlaps_of_folds]}


@dataclass(frozen=True, kw_only=True)
class QualityUnit(Unit):
    """Scores of the rows of one kind of pairs, beside their shards.

    Attributes:
        kind: The kind.
    """

    kind: str

    @classmethod
    def of(cls, config: RunConfig, kind: str) -> QualityUnit:
        """Return the unit of a kind."""
        inputs = ("data", *_teacher_names(config), TEACHERS_UNIT, reference_segmenter_of(config), f"shards/{kind}")
        return cls(
            STAGE,
            kind,
            VERSION,
            {"folds": config.teachers.folds},
            inputs,
            (ROWS_FILE,),
            rows=config.generate.pairs,
            kind=kind,
        )

    def record(self) -> Mapping[str, Any]:
        """Return how many rows have scores: there are more once more pairs are made."""
        return {"rows": self.rows}

    def make(self, run: Workspace, folder: Path) -> None:
        """Score the rows."""
        train, shards = run.data.train, run.run_dir / "shards" / self.kind
        assert self.rows is not None
        pairs = FirstPairs(ShardPairs(shards), self.rows)
        judges = self._judges(run, shards, train, len(pairs))
        reference = load_reference_segmenter(run)
        features = [
            segmenter_features(reference, of, EVALUATION_BATCH, run.fabric, run.progress, f"Features of {what} images")
            for of, what in ((pairs, self.kind), (train, "real"))
        ]
        found, distances = nearest(*features)
        between_real = nearest(features[1], features[1], np.arange(len(train)))[1].min()
        divergences = palette_divergence(*stored_palettes(shards, len(pairs)))
        means = read_teachers(run.run_dir / TEACHERS_UNIT, train.table.names).class_means

        def rows() -> Iterator[QualityRow]:
            judged = judge_pairs(
                load_teachers(run), pairs, judges, EVALUATION_BATCH, run.fabric, run.progress, f"Judging {self.kind}"
            )
            for row, judgement in enumerate(judged):
                yield quality_row(
                    judgement,
                    means,
                    row_id=pairs.ids[row],
                    judges=judges[row],
                    nearest_id=_as_text(train.ids[found[row]]),
                    nearest_distance=float(distances[row]),
                    copy=bool(distances[row] < between_real),
                    palette_kl=float(divergences[row]),
                )

        write_quality(folder / ROWS_FILE, rows())
        if alone := sum(not of_row for of_row in judges):
            print(
                f"quality/{self.kind}: {alone} of {len(pairs)} rows have sources in several folds, so that every "
                "teacher saw one of them; nobody judges these rows, and trusted arms take them as they are.",
                flush=True,
            )

    def _judges(self, run: Workspace, shards: Path, train: Pairs, rows: int) -> list[tuple[int, ...]]:
        """Return for each row the teachers that saw nothing that it was made from."""
        count = run.config.teachers.folds
        if PAIR_KINDS[self.kind].predicts:  # its sources are images that no teacher is trained on
            return [tuple(range(count))] * rows
        folds = dict(zip(map(_as_text, train.ids), folds_of(train.ids, count).tolist(), strict=True))
        return [judges_of(sources, folds, count) for sources in sources_of(shards)[:rows]]


def sources_of(folder: Path) -> list[list[str]]:
    """Return the real sample whose pixels each row of a folder of shards was made from, without decoding an image.

    The outlines of inserted objects may come from other samples; a teacher that saw those saw none of the row's pixels.

    Returns:
        One id, or none, for each row.
    """
    found: list[list[str]] = []
    for shard in read_manifest(folder)["shards"]:
        path = folder / shard["name"]
        with open_shard(path, shard["rows"]) as file:
            for group in range(file.num_row_groups):
                rows = read_group(file, path, group, ["source_id"]).to_pylist()
                found += [[row["source_id"]] if row["source_id"] is not None else [] for row in rows]
    return found


def _as_text(name: str) -> str:
    """Return an id as shards hold it: named after a file, it need not be text."""
    return name.encode(errors="backslashreplace").decode()


def found_by_teachers(run: Workspace) -> dict[str, Any]:
    """Return what a report says of the teachers of a run, as JSON values; empty if it has none."""
    config = run.config
    if not needs_teachers(config):
        return {}
    names = run.data.train.table.names
    teachers = read_teachers(run.run_dir / TEACHERS_UNIT, names)
    kinds = {
        kind: summary_of(run.run_dir / STAGE / kind / ROWS_FILE, config.generate.pairs, names)
        for kind in judged_kinds(config)
    }
    unjudged = [
        f"{found['rows'] - found['judged']} of {found['rows']} {kind} pairs have sources in several folds and were not "
        "judged; trusted arms take them as they are."
        for kind, found in kinds.items()
        if found["judged"] < found["rows"]
    ]
    return {"teachers": {"iou": teachers.overlaps}, "kinds": kinds, "warnings": [*teachers.warnings, *unjudged]}
