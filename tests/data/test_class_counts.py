"""Counts and weights of classes, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from scenepalette.data.arrays import Pairs
from scenepalette.data.class_counts import ClassCounts, class_counts, median_frequency_weights
from scenepalette.data.classes import ClassTable
from scenepalette.data.shards.pairs import FirstPairs


def pairs_of(labels: list[list[list[int]]]) -> Pairs:
    array = np.array(labels, dtype=np.uint8)
    images = np.zeros((*array.shape, 3), dtype=np.uint8)
    return Pairs(images, array, [str(i) for i in range(len(array))], ClassTable.unnamed(3), "hand", "CC0-1.0")


def test_pixels_are_counted_with_those_around_them() -> None:
    pairs = pairs_of([[[0, 0], [1, 255]], [[1, 1], [1, 1]]] * 50)
    for given in (pairs, FirstPairs(pairs, 100)):
        counts = class_counts(given)
        assert counts.pixels.tolist() == [100, 250, 0]
        assert counts.around.tolist() == [150, 350, 0]
        assert counts.shares.tolist() == pytest.approx([2 / 7, 5 / 7, 0])


def test_weights_are_the_median_frequency_over_a_class_own() -> None:
    # Frequencies 0.5, 0.1, 0.2 and none: their median is 0.2.
    counts = ClassCounts(np.array([50, 10, 10, 0]), np.array([100, 100, 50, 0]))
    assert median_frequency_weights(counts).tolist() == pytest.approx([0.4, 2.0, 1.0, 1.0])


def test_weights_stay_within_a_tenth_and_ten_times() -> None:
    counts = ClassCounts(np.array([90_000, 1_000, 1]), np.array([91_001, 91_001, 91_001]))
    assert median_frequency_weights(counts).tolist() == pytest.approx([0.1, 1.0, 10.0])
