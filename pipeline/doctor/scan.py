"""One pass over a data set that gathers what can be said about it without training: see `Scan` and `Scanner`."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scenepalette.common.errors import DataError, ScenepaletteError
from scenepalette.common.processors import map_in_order
from scenepalette.common.progress import NO_PROGRESS, Progress
from scenepalette.common.provenance import code_version
from scenepalette.common.storage.cache import cache_folder
from scenepalette.common.storage.files import sha256_of_json, write_atomically
from scenepalette.data.arrays import resize_label
from scenepalette.data.decoding.label_images import EVERY_ID, value_counts
from scenepalette.data.fitting.geometry import Fit, crop_box
from scenepalette.data.labels import class_pixels
from scenepalette.data.sample import SegmentationDataset
from scenepalette.data.similarity import THUMBNAIL, thumbnail_of, thumbnail_of_blocks

_EDGES = (96, 128)
_AT_ONCE = 32
_SHIFT = 16
_BLOCK, _LARGE = 4, 512
"""Side of the blocks of pixels that are averaged for what needs no single ones, and of images where they are."""
_APART = 3.7
"""Distance of the single pixels that are looked at in large images; no whole number, so that no texture has it."""
_SCHEMA = 3


@dataclass(frozen=True)
class Scan:
    """What is known of N samples of a split with K classes.

    Attributes:
        split: "train", "val" or "test".
        ids: Sample ids.
        sizes: int64 [N, 2], height and width of the images.
        hashes: SHA-256 of each image's size and pixels, or, where all sides have 512 pixels and more, of the mean
            colours of 4 x 4 pixels and every 14th pixel, which are a fifth of the bytes and hardly ever equal of other
            images.
        thumbnails: uint8 [N, 32, 32], grey.
        spread: float32 [N], standard deviation of each image's grey values, 0 to 127; of large images those of every
            14th pixel.
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


_ARRAYS = tuple(field.name for field in fields(Scan) if field.type == "np.ndarray")


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


@dataclass(frozen=True)
class _Sketched:
    """What is kept of a label.

    Attributes:
        counts: int32 [N], pixels of each of its values at the size that is worked at.
        edges: The place of each pixel's value among its values at the size of `_EDGES`, compressed; of labels with more
            than 256 values, in 16 bits.
    """

    counts: np.ndarray
    edges: bytes


@dataclass(frozen=True)
class _Sketcher:
    size: tuple[int, int]
    fit: Fit

    def __call__(self, label: np.ndarray, values: np.ndarray) -> _Sketched:
        worked = label
        if self.fit == "crop":
            box = crop_box((label.shape[0], label.shape[1]), self.size)
            worked = label[box.top : box.bottom, box.left : box.right]
        resized = resize_label(worked, self.size)
        if label.dtype == np.uint8:
            counts = value_counts(resized)[values]
        else:
            counts = np.bincount(np.searchsorted(values, resized).ravel(), minlength=len(values))
        places = np.searchsorted(values, resize_label(label, _EDGES)).astype(_places_type(len(values)))
        return _Sketched(counts.astype(np.int32), zlib.compress(places.tobytes(), 1))


def _places_type(values: int) -> type[np.unsignedinteger[Any]]:
    return np.uint8 if values <= 256 else np.uint16


class Scanner:
    """Looks at decoded samples and keeps their numbers; memory grows by about 2 KB a sample.

    It satisfies `scenepalette.data.files.checking.Look`, so that a data set whose files are checked is decoded once
    for both.
    """

    def __init__(self, size: tuple[int, int], fit: Fit = "stretch") -> None:
        """Say which height and width in pixels samples are resized to for work, and how; tiles are taken as wholes."""
        self.sketch = _Sketcher((size[0], size[1]), fit)
        self._ids: tuple[str, ...] | None = None

    def begin(self, ids: Sequence[str], num_classes: int) -> None:
        """Make room for samples."""
        count = len(ids)
        self._ids, self._num_classes = tuple(ids), num_classes
        self._read = np.zeros(count, bool)
        self._hashes = [""] * count
        self._arrays = {
            "sizes": np.zeros((count, 2), np.int64),
            "thumbnails": np.zeros((count, THUMBNAIL, THUMBNAIL), np.uint8),
            "spread": np.zeros(count, np.float32),
            "pixels": np.zeros((count, num_classes + 1), np.int64),
            "resized_pixels": np.zeros((count, num_classes + 1), np.int64),
            "edges": np.full((count, 2), np.nan, np.float32),
        }
        self._block: list[tuple[int, _Seen]] = []
        self._added = 0

    def at(self, image: Image.Image, sketched: _Sketched, ids: np.ndarray, counts: np.ndarray, /) -> _Seen:
        """Return what is seen of a sample; see `scenepalette.data.files.checking.Look`."""
        reduced, some, block = image, image, 1
        if min(image.size) >= _LARGE:
            reduced, block = image.reduce(_BLOCK), _BLOCK
            apart = (round(image.width / _APART), round(image.height / _APART))
            some = image.resize(apart, Image.Resampling.NEAREST)
        grey = reduced.convert("L")
        # The last blocks may be cut off.
        whole = (0.0, 0.0, image.width / block, image.height / block)
        means = np.asarray(grey, np.float32)
        small = grey.resize((_EDGES[1], _EDGES[0]), Image.Resampling.BOX, whole)
        resized = np.zeros(256, np.int64)
        np.add.at(resized, ids, sketched.counts)
        places = np.frombuffer(zlib.decompress(sketched.edges), _places_type(len(ids))).reshape(_EDGES)
        return _Seen(
            size=(image.height, image.width),
            hash=_hash(image.size, *((image,) if block == 1 else (reduced, some))),
            thumbnail=thumbnail_of(grey) if block == 1 else thumbnail_of_blocks(means, whole[3], whole[2]),
            spread=_spread((grey if block == 1 else some.convert("L")).histogram()),
            pixels=class_pixels(counts, self._num_classes),
            resized_pixels=class_pixels(resized, self._num_classes),
            gradient=_changes(np.asarray(small, np.float32)),
            boundary=_changes(ids[places].astype(np.int16)) > 0,
        )

    def add(self, index: int, seen: _Seen | None) -> None:
        """Keep what was seen of a sample."""
        if seen is not None:
            self._read[index], self._hashes[index] = True, seen.hash
            self._arrays["sizes"][index], self._arrays["thumbnails"][index] = seen.size, seen.thumbnail
            for name in ("spread", "pixels", "resized_pixels"):
                self._arrays[name][index] = getattr(seen, name)
            self._block.append((index, seen))
        self._added += 1
        if self._added % _AT_ONCE == 0 or self._added == len(self._ids or ()):
            self._compare_edges()

    def scan_of(self, dataset: SegmentationDataset, problems: Sequence[str] = ()) -> Scan | None:
        """Return what was gathered of a data set, which may be a part of what was begun; None if some was not seen.

        Args:
            dataset: The data set.
            problems: One text per sample that could not be read; with any, their rows are 0.
        """
        places = {name: place for place, name in enumerate(self._ids or ())}
        if self._ids is None or any(name not in places for name in dataset.ids):
            return None
        rows = np.array([places[name] for name in dataset.ids], np.int64)
        if not (problems or self._read[rows].all()):
            return None
        return Scan(
            split=dataset.split,
            ids=tuple(dataset.ids),
            hashes=tuple(self._hashes[row] for row in rows),
            problems=tuple(problems),
            **{name: values[rows] for name, values in self._arrays.items()},
        )

    def _compare_edges(self) -> None:
        block, self._block = self._block, []
        if len(block) <= _SHIFT:
            return
        for place, (index, seen) in enumerate(block):
            # Half a block away: neighbours in a video have nearly the same label.
            other = block[(place + _SHIFT) % len(block)][1]
            self._arrays["edges"][index] = _fit(seen.gradient, seen.boundary), _fit(seen.gradient, other.boundary)


def scan(
    dataset: SegmentationDataset,
    size: tuple[int, int],
    progress: Progress = NO_PROGRESS,
    seen: Scanner | None = None,
    fit: Fit = "stretch",
) -> Scan:
    """Return the numbers of every sample, which is read unless it was looked at before.

    Args:
        dataset: An open data set.
        size: Height and width in pixels that samples are resized to for work.
        progress: Watches the samples.
        seen: What looked at them while they were checked, if anything had to be checked.
        fit: How samples get to the size; tiles are taken as wholes.

    Returns:
        What was found; samples that cannot be read are problems in it.
    """
    memory = _Memory(dataset, size, fit)
    result = seen.scan_of(dataset) if seen is not None else None
    if result is None:
        result = memory.read()
        if result is not None:
            return result
        result = _read_all(dataset, size, progress, fit)
    if not result.problems:
        memory.write(result)
    return result


def _read_all(dataset: SegmentationDataset, size: tuple[int, int], progress: Progress, fit: Fit) -> Scan:
    count, scanner, problems = len(dataset), Scanner(size, fit), list[str]()
    scanner.begin(dataset.ids, dataset.table.num_classes)
    progress.start(f"reading {dataset.split}", count)

    def look(index: int) -> _Seen | DataError:
        try:
            sample = dataset[index]
        except DataError as error:
            return error
        sketched = scanner.sketch(sample.label, EVERY_ID)
        return scanner.at(Image.fromarray(sample.image), sketched, EVERY_ID, value_counts(sample.label))

    for index, seen in enumerate(map_in_order(look, range(count))):
        if isinstance(seen, DataError):
            problems += seen.problems or [seen.summary]
        scanner.add(index, None if isinstance(seen, DataError) else seen)
        progress.advance()
    progress.finish()
    result = scanner.scan_of(dataset, problems)
    assert result is not None  # all of it was begun here
    return result


class _Memory:
    """The last scan of a split, in a file of the user's cache folder."""

    def __init__(self, dataset: SegmentationDataset, size: tuple[int, int], fit: Fit) -> None:
        self._dataset = dataset
        folder, files = cache_folder(), [path for path in getattr(dataset, "files", ()) if isinstance(path, Path)]
        self._path: Path | None = None
        # Scenes that are drawn have no files, and are as quickly drawn as remembered.
        with contextlib.suppress(OSError, ScenepaletteError):
            if folder is not None and files:
                times = [os.stat(path).st_ctime_ns for path in files]
                rules = [_SCHEMA, code_version(), size, *(["crop"] if fit == "crop" else []), list(dataset.ids)]
                self._key = sha256_of_json([rules, dataset.fingerprint, times])
                place = sha256_of_json([os.path.realpath(os.path.commonpath(files)), dataset.name, dataset.split])
                self._path = folder / "scanned" / f"{place[:32]}.npz"

    def read(self) -> Scan | None:
        """Return what is remembered of the data set as it is now."""
        if self._path is None or not self._path.is_file():
            return None
        # Whatever is wrong with the file, the samples are read again.
        with contextlib.suppress(Exception), np.load(self._path, allow_pickle=False) as stored:
            if bytes(stored["key"]).decode() == self._key:
                hashes = tuple(json.loads(bytes(stored["hashes"]).decode()))
                arrays: dict[str, Any] = {name: stored[name] for name in _ARRAYS}
                ids = tuple(self._dataset.ids)
                return Scan(split=self._dataset.split, ids=ids, hashes=hashes, **arrays)
        return None

    def write(self, scan: Scan) -> None:
        """Keep a scan in place of an earlier one."""
        if self._path is None:
            return
        buffer = BytesIO()
        texts = {"key": self._key, "hashes": json.dumps(scan.hashes)}
        np.savez(
            buffer,
            **{name: np.frombuffer(text.encode(), np.uint8) for name, text in texts.items()},
            **{name: getattr(scan, name) for name in _ARRAYS},
        )
        with contextlib.suppress(ScenepaletteError):  # a folder that cannot be written; then nothing is remembered
            write_atomically(self._path, buffer.getvalue(), durable=False)


def _hash(size: tuple[int, int], *images: Image.Image) -> str:
    digest = hashlib.sha256(repr(size).encode())
    for image in images:
        digest.update(image.tobytes())
    return digest.hexdigest()


def _spread(histogram: Sequence[int]) -> float:
    """Return the standard deviation of values 0 to 255 by how often each occurs."""
    counts, values = np.array(histogram, np.float64), np.arange(256)
    mean = (counts @ values) / counts.sum()
    return float(np.sqrt((counts @ (values - mean) ** 2) / counts.sum()))


def _changes(values: np.ndarray) -> np.ndarray:
    """Return how much each pixel differs from those to its right and below, [H - 1, W - 1]."""
    return np.abs(values[:-1, 1:] - values[:-1, :-1]) + np.abs(values[1:, :-1] - values[:-1, :-1])


def _fit(gradient: np.ndarray, boundary: np.ndarray) -> float:
    everywhere = gradient.mean()
    return float(gradient[boundary].mean() / everywhere) if boundary.any() and everywhere > 0 else float("nan")
