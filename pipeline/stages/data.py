"""Stage data: read and check the labelled data set, and unlabelled images, once; keep both decoded and resized."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from scenepalette.common.errors import DataError
from scenepalette.common.files import sha256_of_json
from scenepalette.common.progress import Progress
from scenepalette.common.untrusted import short
from scenepalette.data import unlabelled
from scenepalette.data.arrays import content_of, open_array, read_arrays, write_arrays, write_label_array
from scenepalette.data.datasets import DATASETS, SPLITS, open_dataset
from scenepalette.data.labels import fill_ignored
from scenepalette.data.sample import SegmentationDataset
from scenepalette.pipeline.config import DataConfig, RunConfig
from scenepalette.pipeline.units.sources import Sources, is_there
from scenepalette.pipeline.units.workspace import PreparedData, Unit, Workspace

VERSION = 1
UNLABELLED_VERSION = 1
FILLED = "filled-labels-train.npy"
FILES = ("images-*.npy", "labels-*.npy", FILLED, "train.json", "val.json")
UNLABELLED_FILES = ("images.npy", "images.json")
LEAST = 2
"""Samples of which a spread can be taken: by the palettes' mixture, and by every Frechet distance."""


@dataclass(frozen=True)
class SourceUnit(Unit):
    """A unit that reads data from outside the run directory; what is made from it is known once it is finished.

    Attributes:
        paths: Where the data lies, by field; empty for data that is drawn.
    """

    computes: ClassVar[bool] = False

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
        settings = config.data.model_dump(mode="json", exclude={"root", "class_file", "unlabelled"})
        paths = data_paths(config.data)
        if DATASETS.get(config.data.name).drawn:
            settings["seed"] = config.seed
        elif content := sources.content("data", paths, partial(content_of_source, config.data, config.seed)):
            settings["content"] = content
        return cls("data", "", VERSION, settings, files=FILES, resumable=False, paths=paths)

    @classmethod
    def problems(cls, units: Sequence[DataUnit], config: RunConfig, *, fetch: bool) -> list[str]:
        """Return which files that the configuration names are not there."""
        data, problems = config.data, []
        if data.root is not None and not is_there(data.root.is_dir):
            problems.append(f"data.root: there is no folder {short(str(data.root))}")
        if data.class_file is not None and not is_there(data.class_file.is_file):
            problems.append(f"data.class_file: there is no file {short(str(data.class_file))}")
        return problems

    def make(self, run: Workspace, folder: Path) -> None:
        """Read and check the data set."""
        prepare_data(folder, run.config.data, run.config.seed, run.progress)

    def content(self, folder: Path) -> str:
        """Return the hash of both splits."""
        return content_of_arrays(folder)


@dataclass(frozen=True)
class UnlabelledUnit(SourceUnit):
    """Images without labels, for pseudo pairs."""

    @classmethod
    def of(cls, config: RunConfig, sources: Sources) -> UnlabelledUnit:
        """Return the unit."""
        paths = unlabelled_paths(config.data)
        content = sources.content("unlabelled", paths, lambda progress: content_of_unlabelled_source(config.data))
        settings = {"size": config.data.size, **({"content": content} if content else {})}
        return cls("unlabelled", "", UNLABELLED_VERSION, settings, files=UNLABELLED_FILES, resumable=False, paths=paths)

    @classmethod
    def problems(cls, units: Sequence[UnlabelledUnit], config: RunConfig, *, fetch: bool) -> list[str]:
        """Say if the folder is not there."""
        root = config.data.unlabelled
        return [f"data.unlabelled: there is no folder {short(str(root))}"] if root and not is_there(root.is_dir) else []

    def make(self, run: Workspace, folder: Path) -> None:
        """Read the images."""
        prepare_unlabelled(folder, run.config.data, run.progress)

    def content(self, folder: Path) -> str:
        """Return the hash of the images."""
        return content_of_unlabelled_array(folder)


def data_paths(config: DataConfig) -> dict[str, str]:
    """Return where the labelled data set lies, by the name of the field."""
    paths = {"root": config.root, "class_file": config.class_file}
    return {name: str(path) for name, path in paths.items() if path is not None}


def unlabelled_paths(config: DataConfig) -> dict[str, str]:
    """Return where the unlabelled images lie."""
    return {"unlabelled": str(config.unlabelled)} if config.unlabelled is not None else {}


def prepare_data(folder: Path, config: DataConfig, seed: int, progress: Progress) -> None:
    """Write both splits as arrays, and the training labels with ignored pixels filled.

    Args:
        folder: Output folder.
        config: The data set.
        seed: Seed of drawn scenes.
        progress: Watches the samples.

    Raises:
        DataError: Anything that is wrong with the data set, all at once.
    """
    splits = [open_split(config, split, seed) for split in SPLITS]
    progress.start(f"data {config.name}", sum(len(dataset) for dataset in splits))
    for dataset in splits:
        written = 0

        def report(done: int, total: int) -> None:
            nonlocal written
            progress.advance(done - written)
            written = done

        write_arrays(dataset, config.size, folder, report)
    progress.finish()
    labels = read_arrays(folder, "train").labels
    count, height, width = labels.shape
    write_label_array(folder / FILLED, (fill_ignored(np.asarray(label)) for label in labels), (count, height, width))


def open_split(config: DataConfig, split: Literal["train", "val"], seed: int) -> SegmentationDataset:
    """Open a split of the configured data set, which checks every file of it.

    Raises:
        ConfigError: The data set cannot be opened as configured.
        DataError: Anything that is wrong with the files, all at once.
    """
    drawn = DATASETS.get(config.name).drawn
    return open_dataset(
        config.name,
        split,
        config.root,
        class_file=config.class_file,
        count=(config.train_scenes if split == "train" else config.val_scenes) if drawn else None,
        size=config.size if drawn else None,
        seed=seed,
    )


def content_of_arrays(folder: Path) -> str:
    """Return the hash of what a finished data folder was made from: both splits, wherever they lay.

    Raises:
        DataError: The folder is unfinished, or does not state it.
    """
    return sha256_of_json({split: content_of(folder, split) for split in SPLITS})


def content_of_source(config: DataConfig, seed: int, progress: Progress) -> str:
    """Return what `content_of_arrays` returns for a data folder that would be made from a data set now.

    Args:
        config: The data set; every file of it is read and checked.
        seed: Seed of drawn scenes.
        progress: Watches the samples.

    Raises:
        DataError: Anything that is wrong with the data set.
    """
    splits = [open_split(config, split, seed) for split in SPLITS]
    progress.start(f"compare data {config.name}", sum(len(dataset) for dataset in splits))
    contents = {}
    for dataset in splits:
        contents[dataset.split] = dataset.content
        progress.advance(len(dataset))
    progress.finish()
    return sha256_of_json(contents)


def content_of_unlabelled_array(folder: Path) -> str:
    """Return the hash of what a finished folder of unlabelled images was made from.

    Raises:
        DataError: The folder is unfinished, or does not state it.
    """
    return unlabelled.content_of_written(folder)


def content_of_unlabelled_source(config: DataConfig) -> str:
    """Return what `content_of_unlabelled_array` returns for a folder that would be made from the images now.

    Raises:
        DataError: There is no image, or images cannot be read.
    """
    assert config.unlabelled is not None
    return unlabelled.content_of(config.unlabelled)


def prepare_unlabelled(folder: Path, config: DataConfig, progress: Progress) -> None:
    """Write the unlabelled images of a configuration as an array.

    Args:
        folder: Output folder.
        config: Names their folder and the size.
        progress: Watches the images.

    Raises:
        DataError: There is no image, or images cannot be read; every one is listed.
    """
    assert config.unlabelled is not None
    progress.start("unlabelled images", len(unlabelled.find_images(config.unlabelled)))
    written = 0

    def report(done: int, total: int) -> None:
        nonlocal written
        progress.advance(done - written)
        written = done

    unlabelled.write_unlabelled(config.unlabelled, config.size, folder, report)
    progress.finish()


def read_data(folder: Path) -> PreparedData:
    """Return the training pairs, the validation pairs, and the filled training labels, memory-mapped.

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
    return PreparedData(train, validation, filled)
