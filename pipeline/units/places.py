"""Folders that data is read from: on this machine, or at a URL and then copied into the cache folder first."""

from __future__ import annotations

from pathlib import Path

from scenepalette.common.progress import NO_PROGRESS, Progress
from scenepalette.common.remote.mirror import local_copy
from scenepalette.common.remote.store import store_problem
from scenepalette.common.storage.untrusted import short
from scenepalette.data.files.finding import unpack_first
from scenepalette.pipeline.config import DataConfig
from scenepalette.pipeline.units.sources import is_there


def local_folder(place: Path | str, progress: Progress = NO_PROGRESS) -> Path:
    """Return a folder of this machine: the folder itself, or the copy of one at a URL as it is there now.

    A path is a folder of this machine, a text is a URL.

    Raises:
        ConfigError: The URL cannot be used.
        StoreError: It cannot be read.
        ScenepaletteError: A copy cannot be written.
    """
    return local_copy(place, progress) if isinstance(place, str) else place


def with_local_root(config: DataConfig, progress: Progress = NO_PROGRESS) -> DataConfig:
    """Return a data section whose root lies on this machine; raises as `local_folder` does."""
    if not isinstance(config.root, str):
        return config
    return config.model_copy(update={"root": local_folder(config.root, progress)})


def place_problem(field: str, place: Path | str | None) -> list[str]:
    """Say if there is no such folder, or a URL cannot be used; what is at the URL is seen when it is read."""
    if isinstance(place, str):
        problem = store_problem(place)
        return [f"{field}: {problem}"] if problem else []
    if place is None or is_there(place.is_dir):
        return []
    return [f"{field}: there is no folder {short(str(place))}{unpack_first(place)}"]
