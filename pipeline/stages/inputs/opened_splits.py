"""The configured splits and extra test sets, opened: every file of them is checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from scenepalette.common.errors import ConfigError, DataError, ScenepaletteError
from scenepalette.common.problems import Problem, ProblemKind
from scenepalette.common.progress import NO_PROGRESS, Progress
from scenepalette.data.datasets import DATASETS, SPLITS, TEST, Split, has_published_test, open_dataset
from scenepalette.data.decoding.label_reading import AS_FOUND
from scenepalette.data.files.checking import Look, checking
from scenepalette.data.files.folder_layouts import has_labelled_split
from scenepalette.data.readers.folder import CLASS_FILES
from scenepalette.data.sample import FolderOptions, SegmentationDataset
from scenepalette.data.splits.holdout import PartOfDataset, divide_images, divide_recordings
from scenepalette.data.splits.parts import part_of
from scenepalette.pipeline.checks.splits import Origin
from scenepalette.pipeline.config import DataConfig
from scenepalette.pipeline.units.places import local_folder, with_local_root
from scenepalette.pipeline.units.sources import is_there


def notes_of(datasets: Iterable[SegmentationDataset]) -> list[str]:
    """Return what readers decided from the files and what they skipped, each once, with the split that it is of."""
    splits: dict[str, list[str]] = {}
    for dataset in datasets:
        for note in getattr(dataset, "notes", ()):
            splits.setdefault(note, []).append(dataset.split)
    return [f"{', '.join(names)}: {note.rstrip('.')}." for note, names in splits.items()]


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
