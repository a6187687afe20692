"""Stage segmenter-data: the real pairs at the size that segmenters work at, and labels in the size of their files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from scenepalette.common.errors import DataError
from scenepalette.common.storage.files import sha256_of_json
from scenepalette.common.wording import counted
from scenepalette.data.arrays import LostLabelsError
from scenepalette.data.datasets import TEST
from scenepalette.pipeline.config import RunConfig
from scenepalette.pipeline.stages.inputs.data import DataUnit, content_of_arrays
from scenepalette.pipeline.stages.inputs.extra_tests import EVALUATED
from scenepalette.pipeline.stages.inputs.fitted import fitted_splits, read_for_segmenters, write_for_segmenters
from scenepalette.pipeline.stages.inputs.opened_splits import open_splits
from scenepalette.pipeline.units.places import with_local_root
from scenepalette.pipeline.units.workspace import PreparedData, Unit, Workspace

VERSION = 1
NAME = "segmenter-data"
FILES = ("images-*.npy", "labels-*.npy", "train.json", "val.json", "test.json", "native-labels-*.npz")


@dataclass(frozen=True)
class SegmenterDataUnit(Unit):
    """The splits of the unit "data", read again from their files where segmenters take them in a size of their own."""

    computes: ClassVar[bool] = False

    @classmethod
    def of_config(cls, config: RunConfig) -> list[SegmenterDataUnit]:
        """Return the unit of a configuration; none where segmenters take what generators take."""
        if NAME not in config.data_of_segmenters:
            return []
        settings = {"size": config.segmenter_size, "native": config.evaluates_natively}
        return [cls(NAME, "", VERSION, settings, ("data",), FILES, resumable=False)]

    @classmethod
    def problems(cls, units: Sequence[SegmenterDataUnit], config: RunConfig, *, fetch: bool) -> list[str]:
        """Return which files that the configuration names are not there."""
        return DataUnit.problems([], config, fetch=fetch)

    def make(self, run: Workspace, folder: Path) -> None:
        """Read the data set again.

        Raises:
            DataError: It is no longer what the unit "data" was made from.
        """
        config, progress = run.config, run.progress
        splits = open_splits(with_local_root(config.data, progress), config.data_seed, progress)
        found = sha256_of_json({dataset.split: dataset.content for dataset in splits.values()})
        if found != content_of_arrays(run.run_dir / "data"):
            raise DataError(
                f"The files of the data set are not those that {run.run_dir / 'data'} was made from. Put these back, "
                "or begin anew in another run directory (--out)."
            )
        fits = fitted_splits(splits, config.data, progress)
        evaluated = [dataset for split, dataset in fits.items() if split != "train"]
        steps = sum(map(len, fits.values())) if config.segmenter_size != config.generator_size else 0
        steps += sum(map(len, evaluated)) if config.evaluates_natively else 0
        for path in folder.glob("*"):  # of an earlier configuration of this unfinished folder
            if any(path.match(pattern) for pattern in FILES):
                path.unlink()
        progress.start("data for segmenters", steps)
        lost: list[str] = []
        for dataset in fits.values():
            try:
                write_for_segmenters(dataset, config, folder, progress)
            except LostLabelsError as error:
                lost += error.problems or [error.summary]
        progress.finish()
        if lost:
            size = "{} x {}".format(*config.segmenter_size)
            raise DataError(
                f"{counted(len(lost), 'label is', 'labels are')} too fine for segmenters.size {size}. Remove what is "
                "listed, or choose a larger size:",
                lost,
            )


def read_segmenter_data(
    config: RunConfig, run_dir: Path, data: PreparedData, extra_tests: Mapping[str, Path]
) -> PreparedData:
    """Return the splits as segmenters take them.

    Args:
        config: The run's configuration.
        run_dir: The run directory.
        data: The splits as generators take them.
        extra_tests: Folders of extra test sets by name.

    Raises:
        DataError: A file is missing or not what was written.
    """
    if NAME not in config.data_of_segmenters:
        return data
    read = partial(read_for_segmenters, config, run_dir / NAME)
    train = read("train", data.train)
    extra = {name: partial(_read_extra, config, name, folder / EVALUATED, data) for name, folder in extra_tests.items()}
    open_test = (lambda: read(TEST, data.test)) if data.has_test else None
    return PreparedData(train, read("val", data.validation), train.labels, open_test, extra)


def _read_extra(config: RunConfig, name: str, folder: Path, data: PreparedData):
    return read_for_segmenters(config, folder, "val", data.extra_tests[name])
