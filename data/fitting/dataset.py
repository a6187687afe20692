"""A data set whose images are cropped, or cut into tiles, before they are resized; parts of one image stay together."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from scenepalette.common.errors import DataError
from scenepalette.common.processors import map_in_order
from scenepalette.common.storage.untrusted import short
from scenepalette.common.wording import counted
from scenepalette.data.classes import IGNORE_ID
from scenepalette.data.fitting.geometry import SMALLEST_PART, Fit, Tile, crop_box, tiles_of
from scenepalette.data.sample import Sample, SegmentationDataset, WrappedDataset
from scenepalette.data.sequences import TILE_MARK

LEAST_LABELLED = 0.01
"""Share of labelled pixels below which a tile is not trained on."""
_KEPT = 2


class CroppedDataset(WrappedDataset):
    """The middle of every image of a data set, as large as an aspect ratio allows."""

    def __init__(self, dataset: SegmentationDataset, aspect: tuple[int, int]) -> None:
        """Take a data set and the height and width whose ratio the parts get."""
        super().__init__(dataset)
        self._aspect = aspect

    def __getitem__(self, index: int, /) -> Sample:
        sample = self._dataset[index]
        box = crop_box((sample.label.shape[0], sample.label.shape[1]), self._aspect)
        if min(box.size) < SMALLEST_PART:
            raise DataError(
                f"The image '{short(sample.id)}' of {sample.label.shape[0]} x {sample.label.shape[1]} pixels would be "
                f"cropped to {box.size[0]} x {box.size[1]}; at least {SMALLEST_PART} each way are required. Remove it, "
                "or choose a data.size nearer to its aspect ratio."
            )
        rows, columns = slice(box.top, box.bottom), slice(box.left, box.right)
        return Sample(sample.id, sample.image[rows, columns].copy(), sample.label[rows, columns].copy())


class _Place(NamedTuple):
    source: int
    tile: Tile


class TiledDataset(WrappedDataset):
    """The tiles of every image of a data set, one sample each; neighbours in order are of one image.

    Ids are those of the images with the tile's number, see `scenepalette.data.sequences.TILE_MARK`. Tiles without
    a labelled pixel are left out, in training those with less than 1 % of labelled pixels.

    Attributes:
        left_out: Number of these tiles.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        aspect: tuple[int, int],
        height: int | None = None,
        advance: Callable[[], object] = lambda: None,
    ) -> None:
        """Look at every image, as its size says which tiles it has.

        Args:
            dataset: The data set.
            aspect: Height and width whose ratio tiles get.
            height: Height of a tile in pixels of the images; by default tiles are the largest that fit.
            advance: Called after each image.

        Raises:
            DataError: A sample can no longer be read, or is too narrow for tiles of the aspect ratio; all at once.
        """
        super().__init__(dataset)
        least = LEAST_LABELLED if dataset.split == "train" else 0.0

        def cut(source: int) -> tuple[list[tuple[str, _Place]], int, str]:
            sample = dataset[source]
            tiles = tiles_of((sample.label.shape[0], sample.label.shape[1]), aspect, height)
            if min(tiles[0].box.size) < SMALLEST_PART:
                shape, part = "{} x {}".format(*sample.label.shape), "{} x {}".format(*tiles[0].box.size)
                return [], 0, f"'{short(sample.id)}' of {shape} pixels would be cut into tiles of {part}"
            found = [
                (f"{sample.id}{TILE_MARK}{number}", _Place(source, tile))
                for number, tile in enumerate(tiles)
                if (share := (_cut(sample.label, tile) != IGNORE_ID).mean()) > 0 and share >= least
            ]
            return found, len(tiles) - len(found), ""

        self.left_out, problems, chosen = 0, list[str](), list[tuple[str, _Place]]()
        for found, left_out, problem in map_in_order(cut, range(len(dataset))):
            chosen += found
            self.left_out += left_out
            problems += [problem] if problem else []
            advance()
        if problems:
            raise DataError(
                f"data.fit: {counted(len(problems), 'image is', 'images are')} too narrow for tiles of the aspect "
                f"ratio of data.size; at least {SMALLEST_PART} pixels each way are required. Remove what is listed, or "
                "choose a data.size nearer to its aspect ratio:",
                problems,
            )
        self.ids: Sequence[str] = [name for name, _ in chosen]
        self._places = [place for _, place in chosen]
        self._lock, self._kept = threading.Lock(), OrderedDict[int, Sample]()

    def __getitem__(self, index: int, /) -> Sample:
        source, tile = self._places[index]
        sample, box = self._whole(source), tile.box
        image = sample.image[box.top : box.bottom, box.left : box.right].copy()
        return Sample(self.ids[index], image, _cut(sample.label, tile).copy())

    def own_label(self, index: int) -> np.ndarray:
        """Return the label of a tile with pixels ignored that are evaluated with another tile."""
        tile = self._places[index].tile
        label = np.full(tile.box.size, IGNORE_ID, np.uint8)
        rows = slice(tile.own.top - tile.box.top, tile.own.bottom - tile.box.top)
        columns = slice(tile.own.left - tile.box.left, tile.own.right - tile.box.left)
        label[rows, columns] = self[index].label[rows, columns]
        return label

    def _whole(self, source: int) -> Sample:
        # Tiles of one image are asked for one after the other, or at once by several threads: it is decoded once.
        with self._lock:
            if source not in self._kept:
                self._kept[source] = self._dataset[source]
                if len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
            return self._kept[source]


def _cut(label: np.ndarray, tile: Tile) -> np.ndarray:
    box = tile.box
    return label[box.top : box.bottom, box.left : box.right]


def fit_dataset(
    dataset: SegmentationDataset,
    fit: Fit,
    aspect: tuple[int, int],
    tile_height: int | None = None,
    advance: Callable[[], object] = lambda: None,
) -> SegmentationDataset:
    """Return a data set whose samples, stretched to a size, come out as a way to fit says.

    Args:
        dataset: An open data set.
        fit: How images are fitted.
        aspect: Height and width whose ratio crops and tiles get.
        tile_height: As for `TiledDataset`.
        advance: Called after each image that is looked at, which tiles need.

    Raises:
        DataError: As for `TiledDataset`.
    """
    if fit == "crop":
        return CroppedDataset(dataset, aspect)
    return TiledDataset(dataset, aspect, tile_height, advance) if fit == "tile" else dataset


def own_label(dataset: SegmentationDataset, index: int) -> np.ndarray:
    """Return what a fitted sample is evaluated by: its label in its own size, without what other tiles answer for."""
    return dataset.own_label(index) if isinstance(dataset, TiledDataset) else dataset[index].label
