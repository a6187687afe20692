from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from scenepalette.common.randomness import torch_generator
from scenepalette.data.arrays import Pairs
from scenepalette.data.classes import ClassTable
from scenepalette.data.labels import fill_ignored
from scenepalette.generators.images.base import BatchSource, FeatureNetwork
from scenepalette.generators.images.noise import sample_noise
from scenepalette.generators.images.systems.crn import (
    CrnImleGenerator,
    CrnImleSettings,
    build_crn_imle_generator,
    build_crn_imle_objective,
)
from scenepalette.generators.images.systems.imle import (
    ImleObjective,
    color_rarity,
    draw_by_rarity,
    largest_classes,
    mask_values,
    mean_colors,
    nearest_candidate,
    rarity_mask,
)
from scenepalette.generators.images.training import TrainingBatches

SMALL = CrnImleSettings(
    width=1,
    noise_channels=4,
    encoder_channels=6,
    steps=10,
    batch_size=3,
    generator_learning_rate=2e-3,
    round_size=7,
    candidates=5,
    round_steps=4,
    checkpoint_every=3,
)
Train = Callable[..., Path]


def weights_of(folder: Path) -> bytes:
    return (folder / "weights.safetensors").read_bytes()


def test_mean_colors_by_hand(make_pairs: Callable[..., Pairs]) -> None:
    labels = np.array([[[0, 0], [1, 255]], [[1, 1], [1, 1]]], dtype=np.uint8)
    images = np.zeros((2, 2, 2, 3), dtype=np.uint8)
    images[0, 0, 0], images[0, 0, 1], images[0, 1, 0], images[0, 1, 1] = (10, 0, 0), (30, 0, 50), (7, 8, 9), (255,) * 3
    images[1] = (1, 2, 3)
    pairs = replace(make_pairs(count=2), images=images, labels=labels)
    colors, areas = mean_colors(pairs)
    np.testing.assert_array_equal(areas, [[2, 1, 0], [0, 4, 0]])
    nan = [np.nan] * 3
    np.testing.assert_allclose(colors, [[[20, 0, 25], [7, 8, 9], nan], [nan, [1, 2, 3], nan]])


def make_colors(count: int = 30) -> np.ndarray:
    """Class 0 in all images, one of them far from the others; class 1 in three; class 2 always grey; class 3 never."""
    generator = np.random.default_rng(0)
    colors = np.full((count, 4, 3), np.nan)
    colors[:, 0] = generator.normal(100, 10, (count, 3))
    colors[5, 0] = (200, 20, 180)
    colors[:3, 1] = generator.normal(50, 20, (3, 3))
    colors[:, 2] = generator.uniform(0, 255, (count, 1))
    return colors


def test_rarity_is_one_over_a_gaussian_kernel_density() -> None:
    colors = make_colors()
    rarity = color_rarity(colors)
    points = colors[:, 0]
    kernel = np.cov(points.T) * len(points) ** (-2 / 7)  # Scott: n^(-1 / (d + 4)) on deviations, d = 3
    inverse, scale = np.linalg.inv(kernel), np.sqrt(np.linalg.det(2 * np.pi * kernel))
    density = [np.mean([np.exp(-0.5 * (x - y) @ inverse @ (x - y)) for y in points]) / scale for x in points]
    np.testing.assert_allclose(rarity[:, 0], 1 / np.array(density), rtol=1e-9)
    assert rarity[:, 0].argmax() == 5


def test_classes_without_a_density_are_neither_preferred_nor_left_out() -> None:
    rarity = color_rarity(make_colors())
    median = np.median(rarity[:, 0])
    np.testing.assert_allclose(rarity[:3, 1], median)  # too few images
    np.testing.assert_allclose(rarity[:, 2], median)  # all on the line from black to white
    assert (rarity[3:, 1] == 0).all() and (rarity[:, 3] == 0).all()
    np.testing.assert_array_equal(color_rarity(make_colors()[:4, :2]), [[1, 1], [1, 1], [1, 1], [1, 0]])


def test_the_largest_classes_by_area_over_the_data_set() -> None:
    areas = np.array([[5, 1, 0, 9, 2, 3, 4], [5, 1, 0, 0, 2, 3, 4]])
    assert largest_classes(areas) == [0, 3, 6, 5, 4]
    assert largest_classes(np.array([[0, 2, 3]])) == [2, 1]


def test_each_class_draws_its_portion_by_rarity() -> None:
    rarity = np.array([[1.0, 0.0], [3.0, 0.0], [0.0, 1.0], [0.0, 4.0]])
    drawn = draw_by_rarity(rarity, [1, 0], 20001, np.random.default_rng(0))
    assert drawn.dtype == np.int64
    counts = np.bincount(drawn, minlength=4)
    assert counts[2:].sum() == 10001 and counts[:2].sum() == 10000  # the odd one goes to the larger class
    np.testing.assert_allclose(counts, [2500, 7500, 2000, 8000], atol=150)
    np.testing.assert_array_equal(drawn, draw_by_rarity(rarity, [1, 0], 20001, np.random.default_rng(0)))


def test_rarity_mask_by_hand() -> None:
    values = mask_values(np.array([[2.0, 8.0, 0.0], [5.0, 0.0, 1.0]]))
    layout = torch.tensor([[[0, 1], [1, 1]], [[2, 0], [0, 2]]])
    mask = rarity_mask(torch.from_numpy(values), layout)
    expected = [[[[0.25, 1.0], [1.0, 1.0]]], [[[0.2, 1.0], [1.0, 0.2]]]]
    torch.testing.assert_close(mask, torch.tensor(expected, dtype=torch.float64))


def test_the_nearest_candidate_is_the_least_distant_and_the_first_among_equals() -> None:
    distances = torch.rand(9, 50, generator=torch.Generator().manual_seed(0))
    distances[4, 0] = distances[7, 0] = -1.0
    nearest = nearest_candidate(lambda candidate: distances[candidate], 9)
    assert nearest.tolist() == np.argmin(distances.numpy(), axis=0).tolist()
    assert nearest[0] == 4
    assert len(set(nearest.tolist())) > 5


class Counting:
    """A generator that notes how many images it is asked for at once and whether gradients are kept."""

    def __init__(self, network: CrnImleGenerator) -> None:
        self.network, self.calls = network, list[tuple[int, bool]]()

    def __call__(self, label_map: Tensor, noise: Tensor) -> Tensor:
        self.calls.append((len(label_map), torch.is_grad_enabled()))
        return self.network(label_map, noise)


@pytest.fixture
def set_up(
    make_pairs: Callable[..., Pairs], tiny_features: FeatureNetwork
) -> Callable[..., tuple[ImleObjective, TrainingBatches, Counting]]:
    """An objective that has seen its training set of 12x16 pixels, its batches and its generator."""

    def make(settings: CrnImleSettings = SMALL) -> tuple[ImleObjective, TrainingBatches, Counting]:
        pairs = make_pairs(count=8)
        torch.manual_seed(0)
        network = build_crn_imle_generator(ClassTable.unnamed(3), pairs.size, settings)
        filled = np.stack([fill_ignored(label) for label in pairs.labels])
        source = TrainingBatches(pairs, filled, network, settings, 3, torch.device("cpu"))
        objective = build_crn_imle_objective(ClassTable.unnamed(3), pairs.size, settings, tiny_features)
        objective.begin(source, torch.device("cpu"))
        return objective, source, Counting(network)

    return make


@pytest.mark.parametrize("rebalance_loss", [False, True])
def test_the_search_finds_the_true_nearest_of_all_candidates(
    rebalance_loss: bool, set_up: Callable[..., Any], tiny_features: FeatureNetwork
) -> None:
    objective, source, generator = set_up(replace(SMALL, rebalance_loss=rebalance_loss))
    for step in (0, 4, 8):  # one in each of three rounds
        batch = objective.batch(source, step, "crn-imle", np.arange(3), generator)
        noises = set[int]()
        for sample in range(3):
            layout, image = batch.layout[sample : sample + 1], batch.image[sample : sample + 1]
            position, distances = None, []
            for p in range(7):
                noise = [
                    sample_noise("pixel", layout, 4, [torch_generator(3, "crn-imle", "candidate", step // 4, p, j)])
                    for j in range(5)
                ]
                found = [j for j in range(5) if torch.equal(noise[j][0], batch.noise[sample])]
                if not found:
                    continue
                position = p
                noises.add(found[0])
                with torch.no_grad():
                    for candidate in noise:
                        fake = generator.network(batch.label_map[sample : sample + 1], candidate)
                        total = 0.0
                        for layer, (a, b) in enumerate(zip(tiny_features(fake), tiny_features(image), strict=True)):
                            difference = (a - b).abs().mean(dim=1)
                            if rebalance_loss:
                                row = objective.mask_values[batch.indices[sample]]
                                weight = row[layout]
                                if layer:
                                    weight = weight.view(1, 6, 2, 8, 2).mean(dim=(2, 4))
                                difference = difference * weight
                            total += float(objective.memory.layer_weights[layer] * difference.mean())
                        distances.append(total)
                assert found[0] == int(np.argmin(distances))
            assert position is not None
        assert noises <= set(range(5))
    assert len(set(objective.memory.candidates.tolist())) > 1


def test_the_search_holds_one_batch_at_a_time_and_keeps_no_gradients(set_up: Callable[..., Any]) -> None:
    objective, source, generator = set_up()
    objective.batch(source, 0, "crn-imle", np.arange(3), generator)
    assert generator.calls == [(count, False) for count in (3, 3, 1) for _ in range(5)]
    for step in (1, 2, 3):
        objective.batch(source, step, "crn-imle", np.arange(3), generator)
    assert len(generator.calls) == 15
    objective.batch(source, 4, "crn-imle", np.arange(3), generator)
    assert len(generator.calls) == 30


def test_a_sample_keeps_its_flip_and_noise_throughout_a_round(set_up: Callable[..., Any]) -> None:
    objective, source, generator = set_up(replace(SMALL, round_steps=20, round_size=4))
    seen: dict[bytes, set[bytes]] = {}
    flipped = set[bool]()
    for step in range(20):
        batch = objective.batch(source, step, "crn-imle", np.arange(3), generator)
        for sample in range(3):
            key, image = batch.noise[sample].numpy().tobytes(), batch.image[sample].contiguous()
            seen.setdefault(key, set()).add(image.numpy().tobytes())
            original = source.pairs.batch([int(batch.indices[sample])])[0][0]
            assert torch.equal(image, original) or torch.equal(image, original.flip(2))
            flipped.add(not torch.equal(image, original))
    assert len(seen) == 4
    assert all(len(images) == 1 for images in seen.values())
    assert flipped == {False, True}


def test_images_in_rare_colours_are_drawn_more_often(set_up: Callable[..., Any]) -> None:
    objective, source, _ = set_up(replace(SMALL, round_size=60))
    plain, _, _ = set_up(replace(SMALL, round_size=60, rebalance_data=False))
    counts = {True: np.zeros(8), False: np.zeros(8)}
    for current in range(20):
        for rebalanced, chosen in ((True, objective), (False, plain)):
            counts[rebalanced] += np.bincount(chosen._draw_images(source, current, "crn-imle"), minlength=8)
    shares = objective.rarity / objective.rarity.sum(axis=0)
    assert sorted(objective.classes) == [0, 1, 2]
    np.testing.assert_allclose(counts[True] / 1200, shares.mean(axis=1), atol=0.05)
    np.testing.assert_array_equal(counts[False], 150)


VARIANTS: dict[str, dict[str, Any]] = {"paper": {}, "plain": {"rebalance_data": False, "rebalance_loss": False}}


@pytest.mark.parametrize("variant", VARIANTS)
def test_golden_losses(
    variant: str, train_perceptual: Train, stop_at: Any, compare_with_golden: Callable[..., None]
) -> None:
    watcher = stop_at()
    train_perceptual("run", "crn-imle", replace(SMALL, **VARIANTS[variant]), progress=watcher)
    assert len(watcher.values) == 10
    compare_with_golden(f"crn-imle-{variant}", watcher.values)


@pytest.mark.parametrize("switch", ["rebalance_data", "rebalance_loss"])
def test_each_rebalancing_changes_the_training(switch: str, train_perceptual: Train) -> None:
    both = weights_of(train_perceptual("both", "crn-imle", SMALL))
    assert weights_of(train_perceptual("one", "crn-imle", replace(SMALL, **{switch: False}))) != both


# Rounds are steps 0-3, 4-7, 8-9; checkpoints lie after 3, 6, 9 steps: within a round each, and with 4 between rounds.
@pytest.mark.parametrize(("every", "stop", "resumed"), [(3, 4, 3), (3, 8, 6), (4, 6, 4)])
def test_a_training_interrupted_within_a_round_ends_with_the_same_bits(
    every: int, stop: int, resumed: int, train_perceptual: Train, stop_at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(SMALL, checkpoint_every=every)
    whole = train_perceptual("whole", "crn-imle", settings)
    with pytest.raises(KeyboardInterrupt):
        train_perceptual("parts", "crn-imle", settings, progress=stop_at(stop))
    torch.manual_seed(99)
    rounds: list[int] = []
    search = ImleObjective._search

    def watched(self: ImleObjective, source: BatchSource, current: int, *rest: Any) -> None:
        rounds.append(current)
        search(self, source, current, *rest)

    monkeypatch.setattr(ImleObjective, "_search", watched)
    going_on = stop_at()
    parts = train_perceptual("parts", "crn-imle", settings, progress=going_on)
    assert (going_on.first, going_on.done) == (resumed, 10)
    # Only rounds that had not begun are searched: the others are remembered.
    assert rounds == [r for r in range(3) if 4 * r >= resumed]
    assert weights_of(whole) == weights_of(parts)
    assert (whole / "samples/final.png").read_bytes() == (parts / "samples/final.png").read_bytes()


def test_the_result_is_a_function_of_the_seed(train_perceptual: Train) -> None:
    first = weights_of(train_perceptual("first", "crn-imle", SMALL))
    torch.manual_seed(99)
    assert weights_of(train_perceptual("second", "crn-imle", SMALL)) == first
    assert weights_of(train_perceptual("third", "crn-imle", SMALL, seed=4)) != first
