"""Where objects are put, what hides them, and that everything else stays as it was."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor

from drawn_scenes import MAN, ROAD, SIGN, SIZE, SKY, VOID, WALK, pairs_of, put, scene
from scenepalette.data.arrays import Pairs
from scenepalette.data.shards.schema import row_problems
from scenepalette.generators.images.systems.oasis import OasisGenerator
from scenepalette.generators.layouts.registry import LAYOUT_SYSTEMS
from scenepalette.generators.layouts.settings import LayoutSettings
from scenepalette.generators.pairs.base import PairMaker
from scenepalette.generators.pairs.composite import usual_feather
from scenepalette.generators.pairs.placement import BUDGET, SCALES, hidden, place_objects, places, scale_at
from scenepalette.generators.pairs.registry import PAIR_KINDS
from scenepalette.generators.pairs.segment_bank import build_bank, rows_below


def street(count: int = 12) -> Pairs:
    """Men who are higher the lower they stand, most on the pavement, and a sign that hangs in the sky."""
    labels = []
    for index in range(count):
        bottom = 27 + index
        label = put(scene(), MAN, bottom, 5 if index % 3 else 30, 4 + index // 2)
        labels.append(put(label, SIGN, 12, 40, 5))
    pairs = pairs_of(*labels)
    images = np.random.default_rng(0).integers(0, 256, pairs.images.shape, dtype=np.uint8)
    return replace(pairs, images=images)


@pytest.fixture
def maker(fabric: Fabric) -> PairMaker:
    pairs = street()
    pairs.labels[:, 0, :7] = 255
    filled = pairs.labels.copy()
    filled[filled == 255] = SKY
    return PairMaker(
        kind=PAIR_KINDS["insert"],
        seed=5,
        train=pairs,
        filled_labels=filled,
        sampler=None,  # type: ignore[arg-type]
        image_generator=OasisGenerator(6, (3, 4), 4, 4, 5, 6).eval(),
        image_model="image",
        layout_generator=None,
        layout_model=None,
        fabric=fabric,
    )


def test_outside_the_dilated_box_image_and_label_are_the_sources_bit_by_bit(maker: PairMaker) -> None:
    margin = usual_feather(SIZE)
    for row in maker.rows(0, 12, 4):
        source = maker.train.ids.index(str(row.source_id))
        real, label = maker.train.images[source], maker.train.labels[source]
        assert row.edit_box is not None
        outside = np.ones(SIZE, dtype=bool)
        top, left, height, width = row.edit_box
        outside[max(0, top - margin) : top + height + margin, max(0, left - margin) : left + width + margin] = False
        assert np.array_equal(row.image[outside], real[outside]) and not np.array_equal(row.image, real)
        changed = row.label != label
        top, left, height, width = row.edit_box
        inside = np.zeros(SIZE, dtype=bool)
        inside[top : top + height, left : left + width] = True
        assert not changed[~inside].any()
        assert set(np.unique(row.label[changed])) <= {MAN, SIGN}
        assert row_problems(row) == []


def test_the_generator_is_shown_the_real_image_but_for_what_was_inserted(maker: PairMaker) -> None:
    shown: list[tuple[Tensor, Tensor]] = []

    class Noting(OasisGenerator):
        def noise_of_image(self, noise: Tensor, image: Tensor, label_map: Tensor) -> Tensor:
            shown.append((image, label_map))
            return noise

    noting = replace(maker, image_generator=Noting(6, (3, 4), 4, 4, 5, 6).eval())
    rows = list(noting.rows(0, 4, 4))
    ((images, label_maps),) = shown
    for row, image, label_map in zip(rows, images, label_maps, strict=True):
        source = noting.train.ids.index(str(row.source_id))
        assert torch.equal(image, noting.train.batch([source])[0][0])
        real = noting.filled_labels[source]
        changed = (row.label != real) & (row.label != 255)
        assert changed.any() and np.array_equal(label_map.sum(dim=0).numpy() == 0, changed)
        assert np.array_equal(label_map.argmax(dim=0).numpy()[~changed], real[~changed])
    list(replace(noting, kind=PAIR_KINDS["semi"]).rows(0, 4, 4))
    assert len(shown) == 1


def test_rows_say_what_was_inserted_and_where_it_comes_from(maker: PairMaker) -> None:
    rows = list(maker.rows(0, 12, 4))
    assert sorted(str(row.source_id) for row in rows) == sorted(maker.train.ids)
    known = {segment.id for each in maker.bank.classes.values() for segment in each.segments}
    for row in rows:
        assert row.inserted_classes and row.source_ids and row.source_ids[0] == row.source_id
        assert len(row.source_ids) == 1 + len(row.inserted_classes) <= 4
        for name, segment in zip(row.inserted_classes, row.source_ids[1:], strict=True):
            assert segment in known and f"#{name}@" in segment
        assert row.layout_model is None and np.array_equal(row.palette_target, row.palette_achieved)
    assert {name for row in rows for name in row.inserted_classes or ()} == {"man", "sign"}


def test_rows_are_functions_of_seed_and_index(maker: PairMaker) -> None:
    rows = list(maker.rows(0, 6, batch_size=6))
    fresh = replace(maker)
    for row in [*fresh.rows(4, 2, batch_size=1), *fresh.rows(0, 4, batch_size=3)]:
        other = rows[row.index]
        assert np.array_equal(row.label, other.label)
        assert (row.edit_box, row.source_ids) == (other.edit_box, other.source_ids)
        assert np.abs(row.image.astype(int) - other.image).max() <= 2
    assert any(
        not np.array_equal(row.label, other.label)
        for row, other in zip(rows, replace(maker, seed=6).rows(0, 6, 6), strict=True)
    )


def test_only_named_classes_are_inserted_and_no_more_than_asked_for(maker: PairMaker) -> None:
    named = replace(maker, insert_classes=("sign",), insert_objects=1)
    assert [row.inserted_classes for row in named.rows(0, 5, 5)] == [("sign",)] * 5


def test_objects_end_on_what_carries_them_and_have_the_size_of_their_place() -> None:
    pairs = street()
    bank = build_bank(pairs, [MAN])
    line = bank.classes[MAN].heights
    assert line is not None
    random = np.random.default_rng(0)
    on_pavement = []
    for _ in range(200):
        for each in place_objects(scene(), bank, random, 3):
            top, left, height, width = each.box
            bottom, middle = top + height - 1, left + width // 2
            on_pavement.append(scene()[bottom + 1, middle] == WALK)
            assert scene()[bottom + 1, middle] in (ROAD, WALK)
            scale = scale_at(bank.classes[MAN], each.segment, bottom)
            assert SCALES[0] <= scale <= SCALES[1] and height == max(1, round(each.segment.box[2] * scale))
            assert each.visible.all()
    assert 0.5 < np.mean(on_pavement) < 0.8  # two of three stand there


def test_without_a_relation_of_size_and_row_objects_stay_near_their_row() -> None:
    bank = build_bank(pairs_of(*(put(scene(), SIGN, 8 + index % 2, 30, 5) for index in range(12))), [SIGN])
    known = bank.classes[SIGN]
    assert known.heights is None and scale_at(known, known.segments[0], 40) == 1
    rows = np.flatnonzero(places(scene(), bank, SIGN, known.segments[0]).any(axis=1))
    assert rows.min() == 8 - 3 and rows.max() == 8 + 3


def test_what_is_nearer_hides_an_object_and_what_is_farther_does_not() -> None:
    bank = build_bank(street(), [MAN, SIGN])
    label = put(scene(), VOID, 34, 20, 10, 3)  # stands nearer than row 30
    put(label, VOID, 28, 26, 10, 3)  # and one farther away
    put(label, SIGN, 20, 40, 5)
    ends = rows_below(label)
    expected = np.zeros(SIZE, dtype=bool)
    expected[25:35, 20:23] = True
    assert np.array_equal(hidden(label, ends, bank, MAN, 30), expected)
    signs = hidden(label, ends, bank, SIGN, 30)
    assert signs[16:21, 40:44].all() and signs.sum() == 20


def test_an_object_that_is_hidden_in_part_shows_the_rest() -> None:
    bank = build_bank(pairs_of(*(put(scene(), MAN, 30, left, 6) for left in (6, 7, 8))), [MAN])
    label = put(scene(), VOID, 40, 0, 13, 8)  # something near, in front of the pavement's left half
    found = [each for seed in range(60) for each in place_objects(label, bank, np.random.default_rng(seed), 1)]
    partly = [each for each in found if not each.visible.all()]
    assert partly
    for each in partly:
        top, left, height, width = each.box
        part = label[top : top + height, left : left + width]
        assert np.array_equal(each.visible, each.shape & (part != VOID))


def test_objects_do_not_overlap_and_keep_to_the_budget() -> None:
    bank = build_bank(street(), [MAN, SIGN])
    for seed in range(40):
        placed = place_objects(scene(), bank, np.random.default_rng(seed), 20)
        taken = np.zeros(SIZE, dtype=int)
        for each in placed:
            top, left, height, width = each.box
            taken[top : top + height, left : left + width] += 1
        assert taken.max() == 1 and sum(each.visible.sum() for each in placed) <= BUDGET * taken.size
        bottoms = [each.box[0] + each.box[2] for each in placed]
        assert bottoms == sorted(bottoms)


def test_where_nothing_fits_an_object_goes_where_it_came_from() -> None:
    bank = build_bank(street(), [MAN])
    (only,) = place_objects(np.full(SIZE, SKY, dtype=np.uint8), bank, np.random.default_rng(0), 3)
    assert only.box == only.segment.box and only.visible.all()


def test_rarer_classes_are_inserted_more_often() -> None:
    bank = build_bank(street(), [MAN, SIGN])
    random = np.random.default_rng(1)
    first = [place_objects(scene(), bank, random, 1)[0].class_id for _ in range(400)]
    odds = (1 / bank.shares[SIGN]) / (1 / bank.shares[SIGN] + 1 / bank.shares[MAN])
    assert np.mean(np.array(first) == SIGN) == pytest.approx(odds, abs=0.1)


def test_ignored_pixels_stay_ignored_but_under_objects(maker: PairMaker) -> None:
    for row in maker.rows(0, 6, 3):
        assert (row.label[0, :7] == 255).all()


@pytest.fixture
def partial_maker(maker: PairMaker) -> PairMaker:
    settings = LayoutSettings(noise_features=6, max_width=8, base_width=32, hidden_channels=6)
    generator = LAYOUT_SYSTEMS["semantic-palette-partial"].build_generator(maker.train.table, SIZE, settings)
    return replace(
        maker,
        kind=PAIR_KINDS["partial"],
        layout_generator=generator.eval(),
        layout_model="layout",
        crop_mode="rectangle",
    )


def test_partial_rows_keep_the_real_image_and_label_outside_the_box(partial_maker: PairMaker) -> None:
    boxed = list(replace(partial_maker, composite="box").rows(0, 6, 3))
    margin = usual_feather(SIZE)
    for row, whole in zip(boxed, partial_maker.rows(0, 6, 3), strict=True):
        source = partial_maker.train.ids.index(str(row.source_id))
        assert row.edit_box is not None and row.edit_box == whole.edit_box
        top, left, height, width = row.edit_box
        inside = (slice(top, top + height), slice(left, left + width))
        assert np.array_equal(row.label[inside], whole.label[inside])
        outside = np.ones(SIZE, dtype=bool)
        outside[inside] = False
        assert np.array_equal(row.label[outside], partial_maker.train.labels[source][outside])
        outside = np.ones(SIZE, dtype=bool)
        top, left, height, width = row.edit_box
        outside[max(0, top - margin) : top + height + margin, max(0, left - margin) : left + width + margin] = False
        real = partial_maker.train.images[source]
        assert np.array_equal(row.image[outside], real[outside]) and not np.array_equal(row.image, real)
        assert not np.array_equal(whole.image[outside], real[outside])
        assert row_problems(row) == []
