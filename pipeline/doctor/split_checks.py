"""Checks of the test split and of extra test sets, as a run makes them before anything is trained."""

from __future__ import annotations

from scenepalette.common.errors import ScenepaletteError
from scenepalette.common.progress import NO_PROGRESS, Progress
from scenepalette.common.wording import counted
from scenepalette.data.classes import ClassTable
from scenepalette.data.sample import SegmentationDataset
from scenepalette.data.sequences import sequences_of
from scenepalette.pipeline.checks.splits import Origin, class_difference, examine_classes, examine_size
from scenepalette.pipeline.config import RunConfig
from scenepalette.pipeline.doctor.data_checks import check_leakage
from scenepalette.pipeline.doctor.findings import Check, Status
from scenepalette.pipeline.doctor.scan import Scan, Scanner, scan
from scenepalette.pipeline.stages.data import field_of_test, open_extra_test, origin_of_test


def check_test(
    config: RunConfig, train: Scan, test: Scan, images: tuple[SegmentationDataset, SegmentationDataset]
) -> list[Check]:
    """Check the data set's test split: its size and classes, and images that are also in training.

    Args:
        config: The run's configuration.
        train: Scan of the training part.
        test: Scan of the test split.
        images: The training part and the test split.
    """
    origin, table = origin_of_test(config.data), images[0].table
    checks = [_check_split("test split", config, train, test, table, field_of_test(config.data), origin)]
    if config.data.holdout and origin == "published":
        summary = "data.holdout has no effect: the data set's folder holds a published test split, which is reported."
        checks.append(Check("holdout", "note", summary))
    return [*checks, check_leakage(train, test, images, name="leakage into the test split")]


def check_extra_tests(
    config: RunConfig, train: SegmentationDataset, scanned: Scan, progress: Progress = NO_PROGRESS
) -> list[Check]:
    """Open every extra test set and check it as the test split, and that its classes are those of the training."""
    checks = []
    for name, root in config.report.extra_test.items():
        title, field = f"extra test set {name}", f"report.extra_test.{name}"
        seen = Scanner(config.data.size, config.data.fit)
        try:
            dataset = open_extra_test(config.data, root, progress, seen)
        except ScenepaletteError as error:
            checks.append(Check(title, "problem", error.summary, "Correct what is listed.", error.problems))
            continue
        if difference := class_difference(train.table, dataset.table):
            checks.append(Check(title, "problem", f"{field}: {difference}."))
            continue
        test = scan(dataset, config.data.size, progress, seen, config.data.fit)
        checks.append(_check_split(title, config, scanned, test, train.table, field, "extra"))
        checks.append(check_leakage(scanned, test, (train, dataset), name=f"leakage into {title}", noun=name))
    return checks


def _check_split(
    title: str, config: RunConfig, train: Scan, test: Scan, table: ClassTable, field: str, origin: Origin
) -> Check:
    recordings = config.data.recordings
    in_train, in_test = (entry.pixels[:, :-1].sum(0) > 0 for entry in (train, test))
    parts = [examine_size(test.ids, field, origin, recordings), examine_classes(table, in_train, in_test, field)]
    problems = [text for part in parts for text in part.problems]
    warnings = [text for part in parts for text in part.warnings]
    of = f" of {counted(len(sequences_of(test.ids)), 'recording')}" if recordings else ""
    summary = f"{counted(len(test), f'image{of} is', f'images{of} are')} for testing alone ({field}, {origin})."
    status: Status = "problem" if problems else "warning" if warnings else "ok"
    remedy = "Correct what is listed, or keep it in mind when you read the report." if status != "ok" else ""
    return Check(title, status, summary, remedy, (*problems, *warnings))
