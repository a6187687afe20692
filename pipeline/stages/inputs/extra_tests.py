"""Stage extra-tests: test sets beside the data set's own splits, resized."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scenepalette.common.errors import DataError
from scenepalette.common.progress import Progress
from scenepalette.data.arrays import Pairs, content_of, read_arrays
from scenepalette.data.sample import SegmentationDataset
from scenepalette.pipeline.checks.splits import class_difference, examine_arrays
from scenepalette.pipeline.config import DataConfig, RunConfig
from scenepalette.pipeline.stages.inputs.fitted import fitted, write_for_segmenters, write_watched
from scenepalette.pipeline.stages.inputs.opened_splits import open_extra_test
from scenepalette.pipeline.stages.inputs.source_unit import SourceUnit
from scenepalette.pipeline.stages.inputs.split_findings import TEST_FILE, print_notes, write_findings
from scenepalette.pipeline.units.places import place_problem
from scenepalette.pipeline.units.sources import Sources
from scenepalette.pipeline.units.workspace import Workspace

EXTRA_TESTS = "extra-tests"
VERSION = 1
FILES = ("images-val.npy", "labels-val.npy", "val.json", TEST_FILE)
EVALUATED = "evaluated"
"""Folder within an extra test set's of what segmenters take of it in a size of their own."""


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
        files = FILES
        if len(config.data_of_segmenters) > 1:
            settings["evaluated"] = {"size": config.segmenter_size, "native": config.evaluates_natively}
            files = (*files, f"{EVALUATED}/*")
        return cls(EXTRA_TESTS, name, VERSION, settings, ("data",), files, resumable=False, paths=paths, root=root)

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
    print_notes([dataset])
    if difference := class_difference(train.table, dataset.table):
        raise DataError(f"{field}: {difference}.")
    dataset = fitted(dataset, config, progress)
    progress.start(f"extra test set {name}", len(dataset))
    write_watched(dataset, size or config.size, folder, config, progress)
    progress.finish()
    write_findings(
        folder, "extra", examine_arrays(train, read_arrays(folder, "val"), field, "extra", config.recordings)
    )
    return dataset
