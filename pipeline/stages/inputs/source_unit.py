"""What units that read data from outside the run directory have in common, and where the data lie."""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from scenepalette.common.urls import is_url
from scenepalette.pipeline.config import DataConfig, RunConfig
from scenepalette.pipeline.run_directory.ownership import read_mark
from scenepalette.pipeline.units.sources import may_be_there
from scenepalette.pipeline.units.workspace import Unit


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
