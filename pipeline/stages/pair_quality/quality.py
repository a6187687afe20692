"""Stage quality: teachers label the real pairs that they did not see, and score the rows of generated pairs."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from scenepalette.common.storage.files import write_json, writing_explained
from scenepalette.data.arrays import Pairs, write_label_array
from scenepalette.data.classes import IGNORE_ID
from scenepalette.data.exports.selecting import read_columns, write_selection
from scenepalette.data.shards.kinds import SELECTION
from scenepalette.data.shards.manifest import read_manifest, write_manifest
from scenepalette.data.shards.pairs import FirstPairs, ShardPairs
from scenepalette.data.shards.reading import tables_of_folder
from scenepalette.data.shards.schema import as_text
from scenepalette.data.splits.folds import folds_of, judges_of
from scenepalette.evaluation.images.features import segmenter_features
from scenepalette.evaluation.images.nearest import nearest
from scenepalette.evaluation.miou import intersection_over_union, mean_of_defined, overlaps
from scenepalette.evaluation.pair_quality.judging import judge_pairs, judged_row
from scenepalette.evaluation.pair_quality.quality import ROWS_FILE, QualityRow, summary_of, write_quality
from scenepalette.generators.pairs.registry import PAIR_KINDS
from scenepalette.generators.palettes import palette_divergence
from scenepalette.pipeline.config import RunConfig
from scenepalette.pipeline.run_directory.manifests import MANIFEST, STAGING
from scenepalette.pipeline.scores import best_rows, scores_beside
from scenepalette.pipeline.stages.pair_quality.teachers import STAGE as TEACHERS
from scenepalette.pipeline.stages.pair_quality.teachers import judged_kinds, load_teachers, needs_teachers
from scenepalette.pipeline.stages.palettes import stored_palettes
from scenepalette.pipeline.stages.segment import EVALUATION_BATCH, load_reference_segmenter, reference_segmenter_of
from scenepalette.pipeline.trusted import REAL, STAGE, TEACHERS_FILE, TEACHERS_LABELS, TEACHERS_UNIT, read_teachers
from scenepalette.pipeline.units.workspace import Unit, Workspace

VERSION = 1
SELECTED = "selected"


def quality_units(config: RunConfig) -> list[Unit]:
    """Return the units of what teachers judge; none if nothing asks for them."""
    if not needs_teachers(config):
        return []
    units: list[Unit] = [
        LabelsOfTeachersUnit.of(config),
        *(QualityUnit.of_kind(config, kind) for kind in judged_kinds(config)),
    ]
    if config.generate.candidates > 1:
        units += [SelectedUnit.of(config, kind) for kind in config.generate.kinds]
    return units


def _teacher_names(config: RunConfig) -> list[str]:
    return [f"{TEACHERS}/fold{fold}" for fold in range(config.teachers.folds)]


@dataclass(frozen=True)
class LabelsOfTeachersUnit(Unit):
    """What the teachers make of the real pairs, each by the teacher that did not see it: what they are good for."""

    @classmethod
    def of(cls, config: RunConfig) -> LabelsOfTeachersUnit:
        """Return the unit."""
        inputs = (*config.data_of_segmenters, *_teacher_names(config))
        return cls(STAGE, REAL, VERSION, {"folds": config.teachers.folds}, inputs, (TEACHERS_FILE, TEACHERS_LABELS))

    def make(self, run: Workspace, folder: Path) -> None:
        """Let the teachers label the training pairs."""
        train, count = run.segmenter_data.train, run.config.teachers.folds
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
        write_json(folder / TEACHERS_FILE, _document(train, means, overlaps_of_folds(confusion)))
        for text in read_teachers(folder, train.table.names).warnings:
            print(f"Warning: {text}", file=sys.stderr, flush=True)


def overlaps_of_folds(confusion: np.ndarray) -> np.ndarray:
    """Return each teacher's intersection over union of each class, float64 [F, K]; nan where its fold shows none of it.

    What is predicted of such a class says nothing of whether the teacher would find it.

    Args:
        confusion: int [F, K, K] of the folds, rows the truth, columns the prediction.
    """
    return np.where(confusion.sum(axis=2) > 0, intersection_over_union(overlaps(confusion)), np.nan)


def _document(train: Pairs, means: np.ndarray, found: np.ndarray) -> dict[str, Any]:
    names = train.table.names

    def defined(values: np.ndarray) -> dict[str, float | None]:
        return {name: float(value) if np.isfinite(value) else None for name, value in zip(names, values, strict=True)}

    return {"mean_loss": defined(means), "iou": [defined(values) for values in found]}


@dataclass(frozen=True, kw_only=True)
class QualityUnit(Unit):
    """Scores of the rows of one kind of pairs, beside the shards of the unit `pairs`."""

    kind: str
    pairs: str

    @classmethod
    def of_kind(cls, config: RunConfig, kind: str) -> QualityUnit:
        """Return the unit of a kind's shards."""
        return cls.of(config, STAGE, kind, kind, f"shards/{kind}", config.generate.rows)

    @classmethod
    def of(cls, config: RunConfig, stage: str, part: str, kind: str, pairs: str, rows: int) -> QualityUnit:
        """Return the unit of a name within a stage, for the first rows of a unit of pairs."""
        inputs = (
            *config.data_of_segmenters,
            *_teacher_names(config),
            TEACHERS_UNIT,
            reference_segmenter_of(config),
            pairs,
        )
        settings = {"folds": config.teachers.folds}
        return cls(stage, part, VERSION, settings, inputs, (ROWS_FILE,), rows=rows, kind=kind, pairs=pairs)

    def record(self) -> Mapping[str, Any]:
        """Return how many rows have scores: there are more once more pairs are made."""
        return {"rows": self.rows}

    def make(self, run: Workspace, folder: Path) -> None:
        """Score the rows."""
        train, shards = run.segmenter_data.train, run.run_dir / self.pairs
        assert self.rows is not None
        pairs = FirstPairs(ShardPairs(shards, size=run.config.segmenter_size), self.rows)
        judges = self._judges(run, shards, train, len(pairs))
        reference = load_reference_segmenter(run)
        generated, real = (
            segmenter_features(reference, of, EVALUATION_BATCH, run.fabric, run.progress, f"Features of {what} images")
            for of, what in ((pairs, self.kind), (train, "real"))
        )
        found, distances = nearest(generated, real, self._own_images(run, shards, train, len(pairs)))
        between_real = nearest(real, real, np.arange(len(train)))[1].min()
        divergences = palette_divergence(*stored_palettes(shards, len(pairs)))
        means = read_teachers(run.run_dir / TEACHERS_UNIT, train.table.names).class_means

        def rows() -> Iterator[QualityRow]:
            judged = judge_pairs(
                load_teachers(run), pairs, judges, EVALUATION_BATCH, run.fabric, run.progress, f"Judging {self.kind}"
            )
            ids = pairs.ids
            for number, judgement in enumerate(judged):
                row = QualityRow(
                    id=ids[number],
                    judges=judges[number],
                    nearest_id=as_text(train.ids[found[number]]),
                    nearest_distance=float(distances[number]),
                    copy=bool(distances[number] < between_real),
                    palette_kl=float(divergences[number]),
                )
                yield row if judgement is None else judged_row(row, judgement, means)

        write_quality(folder / ROWS_FILE, rows())
        if alone := sum(not of_row for of_row in judges):
            print(
                f"{self.name}: {alone} of {len(pairs)} rows have sources in several folds, so that every "
                "teacher saw one of them; nobody judges these rows, and trusted arms take them as they are.",
                file=sys.stderr,
            )

    def _own_images(self, run: Workspace, shards: Path, train: Pairs, rows: int) -> np.ndarray | None:
        """Return the training image that each row keeps pixels of, and is near for that reason; None if none does."""
        if not run.config.generate.keep_real_pixels(PAIR_KINDS[self.kind]):
            return None
        places = {as_text(name): place for place, name in enumerate(train.ids)}
        return np.array([places[source] for (source,) in sources_of(shards)[:rows]])

    def _judges(self, run: Workspace, shards: Path, train: Pairs, rows: int) -> list[tuple[int, ...]]:
        """Return for each row the teachers that saw nothing that it was made from."""
        count = run.config.teachers.folds
        if PAIR_KINDS[self.kind].predicts:  # its sources are images that no teacher is trained on
            return [tuple(range(count))] * rows
        folds = dict(zip(map(as_text, train.ids), folds_of(train.ids, count).tolist(), strict=True))
        return [judges_of(sources, folds, count) for sources in sources_of(shards)[:rows]]


@dataclass(frozen=True, kw_only=True)
class SelectedUnit(Unit):
    """The best rows of one kind of pairs, as shards of their own: those they come from stay as they were written.

    Attributes:
        kind: The kind.
        pairs: How many rows to choose.
    """

    computes: ClassVar[bool] = False

    kind: str
    pairs: int

    @classmethod
    def of(cls, config: RunConfig, kind: str) -> SelectedUnit:
        """Return the unit of a kind."""
        settings = {"pairs": config.generate.pairs, "candidates": config.generate.candidates}
        return cls(
            SELECTED,
            kind,
            VERSION,
            settings,
            (f"shards/{kind}", f"{STAGE}/{kind}"),
            resumable=False,
            kind=kind,
            pairs=config.generate.pairs,
        )

    def make(self, run: Workspace, folder: Path) -> None:
        """Choose the rows and copy them to where their manifest is written from."""
        shards, staging = run.run_dir / "shards" / self.kind, folder / STAGING
        with writing_explained(folder):
            shutil.rmtree(staging, ignore_errors=True)
            for path in folder.glob("train-*.parquet"):  # of an interrupted call
                path.unlink()
        rows = run.config.generate.rows
        # A set may hold more rows than this run asks for.
        columns, scores = read_columns(shards).slice(0, rows), scores_beside(shards, None)
        assert scores is not None
        names = run.data.train.table.names
        chosen, lacking = best_rows(columns, scores, self.pairs, names)
        selection = {"where": None, "select": self.pairs, "candidates": rows, "short": lacking}
        run.progress.start(f"select {self.kind}", self.pairs)
        write_selection(
            shards, staging, columns["id"].take(pa.array(chosen)).to_pylist(), selection, run.progress.advance
        )
        run.progress.finish()
        if lacking:
            short = ", ".join(f"{name} ({100 * share / asked:.0f} %)" for name, (share, asked) in lacking.items())
            print(
                f"{self.name}: no choice of {self.pairs} of {rows} rows was found that holds what the palettes ask for "
                f"of {short}; a larger generate.candidates leaves more to choose from.",
                file=sys.stderr,
            )

    def manifest_writer(self, run: Workspace) -> Callable[[dict[str, Any]], None]:
        """Return what puts the rows in their place, with a manifest that names the run."""

        def write(identity: dict[str, Any]) -> None:
            folder = run.run_dir / self.name
            staging = folder / STAGING
            manifest = read_manifest(staging)
            with writing_explained(folder):
                for path in sorted(staging.iterdir()):
                    if path.name != MANIFEST:
                        os.replace(path, folder / path.name)
                shutil.rmtree(staging)
            extra = manifest["extra"]
            # From here on the manifest's own fingerprint and settings are those of this unit.
            selection = {**extra[SELECTION], **{name: extra.get(name) for name in ("fingerprint", "settings")}}
            write_manifest(folder, {**manifest, "extra": {**extra, **identity, SELECTION: selection}})

        return write


def sources_of(folder: Path) -> list[list[str]]:
    """Return the real sample whose pixels each row of a folder of shards was made from, without decoding an image.

    The outlines of inserted objects may come from other samples; a teacher that saw those saw none of the row's pixels.

    Returns:
        One id, or none, for each row.
    """
    return [
        [source] if source is not None else []
        for table in tables_of_folder(folder, ["source_id"])
        for source in table["source_id"].to_pylist()
    ]


def found_by_teachers(run: Workspace) -> dict[str, Any]:
    """Return what a report says of the teachers of a run, as JSON values; empty if it has none."""
    config = run.config
    if not needs_teachers(config):
        return {}
    names = run.data.train.table.names
    teachers = read_teachers(run.run_dir / TEACHERS_UNIT, names)
    kinds = {
        kind: summary_of(run.run_dir / STAGE / kind / ROWS_FILE, config.generate.rows, names)
        for kind in judged_kinds(config)
    }
    selected = {}
    if config.generate.candidates > 1:
        selected = {kind: _selected(run.run_dir, kind, config.generate.rows) for kind in config.generate.kinds}
    unjudged = [
        f"{found['rows'] - found['judged']} of {found['rows']} {kind} pairs have sources in several folds and were not "
        "judged; trusted arms take them as they are."
        for kind, found in kinds.items()
        if found["judged"] < found["rows"]
    ]
    return {
        "teachers": {"iou": teachers.overlaps},
        "kinds": kinds,
        **({"selected": selected} if selected else {}),
        "warnings": [*teachers.warnings, *unjudged],
    }


def _selected(run_dir: Path, kind: str, rows: int) -> dict[str, Any]:
    """Return what the chosen rows of a kind are like beside all of them, as JSON values."""
    manifest = read_manifest(run_dir / SELECTED / kind)
    scores = scores_beside(run_dir / "shards" / kind, None)
    assert scores is not None
    scores = scores.slice(0, rows)
    names = set(read_columns(run_dir / SELECTED / kind)["id"].to_pylist())
    chosen = scores.filter(pa.array([name in names for name in scores["id"].to_pylist()]))
    means = {
        # Rows that nobody judged have no values.
        name: [float(mean_of_defined(table[name].cast(pa.float64()).to_numpy())) for table in (scores, chosen)]
        for name in ("trusted", "trusted_loss", "nearest_distance", "copy")
    }
    return {"rows": len(names), "of": len(scores), "means": means, "short": manifest["extra"][SELECTION]["short"]}
