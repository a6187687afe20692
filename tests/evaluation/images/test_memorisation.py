from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from scipy.stats import mannwhitneyu
from torch import Tensor

from scenepalette.common.errors import DataError
from scenepalette.data.arrays import Pairs
from scenepalette.evaluation.images.memorisation import Described, Memorisation, describe, memorisation
from scenepalette.generators.images.base import FeatureNetwork


class Pooled(FeatureNetwork):
    """Colours in four by six cells, as channels of one pixel; a mirrored image has other features."""

    description = "cells"

    def forward(self, image: Tensor) -> list[Tensor]:
        return [torch.nn.functional.adaptive_avg_pool2d(image, (4, 6)).flatten(1)[:, :, None, None]]


@pytest.fixture
def scenes() -> Callable[..., Pairs]:
    """Scenes of random coloured blocks: fresh ones are as far from each other as from any."""

    def make(make_pairs: Callable[..., Pairs], count: int, seed: int) -> Pairs:
        pairs = make_pairs(count, seed)
        blocks = np.random.default_rng(seed).integers(0, 256, (count, 4, 6, 3), dtype=np.uint8)
        return replace(pairs, images=blocks.repeat(8, axis=1).repeat(8, axis=2))

    return make


@pytest.fixture
def check(
    scenes: Callable[..., Pairs], make_pairs: Callable[..., Pairs], fabric: Fabric
) -> Callable[[np.ndarray], Memorisation]:
    """Check images against 40 training images, with 30 validation images."""

    def run(images: np.ndarray, **options: Any) -> Memorisation:
        generated = replace(make_pairs(len(images)), images=images)
        train, validation = scenes(make_pairs, 40, 1), scenes(make_pairs, 30, 2)
        one, two, four = (describe(pairs, Pooled(), 7, fabric) for pairs in (generated, train, validation))
        mirrored = describe(train, Pooled(), 7, fabric, mirrored=True)
        return memorisation(one, two, mirrored, four, "cells", **options)

    return run


def test_a_generator_that_copies_is_told_so_and_one_that_does_not_is_not(
    check: Callable[..., Memorisation], scenes: Callable[..., Pairs], make_pairs: Callable[..., Pairs]
) -> None:
    train = scenes(make_pairs, 40, 1).images
    noise = np.random.default_rng(0).integers(-10, 11, train.shape)
    copied = check((train + noise).clip(0, 255).astype(np.uint8))
    assert copied.copies and copied.ratio < 0.2 and copied.nearer_share == copied.near_copies == 1
    assert copied.indices.tolist() == list(range(40)) and not copied.mirrored.any()
    fresh = check(scenes(make_pairs, 40, 3).images)
    assert not fresh.copies and 0.9 < fresh.ratio < 1.1
    assert fresh.nearer_share < 0.2 and fresh.near_copies == fresh.validation_near_copies == 0
    assert 0.3 < fresh.precedence < 0.7


def test_mirrored_copies_are_copies(
    check: Callable[..., Memorisation], scenes: Callable[..., Pairs], make_pairs: Callable[..., Pairs]
) -> None:
    measured = check(scenes(make_pairs, 40, 1).images[10:20, :, ::-1].copy())
    assert measured.copies and measured.mirrored.all() and measured.ratio == pytest.approx(0, abs=1e-6)
    assert measured.indices.tolist() == list(range(10, 20))


def test_some_copies_among_fresh_images_are_found_by_their_pixels(
    check: Callable[..., Memorisation], scenes: Callable[..., Pairs], make_pairs: Callable[..., Pairs]
) -> None:
    mixed = scenes(make_pairs, 40, 3).images.copy()
    mixed[5:11] = scenes(make_pairs, 40, 1).images[:6]
    measured = check(mixed)
    assert measured.copies and measured.near_copies == 6 / 40 and measured.ratio > 0.9
    assert sorted(measured.closest(6).tolist()) == list(range(5, 11))


def test_the_image_whose_layout_a_generated_image_has_does_not_count(
    check: Callable[..., Memorisation], scenes: Callable[..., Pairs], make_pairs: Callable[..., Pairs]
) -> None:
    images = scenes(make_pairs, 40, 1).images[:10]
    measured = check(images, sources=np.arange(10))
    assert not measured.copies and measured.near_copies == 0 and (measured.indices != np.arange(10)).all()
    assert measured.source_ratio == pytest.approx(0, abs=1e-6) and len(measured.to_source) == 10
    # Without a source nothing is left out.
    some = check(images, sources=np.where(np.arange(10) % 2, -1, np.arange(10)))
    assert some.near_copies == 0.5 and len(some.to_source) == 5
    assert check(images).source_ratio is None


def test_the_statistics_by_hand() -> None:
    empty = np.zeros(0)
    measured = Memorisation(
        "x",
        distances=np.array([1.0, 2.0, 3.0]),
        indices=np.zeros(3, np.int64),
        mirrored=np.zeros(3, bool),
        validation=np.array([2.0, 4.0, 6.0, 8.0]),
        alike=np.array([0.99, 0.5, 0.5]),
        validation_alike=np.array([0.99, 0.99, 0.1, 0.1]),
        to_source=empty,
    )
    assert measured.ratio == 2 / 5
    # The 5th percentile of 2, 4, 6, 8 is 2 + 0.15 * 2 = 2.3.
    assert measured.nearer_share == 2 / 3
    # Of 12 pairs generated images are nearer in 4 + (3 and a tie) + 3.
    assert measured.precedence == pytest.approx(10.5 / 12)
    assert (measured.near_copies, measured.validation_near_copies) == (1 / 3, 0.5)
    assert measured.copies  # by the features: less than half as far, most in the tail
    # Near-copies that validation has as well are no sign.
    assert not replace(measured, distances=np.array([1.0, 5.0, 5.0])).copies


def test_precedence_is_the_statistic_of_mann_and_whitney() -> None:
    generator = np.random.default_rng(0)
    distances, validation = generator.integers(0, 9, 25).astype(float), generator.integers(0, 12, 31).astype(float)
    rest = np.zeros(25)
    measured = Memorisation("x", distances, rest.astype(int), rest > 0, validation, rest, validation, rest[:0])
    statistic = mannwhitneyu(validation, distances).statistic
    assert measured.precedence == pytest.approx(statistic / (25 * 31))


def test_distances_equal_plain_loops(
    scenes: Callable[..., Pairs], make_pairs: Callable[..., Pairs], check: Callable[..., Memorisation]
) -> None:
    train, generated = (scenes(make_pairs, n, seed).images for n, seed in ((40, 1), (5, 9)))
    measured = check(generated)

    def cells(image: np.ndarray) -> np.ndarray:
        return (image[::8, ::8] / 127.5 - 1).transpose(2, 0, 1).flatten()

    for row, image in enumerate(generated):
        plain = [np.linalg.norm(cells(image) - cells(other)) for other in train]
        turned = [np.linalg.norm(cells(image) - cells(other[:, ::-1])) for other in train]
        assert measured.distances[row] == pytest.approx(min(plain + turned), rel=1e-5)
        assert measured.mirrored[row] == (min(turned) < min(plain))
        alike = [np.corrcoef(image.flatten(), other.flatten())[0, 1] for other in [*train, *train[:, :, ::-1]]]
        assert measured.alike[row] == pytest.approx(max(alike), abs=0.02)  # of thumbnails


def test_nothing_to_compare_is_refused() -> None:
    none, one = Described(np.zeros((0, 2)), np.zeros((0, 2))), Described(np.zeros((1, 2)), np.zeros((1, 2)))
    with pytest.raises(DataError, match=r"validation images \(0 given\)"):
        memorisation(one, one, one, none, "x")
    with pytest.raises(DataError, match="a nearest one needs at least 2"):
        memorisation(one, one, one, one, "x", np.zeros(1, np.int64))


def test_the_same_validation_and_training_images_have_no_ratio() -> None:
    one = Described(np.ones((2, 2)), np.ones((2, 2)) / np.sqrt(2))
    measured = memorisation(one, one, one, one, "x")
    assert np.isnan(measured.ratio) and not measured.copies
