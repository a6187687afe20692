"""A data set as the stage data will keep it, for the questions that stages ask of it before they begin."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np

from scenepalette.common.processors import map_in_order
from scenepalette.data.arrays import Pairs, open_array, resize_label, write_label_array
from scenepalette.data.sample import SegmentationDataset
from scenepalette.pipeline.units.workspace import PreparedData


def data_to_come(
    train: SegmentationDataset, validation: SegmentationDataset, size: tuple[int, int], folder: Path
) -> PreparedData:
    """Return the data that a run would work with; labels are read when somebody looks at them, images never.

    Args:
        train: The training split.
        validation: The validation split.
        size: Height and width in pixels.
        folder: An empty folder, for the labels that are read.
    """
    pairs = _pairs(train, size, folder / "train.npy")
    return PreparedData(pairs, _pairs(validation, size, folder / "val.npy"), pairs.labels)


def _pairs(dataset: SegmentationDataset, size: tuple[int, int], path: Path) -> Pairs:
    labels = _LateLabels(dataset, size, path)
    return Pairs(
        images=np.broadcast_to(np.uint8(0), (*labels.shape, 3)),
        labels=cast("np.ndarray", labels),
        ids=list(dataset.ids),
        table=dataset.table,
        name=dataset.name,
        licence=dataset.licence,
    )


class _LateLabels:
    """Label maps uint8 [N, H, W] that are read and resized when the first of them is asked for."""

    ndim = 3
    dtype = np.dtype(np.uint8)

    def __init__(self, dataset: SegmentationDataset, size: tuple[int, int], path: Path) -> None:
        self.shape = (len(dataset), *size)
        self._dataset, self._path = dataset, path

    @cached_property
    def _array(self) -> np.ndarray:
        def read(index: int) -> np.ndarray:
            return resize_label(self._dataset[index].label, self.shape[1:])

        write_label_array(self._path, map_in_order(read, range(self.shape[0])), self.shape)
        return open_array(self._path)

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(self._array)

    def __getitem__(self, place: Any) -> np.ndarray:
        return self._array[place]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self._array, dtype=dtype)
