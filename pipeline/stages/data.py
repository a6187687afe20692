"""Stage data: read and check the labelled data set, extra test sets and unlabelled images; keep all resized."""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from scenepalette.common.errors import ConfigError, DataError, ScenepaletteError
from scenepalette.common.problems import Problem, ProblemKind
from scenepalette.common.progress import NO_PROGRESS, Progress
from scenepalette.common.storage.files import read_json, sha256_of_json, write_json
from scenepalette.common.storage.untrusted import short
from scenepalette.common.urls import is_url
from scenepalette.data import unlabelled
from scenepalette.data.arrays import LostLabelsError, Pairs, content_of, open_array, read_arrays, write_label_array
from scenepalette.data.datasets import DATASETS, SPLITS, TEST, Split, has_published_test, open_dataset
from scenepalette.data.decoding.label_reading import AS_FOUND
from scenepalette.data.files.checking import Look, checking
from scenepalette.data.files.folder_layouts import has_labelled_split
from scenepalette.data.labels import fill_ignored, label_counts
from scenepalette.data.readers.folder import CLASS_FILES
from scenepalette.data.sample import FolderOptions, Sample, SegmentationDataset, WrappedDataset
from scenepalette.data.splits.holdout import PartOfDataset, divide_images, divide_recordings
from scenepalette.data.splits.parts import part_of
from scenepalette.pipeline.checks.requirements import REFUSED, requirement_problems
from scenepalette.pipeline.checks.splits import Findings, Origin, class_difference, examine_arrays, examine_size
from scenepalette.pipeline.config import DataConfig, RunConfig
from scenepalette.pipeline.run_directory.ownership import read_mark
from scenepalette.pipeline.stages.fitted import fitted, fitted_splits, size_note, write_for_segmenters, write_watched
from scenepalette.pipeline.units.places import local_folder, place_problem, with_local_root
from scenepalette.pipeline.units.sources import Sources, is_there, may_be_there
from scenepalette.pipeline.units.workspace import PreparedData, Unit, Workspace

VERSION = 1
UNLABELLED_VERSION = 1
FILLED = "filled-labels-train.npy"
TEST_FILE = "test-split.json"
FILES = ("images-*.npy", "labels-*.npy", FILLED, "train.json", "val.json", "test.json", TEST_FILE)
EXTRA_TESTS = "extra-tests"
EXTRA_TEST_VERSION = 1
EXTRA_TEST_FILES = ("images-val.npy", "labels-val.npy", "val.json", TEST_FILE)
EVALUATED = "evaluated"
"""Folder within an extra test set's of what segmenters take of it in a size of their own."""
UNLABELLED_FILES = ("images.npy", "images.json")


@dataclass(frozen=True)
class SourceUnit(Unit):
    """A unit that reads data from outside the run directory; what is made from it is known once it is finished.

    Attributes:
        paths: Where the data lies, by field; empty for data that is drawn.
    """

    computes: ClassVar[bool] = False
    replans: ClassVar[bool] = True

    paths: Mapping[str, str] = field(default_factory=dict)

    @abstractmethod
    def content(self, folder: Path) -> str:
        """Return the hash of what the finished unit was made from, wherever that lay.

        Raises:
            DataError: The folder is unfinished, or does not state it.
        """


@dataclass(frozen=True)
class DataUnit(SourceUnit):
    """The labelled data set, decoded and resized."""

    @classmethod
    def of(cls, config: RunConfig, sources: Sources) -> DataUnit:
        """Return the unit: its content identifies a data set, not where it lies; drawn data, the settings."""
        settings = config.data.identity()
        paths, drawn = data_paths(config.data), DATASETS.get(config.data.name).drawn
        chosen_by_seed = config.data.train_part < 1 or (config.data.holdout and not config.data.recordings)
        if drawn or chosen_by_seed:
            settings["seed"] = config.data_seed
        if not drawn and (
            content := sources.content("data", paths, partial(content_of_source, config.data, config.data_seed))
        ):
            settings["content"] = content
        return cls("data", "", VERSION, settings, files=FILES, resumable=False, paths=paths)

    @classmethod
    def problems(cls, units: Sequence[DataUnit], config: RunConfig, *, fetch: bool) -> list[str]:
        """Return which files that the configuration names are not there."""
        data, problems = config.data, place_problem("data.root", config.data.root)
        if data.class_file is not None and not is_there(data.class_file.is_file):
            problems.append(f"data.class_file: there is no file {short(str(data.class_file))}")
        return problems

    def make(self, run: Workspace, folder: Path) -> None:
        """Read and check the data set."""
        if note := size_note(run.config):
            print(note, file=sys.stderr)
        config = run.config
        prepare_data(folder, config.data, config.data_seed, run.progress, size=config.generator_size)

    def content(self, folder: Path) -> str:
        """Return the hash of all splits."""
        return content_of_arrays(folder)


@dataclass(frozen=True, kw_only=True)
class ExtraTestUnit(SourceUnit):
    """A test set beside the data set's own splits, decoded and resized.

    Attributes:
        root: Its folder, or the URL of it.
    """

    root: Path | str

    @classmethod
    def of_names(cls, config: RunConfig, sources: Sources) -> list[ExtraTestUnit]:
        """Return the units of all extra test sets of a configuration."""
        return [cls.of(config, sources, name, root) for name, root in config.report.extra_test.items()]

    @classmethod
    def of(cls, config: RunConfig, sources: Sources, name: str, root: Path | str) -> ExtraTestUnit:
        """Return the unit of a name: its content identifies the set, not where it lies."""
        unit, paths = f"{EXTRA_TESTS}/{name}", {f"extra_test.{name}": str(root)}
        content = sources.content(unit, paths, lambda progress: open_extra_test(config.data, root, progress).content)
        settings = {"size": config.data.size, **({"content": content} if content else {})}
        files = EXTRA_TEST_FILES
        if len(config.data_of_segmenters) > 1:
            settings["evaluated"] = {"size": config.segmenter_size, "native": config.evaluates_natively}
            files = (*files, f"{EVALUATED}/*")
        return cls(
            EXTRA_TESTS, name, EXTRA_TEST_VERSION, settings, ("data",), files, resumable=False, paths=paths, root=root
        )

    @classmethod
    def problems(cls, units: Sequence[ExtraTestUnit], config: RunConfig, *, fetch: bool) -> list[str]:
        """Return which folders are not there."""
        return [text for unit in units for text in place_problem(f"report.extra_test.{unit.part}", unit.root)]

    def make(self, run: Workspace, folder: Path) -> None:
        """Read and check the set."""
        config, progress = run.config, run.progress
        size, train = config.generator_size, run.data.train
        dataset = prepare_extra_test(folder, self.part, config.data, self.root, train, progress, size=size)
        if len(config.data_of_segmenters) > 1:
            progress.start(f"extra test set {self.part} for segmenters", 2 * len(dataset))
            write_for_segmenters(dataset, config, folder / EVALUATED, progress)
            progress.finish()

    def content(self, folder: Path) -> str:
        """Return the hash of the set."""
        return content_of(folder, "val")


@dataclass(frozen=True)
class UnlabelledUnit(SourceUnit):
    """Images without labels, for pseudo pairs."""

    @classmethod
    def of(cls, config: RunConfig, sources: Sources) -> UnlabelledUnit:
        """Return the unit."""
        paths = unlabelled_paths(config.data)
        content = sources.content("unlabelled", paths, lambda progress: content_of_unlabelled_source(config.data))
        settings = {"size": config.data.size, **({"content": content} if content else {})}
        if config.data.fit != "stretch":
            settings["fit"] = "crop"
        return cls("unlabelled", "", UNLABELLED_VERSION, settings, files=UNLABELLED_FILES, resumable=False, paths=paths)

    @classmethod
    def problems(cls, units: Sequence[UnlabelledUnit], config: RunConfig, *, fetch: bool) -> list[str]:
        """Say if the folder is not there, or its URL cannot be used."""
        return place_problem("data.unlabelled", config.data.unlabelled)

    def make(self, run: Workspace, folder: Path) -> None:
        """Read the images."""
        prepare_unlabelled(folder, run.config.data, run.progress, size=run.config.generator_size)

    def content(self, folder: Path) -> str:
        """Return the hash of the images."""
        return unlabelled.content_of_written(folder)


def data_paths(config: DataConfig) -> dict[str, str]:
    """Return where the labelled data set lies, by the name of the field."""
    paths = {"root": config.root, "class_file": config.class_file}
    return {name: str(path) for name, path in paths.items() if path is not None}


def unlabelled_paths(config: DataConfig) -> dict[str, str]:
    """Return where the unlabelled images lie."""
    return {"unlabelled": str(config.unlabelled)} if config.unlabelled is not None else {}


def with_known_paths(config: RunConfig, run_dir: Path) -> RunConfig:
    """Return a configuration with the paths that a run has read data from in place of paths that are not there."""
    given = {**data_paths(config.data), **unlabelled_paths(config.data)}
    known = {key: path for paths in read_mark(run_dir).sources.values() for key, path in paths.items()}
    gone = {key: path for key, path in given.items() if not may_be_there(path) and known.get(key, path) != path}
    for key, path in gone.items():
        print(f"data.{key}: there is no {path}; this run uses what it read from {known[key]}.", file=sys.stderr)
    update = {key: known[key] if is_url(known[key]) else Path(known[key]) for key in gone}
    return config.model_copy(update={"data": config.data.model_copy(update=update)})


def prepare_data(
    folder: Path, config: DataConfig, seed: int, progress: Progress, *, size: tuple[int, int] | None = None
) -> None:
    """Write all splits as arrays, and the training labels with ignored pixels filled.

    Args:
        folder: Output folder.
        config: The data set.
        seed: Seed of drawn scenes, and of the choice of images that are held out.
        progress: Watches the samples.
        size: Height and width of the arrays; by default `config.size`.

    Raises:
        DataError: Anything that is wrong with the data set, all at once, or with its test split.
    """
    config = with_local_root(config, progress)
    splits = open_splits(config, seed, progress)
    _print_notes(splits.values())
    origin, field, test = origin_of_test(config), field_of_test(config), splits.get(TEST)
    if config.holdout and origin == "published":
        print(f"data.holdout has no effect: {config.root} holds the published test split.", file=sys.stderr)
    if test is not None:
        _refuse(examine_size(test.ids, field, origin, config.recordings))
    splits, size = fitted_splits(splits, config, progress), size or config.size
    progress.start(f"data {config.name}", sum(len(dataset) for dataset in splits.values()))
    # Of a test split that an earlier configuration of this unfinished folder had.
    for path in (folder / "test.json", folder / TEST_FILE, *folder.glob("*-test.npy")):
        path.unlink(missing_ok=True)
    counted = [CountedDataset(dataset) for dataset in splits.values()]
    lost: list[str] = []
    for dataset in counted:
        try:
            write_watched(dataset, size, folder, config, progress)
        except LostLabelsError as error:
            lost += error.problems
    progress.finish()
    if problems := [*requirement_problems(counted[0].table, size, counted), *lost]:
        raise DataError(REFUSED, problems)
    train = read_arrays(folder, "train")
    count, height, width = train.labels.shape
    filled = (fill_ignored(np.asarray(label)) for label in train.labels)
    write_label_array(folder / FILLED, filled, (count, height, width))
    if test is not None:
        findings = examine_arrays(train, read_arrays(folder, TEST), field, origin, config.recordings)
        _refuse(findings)
        _write_findings(folder, origin, findings)


def prepare_extra_test(
    folder: Path,
    name: str,
    config: DataConfig,
    root: Path | str,
    train: Pairs,
    progress: Progress,
    *,
    size: tuple[int, int] | None = None,
) -> SegmentationDataset:
    """Write an extra test set as arrays of the split "val".

    Args:
        folder: Output folder.
        name: Its name.
        config: The data set whose layout it may have.
        root: Its folder, or the URL of it.
        train: Training pairs, which must not be in it.
        progress: Watches the samples.
        size: Height and width of the arrays; by default `config.size`.

    Returns:
        The set, its samples fitted.

    Raises:
        DataError: Anything that is wrong with its files, other classes than those of the training, or images that are
            also in training.
    """
    dataset, field = open_extra_test(config, root, progress), f"report.extra_test.{name}"
    _print_notes([dataset])
    if difference := class_difference(train.table, dataset.table):
        raise DataError(f"{field}: {difference}.")
    dataset = fitted(dataset, config, progress)
    progress.start(f"extra test set {name}", len(dataset))
    write_watched(dataset, size or config.size, folder, config, progress)
    progress.finish()
    findings = examine_arrays(train, read_arrays(folder, "val"), field, "extra", config.recordings)
    _refuse(findings)
    _write_findings(folder, "extra", findings)
    return dataset


class CountedDataset(WrappedDataset):
    """A data set that keeps the size of each image, and the pixels of each class, as samples are read.

    It satisfies `scenepalette.pipeline.checks.requirements.Counted` once all were read.
    """

    def __init__(self, dataset: SegmentationDataset) -> None:
        super().__init__(dataset)
        self.sizes = np.zeros((len(dataset), 2), np.int64)
        self.pixels = np.zeros((len(dataset), dataset.table.num_classes + 1), np.int64)

    def __getitem__(self, index: int, /) -> Sample:
        sample = super().__getitem__(index)
        self.sizes[index] = sample.label.shape
        self.pixels[index] = label_counts(sample.label, self.table.num_classes)
        return sample


def notes_of(datasets: Iterable[SegmentationDataset]) -> list[str]:
    """Return what readers decided from the files and what they skipped, each once, with the split that it is of."""
    splits: dict[str, list[str]] = {}
    for dataset in datasets:
        for note in getattr(dataset, "notes", ()):
            splits.setdefault(note, []).append(dataset.split)
    return [f"{', '.join(names)}: {note.rstrip('.')}." for note, names in splits.items()]


def _print_notes(datasets: Iterable[SegmentationDataset]) -> None:
    for note in notes_of(datasets):
        print(f"Note: {note}", file=sys.stderr)


def _refuse(findings: Findings) -> None:
    if findings.problems:
        raise DataError("The test split cannot be used; nothing was trained.", findings.problems)


def _write_findings(folder: Path, origin: Origin, findings: Findings) -> None:
    for text in findings.warnings:
        print(f"Warning: {text}", file=sys.stderr, flush=True)
    write_json(folder / TEST_FILE, {"origin": origin, "warnings": findings.warnings})


def read_findings(folder: Path) -> dict[str, Any]:
    """Return how a test split in a finished folder came about ("origin"), and what was found of it ("warnings").

    Raises:
        DataError: The file is missing or damaged.
    """
    path = folder / TEST_FILE
    stated = read_json(path) if path.is_file() else None
    if not isinstance(stated, dict) or not {"origin", "warnings"} <= stated.keys():
        raise DataError(f"{path} is missing or damaged. Remove {folder} and rerun the same command to write it again.")
    return stated


def origin_of_test(config: DataConfig) -> Origin:
    """Return how the data set's test split comes about, if it has one: a published one goes before a held-out one."""
    if DATASETS.get(config.name).drawn and config.test_scenes:
        return "drawn"
    return "published" if has_published_test(config.name, config.root_path) else "held out"


def field_of_test(config: DataConfig) -> str:
    """Return the field of the configuration that the test split comes from."""
    return {"drawn": "data.test_scenes", "published": "data.root"}.get(origin_of_test(config), "data.holdout")


def open_splits(config: DataConfig, seed: int, progress: Progress = NO_PROGRESS) -> dict[Split, SegmentationDataset]:
    """Open all splits of the configured data set, which checks every file of it that was not checked before.

    Args:
        config: The data set.
        seed: Seed of drawn scenes, and of the choice of images that are held out.
        progress: Watches the files.

    Raises:
        ConfigError: The data set cannot be opened as configured.
        DataError: Anything that is wrong with the files of all splits, all at once; or nothing can be held out.
    """
    datasets, errors = try_splits(config, seed, progress)
    if errors:
        raise together(config.name, list(errors.values()))
    return datasets


def try_splits(
    config: DataConfig, seed: int, progress: Progress = NO_PROGRESS, looks: Mapping[Split, Look] | None = None
) -> tuple[dict[Split, SegmentationDataset], dict[Split, ScenepaletteError]]:
    """Open all splits as `open_splits` does, and return those that could be opened and why others could not.

    `looks` says who looks at the samples of a split while they are checked.
    """
    datasets: dict[Split, SegmentationDataset] = {}
    errors: dict[Split, ScenepaletteError] = {}
    splits: tuple[Split, ...] = SPLITS
    try:
        if origin_of_test(config) != "held out":  # which is a part of another
            splits = (*SPLITS, TEST)
    except ScenepaletteError as error:  # a folder that cannot be listed
        errors[TEST] = error
    for split in splits:
        try:
            with checking(progress, (looks or {}).get(split)):
                datasets[split] = open_split(config, split, seed)
        except ScenepaletteError as error:
            errors[split] = error
    if not errors:
        try:
            datasets = hold_out(datasets, config, seed)
        except ScenepaletteError as error:
            errors[TEST] = error
    return datasets, errors


def together(name: str, errors: Sequence[ScenepaletteError]) -> ScenepaletteError:
    """Return one error that says all that keeps the splits of a data set from being opened."""
    different = list({str(error): error for error in errors}.values())
    if len(different) == 1:
        return different[0]
    found: list[str | Problem] = []
    for error in different:
        of_files = error.found if isinstance(error, DataError) else ()
        if of_files and of_files[0].kind not in (ProblemKind.LAYOUT, ProblemKind.CLASS_FILE):
            found += of_files
        else:  # only its first sentence says what these are about
            found.append(" ".join([error.summary, "; ".join(error.problems)]).strip())
    found = list(dict.fromkeys(found))
    notes = dict.fromkeys(note for error in different for note in getattr(error, "notes", ()))
    noun = "problem" if len(found) == 1 else "problems"
    return DataError(f"The data set '{name}' has {len(found)} {noun}:", found, notes=list(notes))


def hold_out(
    datasets: dict[Split, SegmentationDataset], config: DataConfig, seed: int
) -> dict[Split, SegmentationDataset]:
    """Divide the training split into training and test, where that is asked for and there is no other test split.

    Of what is left for training, the part that is asked for is taken.

    Raises:
        DataError: There are too few images, or no recording is long enough.
    """
    if config.holdout and TEST not in datasets:
        whole = datasets["train"]
        train, test = (
            divide_recordings(whole.ids, config.holdout, config.holdout_gap)
            if config.recordings
            else divide_images(len(whole), config.holdout, seed)
        )
        datasets = {**datasets, "train": PartOfDataset(whole, "train", train), TEST: PartOfDataset(whole, TEST, test)}
    if config.train_part < 1:
        whole = datasets["train"]
        part = part_of(whole.ids, config.train_part, seed, recordings=config.recordings)
        datasets = {**datasets, "train": PartOfDataset(whole, "train", part.tolist())}
    return datasets


def open_split(config: DataConfig, split: Split, seed: int) -> SegmentationDataset:
    """Open a split of the configured data set as it was published or is drawn, which checks every file of it.

    Raises:
        ConfigError: The data set cannot be opened as configured.
        DataError: Anything that is wrong with the files, all at once.
    """
    drawn = DATASETS.get(config.name).drawn
    counts = {"train": config.train_scenes, "val": config.val_scenes, TEST: config.test_scenes}
    return open_dataset(
        config.name,
        split,
        config.root_path,
        class_file=config.class_file,
        options=config.folder_options(),
        labels=config.label_settings(),
        count=counts[split] if drawn else None,
        size=config.size if drawn else None,
        seed=seed,
    )


def open_extra_test(
    config: DataConfig, root: Path | str, progress: Progress = NO_PROGRESS, look: Look | None = None
) -> SegmentationDataset:
    """Open an extra test set, which checks its files: the split val of the data set's layout or of folder's.

    In folder's layout, the split test is taken where there is no val, and all images where there are no splits.

    Args:
        config: The data set whose layout it may have.
        root: Its folder, or the URL of it.
        progress: Watches the files.
        look: Looks at the samples while they are checked.

    Raises:
        ConfigError: It cannot be opened.
        DataError: Anything that is wrong with the files, all at once.
    """

    def class_file_in(folder: Path) -> Path | None:
        return next((path for name in CLASS_FILES if is_there((path := folder / name).is_file)), None)

    root = local_folder(root, progress)
    # A class file in it says that it is laid out as folder asks for.
    own, labels = class_file_in(root), config.label_settings()
    if DATASETS.get(config.name).drawn and own is None:
        raise ConfigError(
            f"report.extra_test: {root} has no class file ({', '.join(CLASS_FILES)}). The scenes of {config.name} are "
            "drawn, so an extra test set for them must be laid out as data.name=folder asks for."
        )
    with checking(progress, look):
        is_folder = own is not None or config.name == "folder"
        only_test = is_folder and not has_labelled_split(root, "val") and has_labelled_split(root, "test")
        split: Split = "test" if only_test else "val"
        if own is not None:
            labels = labels if config.name == "folder" else AS_FOUND
            return open_dataset("folder", split, root, options=FolderOptions(undivided=True), labels=labels)
        home = with_local_root(config, progress).root_path if config.name == "folder" else None
        shared = class_file_in(home) if home else None
        return open_dataset(
            config.name,
            split,
            root,
            class_file=config.class_file or shared,
            options=replace(config.folder_options(), undivided=is_folder),
            labels=labels,
        )


def content_of_arrays(folder: Path) -> str:
    """Return the hash of what a finished data folder was made from: all splits, wherever they lay.

    Raises:
        DataError: The folder is unfinished, or does not state it.
    """
    splits = (*SPLITS, *([TEST] if (folder / "test.json").is_file() else []))
    return sha256_of_json({split: content_of(folder, split) for split in splits})


def content_of_source(config: DataConfig, seed: int, progress: Progress) -> str:
    """Return what `content_of_arrays` returns for a data folder that would be made from a data set now.

    Args:
        config: The data set; every file of it is read and checked.
        seed: Seed of drawn scenes.
        progress: Watches the samples.

    Raises:
        DataError: Anything that is wrong with the data set.
    """
    splits = open_splits(with_local_root(config, progress), seed, progress)
    progress.start(f"compare data {config.name}", sum(len(dataset) for dataset in splits.values()))
    contents = {}
    for dataset in splits.values():
        contents[dataset.split] = dataset.content
        progress.advance(len(dataset))
    progress.finish()
    return sha256_of_json(contents)


def content_of_unlabelled_source(config: DataConfig) -> str:
    """Return what `unlabelled.content_of_written` returns for a folder that would be made from the images now.

    Raises:
        DataError: There is no image, or images cannot be read.
    """
    assert config.unlabelled is not None
    return unlabelled.content_of(local_folder(config.unlabelled))


def prepare_unlabelled(
    folder: Path, config: DataConfig, progress: Progress, *, size: tuple[int, int] | None = None
) -> None:
    """Write the unlabelled images of a configuration as an array.

    Args:
        folder: Output folder.
        config: Names their folder and the size.
        progress: Watches the images.
        size: Height and width of the array; by default `config.size`.

    Raises:
        DataError: There is no image, or images cannot be read; every one is listed.
    """
    assert config.unlabelled is not None
    source = local_folder(config.unlabelled, progress)
    progress.start("unlabelled images", len(unlabelled.find_images(source)))
    unlabelled.write_unlabelled(source, size or config.size, folder, progress.advance, fit=config.fit)
    progress.finish()


def read_data(folder: Path, extra_tests: Mapping[str, Path] | None = None) -> PreparedData:
    """Return the training pairs, the validation pairs, and the filled training labels, memory-mapped.

    Test splits are opened when they are asked for.

    Args:
        folder: The folder of the unit "data".
        extra_tests: Folders of extra test sets by name.

    Raises:
        DataError: A file is missing or not what was written.
    """
    train, validation = read_arrays(folder, "train"), read_arrays(folder, "val")
    filled = open_array(folder / FILLED)
    if filled.shape != train.labels.shape or filled.dtype != train.labels.dtype:
        raise DataError(
            f"{folder / FILLED} has {filled.dtype} {filled.shape}; {train.labels.dtype} {train.labels.shape} is "
            f"required, as in labels-train.npy. Remove {folder} and rerun the same command to write it again."
        )
    test = partial(read_arrays, folder, TEST) if (folder / "test.json").is_file() else None
    extra = {name: partial(read_arrays, path, "val") for name, path in (extra_tests or {}).items()}
    return PreparedData(train, validation, filled, test, extra)
