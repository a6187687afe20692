"""Segments, positions, supports and heights from labels drawn by hand."""

from __future__ import annotations

import numpy as np
import pytest

from drawn_scenes import MAN, ROAD, SIGN, SKY, VOID, WALK, pairs_of, put, scene
from scenepalette.common.errors import ConfigError
from scenepalette.generators.pairs.segment_bank import (
    MOST_SEGMENTS,
    bank_problems,
    build_bank,
    chosen_classes,
    class_shares,
    fit_heights,
    left_out,
    rows_below,
    scaled,
)


def test_segments_are_whole_components_of_sensible_size() -> None:
    label = scene()
    put(label, MAN, 30, 4, 6)  # on the pavement: the only one that serves
    put(label, MAN, 30, 60, 6)  # cut by the border
    put(label, MAN, 47, 30, 6)  # cut at the bottom
    put(label, MAN, 40, 40, 3)  # too low
    put(label, MAN, 40, 50, 5, 2)  # 10 pixels: too few
    put(label, SIGN, 20, 20, 10, 20)  # 200 of 3072 pixels: too large
    bank = build_bank(pairs_of(label), [MAN, SIGN])
    assert [(each.id, each.box) for each in bank.classes[MAN].segments] == [("s0#man@25,4,6,4", (25, 4, 6, 4))]
    assert bank.classes[MAN].segments[0].shape.all() and bank.classes[MAN].segments[0].bottom == 30
    assert SIGN not in bank.classes


def test_corners_join_components_and_a_shape_leaves_out_what_only_its_box_holds() -> None:
    label = scene()
    put(label, MAN, 30, 4, 4)
    put(label, MAN, 34, 8, 4)
    shape = build_bank(pairs_of(label), [MAN]).classes[MAN].segments[0].shape
    assert shape.shape == (8, 8) and shape.sum() == 32 and not shape[:4, 4:].any()


def test_ground_is_what_lies_lowest_and_a_class_stands_if_it_rests_there() -> None:
    labels = [put(put(scene(), MAN, 30, 4, 6), SIGN, 12, 30, 5) for _ in range(3)]
    hidden = put(put(scene(), VOID, 33, 40, 4, 6), MAN, 29, 41, 6)  # a man whose legs something hides
    bank = build_bank(pairs_of(*labels, hidden), [MAN, SIGN])
    assert bank.ground == {ROAD, WALK}
    assert bank.classes[MAN].stands and not bank.classes[SIGN].stands
    assert len(bank.classes[MAN].segments) == 3
    assert np.flatnonzero(bank.classes[SIGN].support).tolist() == [SKY]


def test_support_is_set_against_how_often_a_class_is_there_by_chance() -> None:
    # Two men on the pavement, two on the road, in places as frequent: the four squares are all there is to know.
    labels = [put(scene(), MAN, 35, left, 6) for left in (4, 6, 30, 50)]
    known = build_bank(pairs_of(*labels), [MAN]).classes[MAN]
    assert known.positions.sum() == pytest.approx(1)
    below = np.stack([label[1:] for label in labels])
    chance = [(known.positions[:-1] * (below == k)).sum() / len(labels) for k in (ROAD, WALK)]
    np.testing.assert_allclose(known.support[[ROAD, WALK]], [0.5 / chance[0], 0.5 / chance[1]])
    assert known.positions[35].argmax() in (6, 7, 8) and known.positions.sum(axis=1).argmax() == 35


def test_heights_are_those_of_a_line_through_most_objects() -> None:
    bottoms = list(range(10, 30))
    heights = [2 * bottom - 15 for bottom in bottoms]
    heights[3] = heights[11] = 90
    line = fit_heights(bottoms, heights)
    assert line is not None
    assert (line.slope, line.intercept) == pytest.approx((2, -15))
    np.testing.assert_allclose(line.height(np.array([5, 20])), [2, 25])


@pytest.mark.parametrize(
    ("bottoms", "heights"),
    [
        (range(7), range(7)),  # too few
        ([9] * 12, range(12)),  # one row alone
        (range(12), [5] * 12),  # no growth
        (range(12), range(20, 8, -1)),  # towards the horizon
    ],
)
def test_no_line_where_nothing_can_be_told(bottoms: list[int], heights: list[int]) -> None:
    assert fit_heights(list(bottoms), list(heights)) is None


def test_a_bank_keeps_segments_from_the_whole_set_and_is_the_same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_SEGMENTS == 1000
    monkeypatch.setattr("scenepalette.generators.pairs.segment_bank.MOST_SEGMENTS", 3)
    labels = [put(scene(), MAN, 30 + index % 3, 4, 6) for index in range(9)]
    banks = [build_bank(pairs_of(*labels), [MAN]).classes[MAN] for _ in range(2)]
    ids = [[each.id.split("#")[0] for each in bank.segments] for bank in banks]
    assert ids == [["s0", "s4", "s8"]] * 2
    assert np.array_equal(banks[0].positions, banks[1].positions)


def test_rare_classes_are_evaluated_ones_with_few_pixels() -> None:
    label = put(put(put(scene(), MAN, 30, 4, 6), SIGN, 12, 30, 10, 10), VOID, 40, 30, 4)
    pairs = pairs_of(label)
    assert class_shares(pairs.labels, 6)[MAN] == pytest.approx(24 / (48 * 64))
    assert chosen_classes(pairs, []) == [MAN]
    assert chosen_classes(pairs, ["sign", "man", "sign"]) == [SIGN, MAN]


def test_what_cannot_be_inserted_is_told_with_the_remedy() -> None:
    plain = pairs_of(scene())
    assert bank_problems(plain, ["man", "tram"]) == [
        "insert_classes: there is no class 'tram'; classes are sky, road, walk, man, sign, void"
    ]
    (none,) = bank_problems(plain, [])
    assert none.startswith("insert_classes: every class has 2 % or more") and "leave the kind insert out" in none
    (empty,) = bank_problems(pairs_of(put(scene(), SIGN, 12, 30, 5)), ["sign", "man"])
    assert empty.startswith("insert_classes: 'man' cannot be inserted: ") and empty.endswith("raise data.size")
    (small,) = bank_problems(pairs_of(put(scene(), MAN, 30, 4, 2)), [])
    assert small.startswith("insert_classes: none of the rare classes (man) can be inserted")
    assert bank_problems(pairs_of(put(scene(), MAN, 30, 4, 6)), []) == []
    with pytest.raises(ConfigError, match="No class is rare"):
        chosen_classes(plain, [])


def test_rare_classes_without_segments_beside_others_are_named() -> None:
    pairs = pairs_of(put(put(scene(), MAN, 30, 4, 6), SIGN, 12, 30, 2))
    wanted = chosen_classes(pairs, [])
    assert wanted == [MAN, SIGN]
    told = left_out(pairs, wanted, build_bank(pairs, wanted))
    assert told is not None and told.startswith("no sign is inserted: ") and "Raise data.size" in told
    assert left_out(pairs, [MAN], build_bank(pairs, [MAN])) is None
    assert left_out(pairs, [SIGN], build_bank(pairs, [SIGN])) is None  # refused before: bank_problems


def test_rows_below_end_with_the_run_of_a_class() -> None:
    label = np.array([[0, 1], [0, 2], [3, 2], [0, 1]])
    assert rows_below(label).tolist() == [[1, 0], [1, 2], [2, 2], [3, 3]]


def test_scaling_keeps_thin_shapes() -> None:
    shape = np.zeros((12, 6), dtype=bool)
    shape[:, 2] = True
    half = scaled(shape, 0.5)
    assert half.shape == (6, 3) and half.any(axis=1).all()
    assert scaled(shape, 1.0).tolist() == shape.tolist()
    assert scaled(np.ones((4, 3), dtype=bool), 2).tolist() == np.ones((8, 6), dtype=bool).tolist()
    assert scaled(np.ones((4, 3), dtype=bool), 0.1).shape == (1, 1)
