"""One pass over a data set that gathers what can be said about it without training: see `scan`."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image

from scenepalette.common.errors import DataError
from scenepalette.common.progress import NO_PROGRESS, Progress
from scenepalette.data.arrays import resize_sample
from scenepalette.data.classes import IGNORE_ID
from scenepalette.data.sample import Sample, SegmentationDataset
from scenepalette.data.similarity import THUMBNAIL, thumbnail_of

_EDGES = (96, 128)
_AT_ONCE = 32
_SHIFT = 16


@dataclass(frozen=True)
class Scan:
    """What is known of N samples of a split with K classes.

    Attributes:
        split: "train", "val" or "test".
        ids: Sample ids.
        sizes: int64 [N, 2], height and width of the images.
        hashes: SHA-256 of each image's decoded pixels and size.
        thumbnails: uint8 [N, 32, 32], grey.
        spread: float32 [N], standard deviation of each image's grey values at full size, 0 to 127.
        pixels: int64 [N, K + 1], pixels of each class in each label, and in the last column of ignored ones.
        resized_pixels: The same at the size that is worked at.
        edges: float32 [N, 2]: how much stronger than on average an image changes where its own label has a
            boundary, and the same for the label of another sample; NaN where there is none to compare.
        problems: One text per sample that can no longer be read; their rows are 0.
    """

    split: str
    ids: tuple[str, ...]
    sizes: np.ndarray
    hashes: tuple[str, ...]
    thumbnails: np.ndarray
    spread: np.ndarray
    pixels: np.ndarray
    resized_pixels: np.ndarray
    edges: np.ndarray
    problems: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class _Seen:
    size: tuple[int, int]
    hash: str
    thumbnail: np.ndarray
    spread: float
    pixels: np.ndarray
    resized_pixels: np.ndarray
    gradient: np.ndarray
    boundary: np.ndarray


def scan(dataset: SegmentationDataset, size: tuple[int, int], progress: Progress = NO_PROGRESS) -> Scan:
    """Read every sample once and keep its numbers; memory grows by about 2 KB a sample.

    Args:
        dataset: An open data set.
        size: Height and width in pixels that samples are resized to for work.
        progress: Watches the samples.

    Returns:
        What was found; samples that cannot be read are problems in it.
    """
    count, num_classes = len(dataset), dataset.table.num_classes
    sizes = np.zeros((count, 2), np.int64)
    hashes = [""] * count
    thumbnails = np.zeros((count, THUMBNAIL, THUMBNAIL), np.uint8)
    spread = np.zeros(count, np.float32)
    pixels = np.zeros((count, num_classes + 1), np.int64)
    resized_pixels = np.zeros((count, num_classes + 1), np.int64)
    edges = np.full((count, 2), np.nan, np.float32)
    problems: list[str] = []
    progress.start(f"reading {dataset.split}", count)

    def look(index: int) -> _Seen | DataError:
        try:
            return _look(dataset[index], size, num_classes)
        except DataError as error:
            return error

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as executor:
        for start in range(0, count, _AT_ONCE):
            indices = range(start, min(start + _AT_ONCE, count))
            read: list[tuple[int, _Seen]] = []
            for index, seen in zip(indices, executor.map(look, indices), strict=True):
                if isinstance(seen, DataError):
                    problems += seen.problems or [seen.summary]
                    continue
                read.append((index, seen))
                sizes[index], hashes[index] = seen.size, seen.hash
                thumbnails[index], spread[index] = seen.thumbnail, seen.spread
                pixels[index], resized_pixels[index] = seen.pixels, seen.resized_pixels
            for place, (index, seen) in enumerate(read):
                # Half a block away: neighbours in a video have nearly the same label.
                other = read[(place + _SHIFT) % len(read)][1]
                if len(read) > _SHIFT:
                    edges[index] = _fit(seen.gradient, seen.boundary), _fit(seen.gradient, other.boundary)
            progress.advance(len(indices))
    progress.finish()
    return Scan(
        split=dataset.split,
        ids=tuple(dataset.ids),
        sizes=sizes,
        hashes=tuple(hashes),
        thumbnails=thumbnails,
        spread=spread,
        pixels=pixels,
        resized_pixels=resized_pixels,
        edges=edges,
        problems=tuple(problems),
    )


def _look(sample: Sample, size: tuple[int, int], num_classes: int) -> _Seen:
    image = Image.fromarray(sample.image)
    grey = image.convert("L")
    small = np.asarray(grey.resize((_EDGES[1], _EDGES[0]), Image.Resampling.BOX), np.float32)
    label = Image.fromarray(sample.label).resize((_EDGES[1], _EDGES[0]), Image.Resampling.NEAREST)
    return _Seen(
        size=(sample.image.shape[0], sample.image.shape[1]),
        hash=hashlib.sha256(repr(sample.image.shape).encode() + sample.image.tobytes()).hexdigest(),
        thumbnail=thumbnail_of(grey),
        spread=float(np.asarray(grey).std()),
        pixels=_counts(sample.label, num_classes),
        resized_pixels=_counts(resize_sample(sample, size).label, num_classes),
        gradient=_changes(small),
        boundary=_changes(np.asarray(label, np.int16)) > 0,
    )


def _counts(label: np.ndarray, num_classes: int) -> np.ndarray:
    counts = np.bincount(label.ravel(), minlength=256)
    return np.append(counts[:num_classes], counts[IGNORE_ID])


def _changes(values: np.ndarray) -> np.ndarray:
    """Return how much each pixel differs from those to its right and below, [H - 1, W - 1]."""
    return np.abs(values[:-1, 1:] - values[:-1, :-1]) + np.abs(values[1:, :-1] - values[:-1, :-1])


def _fit(gradient: np.ndarray, boundary: np.ndarray) -> float:
    everywhere = gradient.mean()
    return float(gradient[boundary].mean() / everywhere) if boundary.any() and everywhere > 0 else float("nan")
