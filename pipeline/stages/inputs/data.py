"""Stage data: read and check the labelled data set; keep all of it resized."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from scenepalette.common.errors import DataError
from scenepalette.common.progress import Progress
from scenepalette.common.storage.files import sha256_of_json
from scenepalette.common.storage.untrusted import short
from scenepalette.data.arrays import LostLabelsError, content_of, open_array, read_arrays, write_label_array
from scenepalette.data.datasets import DATASETS, SPLITS, TEST
from scenepalette.data.labels import fill_ignored, label_counts
from scenepalette.data.sample import Sample, SegmentationDataset, WrappedDataset
from scenepalette.pipeline.checks.requirements import REFUSED, requirement_problems
from scenepalette.pipeline.checks.splits import examine_arrays, examine_size
from scenepalette.pipeline.config import DataConfig, RunConfig
from scenepalette.pipeline.stages.inputs.fitted import fitted_splits, size_note, write_watched
from scenepalette.pipeline.stages.inputs.opened_splits import field_of_test, open_splits, origin_of_test
from scenepalette.pipeline.stages.inputs.source_unit import SourceUnit, data_paths
from scenepalette.pipeline.stages.inputs.split_findings import TEST_FILE, print_notes, refuse, write_findings
from scenepalette.pipeline.units.places import place_problem, with_local_root
from scenepalette.pipeline.units.sources import Sources, is_there
from scenepalette.pipeline.units.workspace import PreparedData, Workspace

VERSION = 1
FILLED = "filled-labels-train.npy"
FILES = ("images-*.npy", "labels-*.npy", FILLED, "train.json", "val.json", "test.json", TEST_FILE)


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
    print_notes(splits.values())
    origin, field, test = origin_of_test(config), field_of_test(config), splits.get(TEST)
    if config.holdout and origin == "published":
        print(f"data.holdout has no effect: {config.root} holds the published test split.", file=sys.stderr)
    if test is not None:
        refuse(examine_size(test.ids, field, origin, config.recordings))
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
        write_findings(
            folder, origin, examine_arrays(train, read_arrays(folder, TEST), field, origin, config.recordings)
        )


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
