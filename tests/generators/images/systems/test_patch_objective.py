from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from scenepalette.data.labels import one_hot
from scenepalette.generators.images.base import FeatureNetwork, ImageBatch
from scenepalette.generators.images.diffaugment import augment_image, augment_label
from scenepalette.generators.images.perceptual import Vgg19Features, feature_distances
from scenepalette.generators.images.systems.patch_discriminator import PatchDiscriminator
from scenepalette.generators.images.systems.patch_losses import (
    feature_matching_loss,
    hinge_discriminator_loss,
    hinge_generator_loss,
)
from scenepalette.generators.images.systems.patch_objective import PERCEPTUAL_LAYERS, PatchObjective
from scenepalette.generators.images.systems.pix2pixhd import GlobalGenerator


@pytest.fixture
def generator() -> GlobalGenerator:
    torch.manual_seed(0)
    return GlobalGenerator(3, 2, width=2, residual_blocks=1)


def make_objective(features: FeatureNetwork | None, matching: float = 10.0, perceptual: float = 10.0) -> PatchObjective:
    torch.manual_seed(1)
    # Without spectral norm, whose estimate every call refines, a second call gives the same scores.
    return PatchObjective(PatchDiscriminator(3, (12, 16), width=3, spectral=False), features, matching, perceptual)


def test_the_generators_loss_is_the_papers_sum(
    generator: GlobalGenerator, make_batch: Callable[..., ImageBatch], tiny_features: FeatureNetwork
) -> None:
    objective, batch = make_objective(tiny_features, 7.0, 3.0), make_batch(generator)
    fake, loss = objective.generator_loss(generator, objective.discriminator, batch)
    torch.testing.assert_close(fake, generator(batch.label_map, batch.noise))
    judged = [objective.discriminator(image, batch.label_map) for image in (batch.image, fake)]
    real_features, fake_features = ([output.features for output in outputs] for outputs in judged)
    adversarial = hinge_generator_loss([output.scores for output in judged[1]])
    matching = feature_matching_loss(real_features, fake_features)
    fine, coarse = feature_distances(tiny_features(fake), tiny_features(batch.image))
    perceptual = fine.mean() / 4 + coarse.mean()
    torch.testing.assert_close(loss.total, adversarial + 7 * matching + 3 * perceptual)
    expected = {"generator": adversarial, "feature_matching": matching, "perceptual": perceptual}
    assert loss.parts.keys() == expected.keys()
    for name, part in expected.items():
        torch.testing.assert_close(loss.parts[name], part)


def test_losses_of_weight_0_are_left_out(generator: GlobalGenerator, make_batch: Callable[..., ImageBatch]) -> None:
    objective, batch = make_objective(None, 0.0, 0.0), make_batch(generator)
    _, loss = objective.generator_loss(generator, objective.discriminator, batch)
    assert list(loss.parts) == ["generator"]
    torch.testing.assert_close(loss.total, loss.parts["generator"])


def test_the_discriminator_is_shown_label_maps_beside_images(
    generator: GlobalGenerator, make_batch: Callable[..., ImageBatch]
) -> None:
    objective, batch = make_objective(None), make_batch(generator)
    fake = torch.zeros_like(batch.image)
    loss = objective.discriminator_loss(objective.discriminator, batch, fake)
    real, generated = (
        [output.scores for output in objective.discriminator(image, batch.label_map)] for image in (batch.image, fake)
    )
    torch.testing.assert_close(loss.total, hinge_discriminator_loss(real, generated))
    assert list(loss.parts) == ["discriminator"]


def test_augmentation_moves_label_maps_with_images(
    generator: GlobalGenerator, make_batch: Callable[..., ImageBatch], tiny_features: FeatureNetwork
) -> None:
    objective, batch = make_objective(tiny_features), make_batch(generator, augment=True)
    assert batch.augmentation is not None
    seen: list[tuple[Tensor, Tensor]] = []

    def discriminator(image: Tensor, label_map: Tensor) -> object:
        seen.append((image, label_map))
        return objective.discriminator(image, label_map)

    fake, _ = objective.generator_loss(generator, discriminator, batch)
    objective.discriminator_loss(discriminator, batch, fake.detach())
    moved = one_hot(augment_label(batch.layout, batch.augmentation), 3)
    images = [augment_image(image, batch.augmentation) for image in (fake, batch.image, batch.image, fake)]
    assert len(seen) == 4
    for (image, label_map), expected in zip(seen, images, strict=True):
        torch.testing.assert_close(image, expected)
        assert torch.equal(label_map, moved)
    assert not torch.equal(moved, batch.label_map)


def test_vggs_layers_are_the_first_of_each_block_after_their_activation() -> None:
    with torch.device("meta"):
        network = Vgg19Features(PERCEPTUAL_LAYERS)
        maps = network(torch.zeros(1, 3, 64, 64))
    assert [tuple(each.shape[1:]) for each in maps] == [
        (64, 64, 64),
        (128, 32, 32),
        (256, 16, 16),
        (512, 8, 8),
        (512, 4, 4),
    ]
    layers = list(network.features)
    for position in PERCEPTUAL_LAYERS:
        assert isinstance(layers[position], torch.nn.ReLU)
        assert position == 1 or isinstance(layers[position - 2], torch.nn.MaxPool2d)
