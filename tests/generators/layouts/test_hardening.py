from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor

from scenepalette.common.errors import ScenepaletteError
from scenepalette.data.classes import IGNORE_ID
from scenepalette.data.labels import labels_to_palette
from scenepalette.generators.layouts.hardening import harden, harden_exactly, share_counts, smoothed
from scenepalette.generators.layouts.networks.progressive import LayoutBatch


def random_case(seed: int, size: tuple[int, int] | None = None) -> tuple[Tensor, Tensor]:
    """Return one soft layout, from nearly uniform to nearly one-hot, and a palette that has little to do with it."""
    random = np.random.default_rng(seed)
    classes = int(random.integers(2, 7))
    height, width = size or (int(random.integers(2, 9)), int(random.integers(2, 9)))
    logits = random.choice([0.2, 1, 4, 15]) * torch.from_numpy(random.standard_normal((1, classes, height, width)))
    return torch.softmax(logits, dim=1).float(), torch.from_numpy(random.dirichlet(np.full(classes, 0.7)))[None]


def counts_of(label: Tensor, classes: int) -> list[int]:
    return torch.bincount(label.flatten(), minlength=classes).tolist()


def test_a_row_of_pixels_by_hand() -> None:
    # Class 1 has the largest share nowhere. Two of four pixels are its: those where it is the least behind.
    second = torch.tensor([0.1, 0.4, 0.2, 0.3])
    soft = torch.stack([1 - second, second])[None, :, None]
    assert harden_exactly(soft, torch.tensor([[0.5, 0.5]])).tolist() == [[[0, 1, 0, 1]]]
    assert harden_exactly(soft, torch.tensor([[0.75, 0.25]])).tolist() == [[[0, 1, 0, 0]]]


def test_a_pixel_passes_on_from_class_to_class_where_that_costs_less() -> None:
    # Class 2 lacks the pixel that class 0 has too many: straight, that costs ln 8; by way of class 1, twice ln 10/9.
    soft = torch.tensor([[0.8, 0.1, 0.1], [0.5, 0.45, 0.05], [0.05, 0.5, 0.45]]).T[None, :, None]
    assert soft.argmax(dim=1).tolist() == [[[0, 0, 1]]]
    assert harden_exactly(soft, torch.full((1, 3), 1 / 3)).tolist() == [[[0, 1, 2]]]


@pytest.mark.parametrize("seed", range(24))
def test_no_assignment_of_these_counts_has_a_larger_product_by_a_linear_program(seed: int) -> None:
    soft, palette = random_case(seed)
    classes, pixels = soft.shape[1], soft.shape[2] * soft.shape[3]
    counts = share_counts(palette[0].numpy(), pixels)
    label = harden_exactly(soft, palette)
    assert counts_of(label, classes) == counts.tolist()

    scores = soft[0].flatten(1).clamp(min=1e-30).log().double().numpy()
    rules = np.zeros((pixels + classes, classes * pixels))
    for pixel in range(pixels):
        rules[pixel, pixel::pixels] = 1
    for index in range(classes):
        rules[pixels + index, index * pixels : (index + 1) * pixels] = 1
    best = linprog(-scores.ravel(), A_eq=rules, b_eq=[*np.ones(pixels), *counts], bounds=(0, 1), method="highs")
    assert scores[label.flatten().numpy(), np.arange(pixels)].sum() == pytest.approx(-best.fun, rel=1e-9)


def test_every_class_has_its_share_to_the_pixel_on_larger_layouts() -> None:
    for seed in range(4):
        soft, palette = random_case(seed, (48, 72))
        label = harden_exactly(soft, palette)
        assert counts_of(label, soft.shape[1]) == share_counts(palette[0].numpy(), 48 * 72).tolist()


def test_a_layout_is_hardened_alike_in_every_batch() -> None:
    cases = [random_case(seed, (24, 36)) for seed in range(40)]
    cases = [case for case in cases if case[0].shape[1] == 5]
    assert len(cases) >= 4
    soft, palettes = (torch.cat(parts) for parts in zip(*cases, strict=True))
    together = harden_exactly(soft, palettes)
    alone = [harden_exactly(soft[i : i + 1], palettes[i : i + 1])[0] for i in range(len(soft))]
    assert torch.equal(together, torch.stack(alone))
    assert torch.equal(harden_exactly(soft[1:3], palettes[1:3]), together[1:3])


def test_a_uniform_layout_becomes_bands_in_reading_order() -> None:
    label = harden_exactly(torch.full((1, 3, 6, 4), 1 / 3), torch.tensor([[0.25, 0.5, 0.25]]))
    assert label.flatten().tolist() == [0] * 6 + [2] * 6 + [1] * 12


def test_classes_asked_nothing_are_never_chosen_and_a_class_asked_all_is_everywhere() -> None:
    soft, _ = random_case(3, (6, 8))
    classes = soft.shape[1]
    palette = torch.zeros(1, classes)
    palette[0, 1] = 1.0
    assert harden_exactly(soft, palette).eq(1).all()
    palette[0, 1], palette[0, 0] = 0.5, 0.5
    assert set(harden_exactly(soft, palette).unique().tolist()) == {0, 1}
    # Also where the network is certain of a class that nobody asked for.
    certain = torch.zeros(1, classes, 6, 8)
    certain[:, 2] = 1.0
    assert counts_of(harden_exactly(certain, palette), 2) == [24, 24]


def test_palettes_that_sum_to_nearly_one_are_divided_by_their_sum() -> None:
    soft, palette = random_case(5, (8, 8))
    assert torch.equal(harden_exactly(soft, palette * 1.0009), harden_exactly(soft, palette))


def test_only_the_region_is_decided() -> None:
    soft, palette = random_case(7, (8, 10))
    region = torch.zeros(1, 8, 10, dtype=torch.bool)
    region[0, 2:7, 3:9] = True
    label = harden_exactly(soft, palette, region)
    assert label[~region].eq(IGNORE_ID).all()
    assert counts_of(label[region], soft.shape[1]) == share_counts(palette[0].numpy(), 30).tolist()
    inside = harden_exactly(soft[:, :, 2:7, 3:9], palette)
    assert torch.equal(label[0, 2:7, 3:9], inside[0])
    assert harden_exactly(soft, palette, torch.zeros_like(region)).eq(IGNORE_ID).all()


def test_counts_by_hand() -> None:
    assert share_counts(np.array([0.5, 0.3, 0.2]), 7).tolist() == [4, 2, 1]  # 3.5, 2.1, 1.4
    assert share_counts(np.array([0.25, 0.25, 0.25, 0.25]), 6).tolist() == [2, 2, 1, 1]
    assert share_counts(np.array([0.0, 1.0, 0.0]), 5).tolist() == [0, 5, 0]
    assert share_counts(np.array([0.001, 0.999]), 100).tolist() == [0, 100]
    assert share_counts(np.array([0.2, 0.8]), 0).tolist() == [0, 0]


def test_smoothing_by_hand() -> None:
    soft = torch.zeros(1, 1, 3, 4)
    soft[0, 0, 0, 1] = 16.0
    # The border is repeated: the first row counts three quarters in itself, one quarter in the second.
    expected = [[3.0, 6.0, 3.0, 0.0], [1.0, 2.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    assert smoothed(soft)[0, 0].tolist() == expected
    soft, _ = random_case(1, (5, 6))
    torch.testing.assert_close(smoothed(soft).sum(dim=1), torch.ones(1, 5, 6))


def test_batches_are_hardened_by_the_largest_share_or_exactly() -> None:
    soft, palette = random_case(9, (12, 16))
    drawn = torch.nn.functional.one_hot(torch.zeros(1, 12, 16, dtype=torch.int64), soft.shape[1]).movedim(3, 1).float()
    batch = LayoutBatch(drawn, [], soft)
    assert harden(batch, "argmax", palette).eq(0).all()  # the drawn class
    assert torch.equal(harden(batch, "exact", palette), harden_exactly(smoothed(soft), palette))
    kept = torch.full((1, 12, 16), IGNORE_ID)
    kept[:, :4] = 1
    label = harden(batch, "exact", palette, kept)
    assert label[:, :4].eq(1).all()
    torch.testing.assert_close(labels_to_palette(label[:, 4:], soft.shape[1]).double(), palette, atol=0.01, rtol=0)


@pytest.mark.damaged
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"palettes": torch.full((1, 3), 0.4)}, r"Palettes \[0\] do not sum to 1; the first sums to 1.2000. Divide"),
        ({"palettes": torch.tensor([[1.5, -0.5, 0.0]])}, "negative or not finite"),
        ({"palettes": torch.tensor([[math.nan, 0.5, 0.5]])}, "negative or not finite"),
        ({"palettes": torch.full((2, 3), 1 / 3)}, r"The palettes are \[2, 3\]; required are \[1, 3\]"),
        ({"probabilities": torch.full((1, 3, 4, 5), -1.0)}, "give those of a softmax"),
        ({"probabilities": torch.full((1, 3, 4, 5), math.nan)}, "give those of a softmax"),
        ({"region": torch.ones(1, 4, 4, dtype=torch.bool)}, r"required is torch.bool \[1, 4, 5\]"),
        ({"region": torch.ones(1, 4, 5)}, "The region is torch.float32"),
    ],
)
def test_what_cannot_be_hardened_is_refused(change: dict[str, Tensor], words: str) -> None:
    fitting = {"probabilities": torch.full((1, 3, 4, 5), 1 / 3), "palettes": torch.full((1, 3), 1 / 3)}
    with pytest.raises(ScenepaletteError, match=words):
        harden_exactly(**fitting | change)
