from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from scenepalette.common.randomness import torch_generator
from scenepalette.data.classes import ClassTable
from scenepalette.data.labels import one_hot
from scenepalette.generators.images.systems.gaugan import (
    GAUGAN,
    SPADE_PLUS,
    GauganGenerator,
    GauganSettings,
    ImageEncoder,
    SpadePlusSettings,
    build_gaugan_generator,
    build_gaugan_objective,
)
from scenepalette.generators.nn.blocks import count_parameters


@pytest.mark.parametrize(("classes", "size", "millions"), [(151, (256, 256), 96), (12, (128, 256), 92.33)])
def test_parameters_of_the_papers_generator(classes: int, size: tuple[int, int], millions: float) -> None:
    with torch.device("meta"):
        network = build_gaugan_generator(ClassTable.unnamed(classes), size, GauganSettings())
    assert count_parameters(network) == pytest.approx(millions * 1e6, rel=0.01)


def test_the_encoder_has_10_million_parameters() -> None:
    with torch.device("meta"):
        encoder = ImageEncoder((256, 256))
    assert count_parameters(encoder) == pytest.approx(10e6, rel=0.06)  # Schönfeld et al., 2021, appendix C.2
    assert [conv.out_channels for conv in encoder.convs] == [64, 128, 256, 512, 512, 512]
    assert encoder.to_mean.in_features == 512 * 4 * 4


@pytest.mark.parametrize(
    ("size", "features"), [((256, 512), 512 * 4 * 8), ((128, 256), 512 * 4 * 8), ((64, 96), 512 * 4 * 6)]
)
def test_smaller_images_are_encoded_by_fewer_layers(size: tuple[int, int], features: int) -> None:
    with torch.device("meta"):
        encoder = ImageEncoder(size)
        mean, log_variance = encoder(torch.zeros(2, 3, *size))
    assert encoder.to_mean.in_features == features
    assert mean.shape == log_variance.shape == (2, 256)


def test_the_blocks_are_the_papers() -> None:
    seen: list[tuple[int, ...]] = []
    with torch.device("meta"):
        network = build_gaugan_generator(ClassTable.unnamed(20), (256, 256), GauganSettings()).eval()
        for block in network.blocks.blocks:
            block.register_forward_hook(lambda _, args, out: seen.append((args[0].shape[1], *out.shape[1:])))
        network(torch.zeros(1, 20, 256, 256), torch.zeros(1, 0))
    assert seen == [
        (1024, 1024, 8, 8),
        (1024, 1024, 16, 16),
        (1024, 1024, 16, 16),
        (1024, 512, 32, 32),
        (512, 256, 64, 64),
        (256, 128, 128, 128),
        (128, 64, 256, 256),
    ]


@pytest.mark.parametrize("size", [(12, 16), (64, 96), (96, 128), (34, 38), (1024, 512)])
def test_every_size_on_a_base_grid_can_be_made(size: tuple[int, int]) -> None:
    for vae in (False, True):
        with torch.device("meta"):
            network = build_gaugan_generator(ClassTable.unnamed(3), size, GauganSettings(width=4, vae=vae))
            assert network(torch.zeros(1, 3, *size), torch.zeros(1, network.latent_features)).shape == (1, 3, *size)


def make_vae(seed: int = 0) -> GauganGenerator:
    torch.manual_seed(seed)
    return GauganGenerator(3, (3, 4), 2, width=4, hidden_channels=6, latent_features=5)


def make_label_map() -> Tensor:
    return one_hot(torch.randint(0, 3, (2, 12, 16), generator=torch.Generator().manual_seed(0)), 3)


def test_the_latent_is_drawn_around_the_encoders_mean() -> None:
    network, label_map, image = make_vae().eval(), make_label_map(), torch.rand(2, 3, 12, 16) * 2 - 1
    noise = network.sample_noise(None, label_map.argmax(dim=1), [torch_generator(0, i) for i in range(2)])
    assert noise.shape == (2, 5)
    result = network(label_map, noise, image)
    assert network.encoder is not None
    mean, log_variance = network.encoder(image)
    torch.testing.assert_close((result.mean, result.log_variance), (mean, log_variance))
    latent = mean + noise * log_variance.exp().sqrt()
    torch.testing.assert_close(result.image, network(label_map, latent))
    assert (result.image - network(label_map, noise)).abs().mean() > 1e-3


def test_a_vae_is_trained_on_the_styles_of_real_images(make_batch: Callable[..., object]) -> None:
    settings = GauganSettings(width=4, hidden_channels=6, discriminator_width=4, vae=True, latent_features=5)
    network, objective = make_vae(), build_gaugan_objective(ClassTable.unnamed(3), (12, 16), settings, None)
    objective.perceptual_weight = 0.0
    batch = make_batch(network)
    fake, loss = objective.generator_loss(network, objective.discriminator, batch)  # type: ignore[arg-type]
    assert set(loss.parts) == {"kl", "generator", "feature_matching"}
    weights = {"kl": 0.05, "generator": 1.0, "feature_matching": 10.0}
    torch.testing.assert_close(loss.total, sum(weights[name] * part for name, part in loss.parts.items()))
    assert fake.shape == (3, 3, 12, 16)
    loss.parts["kl"].backward()
    assert network.encoder is not None and network.encoder.to_mean.weight.grad is not None


def test_numbers_are_the_papers() -> None:
    gaugan, plus = GauganSettings(), SpadePlusSettings()
    assert (gaugan.generator_learning_rate, gaugan.discriminator_learning_rate) == (1e-4, 4e-4)
    assert np.sqrt(gaugan.generator_learning_rate * gaugan.discriminator_learning_rate) == pytest.approx(2e-4)
    assert (gaugan.betas, gaugan.batch_size, gaugan.average_decay) == ((0.5, 0.999), 8, 0.0)
    assert (gaugan.feature_matching_weight, gaugan.perceptual_weight, gaugan.kl_weight) == (10.0, 10.0, 0.05)
    assert (plus.feature_matching_weight, plus.perceptual_weight, plus.average_decay) == (0.0, 10.0, 0.9999)
    assert (plus.betas, plus.generator_learning_rate) == ((0.0, 0.999), 1e-4)
    assert GAUGAN.build_generator is SPADE_PLUS.build_generator
