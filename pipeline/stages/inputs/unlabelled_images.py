"""Stage unlabelled: images without labels, resized, for pseudo pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scenepalette.common.progress import Progress
from scenepalette.data import unlabelled
from scenepalette.pipeline.config import DataConfig, RunConfig
from scenepalette.pipeline.stages.inputs.source_unit import SourceUnit, unlabelled_paths
from scenepalette.pipeline.units.places import local_folder, place_problem
from scenepalette.pipeline.units.sources import Sources
from scenepalette.pipeline.units.workspace import Workspace

VERSION = 1
FILES = ("images.npy", "images.json")


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
        return cls("unlabelled", "", VERSION, settings, files=FILES, resumable=False, paths=paths)

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
