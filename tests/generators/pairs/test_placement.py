"""Objects that are put into layouts for what these lack."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from drawn_scenes import MAN, ROAD, SIGN, SIZE, SKY, TABLE, WALK, pairs_of, put, scene
from scenepalette.data.arrays import Pairs
from scenepalette.data.labels import labels_to_palette
from scenepalette.data.shards.schema import row_problems
from scenepalette.generators.images.systems.oasis import OasisGenerator
from scenepalette.generators.layouts.registry import LAYOUT_SYSTEMS
from scenepalette.generators.layouts.settings import LayoutSettings
from scenepalette.generators.pairs.base import PairMaker
from scenepalette.generators.pairs.placement import draw_objects, lacking_objects
from scenepalette.generators.pairs.registry import PAIR_KINDS
from scenepalette.generators.pairs.segment_bank import SegmentBank, build_bank
from scenepalette.generators.palettes import fit_palette_sampler

PIXELS = SIZE[0] * SIZE[1]


def street() -> Pairs:
    """Men of 16 to 36 pixels all over the ground, and signs of 20 that hang in the sky."""
    return pairs_of(*(put(put(scene(), MAN, 27 + i, 3 + 5 * i, 4 + i // 2), SIGN, 12, 4 + 5 * i, 5) for i in range(12)))


@pytest.fixture(scope="module")
def bank() -> SegmentBank:
    return build_bank(street(), (MAN, SIGN))


def palette_with(men: int, signs: int) -> np.ndarray:
    """Return the palette of an empty scene in which so many of the sky's pixels are men and signs."""
    counts = np.bincount(scene().ravel(), minlength=len(TABLE))
    counts[[SKY, MAN, SIGN]] += [-men - signs, men, signs]
    return counts / PIXELS


@pytest.mark.parametrize(("men", "signs"), [(60, 40), (100, 0), (0, 20)])
def test_a_layout_gets_what_it_lacks_as_nearly_as_whole_objects_can(bank: SegmentBank, men: int, signs: int) -> None:
    for seed in range(5):
        label = scene()
        draw_objects(label, lacking_objects(label, palette_with(men, signs), bank, np.random.default_rng(seed)))
        held = np.bincount(label.ravel(), minlength=len(TABLE))
        # Men are scaled to 6 to 48 pixels; none is taken that overshoots by more than is lacking.
        assert abs(held[MAN] - men) <= 24 and held[SIGN] == signs
        assert held[[SKY, ROAD, WALK]].sum() == PIXELS - held[MAN] - held[SIGN]


def test_a_layout_that_lacks_nothing_stays(bank: SegmentBank) -> None:
    label = put(scene(), MAN, 30, 5, 8)
    for palette in (palette_with(0, 0), palette_with(32, 0), palette_with(33, 5)):
        assert lacking_objects(label, palette, bank, np.random.default_rng(0)) == []


def test_pixels_that_an_object_covers_of_its_own_class_bring_a_layout_no_nearer(bank: SegmentBank) -> None:
    label = scene()
    label[22:32] = MAN  # a crowd behind everyone who stands below it
    counts = np.bincount(label.ravel(), minlength=len(TABLE))
    counts[[SKY, MAN]] += [-60, 60]
    for seed in range(5):
        drawn = label.copy()
        draw_objects(drawn, lacking_objects(label, counts / PIXELS, bank, np.random.default_rng(seed)))
        assert abs(np.count_nonzero(drawn == MAN) - counts[MAN]) <= 24


def test_objects_share_no_pixels_and_end_where_no_more_fit(bank: SegmentBank) -> None:
    found = lacking_objects(scene(), palette_with(1400, 0), bank, np.random.default_rng(0))
    count = np.zeros(SIZE, dtype=int)
    for each in found:
        top, left, height, width = each.box
        count[top : top + height, left : left + width] += 1
    assert len(found) > 3 and count.max() == 1
    bottoms = [each.box[0] + each.box[2] for each in found]
    assert bottoms == sorted(bottoms)


def test_full_rows_get_objects_of_what_they_lack_whatever_their_batch(fabric: Fabric) -> None:
    pairs = street()
    palettes = labels_to_palette(torch.from_numpy(pairs.labels.astype(np.int64)), len(TABLE)).numpy()
    torch.manual_seed(0)
    settings = LayoutSettings(noise_features=6, max_width=8, base_width=32, hidden_channels=6)
    maker = PairMaker(
        kind=PAIR_KINDS["full"],
        seed=5,
        train=pairs,
        filled_labels=pairs.labels,
        sampler=fit_palette_sampler(palettes, TABLE.names, max_components=1),
        image_generator=OasisGenerator(6, (3, 4), 4, 4, 5, 6).eval(),
        image_model="image",
        layout_generator=LAYOUT_SYSTEMS["semantic-palette"].build_generator(TABLE, SIZE, settings).eval(),
        layout_model="layout",
        fabric=fabric,
        insert_classes=("man", "sign"),
        hardening="objects",
    )
    rows, plain = list(maker.rows(0, 6, 6)), list(replace(maker, hardening="argmax").rows(0, 6, 6))
    again = [*maker.rows(3, 3, batch_size=2), *maker.rows(0, 3, batch_size=1)]
    assert all(np.array_equal(row.label, rows[row.index].label) for row in again)
    assert all(row.source_ids == rows[row.index].source_ids for row in again)
    segments = {segment.id for known in maker.bank.classes.values() for segment in known.segments}
    for row, before in zip(rows, plain, strict=True):
        assert before.inserted_classes is before.source_ids is None
        assert row.inserted_classes is not None and row.source_ids is not None and set(row.source_ids) <= segments
        assert all(f"#{name}@" in each for name, each in zip(row.inserted_classes, row.source_ids, strict=True))
        assert bool(row.source_ids) == (not np.array_equal(row.label, before.label))
        assert row_problems(row) == []
        changed = row.label[row.label != before.label]
        assert set(changed.tolist()) <= {MAN, SIGN}
        shares = (row.palette_target, row.palette_achieved, before.palette_achieved)
        asked, held, had = (np.asarray(each)[[MAN, SIGN]] for each in shares)
        assert (np.abs(held - asked) <= np.abs(had - asked)).all()
    assert any(not np.array_equal(row.label, before.label) for row, before in zip(rows, plain, strict=True))

    # Where no class is rare, and none is named, there is nothing to add.
    bare = replace(maker, train=pairs_of(scene(), scene()), insert_classes=())
    for row, before in zip(bare.rows(0, 6, 6), plain, strict=True):
        np.testing.assert_array_equal(row.label, before.label)
