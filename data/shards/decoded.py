"""Decoded copies of shards: pixels in memory-mapped files, so that a training decodes nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scenepalette.common.errors import DataError
from scenepalette.common.storage.files import open_atomically
from scenepalette.data.arrays import open_array, write_header

_OPEN_FILES = 256


def decoded_path(folder: Path, shard: Mapping[str, Any]) -> Path:
    """Return the file of a shard's decoded copy: named by its content, so that it is never taken for another's.

    Args:
        folder: Where decoded copies are.
        shard: The shard's entry in the manifest.
    """
    return folder / f"{shard['sha256']}.npy"


def write_decoded_shard(path: Path, parts: Iterable[tuple[np.ndarray, np.ndarray]], rows: int) -> None:
    """Write one decoded copy, uint8 [rows, 4, H, W]: red, green, blue and class ids of each pair as planes.

    Args:
        path: See `decoded_path`; it appears only when it is whole.
        parts: The pairs in order, some at a time: images uint8 [N, H, W, 3] and labels uint8 [N, H, W].
        rows: Number of pairs in all parts together.

    Raises:
        DataError: The pairs differ in size.
        ScenepaletteError: The file cannot be written.
    """
    size: tuple[int, ...] | None = None
    with open_atomically(path) as file:
        for images, labels in parts:
            if size is None:
                size = labels.shape[1:]
                write_header(file, (rows, 4, *size))
            if labels.shape[1:] != size:
                raise DataError(f"The shard holds pairs of sizes {size} and {labels.shape[1:]}; one size is required.")
            planes = np.concatenate([images, labels[..., None]], axis=3).transpose(0, 3, 1, 2)
            file.write(np.ascontiguousarray(planes).data)


class DecodedShards:
    """Reads the decoded copies of a folder of shards; safe to use from several threads."""

    def __init__(self, folder: Path | str, shards: Sequence[Mapping[str, Any]]) -> None:
        """Check that all copies are there.

        Args:
            folder: Where decoded copies are.
            shards: The entries of the manifest.

        Raises:
            DataError: A copy is missing or has another size than it must have.
        """
        self.folder = Path(folder).absolute()
        self._shards = [dict(shard) for shard in shards]
        self._forget()
        missing = [shard["name"] for shard in shards if not decoded_path(self.folder, shard).is_file()]
        if missing:
            raise DataError(
                f"{self.folder} lacks decoded copies of {len(missing)} of {len(shards)} shards. Write them with "
                "scenepalette.data.shards.pairs.decode_shards; it continues where it stopped.",
                missing,
            )

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[int, np.ndarray] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the lock and open files, which do not travel to another process."""
        return {key: value for key, value in self.__dict__.items() if key not in ("_lock", "_open")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Start with no open files."""
        self.__dict__.update(state)
        self._forget()

    def pixels(self, places: Sequence[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
        """Copy some pairs.

        Args:
            places: Shard and row in it, of each pair.

        Returns:
            Images uint8 [B, H, W, 3], whose memory holds planes, and labels uint8 [B, H, W].

        Raises:
            DataError: A file is damaged, or sizes differ between the shards.
        """
        copies = [(self._shard(shard), row) for shard, row in places]
        sizes = {planes.shape[2:] for planes, _ in copies}
        if len(sizes) > 1:
            raise DataError(f"{self.folder} holds pairs of sizes {sorted(sizes)}; one batch must have one size.")
        size = sizes.pop()
        images, labels = np.empty((len(places), 3, *size), np.uint8), np.empty((len(places), *size), np.uint8)
        for position, (planes, row) in enumerate(copies):
            images[position], labels[position] = planes[row, :3], planes[row, 3]
        return images.transpose(0, 2, 3, 1), labels

    def _shard(self, number: int) -> np.ndarray:
        with self._lock:
            if number not in self._open:
                if len(self._open) >= _OPEN_FILES:
                    del self._open[next(iter(self._open))]
                shard = self._shards[number]
                self._open[number] = _map(decoded_path(self.folder, shard), shard["rows"])
            return self._open[number]


def _map(path: Path, rows: int) -> np.ndarray:
    """Map a decoded copy into memory, read-only."""
    planes = open_array(path, "Remove it and decode the shards again.")
    if planes.ndim != 4 or planes.shape[:2] != (rows, 4) or planes.dtype != np.uint8:
        raise DataError(
            f"{path} holds {planes.dtype} {planes.shape}, not uint8 ({rows}, 4, H, W). Remove it and decode the "
            "shards again."
        )
    return planes
