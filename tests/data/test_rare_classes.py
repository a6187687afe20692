import numpy as np

from scenepalette.data.rare_classes import rare_classes


def test_classes_below_half_of_the_median_share_are_rare():
    # Median of the five: 0.10, half of it: 0.05, which is not below itself.
    assert rare_classes([0.6, 0.05, 0.2, 0.04, 0.10]) == (3,)


def test_absent_classes_are_not_rare_and_do_not_move_the_median():
    # Of 0.5, 0.4 and 0.1 the median is 0.4; with two zeros it would be 0.1, and nothing would be rare.
    assert rare_classes([0.5, 0.0, 0.4, 0.0, 0.1]) == (4,)


def test_only_the_classes_asked_about_are_looked_at():
    shares = np.array([0.01, 0.5, 0.3, 0.02, 0.17])
    assert rare_classes(shares) == (0, 3)
    # Of 0.5, 0.3, 0.02 and 0.17 the median is 0.235.
    assert rare_classes(shares, among=[4, 3, 2, 1]) == (3,)


def test_nothing_is_rare_where_one_class_or_none_occurs():
    assert rare_classes([0.0, 1.0]) == ()
    assert rare_classes([0.0, 0.0]) == ()
    assert rare_classes([0.5, 0.5], among=[]) == ()


def test_classes_of_equal_shares_are_not_rare():
    assert rare_classes(np.full(8, 1 / 8)) == ()
