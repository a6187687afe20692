"""The whole examination, in the order in which things would go wrong: configuration, files, data, machine, time."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from scenepalette.common.errors import ConfigError, DataError, ScenepaletteError
from scenepalette.common.processors import worker_count
from scenepalette.common.progress import NO_PROGRESS, Progress
from scenepalette.common.storage.files import read_json, temporary_folder
from scenepalette.common.urls import masked
from scenepalette.data.arrays import read_arrays
from scenepalette.data.classes import ClassTable
from scenepalette.data.datasets import DATASETS, SPLITS, TEST, Split
from scenepalette.data.decoding.class_files import read_class_file, table_of_class_file
from scenepalette.data.fitting.dataset import fit_dataset
from scenepalette.data.readers.folder import CLASS_FILES
from scenepalette.data.sample import SegmentationDataset
from scenepalette.data.splits.holdout import PartOfDataset
from scenepalette.data.unlabelled import find_images
from scenepalette.generators.palettes import control_problems
from scenepalette.pipeline.checks.preflight import data_problems, settings_problems
from scenepalette.pipeline.checks.requirements import REFUSED, requirement_problems
from scenepalette.pipeline.config import RunConfig, load_config
from scenepalette.pipeline.doctor import data_checks, fit_checks
from scenepalette.pipeline.doctor.colour_checks import check_colours
from scenepalette.pipeline.doctor.findings import Check, Diagnosis
from scenepalette.pipeline.doctor.machine.measure import timed_steps
from scenepalette.pipeline.doctor.machine.resources import (
    check_disk,
    check_memory,
    check_options,
    check_run_dir,
    check_threads,
    needs_of,
)
from scenepalette.pipeline.doctor.machine.timing import Measured, check_time, measure
from scenepalette.pipeline.doctor.oracle import check_oracle
from scenepalette.pipeline.doctor.prepared import data_to_come
from scenepalette.pipeline.doctor.scan import Scan, Scanner, scan
from scenepalette.pipeline.doctor.split_checks import check_extra_tests, check_test, check_unlabelled
from scenepalette.pipeline.request import Request
from scenepalette.pipeline.run import Run, units_of
from scenepalette.pipeline.run_directory.ownership import check_ownership
from scenepalette.pipeline.stages.inputs.opened_splits import try_splits
from scenepalette.pipeline.stages.segment import size_field
from scenepalette.pipeline.systems import plugin_entries, plugin_problems
from scenepalette.pipeline.units.places import local_folder, with_local_root
from scenepalette.pipeline.units.workspace import Unit

TIMED_SAMPLES = 8


def examine(request: Request, *, measured: bool = True, progress: Progress = NO_PROGRESS) -> Diagnosis:
    """Examine a configuration, its data set and this machine before anything is trained.

    If `measured`, some steps of every training are timed, for a minute.

    Returns:
        All checks; what users can fix is a finding in it and never an exception. The run directory is not touched.
    """
    changes = [part for change in request.overrides for part in ("--set", change)]
    out = ["--out", str(request.out)] if request.out else []
    command = masked(shlex.join(["scenepalette", "doctor", request.recipe, *changes, *out]))
    plugins = _check_plugins()
    try:
        config = load_config(request.recipe, request.overrides, request.run_dir)
    except ScenepaletteError as error:
        problems = error.problems
        check = Check("configuration", "problem", error.summary, "Fix the listed problems and rerun doctor.", problems)
        return Diagnosis(request.recipe, command, (*plugins, check))
    # The device, and weights that are not here, have checks of their own.
    if problems := settings_problems(config, _to_make(config, request.run_dir), fetch=False):
        summary = f"The configuration of the recipe {config.recipe} cannot be run."
        check = Check("configuration", "problem", summary, "Fix the listed problems and rerun doctor.", tuple(problems))
        return Diagnosis(request.recipe, command, (*plugins, check))
    checks = [Check("configuration", "ok", f"The configuration of the recipe {config.recipe} can be run.")]
    checks += [*plugins, check_run_dir(config, request.run_dir)]
    seen: dict[Split, Scanner] = {split: Scanner(config.data.size, config.data.fit) for split in (*SPLITS, TEST)}
    try:
        config = _with_local_data(config, progress)
    except ScenepaletteError as error:
        checks.append(Check("data at a URL", "problem", error.summary, "Fix this and rerun doctor.", error.problems))
        return Diagnosis(request.recipe, command, tuple(checks))
    datasets, errors = try_splits(config.data, config.data_seed, progress, seen)
    table = next(iter(datasets.values())).table if datasets else _declared_table(config)
    checks += data_checks.check_opening(errors, config.data.root_path, table)
    if (notes := data_checks.check_notes(datasets, errors)) is not None:
        checks.append(notes)
    checks += check_unlabelled(config, datasets)
    facts = {"data": config.data.name, "data.size": "{} x {}".format(*config.data.size)}
    result: Measured | None = None
    scans: dict[Split, Scan] = {}
    if not errors:
        scans = {
            # What is held out was seen as a part of the training split.
            split: scan(
                dataset,
                config.data.size,
                progress,
                seen["train" if isinstance(dataset, PartOfDataset) else split],
                config.data.fit,
            )
            for split, dataset in datasets.items()
        }
        checks += _of_data(config, datasets, scans, request.run_dir)
        checks += _of_stages(config, datasets, request.run_dir, checks)
        checks += _of_tests(config, datasets, scans, progress)
        names: dict[Split, str] = {"train": "training", "val": "validation", TEST: "test"}
        facts |= {
            **{f"{names[split]} samples": str(len(entry)) for split, entry in scans.items()},
            "classes": str(datasets["train"].table.num_classes),
        }
        stops = ("labels after resizing", "reading", "enough to learn from", "data for the stages")
        broken = any(check.name in stops and check.status == "problem" for check in checks)
        if measured and not broken:
            progress.start("measuring steps", len(timed_steps(config)))
            with temporary_folder("doctor") as folder:
                result = measure(config, datasets["train"], folder, report=lambda name: progress.advance(1))
            progress.finish()
            samples = sum(len(entry) for entry in scans.values())
            checks += check_time(config, result, samples * _seconds_per_sample(datasets["train"]), samples)
    checks += _of_machine(config, datasets, scans, request.run_dir, result)
    subject = f"{request.recipe} on {config.data.name}"
    return Diagnosis(subject, command, tuple(checks), facts)


def _check_plugins() -> list[Check]:
    """Say what other packages add, and which of it cannot be used."""
    checks = []
    if problems := plugin_problems():
        summary = "Other packages declare extensions that cannot be used; everything else works without them."
        checks.append(Check("plug-ins", "warning", summary, "Follow the advice in each line.", tuple(problems)))
    if added := plugin_entries():
        checks.append(Check("plug-ins", "note", "Other packages extend scenepalette.", details=tuple(added)))
    return checks


def _to_make(config: RunConfig, run_dir: Path) -> list[Unit]:
    """Return the units of a run that are not finished: what they need is what has to be there."""
    run = Run(config, run_dir, look=False)
    try:
        check_ownership(run_dir)
        return [unit for name, unit in run.planned.run.items() if not run.is_finished(name)]
    except ScenepaletteError:  # which has a check of its own
        return list(units_of(config).values())


def _seconds_per_sample(dataset: SegmentationDataset) -> float:
    """Return how long reading a sample takes where all cores read, from some that are evenly spread."""
    places = np.linspace(0, len(dataset) - 1, min(TIMED_SAMPLES, len(dataset))).astype(int).tolist()
    began = time.monotonic()
    for place in places:
        with suppress(DataError):  # changed since it was scanned, which is reported elsewhere
            dataset[place]
    return (time.monotonic() - began) / len(places) / worker_count()


def _with_local_data(config: RunConfig, progress: Progress) -> RunConfig:
    """Return the configuration with copies on this machine in place of data at URLs."""
    data = with_local_root(config.data, progress)
    if data.unlabelled is not None:
        data = data.model_copy(update={"unlabelled": local_folder(data.unlabelled, progress)})
    return config.model_copy(update={"data": data})


def _declared_table(config: RunConfig) -> ClassTable | None:
    """Return the classes of a data set that could not be opened, where they can be known all the same."""
    root = config.data.root_path
    table = DATASETS.get(config.data.name).table
    if table is not None or root is None:
        return table
    files = [config.data.class_file] if config.data.class_file else [root / name for name in CLASS_FILES]
    for path in files:
        try:
            if config.data.name == "folder" and path.is_file():
                return table_of_class_file(path, read_class_file(path, within=None if config.data.class_file else root))
        except (ScenepaletteError, OSError):
            return None
    return None


def _of_data(
    config: RunConfig, datasets: dict[Split, SegmentationDataset], scans: dict[Split, Scan], run_dir: Path
) -> list[Check]:
    train, validation, table, size = scans["train"], scans["val"], datasets["train"].table, config.data.size
    both = tuple(scans.values())
    unread = [problem for entry in both for problem in entry.problems]
    lacking = requirement_problems(table, size, [fit_checks.with_parts(config, entry) for entry in both])
    wishes = [f"generate.{text}" for text in control_problems(config.generate.controls(), table.names)]
    unmakeable = "The requested palettes cannot be made from this data set's classes."
    again = "Rerun doctor once nothing writes to them."
    checks: list[Check | None] = [
        _check_found("reading", "Files changed while they were read.", again, unread),
        _check_found("enough to learn from", REFUSED, "", lacking),
        data_checks.check_links(list(datasets.values()), config.data.root_path),
        data_checks.check_label_encoding(list(datasets.values()), both),
        data_checks.check_fit(both),
        check_colours([datasets[split] for split in SPLITS]),
        fit_checks.check_sizes(config),
        data_checks.check_scaling(both, config.segmenter_size, size_field(config))
        if config.data.fit == "stretch"
        else fit_checks.check_parts(config, both),
        fit_checks.check_lost_labels(config, datasets, scans),
        data_checks.check_amount(train, validation),
        data_checks.check_class_table(table, train, validation),
        data_checks.check_rare_classes(
            table, fit_checks.at_scale_of_tiles(config, train), size, tiled=config.data.fit == "tile"
        ),
        data_checks.check_leakage(train, validation, (datasets["train"], datasets["val"])),
        data_checks.check_duplicates(train),
        data_checks.check_constant(both),
        _check_changed(datasets, run_dir),
        _check_found("palettes", unmakeable, "Correct what is listed.", wishes),
    ]
    return [check for check in checks if check is not None]


def _of_stages(
    config: RunConfig, datasets: dict[Split, SegmentationDataset], run_dir: Path, before: Sequence[Check]
) -> list[Check]:
    """Ask the stages what keeps them from being made of this data set, as every verb does before it begins."""
    told = {detail for check in before if check.status == "problem" for detail in check.details}
    run = Run(config, run_dir, look=False)
    needs, wants = list[str](), list[str]()
    # Files that changed since they were scanned are reported elsewhere.
    with temporary_folder("doctor") as folder, suppress(DataError):
        train, validation = (
            fit_dataset(datasets[split], config.data.fit, config.data.size, config.data.tile_height) for split in SPLITS
        )
        data = data_to_come(train, validation, config.generator_size, folder)
        needs = data_problems(config, _to_make(config, run_dir), data)
        wants = data_problems(config, list(run.planned.comparison.values()), data)
    checks = []
    if problems := [text for text in needs if text not in told]:
        summary = "The configuration asks for what this data set does not have."
        checks.append(Check("data for the stages", "problem", summary, "Correct what is listed.", tuple(problems)))
    if not (told or needs) and (problems := [text for text in wants if text not in needs]):
        summary = "`compare` cannot compare systems on this data set; every other verb can use it."
        checks.append(Check("data for compare", "note", summary, details=tuple(problems)))
    return checks


def _of_tests(
    config: RunConfig, datasets: dict[Split, SegmentationDataset], scans: dict[Split, Scan], progress: Progress
) -> list[Check]:
    """Check what is reported: the test split, extra test sets, and what a segmenter can find at all."""
    checks, train = list[Check](), datasets["train"]
    if TEST in datasets:
        checks += check_test(config, scans["train"], scans[TEST], (train, datasets[TEST]))
    checks += check_extra_tests(config, train, scans["train"], progress)
    oracle = check_oracle(config, datasets.get(TEST, datasets["val"]), progress)
    return [*checks, oracle] if oracle is not None else checks


def _check_changed(datasets: dict[Split, SegmentationDataset], run_dir: Path) -> Check | None:
    """Warn if files have changed since the run directory's arrays were made of them: a run keeps using those."""
    changed = []
    for split, dataset in datasets.items():
        path = run_dir / "data" / f"{split}.json"
        if not path.is_file():
            continue
        try:
            read_arrays(run_dir / "data", split)
            stored = read_json(path)
            # Times of change differ in a copy; only content counts, which takes longer to compare.
            if stored.get("fingerprint") != dataset.fingerprint and stored.get("content") != dataset.content:
                changed.append(split)
        except ScenepaletteError as error:
            return Check("changed data", "problem", error.summary, f"Remove {run_dir / 'data'}; it will be made again.")
    if not changed:
        return None
    summary = f"Files of {' and '.join(changed)} have changed since {run_dir / 'data'} was made of them."
    remedy = (
        "A run keeps using what was read then. To use the new files, give another --out folder, or set what was made "
        f"of the old ones aside: scenepalette reset {run_dir} data"
    )
    return Check("changed data", "warning", summary, remedy)


def _check_found(name: str, summary: str, remedy: str, problems: Sequence[str]) -> Check | None:
    """Return a check with problems as its details; None if there are none."""
    return Check(name, "problem", summary, remedy, tuple(problems)) if problems else None


def _of_machine(
    config: RunConfig,
    datasets: dict[Split, SegmentationDataset],
    scans: dict[Split, Scan],
    run_dir: Path,
    measured: Measured | None,
) -> list[Check]:
    """Check what the run needs of this machine; `measured` is None if no measurement was tried."""
    checks = check_options(config)
    if any(check.name == "device" and check.status == "problem" for check in checks) or not {*SPLITS} <= {*scans}:
        return checks
    samples = {split: fit_checks.samples_of(config, entry) for split, entry in scans.items()}
    evaluated = sum(count for split, count in samples.items() if split != "train")
    images = sum(len(entry) for split, entry in scans.items() if split != "train")
    unlabelled = 0
    if config.generate.predicts and config.data.unlabelled is not None:
        with suppress(ScenepaletteError):  # which is reported with the unlabelled images
            unlabelled = len(find_images(local_folder(config.data.unlabelled)))
    try:
        needs = needs_of(config, datasets["train"].table, samples["train"], evaluated, unlabelled, images)
    except ConfigError as error:
        return [*checks, Check("networks", "problem", error.summary, "Correct what is named.", error.problems)]
    complete = measured is not None and not measured.missing and not measured.errors
    # What was not reached in time leaves an estimate; what ended or never took a step leaves doubts.
    doubtful = measured is not None and (measured.peak_bytes is None or bool(measured.errors))
    peak = measured.peak_bytes if measured is not None and complete else None
    run = Run(config, run_dir)
    return [
        check_disk(needs, run_dir),
        check_memory(needs, peak, run.fabric.device, expected=doubtful),
        check_threads(run.threads),
        *checks,
    ]
