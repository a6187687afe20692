from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor

from scenepalette.data.arrays import Pairs
from scenepalette.data.classes import ClassTable
from scenepalette.data.labels import fill_ignored, labels_to_palette
from scenepalette.data.shards.schema import Row, row_problems
from scenepalette.data.unlabelled import UnlabelledImages
from scenepalette.generators.images.systems.oasis import OasisGenerator
from scenepalette.generators.layouts.networks.progressive import LayoutBatch, LayoutNetwork
from scenepalette.generators.layouts.registry import LAYOUT_SYSTEMS
from scenepalette.generators.layouts.settings import LayoutSettings
from scenepalette.generators.pairs.base import PairMaker
from scenepalette.generators.pairs.registry import PAIR_KINDS
from scenepalette.generators.palettes import PaletteControls, fit_palette_sampler

SIZE = (12, 16)
SMALL = LayoutSettings(noise_features=6, max_width=8, base_width=32, hidden_channels=6)


@pytest.fixture
def make_maker(make_pairs: Callable[..., Pairs], fabric: Fabric) -> Callable[..., PairMaker]:
    """Untrained generators of 3 classes and 12x16 pixels."""

    def make(system: str, changes: dict[str, Any] | None = None, **options: Any) -> PairMaker:
        pairs = make_pairs()
        filled = np.stack([fill_ignored(label) for label in pairs.labels])
        palettes = labels_to_palette(torch.from_numpy(filled.astype(np.int64)), 3).numpy()
        torch.manual_seed(0)
        generator = LAYOUT_SYSTEMS[system].build_generator(
            ClassTable.unnamed(3), SIZE, replace(SMALL, **(changes or {}))
        )
        return PairMaker(
            kind=PAIR_KINDS["partial" if LAYOUT_SYSTEMS[system].partial else "full"],
            seed=5,
            train=pairs,
            filled_labels=filled,
            sampler=fit_palette_sampler(palettes, pairs.table.names, max_components=2),
            image_generator=OasisGenerator(3, (3, 4), 2, 4, 5, 6).eval(),
            image_model="image",
            layout_generator=generator.eval(),
            layout_model="layout",
            fabric=fabric,
            **options,
        )

    return make


def equal(first: Row, second: Row) -> bool:
    return (
        first.id == second.id
        and np.array_equal(first.label, second.label)
        and np.array_equal(first.palette_target, second.palette_target)
        and first.edit_box == second.edit_box
    )


CASES: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in LAYOUT_SYSTEMS),
    ("semantic-palette", {"soft_layouts": False}),
    ("semantic-palette-partial", {"edits": "add"}),
]
PALETTE_CASES = [(name, changes) for name, changes in CASES if LAYOUT_SYSTEMS[name].conditional]


@pytest.mark.parametrize(("system", "changes"), CASES)
def test_layouts_of_every_system_are_functions_of_seed_and_index(
    system: str, changes: dict[str, Any], make_maker: Callable[..., PairMaker]
) -> None:
    options = {"edits": changes["edits"]} if "edits" in changes else {}
    maker = make_maker(system, changes, **options)
    rows = list(maker.rows(0, 6, batch_size=6))
    torch.manual_seed(99)
    again = [*maker.rows(3, 3, batch_size=2), *maker.rows(0, 3, batch_size=1)]
    assert all(equal(row, rows[row.index]) for row in again)
    assert len({row.label.tobytes() for row in rows}) == 6
    assert all(row.label.shape == SIZE for row in rows)


@pytest.mark.parametrize(("system", "changes"), PALETTE_CASES)
def test_exactly_hardened_rows_have_the_shares_asked_for_whatever_their_batch(
    system: str, changes: dict[str, Any], make_maker: Callable[..., PairMaker]
) -> None:
    options = {"edits": changes["edits"]} if "edits" in changes else {}
    maker = make_maker(system, changes, hardening="exact", **options)
    rows = list(maker.rows(0, 6, batch_size=6))
    again = [*maker.rows(3, 3, batch_size=2), *maker.rows(0, 3, batch_size=1)]
    assert all(equal(row, rows[row.index]) for row in again)
    largest = list(make_maker(system, changes, **options).rows(0, 6, batch_size=6))
    assert not any(np.array_equal(a.label, b.label) for a, b in zip(rows, largest, strict=True))
    for row in rows:
        if row.edit_box is None:
            inside, target = row.label, row.palette_target
        else:
            # Of the source, with its ignored pixels filled, what lay in the box.
            top, left, height, width = row.edit_box
            box = np.s_[top : top + height, left : left + width]
            source = maker.filled_labels[maker.train.ids.index(str(row.source_id))][box]
            inside, target = row.label[box], np.bincount(source.ravel(), minlength=3) / source.size
            outside = np.ones(SIZE, dtype=bool)
            outside[box] = False
            real = maker.train.labels[maker.train.ids.index(str(row.source_id))]
            np.testing.assert_array_equal(row.label[outside], real[outside])
        inside = inside[inside != 255]
        ignored = 1 - inside.size / (row.label.size if row.edit_box is None else source.size)
        reached = np.bincount(inside, minlength=3) / max(1, inside.size)
        # A pixel at most by rounding, and what is ignored in both.
        np.testing.assert_allclose(reached, target, atol=1 / inside.size + ignored)


def test_taking_rows_leaves_gradients_switched_on(make_maker: Callable[..., PairMaker]) -> None:
    first, second = make_maker("sb-gan").rows(0, 4, 2), make_maker("sb-gan").rows(0, 4, 2)
    for _ in zip(first, second, strict=True):
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


def test_classes_of_sb_gan_are_drawn_and_those_of_an_ablation_are_the_largest_shares(
    make_maker: Callable[..., PairMaker],
) -> None:
    for system, changes, drawn in (("sb-gan", {}, True), ("semantic-palette", {"soft_layouts": False}, False)):
        maker, bare = make_maker(system, changes), make_maker(system, changes)
        assert bare.layout_generator is not None
        bare.layout_generator.drawn_classes = "never"
        pairs = zip(maker.rows(0, 3, 3), bare.rows(0, 3, 3), strict=True)
        assert all(np.array_equal(a.label, b.label) != drawn for a, b in pairs)


def test_rows_that_are_added_to_have_a_sampled_target_and_no_box(make_maker: Callable[..., PairMaker]) -> None:
    controls = PaletteControls(palette={"ground": 0.2, "sky": 0.8})
    maker = make_maker("semantic-palette-partial", {"edits": "add"}, edits="add", controls=controls)
    rows = list(maker.rows(0, 6, 4))
    ids = [row.source_id for row in rows]
    assert sorted(map(str, ids)) == sorted(maker.train.ids)  # each once
    for row in rows:
        assert row.edit_box is None
        np.testing.assert_allclose(row.palette_target, [0.2, 0.0, 0.8], atol=1e-6)
    sources = [maker.filled_labels[maker.train.ids.index(str(row.source_id))] for row in rows]
    # There is nothing to add of the wall, so that it grows nowhere.
    assert all(not np.any((row.label == 1) & (sources[row.index] != 1)) for row in rows)
    assert any(np.any((row.label != 255) & (row.label != sources[row.index])) for row in rows)


def brightness_labels(image: Tensor) -> Tensor:
    """Class 0, 1 or 2 by the brightness of each pixel, as a labeller may look."""
    return ((image.mean(dim=1) + 1) * 1.5).long().clamp(0, 2)


def test_pseudo_rows_are_predicted_from_unlabelled_images_each_pass_in_another_order(
    make_maker: Callable[..., PairMaker],
) -> None:
    pictures = np.random.default_rng(4).integers(0, 256, (4, *SIZE, 3), dtype=np.uint8)
    unlabelled = UnlabelledImages(pictures, ["a.png", "b.png", "c/d.jpg", "e.png"], "drives")
    maker = replace(
        make_maker("semantic-palette"),
        kind=PAIR_KINDS["pseudo"],
        layout_generator=None,
        layout_model="critic",
        unlabelled=unlabelled,
        labeller=brightness_labels,
    )
    rows = list(maker.rows(0, 12, batch_size=6))
    passes = [[str(row.source_id) for row in rows[first : first + 4]] for first in (0, 4, 8)]
    assert all(sorted(ids) == unlabelled.ids for ids in passes)
    assert len({tuple(ids) for ids in [*passes, unlabelled.ids]}) > 2
    assert all(equal(row, other) for row, other in zip(maker.rows(5, 3, batch_size=2), rows[5:8], strict=True))
    again = [*maker.rows(4, 2, batch_size=1), *maker.rows(0, 4, batch_size=3)]
    assert all(equal(row, rows[row.index]) for row in again)
    assert all(np.abs(row.image.astype(int) - rows[row.index].image).max() <= 1 for row in again)
    for index, row in enumerate(rows):
        assert (row.id, row.kind, row.layout_model) == (f"pseudo-00000000-{index:08d}", "pseudo", "critic")
        assert row.edit_box is None
        source = unlabelled.ids.index(str(row.source_id))
        np.testing.assert_array_equal(row.label, brightness_labels(unlabelled.batch([source]))[0].numpy())
        np.testing.assert_allclose(row.palette_achieved, [(row.label == k).mean() for k in range(3)], atol=1e-9)
        np.testing.assert_array_equal(row.palette_target, row.palette_achieved)
        assert row_problems(row) == []
    # The same layout under other noise: rows of one image differ.
    later = next(row for row in rows[4:] if row.source_id == rows[0].source_id)
    assert np.array_equal(rows[0].label, later.label) and not np.array_equal(rows[0].image, later.image)


def test_a_layout_generator_of_another_package_makes_rows(make_maker: Callable[..., PairMaker]) -> None:
    class Halves(LayoutNetwork):
        noise_features = 2

        def forward(self, noise: Tensor, palette: Tensor, **options: object) -> LayoutBatch:
            assert noise.shape == (len(palette), 2)
            soft = torch.zeros(*palette.shape, *SIZE)
            soft[:, 1, :6], soft[:, 2, 6:] = 1.0, 1.0
            return LayoutBatch(soft, [], soft)

    rows = list(replace(make_maker("baseline-1"), layout_generator=Halves()).rows(0, 3, batch_size=2))
    assert [row.palette_achieved.tolist() for row in rows] == [[0.0, 0.5, 0.5]] * 3
