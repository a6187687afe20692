from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from scenepalette.data.arrays import resize_image
from scenepalette.data.classes import IGNORE_ID
from scenepalette.data.fitting.resampling import resample_label, resample_pairs

X = IGNORE_ID


def by_area(label: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The definition: exact areas of every old pixel within every new one."""
    result = np.zeros(size, np.uint8)
    height, width = Fraction(label.shape[0], size[0]), Fraction(label.shape[1], size[1])
    for i in range(size[0]):
        for j in range(size[1]):
            areas: dict[int, Fraction] = {}
            for y in range(label.shape[0]):
                for x in range(label.shape[1]):
                    down = min((i + 1) * height, y + 1) - max(i * height, y)
                    across = min((j + 1) * width, x + 1) - max(j * width, x)
                    if down > 0 and across > 0:
                        areas[int(label[y, x])] = areas.get(int(label[y, x]), Fraction(0)) + down * across
            ignored = areas.pop(X, Fraction(0))
            result[i, j] = X if 2 * ignored > height * width else min(areas, key=lambda k: (-areas[k], k))
    return result


def test_halving_takes_the_class_of_most_pixels_and_the_lowest_among_equals() -> None:
    label = np.array([[5, 5, 2, 1, 3, 3], [5, 0, 1, 2, 7, 7]], np.uint8)
    assert resample_label(label, (1, 3)).tolist() == [[5, 1, 3]]


def test_a_row_of_three_becomes_two_by_the_parts_that_they_cover() -> None:
    # The first new pixel is all of the first old one and half of the second, the other the rest.
    assert resample_label(np.array([[4, 9, 6]], np.uint8), (1, 2)).tolist() == [[4, 6]]
    # Five become two: 2.5 each; 9 covers 1.5 of the first and 1.5 of the other.
    assert resample_label(np.array([[4, 9, 9, 9, 6]], np.uint8), (1, 2)).tolist() == [[9, 9]]
    # Two become three: half of the middle one is of each, and the lower id is taken.
    assert resample_label(np.array([[8, 3]], np.uint8), (1, 3)).tolist() == [[8, 3, 3]]


def test_ignored_pixels_win_only_with_more_than_half_of_the_area() -> None:
    label = np.array([[X, X, X, X, X, X], [X, 1, 1, 2, 2, 2]], np.uint8)
    # 3 of 4 ignored; 2 of 4, of which 1 and 2 share the rest; 2 of 4.
    assert resample_label(label, (1, 3)).tolist() == [[X, 1, 2]]
    assert resample_label(np.full((5, 7), X, np.uint8), (3, 3)).tolist() == [[X] * 3] * 3


@pytest.mark.parametrize("size", [(1, 1), (4, 5), (7, 6), (9, 11), (14, 22), (20, 3)])
def test_areas_are_exact_whatever_the_ratio(size: tuple[int, int]) -> None:
    random = np.random.default_rng(size[0])
    label = random.choice(np.array([0, 1, 2, 3, X], np.uint8), (7, 11))
    assert np.array_equal(resample_label(label, size), by_area(label, size))


def test_a_label_of_the_size_already_is_returned_as_it_is() -> None:
    label = np.zeros((3, 4), np.uint8)
    assert resample_label(label, (3, 4)) is label


def test_images_are_resized_smoothly() -> None:
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (2, 8, 12, 3), np.uint8), random.integers(0, 3, (2, 8, 12), np.uint8)
    resized, resampled = resample_pairs(images, labels, (5, 7))
    assert resized.shape == (2, 5, 7, 3) and resampled.shape == (2, 5, 7)
    assert np.array_equal(resized[1], resize_image(images[1], (5, 7)))
    assert np.array_equal(resampled[1], by_area(labels[1], (5, 7)))
    same, _ = resample_pairs(images, labels, (8, 12))
    assert same is images
