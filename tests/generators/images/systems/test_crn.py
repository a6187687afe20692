from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scenepalette.common.errors import ConfigError
from scenepalette.common.randomness import torch_generator
from scenepalette.data.arrays import Pairs
from scenepalette.data.classes import ClassTable
from scenepalette.data.labels import fill_ignored, one_hot
from scenepalette.generators.images.base import FeatureNetwork, ImageGenerator
from scenepalette.generators.images.loading import load_image_generator
from scenepalette.generators.images.perceptual import feature_distances
from scenepalette.generators.images.systems.crn import (
    WIDTHS,
    CrnGenerator,
    CrnImleGenerator,
    CrnImleSettings,
    CrnSettings,
    RefinementModule,
    build_crn_generator,
    build_crn_imle_generator,
)
from scenepalette.generators.images.systems.crn_losses import (
    MEAN_SHARE,
    balance_layers,
    class_distances,
    diversity_loss,
    layer_weights,
    total_distance,
)
from scenepalette.generators.nn.blocks import count_parameters

SIZE = (12, 16)
SMALL = CrnSettings(width=1, steps=10, batch_size=3, generator_learning_rate=2e-3, checkpoint_every=3)
SMALL_IMLE = CrnImleSettings(width=1, noise_channels=4, encoder_channels=6)
Train = Callable[..., Path]


def make_label(count: int = 2, size: tuple[int, int] = SIZE) -> Tensor:
    return torch.randint(0, 3, (count, *size), generator=torch.Generator().manual_seed(0))


def draw(network: ImageGenerator, label: Tensor, seed: int = 0) -> Tensor:
    return network.sample_noise(None, label, [torch_generator(seed, sample) for sample in range(len(label))])


def make_network(kind: str, size: tuple[int, int] = SIZE) -> ImageGenerator:
    torch.manual_seed(0)
    if kind == "crn-imle":
        return build_crn_imle_generator(ClassTable.unnamed(3), size, SMALL_IMLE)
    return build_crn_generator(ClassTable.unnamed(3), size, replace(SMALL, outputs=int(kind.removeprefix("crn-"))))


KINDS = ["crn-1", "crn-3", "crn-imle"]


def test_module_widths_are_the_papers_from_the_base_grid_up() -> None:
    with torch.device("meta"):
        network = build_crn_generator(ClassTable.unnamed(35), (1024, 2048), CrnSettings())
        smaller = build_crn_generator(ClassTable.unnamed(35), (256, 512), CrnSettings())
    widths = [1024] * 5 + [512] * 2 + [128, 32]
    assert network.cascade.base == smaller.cascade.base == (4, 8)
    assert [stage[3].out_channels for stage in network.cascade.stages] == widths  # type: ignore[index]
    assert [stage[3].out_channels for stage in smaller.cascade.stages] == widths[:7]  # type: ignore[index]


@pytest.mark.parametrize(("noise_channels", "encoder_channels"), [(0, 0), (10, 100)])
def test_parameters_at_the_papers_size(noise_channels: int, encoder_channels: int) -> None:
    classes, widths = 19, [1024] * 5 + [512] * 2
    with torch.device("meta"):
        network = (
            build_crn_imle_generator(ClassTable.unnamed(classes), (256, 512), CrnImleSettings())
            if noise_channels
            else build_crn_generator(ClassTable.unnamed(classes), (256, 512), CrnSettings())
        )
    expected, before, seen = 3 * widths[-1] + 3, 0, classes + noise_channels
    for width in widths:
        # Two 3x3 convolutions with biases, two normalisations with scale and shift.
        expected += 9 * (before + seen) * width + 9 * width * width + 2 * width + 4 * width
        before = width
    if noise_channels:
        for inputs, outputs in ((seen, 100), (100, 100), (100, noise_channels)):
            expected += 9 * inputs * outputs + outputs
    assert count_parameters(network) == expected


def test_images_beyond_the_papers_size_keep_its_last_width() -> None:
    with torch.device("meta"):
        network = build_crn_generator(ClassTable.unnamed(2), (3 << 10, 3 << 10), CrnSettings())
    assert [stage[0].out_channels for stage in network.cascade.stages][8:] == [32, 32, 32]  # type: ignore[index]
    assert len(WIDTHS) == 9


def test_a_module_is_two_convolutions_with_layer_norm_and_leaky_relu() -> None:
    torch.manual_seed(0)
    module = RefinementModule(3, 4)
    x = torch.randn(2, 3, 5, 6)
    expected = x
    for convolution, norm in ((module[0], module[1]), (module[3], module[4])):
        assert isinstance(norm, nn.GroupNorm)
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
        y = convolution(expected).flatten(1)
        y = (y - y.mean(dim=1, keepdim=True)) / (y.var(dim=1, unbiased=False, keepdim=True) + norm.eps).sqrt()
        y = y.view(2, 4, 5, 6) * norm.weight[:, None, None] + norm.bias[:, None, None]
        expected = torch.maximum(y, 0.2 * y)
    torch.testing.assert_close(module(x), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_every_module_sees_the_layout_and_the_features_before(kind: str) -> None:
    network = make_network(kind)
    seen: list[Tensor] = []
    made: list[Tensor] = []
    for stage in network.cascade.stages:  # type: ignore[union-attr]
        stage.register_forward_hook(lambda _, args, out: seen.append(args[0]))
        stage.register_forward_hook(lambda _, args, out: made.append(out))
    label = make_label()
    label_map = one_hot(label, 3)
    noise = draw(network, label)
    network(label_map, noise)
    condition = label_map
    if isinstance(network, CrnImleGenerator):
        encoded = network.noise_encoder(torch.cat([label_map, noise], dim=1))
        assert encoded.shape == (2, 4, *SIZE)
        condition = torch.cat([label_map, encoded], dim=1)
    assert [tuple(x.shape[2:]) for x in seen] == [(3, 4), (6, 8), (12, 16)]
    channels = condition.shape[1]
    for i, x in enumerate(seen):
        resized = F.interpolate(condition, size=x.shape[2:], mode="bilinear", align_corners=False)
        torch.testing.assert_close(x[:, :channels], resized)
        if i:
            before = F.interpolate(made[i - 1], scale_factor=2, mode="bilinear", align_corners=False)
            torch.testing.assert_close(x[:, channels:], before)
    torch.testing.assert_close(seen[-1][:, :channels], condition)


@pytest.mark.parametrize("size", [(12, 16), (6, 8), (64, 96), (20, 12)])
@pytest.mark.parametrize("kind", KINDS)
def test_images_have_the_size_of_the_layout_and_lie_between_minus_1_and_1(kind: str, size: tuple[int, int]) -> None:
    network, label = make_network(kind, size), make_label(size=size)
    noise = draw(network, label)
    assert noise.shape[0] == 2
    image = network(one_hot(label, 3), noise)
    assert image.shape == (2, 3, *size)
    assert image.abs().max() <= 1.0
    assert image.std() > 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_parameter(kind: str, tiny_features: FeatureNetwork) -> None:
    network, label = make_network(kind), make_label()
    label_map, noise = one_hot(label, 3), draw(network, label)
    real = tiny_features(torch.rand(2, 3, *SIZE) * 2 - 1)
    if isinstance(network, CrnGenerator):
        images = network(label_map, noise, every_output=True).flatten(0, 1)
        loss = diversity_loss(total_distance(class_distances(tiny_features(images), real, label_map), torch.ones(2)))
    else:
        images = network(label_map, noise)
        loss = total_distance(feature_distances(tiny_features(images), real), torch.ones(2)).mean()
    loss.backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_noise_changes_the_images_of_imle_everywhere() -> None:
    network, label = make_network("crn-imle"), make_label()
    label_map = one_hot(label, 3)
    image = network(label_map, draw(network, label))
    assert torch.equal(image, network(label_map, draw(network, label)))
    difference = (network(label_map, draw(network, label, seed=1)) - image).abs().mean(dim=1)
    assert (difference > 1e-4).float().mean() > 0.99
    assert draw(network, label).shape == (2, 4, *SIZE)


def test_noise_of_k_outputs_picks_one_of_them() -> None:
    network = make_network("crn-3")
    label = make_label(count=30)
    label_map, noise = one_hot(label, 3), draw(network, label)
    images = network(label_map, noise, every_output=True)
    assert images.shape == (30, 3, 3, *SIZE)
    chosen = noise.flatten(1).argmax(dim=1)
    assert set(chosen.tolist()) == {0, 1, 2}
    expected = torch.stack([images[sample, output] for sample, output in enumerate(chosen)])
    torch.testing.assert_close(network(label_map, noise), expected)
    # A sample's choice does not depend on its batch.
    torch.testing.assert_close(network.sample_noise(None, label[7:8], [torch_generator(0, 7)]), noise[7:8])


def test_a_single_output_takes_no_noise() -> None:
    network, label = make_network("crn-1"), make_label()
    assert network.noise_schemes == ()
    images = [network(one_hot(label, 3), draw(network, label, seed)) for seed in range(2)]
    assert torch.equal(*images)


@pytest.mark.parametrize(
    ("kind", "scheme", "reason"),
    [
        ("crn-imle", "image", "'image' was asked of a CrnImleGenerator, but it has pixel"),
        ("crn-imle", "region", "'region' was asked of a CrnImleGenerator, but it has pixel"),
        ("crn-1", "image", "'image' was asked of a CrnGenerator, but it takes no noise at all"),
        ("crn-3", "pixel", "'pixel' was asked of a CrnGenerator, but it has image"),
    ],
)
def test_noise_schemes_that_a_network_lacks_are_refused(kind: str, scheme: Any, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        make_network(kind).sample_noise(scheme, make_label(1), [torch_generator(0)])


def test_layers_are_weighted_to_contribute_the_same() -> None:
    weights = layer_weights([torch.tensor([1.0, 3.0]), torch.tensor([0.25, 0.75]), torch.tensor([0.0, 0.0])])
    torch.testing.assert_close(weights, torch.tensor([1 / 6, 2 / 3, 1 / 3]))


def test_another_real_image_is_at_distance_1(make_pairs: Callable[..., Pairs], tiny_features: FeatureNetwork) -> None:
    pairs = make_pairs(count=2)
    weights = balance_layers(tiny_features, pairs, seed=0, device=torch.device("cpu"))
    image, _ = pairs.batch([0, 1])
    with torch.no_grad():
        first, second = tiny_features(image[:1]), tiny_features(image[1:])
    distances = [(a - b).abs().mean() for a, b in zip(first, second, strict=True)]
    torch.testing.assert_close(weights * torch.stack(distances), torch.tensor([0.5, 0.5]))
    alone = balance_layers(tiny_features, make_pairs(count=1), seed=0, device=torch.device("cpu"))
    torch.testing.assert_close(alone, torch.tensor([0.5, 0.5]))


def test_class_distances_by_hand() -> None:
    # One sample, two outputs, one feature, 2x2 pixels; the upper row is class 0, the lower class 1.
    generated = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]], [[[0.0, 0.0], [0.0, 8.0]]]])
    real = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    label_map = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]], [[0.0, 0.0], [1.0, 1.0]]]])
    (distances,) = class_distances([generated], [real], label_map)
    torch.testing.assert_close(distances, torch.tensor([[[2 / 4, 7 / 4], [1 / 4, 8 / 4]]]))


def test_class_distances_sum_to_those_of_the_whole_image(tiny_features: FeatureNetwork) -> None:
    torch.manual_seed(0)
    images, real = torch.rand(2, 3, 3, *SIZE), torch.rand(2, 3, *SIZE)
    features, reference = tiny_features(images.flatten(0, 1)), tiny_features(real)
    label_map = one_hot(make_label(), 3)
    by_class = class_distances(features, reference, label_map)
    for output in range(3):
        whole = feature_distances(tiny_features(images[:, output]), reference)
        for layer in range(2):
            torch.testing.assert_close(by_class[layer][:, output].sum(dim=1), whole[layer])


def test_the_diversity_loss_takes_the_best_output_of_each_class() -> None:
    distance = torch.tensor([[[1.0, 9.0], [3.0, 5.0]], [[2.0, 2.0], [4.0, 0.0]]])
    best, mean = (1 + 5 + 2 + 0) / 2, (2 + 7 + 3 + 1) / 2
    expected = (1 - MEAN_SHARE) * best + MEAN_SHARE * mean
    torch.testing.assert_close(diversity_loss(distance), torch.tensor(expected))
    torch.testing.assert_close(diversity_loss(distance[:, :1]), torch.tensor((10.0 + 4.0) / 2))


def weights_of(folder: Path) -> bytes:
    return (folder / "weights.safetensors").read_bytes()


@pytest.mark.parametrize("outputs", [1, 3])
def test_golden_losses(
    outputs: int, train_perceptual: Train, stop_at: Any, compare_with_golden: Callable[..., None]
) -> None:
    watcher = stop_at()
    train_perceptual("run", "crn", replace(SMALL, outputs=outputs), seed=7, progress=watcher)
    assert len(watcher.values) == 10
    compare_with_golden(f"crn-{outputs}", watcher.values)


def test_an_interrupted_training_ends_with_the_same_bits(train_perceptual: Train, stop_at: Any) -> None:
    settings = replace(SMALL, outputs=3, average_decay=0.9)
    whole = train_perceptual("whole", "crn", settings)
    with pytest.raises(KeyboardInterrupt):
        train_perceptual("parts", "crn", settings, progress=stop_at(4))
    torch.manual_seed(99)
    going_on = stop_at()
    parts = train_perceptual("parts", "crn", settings, progress=going_on)
    assert (going_on.first, going_on.done) == (3, 10)
    assert weights_of(whole) == weights_of(parts)
    assert (whole / "samples/final.png").read_bytes() == (parts / "samples/final.png").read_bytes()
    assert weights_of(train_perceptual("other", "crn", settings, seed=4)) != weights_of(whole)


def test_training_without_features_is_refused(train_perceptual: Train) -> None:
    with pytest.raises(ConfigError, match="'crn' has a perceptual loss and needs a network of features"):
        train_perceptual("run", "crn", SMALL, features=None)


def test_training_finds_the_colours_of_the_classes(train_perceptual: Train, make_pairs: Callable[..., Pairs]) -> None:
    settings = replace(SMALL, steps=150, batch_size=6, checkpoint_every=1000)
    pairs = make_pairs()
    folder = train_perceptual("run", "crn", settings)
    network = load_image_generator(folder / "weights.safetensors", "crn", pairs.table, pairs.size, settings)
    labels = torch.from_numpy(np.stack([fill_ignored(label) for label in pairs.labels]).astype(np.int64))
    with torch.no_grad():
        image = network(one_hot(labels, 3), draw(network, labels))
    for index, semantic_class in enumerate(pairs.table.classes):
        found = ((image.permute(0, 2, 3, 1)[labels == index].mean(dim=0) + 1) * 127.5).numpy()
        assert np.abs(found - semantic_class.color).max() < 20, (semantic_class.name, found)


def two_appearances(make_pairs: Callable[..., Pairs]) -> Pairs:
    """One layout eight times, its image dark in half of them and bright in the others."""
    pairs = make_pairs(count=8, size=(6, 8))
    labels = np.repeat(np.stack([fill_ignored(pairs.labels[0])]), 8, axis=0)
    noise = np.random.default_rng(0).integers(-10, 11, (8, 6, 8, 3))
    images = np.where(np.arange(8)[:, None, None, None] % 2, 190, 60) + noise
    return replace(pairs, images=images.astype(np.uint8), labels=labels)


def brightness_of_draws(folder: Path, system: str, settings: Any, pairs: Pairs, count: int = 24) -> np.ndarray:
    """Return the mean grey level of images of one layout with different noise, sorted."""
    network = load_image_generator(folder / "weights.safetensors", system, pairs.table, pairs.size, settings)
    label = torch.from_numpy(pairs.labels[:1].astype(np.int64)).expand(count, -1, -1)
    with torch.no_grad():
        image = network(one_hot(label, 3), draw(network, label, seed=7))
    return np.sort(((image.mean(dim=(1, 2, 3)) + 1) * 127.5).numpy())


def test_two_outputs_become_the_two_appearances(train_perceptual: Train, make_pairs: Callable[..., Pairs]) -> None:
    pairs = two_appearances(make_pairs)
    settings = replace(SMALL, outputs=2, steps=200, batch_size=8, checkpoint_every=1000)
    folder = train_perceptual("run", "crn", settings, pairs=pairs)
    grey = brightness_of_draws(folder, "crn", settings, pairs)
    assert grey[0] == pytest.approx(60, abs=20) and grey[-1] == pytest.approx(190, abs=20)


def test_noise_of_imle_covers_both_appearances(train_perceptual: Train, make_pairs: Callable[..., Pairs]) -> None:
    pairs = two_appearances(make_pairs)
    settings = replace(
        SMALL_IMLE,
        steps=150,
        batch_size=8,
        generator_learning_rate=2e-3,
        round_size=8,
        round_steps=10,
        candidates=6,
        rebalance_data=False,
        rebalance_loss=False,
    )
    folder = train_perceptual("run", "crn-imle", settings, pairs=pairs)
    grey = brightness_of_draws(folder, "crn-imle", settings, pairs)
    assert grey[0] < 95 and grey[-1] > 155
