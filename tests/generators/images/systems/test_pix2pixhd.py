from __future__ import annotations

import pytest
import torch

from scenepalette.common.errors import ConfigError
from scenepalette.data.classes import ClassTable
from scenepalette.generators.images.systems.patch_losses import (
    least_squares_discriminator_loss,
    least_squares_generator_loss,
)
from scenepalette.generators.images.systems.pix2pixhd import (
    GlobalGenerator,
    Pix2PixHdSettings,
    build_pix2pixhd_generator,
    build_pix2pixhd_objective,
)
from scenepalette.generators.nn.blocks import count_parameters


@pytest.mark.parametrize("classes", [12, 36, 151])
def test_parameters_of_the_papers_generator(classes: int) -> None:
    with torch.device("meta"):
        network = build_pix2pixhd_generator(ClassTable.unnamed(classes), (128, 256), Pix2PixHdSettings())
    assert count_parameters(network) == pytest.approx(182.5e6, rel=3e-3)


def test_the_layers_are_the_papers() -> None:
    shapes: list[tuple[int, ...]] = []
    with torch.device("meta"):
        network = GlobalGenerator(35, 4)
        for layer in [network.from_label_map, *network.down, *network.blocks, *network.up, network.to_image]:
            layer.register_forward_hook(lambda _, args, out: shapes.append(tuple(out.shape[1:])))
        network(torch.zeros(1, 35, 128, 256), torch.zeros(1, 0))
    down = [(64, 128, 256), (128, 64, 128), (256, 32, 64), (512, 16, 32), (1024, 8, 16)]
    assert shapes == [*down, *[(1024, 8, 16)] * 9, *down[-2::-1], (3, 128, 256)]


@pytest.mark.parametrize(
    ("size", "doublings"), [((128, 256), 4), ((64, 96), 3), ((48, 72), 2), ((36, 34), 1), ((12, 16), 1), ((4, 6), 1)]
)
def test_the_size_limits_the_doublings(size: tuple[int, int], doublings: int) -> None:
    network = build_pix2pixhd_generator(ClassTable.unnamed(3), size, Pix2PixHdSettings(width=2, residual_blocks=1))
    assert len(network.down) == len(network.up) == doublings
    assert network(torch.rand(1, 3, *size), torch.zeros(1, 0)).shape == (1, 3, *size)


def test_a_size_without_a_base_grid_is_refused() -> None:
    with pytest.raises(ConfigError, match="127x256"):
        build_pix2pixhd_generator(ClassTable.unnamed(3), (127, 256), Pix2PixHdSettings())


def test_every_norm_is_per_image() -> None:
    torch.manual_seed(0)
    network = GlobalGenerator(3, 2, width=2, residual_blocks=2)
    label_map = torch.rand(2, 3, 12, 16)
    both = network(label_map, torch.zeros(2, 0))
    torch.testing.assert_close(both[:1], network(label_map[:1], torch.zeros(1, 0)))


def test_the_adversarial_loss_is_least_squares_without_spectral_norm() -> None:
    objective = build_pix2pixhd_objective(
        ClassTable.unnamed(3), (32, 32), Pix2PixHdSettings(discriminator_width=2), None
    )
    assert objective.adversarial_generator is least_squares_generator_loss
    assert objective.adversarial_discriminator is least_squares_discriminator_loss
    assert not any(hasattr(module, "parametrizations") for module in objective.discriminator.modules())
