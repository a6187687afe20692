"""Counts and weights of classes, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scenepalette.data.arrays import Pairs
from scenepalette.data.augmentation.mixing import copy_paste
from scenepalette.data.class_counts import (
    ClassCounts,
    class_counts,
    median_frequency_weights,
    prior_ratios,
    shares_when_pasted,
)
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


def test_shares_when_pasted_by_hand_and_as_images_come_out() -> None:
    shares = np.array([0.5, 0.25, 0.2, 0.05])
    # Of class 3, half of 5 % comes in; of the others, 2.5 % are covered.
    assert shares_when_pasted(shares, [3], 0.5).tolist() == pytest.approx([0.4875, 0.24375, 0.195, 0.07375])
    assert shares_when_pasted(shares, [], 0.5).tolist() == pytest.approx(shares.tolist())
    expected = shares_when_pasted(shares, [2, 3], 0.7)
    assert expected.sum() == pytest.approx(1)

    generator = torch.Generator().manual_seed(0)
    labels = torch.multinomial(torch.from_numpy(shares), 200 * 64 * 64, True, generator=generator).view(200, 64, 64)
    images = torch.zeros(200, 3, 64, 64)
    mixed = [copy_paste(images, labels, [2, 3], 0.7, generator)[1] for _ in range(5)]
    found = torch.bincount(torch.cat(mixed).flatten(), minlength=4) / (5 * labels.numel())
    assert found.tolist() == pytest.approx(expected.tolist(), rel=0.03)


def test_prior_ratios_make_shares_count_as_wanted() -> None:
    wanted, shares = np.array([0.6, 0.3, 0.1]), np.array([0.5, 0.2, 0.3])
    ratios = prior_ratios(wanted, shares)
    assert ratios.tolist() == pytest.approx([1.2, 1.5, 1 / 3])
    assert (ratios * shares).tolist() == pytest.approx(wanted.tolist())
    # A class that only one side has, and ratios beyond ten.
    assert prior_ratios(np.array([0.5, 0.5, 0.0]), np.array([0.99, 0.0, 0.01])).tolist() == pytest.approx(
        [0.5 / 0.99, 1, 1]
    )
    assert prior_ratios(np.array([0.999, 0.001]), np.array([0.001, 0.999])).tolist() == [10, 0.1]
