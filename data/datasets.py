"""Opening a labelled data set by name: the built-in ones, and those of packages elsewhere."""

from __future__ import annotations

from inspect import getattr_static
from pathlib import Path
from typing import Literal

from scenepalette.common.errors import ConfigError, DataError
from scenepalette.common.registry import Registry
from scenepalette.data.decoding.label_reading import AS_FOUND, LabelSettings
from scenepalette.data.sample import DatasetEntry, FolderOptions, SegmentationDataset

Split = Literal["train", "val", "test"]
SPLITS: tuple[Literal["train"], Literal["val"]] = ("train", "val")
"""The splits that every data set has."""
TEST: Literal["test"] = "test"
"""The split that some have beside these."""
_MEMBERS = ("name", "split", "table", "licence", "label_origins", "ids", "fingerprint", "content")


def _lacks(name: str, entry: DatasetEntry) -> str | None:
    return None if callable(entry.open) else f"its open is {entry.open!r}; a function is required"


DATASETS: Registry[DatasetEntry] = Registry(
    "scenepalette.datasets",
    {
        "streets": "scenepalette.data.streets.dataset:DATASET",
        "camvid": "scenepalette.data.readers.camvid:DATASET",
        "cityscapes": "scenepalette.data.readers.cityscapes:DATASET",
        "cityscapes-25k": "scenepalette.data.readers.cityscapes_25k:DATASET",
        "idd": "scenepalette.data.readers.idd:DATASET",
        "ade20k": "scenepalette.data.readers.ade20k:DATASET",
        "ade-indoor": "scenepalette.data.readers.ade_indoor:DATASET",
        "coco-stuff": "scenepalette.data.readers.coco_stuff:DATASET",
        "celebamask-hq": "scenepalette.data.readers.celebamask_hq:DATASET",
        "gta5": "scenepalette.data.readers.gta5:DATASET",
        "folder": "scenepalette.data.readers.folder:DATASET",
    },
    DatasetEntry,
    _lacks,
    noun="data set",
)


def open_dataset(
    name: str,
    split: Split,
    root: Path | None,
    *,
    class_file: Path | None = None,
    options: FolderOptions | None = None,
    count: int | None = None,
    size: tuple[int, int] | None = None,
    seed: int = 0,
    labels: LabelSettings = AS_FOUND,
) -> SegmentationDataset:
    """Open one split of a data set and check every file of it.

    Args:
        name: One of `DATASETS`.
        split: "train", "val", or, where the data set has it, "test".
        root: The folder of the data set in its published layout; None for one that is drawn, such as "streets".
        class_file: For "folder": the class file, where it is not ROOT/classes.csv or ROOT/classes.yaml. For
            "ade-indoor": the class list, where it is not ROOT/ade_indoor_classes.txt.
        options: For "folder": what its files do not say of their layout.
        count: For data that are drawn: number of scenes. Data sets on disk are read whole.
        size: For data that are drawn: height and width in pixels. Data sets on disk keep their files' sizes.
        seed: For data that are drawn: which scenes.
        labels: What the user says of the label images, where the files alone do not tell.

    Returns:
        The checked data set.

    Raises:
        ConfigError: An argument is missing, unknown, or would be without effect in a way that hides a mistake; or the
            package that brings the data set cannot be used.
        DataError: Something is wrong with the files; every problem is listed with its file.
    """
    entry = DATASETS.get(name)
    if split not in (*SPLITS, TEST):
        raise ConfigError(f"There is no split '{split}'; known are {', '.join((*SPLITS, TEST))}.")
    if split == TEST and not (entry.drawn or has_published_test(name, root)):
        raise ConfigError(f"The data set '{name}' in {root} has no published test split.")
    if class_file is not None and not entry.takes_class_file:
        raise ConfigError(
            f"A class file ({class_file}) was given for '{name}', whose classes are fixed. Leave it out, or use the "
            "data set 'folder'."
        )
    if options not in (None, FolderOptions()) and not entry.takes_options:
        raise ConfigError(
            f"{options} was given for '{name}', whose layout is fixed. Leave it out, or use the data set 'folder'."
        )
    if labels != AS_FOUND and not entry.takes_label_settings:
        raise ConfigError(f"Settings of label images were given for '{name}', which has none. Leave them out.")
    dataset = (
        _draw(entry, split, root, count, size, seed)
        if entry.drawn
        else _read(entry, split, root, class_file, options or FolderOptions(), labels)
    )
    # Not isinstance with a protocol, which computes hashes of all files to see that they are there.
    members = (*_MEMBERS, "__len__", "__getitem__")
    missing = [member for member in members if getattr_static(dataset, member, None) is None]
    if missing:
        raise ConfigError(
            f"{DATASETS.source(name)}: its data set '{name}' lacks {', '.join(missing)} of "
            "scenepalette.data.sample.SegmentationDataset. Update or uninstall that package."
        )
    return dataset


def has_published_test(name: str, root: Path | None) -> bool:
    """Tell whether a data set's folder has a test split with labels, as it was published.

    Raises:
        DataError: The folder cannot be listed.
    """
    entry = DATASETS.get(name)
    if entry.has_test is None or root is None:
        return False
    try:
        return entry.has_test(Path(root).expanduser())
    except OSError as error:
        raise _unreadable(entry, Path(root), error) from error


def _draw(
    entry: DatasetEntry, split: str, root: Path | None, count: int | None, size: tuple[int, int] | None, seed: int
) -> SegmentationDataset:
    problems = []
    if count is None or count < 1:
        problems.append(f"count is {count}; the number of scenes to draw, 1 or more, is required")
    if size is None or min(size) < 1:
        problems.append(f"size is {size}; height and width in pixels are required")
    if root is not None:
        problems.append(f"root is {root}; its scenes are drawn, not read: leave root out")
    if problems:
        raise ConfigError(f"The data set '{entry.name}' cannot be opened:", problems)
    return entry.open(split=split, count=count, size=size, seed=seed)


def _read(
    entry: DatasetEntry,
    split: str,
    root: Path | None,
    class_file: Path | None,
    options: FolderOptions,
    labels: LabelSettings,
) -> SegmentationDataset:
    if root is None:
        raise ConfigError(
            f"The data set '{entry.name}' needs the folder it lies in; no root was given. Set data.root to that folder."
        )
    taken = {
        **({"class_file": class_file} if entry.takes_class_file else {}),
        **({"options": options} if entry.takes_options else {}),
        **({"labels": labels} if entry.takes_label_settings else {}),
    }
    try:
        return entry.open(Path(root).expanduser(), split, **taken)
    except OSError as error:
        raise _unreadable(entry, root, error) from error


def _unreadable(entry: DatasetEntry, root: Path, error: OSError) -> DataError:
    # Files have errors of their own; this is a folder that cannot be listed, or a path the system does not take.
    return DataError(
        f"The data set '{entry.name}' in {root} cannot be read: {error.filename} ({error.strerror or error}). Give "
        "the user who runs this permission to read every folder in it."
    )
