"""Folders of shards on this machine, or at a URL and then copied into the cache folder as far as they are read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scenepalette.common.errors import DataError
from scenepalette.common.progress import NO_PROGRESS, Progress
from scenepalette.common.remote.mirror import Mirror
from scenepalette.common.urls import is_url, without_file_scheme
from scenepalette.data.shards.manifest import (
    DOCUMENTS,
    MANIFEST_NAME,
    read_manifest,
    require_those_of_manifest,
    shard_problems,
)


class ShardPlace:
    """A folder of shards, wherever it lies.

    Attributes:
        folder: The folder on this machine; of one at a URL, the copy, which holds what was asked for so far.
    """

    def __init__(self, folder: Path | str) -> None:
        """Open a folder; of one at a URL, copy the manifest and the documents beside it.

        Args:
            folder: A path, or a URL such as s3://BUCKET/FOLDER.

        Raises:
            ConfigError: The URL cannot be used.
            DataError: There is no manifest at the URL.
            ScenepaletteError: The URL cannot be read, or a copy cannot be written.
        """
        self._mirror = Mirror(str(folder)) if _is_remote(folder) else None
        if self._mirror is None:
            self.folder = Path(without_file_scheme(str(folder)))
            return
        there = self._mirror.entries
        if MANIFEST_NAME not in there:
            within = sorted({name.rpartition("/")[0] for name in there if name.endswith(".parquet") and "/" in name})
            hint = (
                f"Name one of the folders in it: {', '.join(within)}"
                if within
                else "It is unfinished, or holds no shards: push it again"
            )
            raise DataError(f"{self._mirror.url} has no {MANIFEST_NAME}, which is written last. {hint}.")
        self.folder = self._mirror.fetch([name for name in (MANIFEST_NAME, *DOCUMENTS) if name in there])

    def path(self, shard: Mapping[str, Any]) -> Path:
        """Return the path of a shard of the manifest: on this machine its size is compared, of one at a URL its hash.

        Raises:
            DataError: It is not in the folder, or has another size than the manifest says.
            ScenepaletteError: It is not at the URL, or other content than the manifest says.
        """
        if self._mirror is not None:
            self._mirror.fetch([shard["name"]], {shard["name"]: shard["sha256"]})
        else:
            require_those_of_manifest(self.folder, shard_problems(self.folder, {"shards": [shard]}))
        return self.folder / shard["name"]

    def whole(self, progress: Progress = NO_PROGRESS) -> Path:
        """Return the folder with all its shards; raises as `path` does.

        Args:
            progress: Watches the shards that are copied.
        """
        if self._mirror is not None:
            hashes = {shard["name"]: shard["sha256"] for shard in read_manifest(self.folder)["shards"]}
            self._mirror.fetch(hashes, hashes, progress)
        return self.folder


def local_shards(folder: Path | str, progress: Progress = NO_PROGRESS) -> Path:
    """Return a folder of shards on this machine: the folder itself, or the whole copy of one at a URL.

    Args:
        folder: A path, or a URL such as s3://BUCKET/FOLDER.
        progress: Watches the shards that are copied.

    Raises:
        ConfigError: The URL cannot be used.
        DataError: There is no manifest at the URL, or it is damaged.
        ScenepaletteError: A shard is not what the manifest says, or a copy cannot be written.
    """
    return ShardPlace(folder).whole(progress)


def _is_remote(folder: Path | str) -> bool:
    return is_url(folder) and is_url(without_file_scheme(str(folder)))
