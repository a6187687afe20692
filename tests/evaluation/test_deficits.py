"""What a segmenter lacks of each class."""

from __future__ import annotations

import numpy as np
import pytest

from scenepalette.evaluation.deficits import class_deficits

# Rows the truth: class 0 is found in 6 of 8 pixels (IoU 6 / 10), class 1 in 2 of 4 (2 / 6), class 2 does not occur.
FIRST = np.array([[6, 2, 0], [2, 2, 0], [0, 0, 0]])
# Class 0: 8 / 10, class 1: 2 / 4.
SECOND = np.array([[8, 0, 0], [2, 2, 0], [0, 0, 0]])


def test_it_is_what_is_missing_to_one_or_to_the_oracle() -> None:
    reached, lacking = class_deficits([FIRST], (0, 1, 2))
    np.testing.assert_allclose(reached, [0.6, 1 / 3, np.nan])
    np.testing.assert_allclose(lacking, [0.4, 2 / 3, 0.0])
    # A perfect segmenter of its stride: 8 / 9 and 3 / 4.
    _, lacking = class_deficits([FIRST], (0, 1, 2), np.array([[8, 0, 0], [1, 3, 0], [0, 0, 0]]))
    np.testing.assert_allclose(lacking, [8 / 9 - 0.6, 3 / 4 - 1 / 3, 0.0])
    # What a coarse network cannot draw is nothing that it lacks.
    _, lacking = class_deficits([FIRST], (0, 1, 2), np.array([[8, 0, 0], [4, 0, 0], [0, 0, 0]]))
    np.testing.assert_allclose(lacking, [8 / 12 - 0.6, 0.0, 0.0])


def test_seeds_count_alike_and_images_are_added_up() -> None:
    reached, lacking = class_deficits([FIRST, SECOND], (0, 1, 2))
    np.testing.assert_allclose(reached[:2], [(0.6 + 0.8) / 2, (1 / 3 + 1 / 2) / 2])
    np.testing.assert_allclose(lacking, [1 - 0.7, 1 - 5 / 12, 0.0])
    np.testing.assert_array_equal(
        class_deficits([np.stack([FIRST, SECOND])], (0, 1))[0], class_deficits([FIRST + SECOND], (0, 1))[0]
    )


def test_classes_that_are_not_evaluated_lack_nothing() -> None:
    _, lacking = class_deficits([FIRST], (1,))
    # Pixels of other classes are left out: class 1 is found in 2 of 4, and nothing else is taken for it.
    np.testing.assert_allclose(lacking, [0.0, 0.5, 0.0])


def test_a_class_that_images_do_not_show_lacks_nothing_even_if_it_is_predicted() -> None:
    reached, lacking = class_deficits([np.array([[3, 1], [0, 0]])], (0, 1))
    assert np.isnan(reached[1]) and lacking[1] == 0.0
    assert lacking[0] == pytest.approx(0.25)
