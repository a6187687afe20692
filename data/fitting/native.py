"""Labels in the size of their files, one compressed entry each, so that evaluations read them one at a time."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from scenepalette.common.errors import DataError
from scenepalette.common.processors import map_in_order
from scenepalette.common.storage.files import open_atomically
from scenepalette.data.fitting.dataset import own_label
from scenepalette.data.sample import SegmentationDataset
from scenepalette.data.sequences import sources_of


class NativeLabels:
    """The labels that rows of resized pairs are evaluated by.

    Attributes:
        image_ids: Ids of the N images that the rows are, or are tiles of.
        images: int64 [rows], the image of each row, 0 .. N-1.
    """

    def __init__(self, path: Path, ids: Sequence[str]) -> None:
        """Open what `write_native_labels` wrote.

        Args:
            path: The file.
            ids: Ids of the rows.

        Raises:
            DataError: It is missing, damaged, or has other rows.
        """
        self._path = path
        self.image_ids, self.images = sources_of(ids)
        try:
            self._file = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as error:
            raise self._damaged(str(error)) from error
        entries = len(self._file.namelist())
        if entries != len(ids):
            raise self._damaged(f"it holds {entries} labels, not {len(ids)}")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> np.ndarray:
        """Return the label of a row, uint8 [H, W].

        Raises:
            DataError: It cannot be read.
        """
        try:
            with self._file.open(_entry(row)) as entry:
                label = np.lib.format.read_array(entry, allow_pickle=False)
        except Exception as error:  # of damaged entries: many types, from three libraries
            raise self._damaged(str(error)) from error
        if label.ndim != 2 or label.dtype != np.uint8:
            raise self._damaged(f"label {row} is {label.dtype} {label.shape}, not uint8 [H, W]")
        return label

    def _damaged(self, reason: str) -> DataError:
        return DataError(
            f"{self._path} cannot be read ({reason}). Remove its folder and rerun the same command to write it again."
        )


def write_native_labels(dataset: SegmentationDataset, path: Path, advance: Callable[[], object] = lambda: None) -> None:
    """Write the labels of a data set in their own sizes; memory does not grow with their number.

    Args:
        dataset: An open, fitted data set.
        path: The file, which `numpy.load` can read as well.
        advance: Called after each label.

    Raises:
        DataError: A sample can no longer be read.
        ScenepaletteError: The file cannot be written; no half-written one is left.
    """
    with open_atomically(path) as target, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as file:
        for row, label in enumerate(map_in_order(lambda row: own_label(dataset, row), range(len(dataset)))):
            # Without a time of its own, equal labels make equal bytes.
            info = zipfile.ZipInfo(_entry(row))
            info.compress_type = zipfile.ZIP_DEFLATED
            with file.open(info, "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.ascontiguousarray(label), allow_pickle=False)
            advance()


def _entry(row: int) -> str:
    return f"{row:08d}.npy"
