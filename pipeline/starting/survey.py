"""What a first recipe needs to know of a data set: sizes, classes, and what could be held out for a test."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scenepalette.common.errors import DataError
from scenepalette.common.progress import Progress
from scenepalette.data.arrays import resize_sample
from scenepalette.data.classes import ClassTable
from scenepalette.data.sample import SegmentationDataset
from scenepalette.data.sequences import evenly_spread
from scenepalette.data.splits.holdout import divide_images, divide_recordings
from scenepalette.pipeline.checks.splits import examine_size

MOST_LOOKED_AT = 300
RARE_IMAGES, FEW_PIXELS = 10, 16
LEAST_CLASSES = 2
GAP = 5
LEAST_HELD_OUT_IMAGES, LEAST_LEFT = 20, 80
_FRACTIONS = (0.2, 0.15, 0.1)


@dataclass(frozen=True)
class Survey:
    """What was seen of N training samples, evenly spread.

    Attributes:
        indices: Which samples.
        sizes: int64 [N, 2], height and width of the images.
        seconds: Seconds that reading a sample takes.
    """

    indices: tuple[int, ...]
    sizes: np.ndarray
    seconds: float

    @property
    def size(self) -> tuple[int, int]:
        """Median height and width."""
        height, width = np.median(self.sizes, axis=0).round().astype(int).tolist()
        return height, width

    @property
    def ratio(self) -> float:
        """Median of width over height."""
        return float(np.median(self.sizes[:, 1] / self.sizes[:, 0]))

    def stretched(self, size: tuple[int, int], limit: float) -> int:
        """Return how many of the images are stretched by more than a factor to get a size."""
        factors = self.sizes[:, 1] / self.sizes[:, 0] / (size[1] / size[0])
        return int((np.maximum(factors, 1 / factors) > limit).sum())


def survey(train: SegmentationDataset, progress: Progress) -> Survey:
    """Look at up to 300 training samples.

    Raises:
        DataError: A sample can no longer be read, or all labels show a single class.
    """
    chosen = evenly_spread(len(train), MOST_LOOKED_AT)
    sizes, found, began = [], set[int](), time.monotonic()
    progress.start("looking at samples", len(chosen))
    for index in chosen:
        label = train[index].label
        sizes.append(label.shape)
        found |= _classes_in(label, train.table)
        progress.advance()
    progress.finish()
    seconds = (time.monotonic() - began) / len(chosen)
    # A class may be in very few labels: all of them are looked at before it is said to be in none.
    rest = iter(sorted(set(range(len(train))) - set(chosen)))
    while len(found) < LEAST_CLASSES and (index := next(rest, None)) is not None:
        found |= _classes_in(train[index].label, train.table)
    if len(found) < LEAST_CLASSES:
        shown = f"only the class {train.table.names[min(found)]}" if found else "no class"
        raise DataError(
            f"The {len(train)} training labels show {shown}; at least {LEAST_CLASSES} classes are required. Give what "
            "is not of the class an id of its own, such as 0 for background, and name it in the class file."
        )
    return Survey(tuple(chosen), np.asarray(sizes, np.int64), seconds)


def _classes_in(label: np.ndarray, table: ClassTable) -> set[int]:
    present = np.bincount(label.ravel(), minlength=256)[: table.num_classes]
    return set(np.flatnonzero(present).tolist())


def rare_at(train: SegmentationDataset, indices: Sequence[int], size: tuple[int, int], progress: Progress) -> list[str]:
    """Return a line for every evaluated class that is too rare to learn, the rarest first.

    Those are in fewer than 10 training images, or of fewer than 16 pixels in half of these at the size worked at.

    Args:
        train: The training split.
        indices: Which samples are looked at.
        size: Height and width that labels are resized to.
        progress: Watches the samples.
    """
    counts = np.zeros((len(indices), train.table.num_classes), np.int64)
    progress.start("counting classes", len(indices))
    for row, index in enumerate(indices):
        label = resize_sample(train[index], size).label
        counts[row] = np.bincount(label.ravel(), minlength=256)[: train.table.num_classes]
        progress.advance()
    progress.finish()
    lines = []
    for class_id in sorted(train.table.eval_ids, key=lambda each: counts[:, each].sum()):
        seen = counts[:, class_id][counts[:, class_id] > 0]
        # Of a part of the images, as many more are expected as there are images.
        expected = len(seen) * len(train) / len(indices)
        name = train.table.names[class_id]
        if expected < RARE_IMAGES:
            lines.append(f"{name}: in {len(seen)} of {len(indices)} images")
        elif (pixels := float(np.median(seen))) < FEW_PIXELS:
            lines.append(f"{name}: half of its images show {pixels:.0f} pixels of it or fewer")
    return lines


def absent_from(
    train: SegmentationDataset, indices: Sequence[int], size: tuple[int, int] | None, progress: Progress
) -> list[str]:
    """Return the evaluated classes that no training label shows; all labels are looked at before one is named.

    Args:
        train: The training split.
        indices: Which samples are looked at first.
        size: Height and width that labels are resized to; None for their own.
        progress: Watches the samples.
    """
    missing = set(train.table.eval_ids)
    order = dict.fromkeys([*indices, *range(len(train))])
    progress.start("looking for classes", len(order))
    for index in order:
        if missing:
            sample = train[index]
            missing -= _classes_in((sample if size is None else resize_sample(sample, size)).label, train.table)
        progress.advance()
    progress.finish()
    return [train.table.names[class_id] for class_id in sorted(missing)]


def holdout_of(ids: Sequence[str], recordings: bool) -> float:
    """Return the fraction of the training images to hold out for a test; 0 where too little would remain.

    At least 20 images in 2 blocks of frames are tested on, and 80 remain for training.

    Args:
        ids: Ids of the training samples.
        recordings: Whether images may be frames of recordings.
    """
    for fraction in _FRACTIONS:
        try:
            left, tested = divide_recordings(ids, fraction, GAP) if recordings else divide_images(len(ids), fraction, 0)
        except DataError:
            continue
        if len(tested) < LEAST_HELD_OUT_IMAGES or len(left) < LEAST_LEFT:
            continue
        if not examine_size([ids[index] for index in tested], "data.holdout", "held out", recordings).problems:
            return fraction
    return 0.0
