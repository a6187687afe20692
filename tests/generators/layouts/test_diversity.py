from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from scenepalette.data.classes import ClassTable
from scenepalette.data.labels import labels_to_palette, one_hot
from scenepalette.generators.layouts.diversity import LayoutDiversity, pairwise_disagreement
from scenepalette.generators.layouts.inputs import FullInputs, PartialInputs, palettes_of
from scenepalette.generators.layouts.networks.progressive import LayoutBatch
from scenepalette.generators.layouts.settings import LayoutSettings
from scenepalette.generators.palettes import PaletteSampler, fit_palette_sampler
from scenepalette.training.monitor import COLLAPSES

SETTINGS = LayoutSettings(noise_features=6)
SIZE = (12, 16)


class Bands(nn.Module):
    """Layouts of two bands; how high the first is follows palette and noise as strongly as it is told."""

    def __init__(self, by_palette: float, by_noise: float) -> None:
        super().__init__()
        self.by_palette, self.by_noise = by_palette, by_noise

    def forward(self, noise: Tensor, *condition: Any) -> LayoutBatch:
        budget = condition[0]
        share = 0.5 + self.by_palette * (budget[:, 0] - 1 / 3) + self.by_noise * noise[:, 0].clamp(-2, 2) / 4
        rows = (torch.arange(SIZE[0]) + 0.5) / SIZE[0]
        label = (rows > share[:, None]).long()[:, :, None].expand(-1, -1, SIZE[1])
        layout = one_hot(label, 3)
        return LayoutBatch(layout, [], layout)


@pytest.fixture
def sampler(make_labels: Callable[..., np.ndarray], table: ClassTable) -> PaletteSampler:
    palettes = labels_to_palette(torch.from_numpy(make_labels().astype(np.int64)), 3).numpy()
    return fit_palette_sampler(palettes, table.names, max_components=2)


@pytest.fixture
def diversity(make_labels: Callable[..., np.ndarray], table: ClassTable, sampler: PaletteSampler) -> LayoutDiversity:
    labels = make_labels()
    shared: dict[str, Any] = {"draws_classes": False, "sampler": sampler, "palettes": palettes_of(labels, 3)}
    inputs = FullInputs(SETTINGS, table, 0, torch.device("cpu"), conditional=True, **shared)
    return LayoutDiversity(inputs, labels)


def collapsed(measures: dict[str, float]) -> set[str]:
    return {name for name, value in measures.items() if value < COLLAPSES[name][0]}


def test_disagreement_by_hand() -> None:
    labels = torch.tensor([[[0, 0], [0, 0]], [[0, 0], [0, 1]], [[1, 1], [1, 1]]])
    assert pairwise_disagreement(labels) == pytest.approx((0.25 + 1.0 + 0.75) / 3)
    region = torch.tensor([[False, False], [False, True]])
    assert pairwise_disagreement(labels, region) == pytest.approx((1 + 1 + 0) / 3)


def test_constant_layouts_are_a_collapse_and_varied_ones_none(diversity: LayoutDiversity) -> None:
    constant = diversity.measure(Bands(0, 0), 2, 1.0)
    assert constant == {"layout_diversity": 0.0, "layout_noise_diversity": 0.0}
    assert collapsed(constant) == set(constant)
    assert collapsed(diversity.measure(Bands(1, 1), 2, 1.0)) == set()


def test_layouts_that_ignore_their_noise_are_told_apart_from_those_that_ignore_their_palette(
    diversity: LayoutDiversity,
) -> None:
    assert collapsed(diversity.measure(Bands(1, 0), 2, 1.0)) == {"layout_noise_diversity"}
    assert collapsed(diversity.measure(Bands(0, 1), 2, 1.0)) == set()


def test_measures_are_relative_to_real_layouts(
    make_labels: Callable[..., np.ndarray], diversity: LayoutDiversity
) -> None:
    measures = diversity.measure(Bands(0, 1), 2, 1.0)
    samples, repeated, _ = diversity.inputs.watched(16)
    made = Bands(0, 1)(repeated.noise, repeated.target).layout.argmax(1)
    real = torch.from_numpy(make_labels().astype(np.int64))
    assert measures["layout_noise_diversity"] == pytest.approx(
        pairwise_disagreement(made) / pairwise_disagreement(real)
    )
    assert not torch.equal(samples.target[0], samples.target[1])
    assert torch.equal(repeated.target[0], repeated.target[1]) and not torch.equal(repeated.noise[0], repeated.noise[1])


def test_edits_are_compared_where_they_are_made(
    make_labels: Callable[..., np.ndarray], table: ClassTable, sampler: PaletteSampler
) -> None:
    labels = make_labels()
    inputs = PartialInputs(
        replace(SETTINGS, crop_mode="rectangle"),
        table,
        0,
        torch.device("cpu"),
        draws_classes=False,
        sampler=sampler,
        palettes=palettes_of(labels, 3),
        labels=labels,
    )
    samples, repeated, region = inputs.watched(4)
    assert region is not None and region.any() and not region.all()
    source = repeated.condition[1]
    assert torch.equal(source[0], source[3])
    assert torch.equal((source[0] - 1 / 3).abs().amax(0) < 1e-6, region)
    assert not torch.equal(samples.condition[1][0], samples.condition[1][1])
    assert "layout_noise_diversity" in collapsed(LayoutDiversity(inputs, labels).measure(Bands(1, 0), 2, 1.0))
