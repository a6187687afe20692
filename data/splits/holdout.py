"""A test split taken from the training split: parts of its recordings, with a gap between what is learned and tested.

Neighbouring frames of a video are nearly copies of each other. A random choice of frames would test on what was trained
on; a run of frames in the middle of each recording, with some left out before and behind it, does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from scenepalette.common.errors import DataError
from scenepalette.common.randomness import numpy_generator
from scenepalette.common.storage.files import sha256_of_json
from scenepalette.common.wording import counted
from scenepalette.data.sample import Sample, SegmentationDataset, WrappedDataset
from scenepalette.data.sequences import sequences_of

LEAST_TEST = 2
"""Fewest images that a recording gives to the test split, and that the test split has."""

MANY_RECORDINGS = 10
"""Recordings from which on whole ones are drawn for validation."""
VALIDATION_GAP = 5


class Division(NamedTuple):
    """Which samples are trained on and which are tested on; what is in neither is left out.

    Attributes:
        train: Indices, ascending.
        test: Indices, ascending.
    """

    train: list[int]
    test: list[int]


def divide_recordings(ids: Sequence[str], fraction: float, gap: int) -> Division:
    """Hold out the middle of every recording that is long enough.

    Of a recording of n frames, round(fraction * n) consecutive ones in its middle are tested on, and `gap` on each side
    of them are left out. It stays whole in training where that would be fewer than `LEAST_TEST` frames, or where fewer
    would remain for training than are tested on.

    Args:
        ids: Sample ids, from which `sequences_of` tells the recordings.
        fraction: Of each recording, 0 to 1.
        gap: Frames left out before and behind those tested on, 0 or more.

    Raises:
        DataError: No recording is long enough.
    """
    recordings = sequences_of(ids)
    train: list[int] = []
    test: list[int] = []
    for frames in recordings:
        count = len(frames)
        tested = round(fraction * count)
        first = (count - tested) // 2
        before, behind = frames[: max(0, first - gap)], frames[first + tested + gap :]
        if tested < LEAST_TEST or len(before) + len(behind) < tested:
            train += frames
            continue
        train += before + behind
        test += frames[first : first + tested]
    if not test:
        longest = max(map(len, recordings), default=0)
        raise DataError(
            "data.holdout: no recording is long enough for a test split. Of "
            f"{counted(len(recordings), 'recording')}, as the names of their files tell them (equal but for the last "
            f"number), the longest has {counted(longest, 'image')}. A fraction of {fraction:g} with {gap} images left "
            f"out on both sides needs {LEAST_TEST} images or more to test on and as many for training. Change "
            "data.holdout, lower data.holdout_gap, or set data.holdout to 0."
        )
    return Division(sorted(train), sorted(test))


class DividedWhole(NamedTuple):
    """Which samples of a data set without splits are trained on and which validate.

    Attributes:
        train: Indices, ascending.
        test: Indices of those for validation, ascending.
        how: How they were chosen, in a few words.
    """

    train: list[int]
    test: list[int]
    how: str


def divide_whole(ids: Sequence[str], fraction: float, seed: int) -> DividedWhole:
    """Divide a data set that has no splits.

    Of `MANY_RECORDINGS` or more recordings, whole ones are drawn until the fraction is reached; images that are no
    frames of a recording count as one each. Of fewer, each gives a run of frames in its middle as `divide_recordings`
    says, with up to `VALIDATION_GAP` frames left out on both sides; fewer where more would be left out than validate.

    Args:
        ids: Sample ids, from which `sequences_of` tells the recordings.
        fraction: For validation, 0 to 1.
        seed: Decides which recordings are drawn.

    Raises:
        DataError: There are too few images.
    """
    recordings = sequences_of(ids)
    wanted = max(LEAST_TEST, round(fraction * len(ids)))
    if len(recordings) < MANY_RECORDINGS:
        for gap in range(VALIDATION_GAP, -1, -1):
            try:
                train, test = divide_recordings(ids, fraction, gap)
            except DataError:
                continue
            if len(ids) - len(train) - len(test) <= len(test):
                return DividedWhole(train, test, "a run of frames in the middle of each recording")
    chosen: list[int] = []
    for index in numpy_generator(seed, "validation").permutation(len(recordings)):
        if len(chosen) + len(recordings[index]) <= wanted:
            chosen += recordings[index]
    if len(chosen) < LEAST_TEST or len(ids) - len(chosen) < len(chosen):
        raise DataError(
            f"There are no splits, and {counted(len(ids), 'pair is', 'pairs are')} too few to divide with "
            f"data.val_share={fraction:g}, of {counted(len(recordings), 'recording')} by the names. Name folders, "
            "lists or annotation files after the splits (train, val), add images, or change data.val_share."
        )
    how = "images drawn" if len(recordings) == len(ids) else "whole recordings drawn"
    return DividedWhole(sorted(set(range(len(ids))) - set(chosen)), sorted(chosen), f"{how} by data.val_seed={seed}")


def divide_images(count: int, fraction: float, seed: int) -> Division:
    """Hold out a random choice of images that are independent of each other.

    Args:
        count: Number of images.
        fraction: Of the images, 0 to 1; rounded, and at least `LEAST_TEST`.
        seed: Decides the choice.

    Raises:
        DataError: Fewer images would remain for training than are tested on.
    """
    tested = max(LEAST_TEST, round(fraction * count))
    if count < 2 * tested:
        raise DataError(
            f"data.holdout: {fraction:g} of {count} training images leave fewer for training than the {tested} to test "
            "on. Lower data.holdout, or set it to 0."
        )
    order = numpy_generator(seed, "holdout").permutation(count)
    return Division(sorted(map(int, order[tested:])), sorted(map(int, order[:tested])))


class PartOfDataset(WrappedDataset):
    """Some samples of an open data set as a split of its own."""

    def __init__(self, whole: SegmentationDataset, split: str, indices: Sequence[int]) -> None:
        """Take samples.

        Args:
            whole: The data set.
            split: Name of the part.
            indices: Which samples, in the order that they get.
        """
        super().__init__(whole)
        self.split, self._indices = split, tuple(indices)
        self.ids = tuple(whole.ids[index] for index in self._indices)

    @property
    def notes(self) -> Sequence[str]:
        """What the reader of the whole decided or skipped."""
        return getattr(self._dataset, "notes", ())

    @property
    def files(self) -> Sequence[object]:
        """The files of the whole, if it is read from files."""
        return getattr(self._dataset, "files", ())

    @property
    def label_files(self) -> Sequence[object]:
        """The label files of the whole, as far as samples have one each."""
        return getattr(self._dataset, "label_files", ())

    @property
    def fingerprint(self) -> str:
        """Hash of the whole's, and of which samples these are."""
        return self._hash(self._dataset.fingerprint)

    @property
    def content(self) -> str:
        """Hash of the whole's, and of which samples these are."""
        return self._hash(self._dataset.content)

    def _hash(self, whole: str) -> str:
        return sha256_of_json({"whole": whole, "split": self.split, "samples": list(self._indices)})

    def __getitem__(self, index: int, /) -> Sample:
        return self._dataset[self._indices[index]]
