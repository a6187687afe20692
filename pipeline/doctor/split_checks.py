"""Checks of the test split and of extra test sets, as a run makes them before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from scenepalette.common.errors import ScenepaletteError
from scenepalette.common.progress import NO_PROGRESS, Progress
from scenepalette.common.storage.files import sha256_of_files
from scenepalette.common.wording import counted
from scenepalette.data.classes import ClassTable
from scenepalette.data.datasets import Split
from scenepalette.data.sample import SegmentationDataset
from scenepalette.data.sequences import sequences_of
from scenepalette.data.splits.holdout import PartOfDataset
from scenepalette.data.unlabelled import find_images
from scenepalette.pipeline.checks.splits import Origin, class_difference, examine_classes, examine_size
from scenepalette.pipeline.config import RunConfig
from scenepalette.pipeline.doctor.data_checks import check_leakage
from scenepalette.pipeline.doctor.findings import Check, Status
from scenepalette.pipeline.doctor.scan import Scan, Scanner, scan
from scenepalette.pipeline.stages.inputs.opened_splits import field_of_test, open_extra_test, origin_of_test
from scenepalette.pipeline.units.places import local_folder


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


def check_unlabelled(config: RunConfig, datasets: Mapping[Split, SegmentationDataset]) -> list[Check]:
    """Check that unlabelled images can be found, are no labels, and none of the images that are measured on.

    Args:
        config: The run's configuration.
        datasets: The splits that could be opened.
    """
    if config.data.unlabelled is None:
        return []
    title = "unlabelled images"
    try:
        paths = find_images(local_folder(config.data.unlabelled))
        labels = _copies(paths, [path for each in datasets.values() for path in getattr(each, "label_files", ())])
        # Of a part that is held out, the files are those of the whole training split.
        measured = [
            each for split, each in datasets.items() if split != "train" and not isinstance(each, PartOfDataset)
        ]
        copies = _copies(paths, [path for each in measured for path in getattr(each, "files", ())])
    except ScenepaletteError as error:
        return [Check(title, "problem", error.summary, "Correct what is listed.", error.problems)]
    found = f"{counted(len(paths), 'unlabelled image was', 'unlabelled images were')} found"
    if labels:
        summary = f"{found}; {len(labels)} of them are labels of the data set (such as {labels[0].name})."
        return [Check(title, "problem", summary, "Set data.unlabelled to a folder of images.")]
    if copies:
        summary = (
            f"{found}; {len(copies)} of them are also validation or test images (such as {copies[0].name}), whose "
            "scenes pseudo pairs would teach before they are measured on."
        )
        return [Check(title, "warning", summary, "Move them out of data.unlabelled.")]
    return [Check(title, "ok", f"{found}.")]


def _copies(paths: Sequence[Path], others: Sequence[Path]) -> list[Path]:
    """Return the files that have the bytes of one of some others, of which those of other sizes are not read."""
    sizes = {path.stat().st_size for path in paths} & {path.stat().st_size for path in others}
    first, second = ([path for path in group if path.stat().st_size in sizes] for group in (paths, others))
    known = set(sha256_of_files(second))
    return [path for path, digest in zip(first, sha256_of_files(first), strict=True) if digest in known]


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
