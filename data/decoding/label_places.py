"""The numbers in the label images of a data set, and where in the images they lie: a sky below a road is none."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import NamedTuple

import numpy as np

from scenepalette.data.classes import IGNORE_ID, ClassTable
from scenepalette.data.decoding.class_names import AT_THE_BOTTOM, AT_THE_TOP, plain_name
from scenepalette.data.decoding.label_images import LabelSummary, LabelValues
from scenepalette.data.decoding.label_reading import LabelReading

EXAMPLES = 3
LEAST_FILES_PLACED = 6
_TOP, _BOTTOM = 0.4, 0.6
BACKGROUND = frozenset({"background", "bg", "back", "other", "others", "unlabeled", "unlabelled", "void", "none"})
ASK = "Set data.label_offset"
STATE_VALUES = "write the value of each class into a column id of the class file"
BEYOND_CHANCE = 4
"""How many times as many files seem shifted one way as the other, where that is no chance."""
_LEAST_PART, _MOST_NEEDED = 0.75, 5
"""Share of the classes, and number of them, of which one is enough to recognise spread ids by."""


class LabelNumbers:
    """The numbers of all files that are not read by colour, and the classes that they may mean.

    Attributes:
        table: The classes.
        own: Whether the user says which classes there are.
        at_the_top: The ids of classes of which it is known where images have them, and whether that is at the top.
        of_files: The numbers of each file.
        pixels: Pixels of each number over all files, int64 [256].
        heights: Mean height of each number over all files, 0 at the top; NaN where unknown.
        heights_of: Mean heights in each file, as far as known.
        shares_of_255: Share of the pixels of each file that are 255.
        lossy: The files whose format may have changed values.
    """

    def __init__(
        self, reading: LabelReading, labels: Mapping[str, LabelSummary], table: ClassTable, *, own: bool
    ) -> None:
        self.table, self.own, self.at_the_top = table, own, at_the_top(table)
        self.of_files: dict[str, frozenset[int]] = {}
        self.heights_of: dict[str, dict[int, float]] = {}
        self.shares_of_255: dict[str, float] = {}
        self.pixels = np.zeros(256, np.int64)
        summed, weights = np.zeros(256), np.zeros(256)
        for name, label in labels.items():
            if reading.method(label) == "colours":
                continue
            values = reading.numbers_of(label)
            self.of_files[name] = frozenset(values.tolist())
            np.add.at(self.pixels, values, label.counts)
            self.shares_of_255[name] = float(label.counts[values == IGNORE_ID].sum() / label.counts.sum())
            fine = np.isfinite(label.heights)
            np.add.at(summed, values[fine], label.heights[fine] * label.counts[fine])
            np.add.at(weights, values[fine], label.counts[fine])
            self.heights_of[name] = dict(zip(values[fine].tolist(), label.heights[fine].tolist(), strict=True))
        with np.errstate(invalid="ignore", divide="ignore"):
            self.heights = summed / weights
        self.lossy = frozenset(name for name in self.of_files if labels[name].lossy)

    @cached_property
    def seen(self) -> frozenset[int]:
        """Every number that occurs."""
        return frozenset(np.flatnonzero(self.pixels).tolist())

    @property
    def needed(self) -> float:
        """How many different numbers tell that ids are spread."""
        return min(_MOST_NEEDED, _LEAST_PART * len(self.table))


class Fit(NamedTuple):
    """How well classes lie where images have them: those that do, and those that do not, with how high they lie."""

    right: list[str]
    wrong: list[str]

    @property
    def score(self) -> int:
        """How many classes more lie right than wrong."""
        return len(self.right) - len(self.wrong)

    @property
    def misplaced(self) -> str:
        """What is to be said of the classes that lie wrong, or nothing."""
        return f"by their values {' and '.join(self.wrong)} would be where images do not have it" if self.wrong else ""


def fit_of(values: LabelValues, numbers: LabelNumbers) -> Fit:
    """Return how well classes lie in all files, of numbers that enough files hold."""
    heights = {
        number: numbers.heights[number]
        for number in sorted(numbers.seen)
        if sum(number in seen for seen in numbers.of_files.values()) >= LEAST_FILES_PLACED
    }
    right, wrong = placed(values, heights, numbers.at_the_top)
    names = numbers.table.names
    return Fit(
        [names[values.ids[number]] for number in right],
        [f"'{names[values.ids[number]]}' (mean height {100 * (1 - heights[number]):.0f} %)" for number in wrong],
    )


def at_the_top(table: ClassTable) -> dict[int, bool]:
    """Return the ids of classes of which it is known where images have them, and whether that is at the top."""
    plain = {class_id: plain_name(name) for class_id, name in enumerate(table.names)}
    return {k: name in AT_THE_TOP for k, name in plain.items() if name in AT_THE_TOP or name in AT_THE_BOTTOM}


def placed(
    values: LabelValues, heights: Mapping[int, float], expected: Mapping[int, bool]
) -> tuple[list[int], list[int]]:
    """Return the numbers whose classes are where they are to be expected, and those whose classes are elsewhere."""
    right, wrong = [], []
    for number, height in heights.items():
        at_the_top = None if number in values.ignored else expected.get(values.ids.get(number, -1))
        if at_the_top is not None and (height < _TOP or height > _BOTTOM):  # it may be NaN
            (right if at_the_top == (height < _TOP) else wrong).append(number)
    return right, wrong
