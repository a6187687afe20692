from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scenepalette.common.randomness import torch_generator
from scenepalette.data.labels import one_hot
from scenepalette.generators.images.noise import sample_noise
from scenepalette.generators.images.systems.oasis import OasisDiscriminator, OasisGenerator
from scenepalette.generators.nn.blocks import count_parameters

SMALL = {"width": 4, "noise_channels": 5, "hidden_channels": 6}


def make_generator(seed: int = 0) -> OasisGenerator:
    torch.manual_seed(seed)
    return OasisGenerator(3, (3, 4), 2, **SMALL)


def make_inputs(noise_seed: int = 0) -> tuple[Tensor, Tensor]:
    label = torch.randint(0, 3, (2, 12, 16), generator=torch.Generator().manual_seed(0))
    generators = [torch_generator(noise_seed, sample) for sample in range(2)]
    return one_hot(label, 3), sample_noise("image", label, 5, generators)


@pytest.mark.parametrize(
    ("classes", "base", "noise_channels", "millions"),
    [(12, (4, 8), 64, 70.47), (151, (8, 8), 64, 74.3), (151, (8, 8), 0, 72.5)],
)
def test_parameters_of_the_papers_generator(
    classes: int, base: tuple[int, int], noise_channels: int, millions: float
) -> None:
    with torch.device("meta"):
        network = OasisGenerator(classes, base, 5, noise_channels=noise_channels)
    assert count_parameters(network) == pytest.approx(millions * 1e6, rel=1e-3)


def test_the_noise_costs_2_million_parameters() -> None:
    with torch.device("meta"):
        counts = [count_parameters(OasisGenerator(151, (8, 8), 5, noise_channels=z)) for z in (0, 64)]
    # 3x3 weights from 64 channels to 1024 features and to the 128 of each modulation: 2 or, with a shortcut, 3 a block.
    assert counts[1] - counts[0] == 64 * 9 * 1024 + 64 * 9 * 128 * (2 + 2 + 4 * 3)
    assert counts[1] - counts[0] == pytest.approx(2e6, rel=0.15)


@pytest.mark.parametrize("classes", [12, 19, 151])
def test_parameters_of_the_papers_discriminator(classes: int) -> None:
    with torch.device("meta"):
        assert count_parameters(OasisDiscriminator(classes, (256, 512))) == pytest.approx(22.86e6, rel=1e-3)


def test_the_generators_blocks_are_those_of_table_m() -> None:
    with torch.device("meta"):
        network = OasisGenerator(20, (8, 8), 5)
    convolutions = [(block.conv_0, block.conv_1) for block in network.blocks]  # type: ignore[union-attr]
    widths = [(first.in_channels, second.out_channels) for first, second in convolutions]
    assert widths == [(1024, 1024), (1024, 1024), (1024, 512), (512, 256), (256, 128), (128, 64)]
    assert (network.from_condition.in_channels, network.from_condition.out_channels) == (84, 1024)
    assert network.to_image.in_channels == 64


def test_the_discriminators_features_are_those_of_table_l() -> None:
    shapes: list[tuple[int, ...]] = []
    with torch.device("meta"):
        network = OasisDiscriminator(20, (256, 256)).eval()
        for block in [*network.down, *network.up]:
            block.register_forward_hook(lambda _, args, out: shapes.append((*args[0].shape[1:2], *out.shape[1:])))
        logits = network(torch.zeros(1, 3, 256, 256))
    assert shapes == [
        (3, 128, 128, 128),
        (128, 128, 64, 64),
        (128, 256, 32, 32),
        (256, 256, 16, 16),
        (256, 512, 8, 8),
        (512, 512, 4, 4),
        (512, 512, 8, 8),
        (1024, 256, 16, 16),
        (512, 256, 32, 32),
        (512, 128, 64, 64),
        (256, 128, 128, 128),
        (256, 64, 256, 256),
    ]
    assert logits.shape == (1, 21, 256, 256)


@pytest.mark.parametrize(("size", "levels"), [((96, 128), 5), ((12, 16), 2), ((64, 64), 6), ((256, 512), 6)])
def test_the_discriminator_has_as_many_levels_as_the_size_can_be_halved(size: tuple[int, int], levels: int) -> None:
    network = OasisDiscriminator(3, size, width=4)
    assert len(network.down) == len(network.up) == levels
    assert network(torch.zeros(1, 3, *size)).shape == (1, 4, *size)


def convolved(x: Tensor, layer: nn.Conv2d) -> Tensor:
    """Return the 3x3 convolution alone, without what the layer does before or after it."""
    return F.conv2d(x, layer.weight, layer.bias, padding=1)


@pytest.mark.parametrize("index", [0, 1])
def test_going_down_is_a_residual_block_with_average_pooling(index: int) -> None:
    torch.manual_seed(0)
    block = OasisDiscriminator(3, (12, 16), width=4).eval().down[index]
    x = torch.randn(2, 3 if index == 0 else 4, 12, 16)
    # In the published order: shortcut, then pooling; the first block sees pixels, so it begins without activation.
    y = convolved(x if index == 0 else F.leaky_relu(x, 0.2), block.conv_0)  # type: ignore[arg-type]
    y = convolved(F.leaky_relu(y, 0.2), block.conv_1)  # type: ignore[arg-type]
    expected = F.avg_pool2d(y, 2) + F.avg_pool2d(block.shortcut(x), 2)  # type: ignore[operator]
    torch.testing.assert_close(block(x), expected)


def test_going_up_is_a_residual_block_with_nearest_upsampling() -> None:
    torch.manual_seed(0)
    block = OasisDiscriminator(3, (12, 16), width=4).eval().up[0]
    x = torch.randn(2, 4, 3, 4)

    def twice(y: Tensor) -> Tensor:
        return y.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)

    y = convolved(twice(F.leaky_relu(x, 0.2)), block.conv_0)  # type: ignore[arg-type]
    y = convolved(F.leaky_relu(y, 0.2), block.conv_1)  # type: ignore[arg-type]
    torch.testing.assert_close(block(x), y + block.shortcut(twice(x)))  # type: ignore[operator]


def test_skips_join_features_of_the_same_size() -> None:
    torch.manual_seed(0)
    network = OasisDiscriminator(3, (24, 16), width=4).eval()
    image = torch.randn(2, 3, 24, 16)
    down_1 = network.down[0](image)
    down_2 = network.down[1](down_1)
    down_3 = network.down[2](down_2)
    x = torch.cat([network.up[0](down_3), down_2], dim=1)
    x = torch.cat([network.up[1](x), down_1], dim=1)
    torch.testing.assert_close(network(image), network.to_logits(network.up[2](x)))


def test_images_have_the_size_of_the_layout_and_lie_between_minus_1_and_1() -> None:
    label_map, noise = make_inputs()
    image = make_generator()(label_map, noise)
    assert image.shape == (2, 3, 12, 16)
    assert image.abs().max() <= 1.0
    assert image.std() > 1e-3


def test_noise_and_layout_change_the_image() -> None:
    network = make_generator().eval()
    label_map, noise = make_inputs()
    image = network(label_map, noise)
    assert torch.equal(image, network(label_map, noise))
    assert (network(label_map, make_inputs(noise_seed=1)[1]) - image).abs().mean() > 1e-3
    assert (network(label_map.flip(0), noise) - image).abs().mean() > 1e-3


def test_noise_reaches_every_block() -> None:
    network = make_generator().eval()
    label_map, noise = make_inputs()
    conditions: list[Tensor] = []
    for block in network.blocks:
        block.norm_0.hidden.register_forward_hook(lambda _, args, out: conditions.append(args[0]))
    network(label_map, noise)
    assert [tuple(condition.shape[1:]) for condition in conditions] == [(8, 3, 4), (8, 6, 8), (8, 12, 16)]
    torch.testing.assert_close(conditions[-1], torch.cat([noise, label_map], dim=1))
    torch.testing.assert_close(conditions[0][:, :5], noise[:, :, :3, :4])  # one vector for the whole image


def test_local_noise_changes_its_region_more_than_the_rest() -> None:
    network = make_generator().eval()
    label = torch.zeros(1, 96, 128, dtype=torch.int64)
    network.base = (24, 32)
    noise = sample_noise("image", label, 5, [torch_generator(0)])
    region = torch.zeros(1, 96, 128, dtype=torch.bool)
    region[:, :, :40] = True
    image = network(one_hot(label, 3), noise)
    other = sample_noise("image", label, 5, [torch_generator(1)])
    changed = network(one_hot(label, 3), network.replace_noise(noise, other, region, label))
    difference = (changed - image).abs().mean(dim=1)
    assert difference[region].mean() > 1e-3
    # Beyond the reach of the convolutions nothing changes at all.
    assert difference[:, :, 104:].max() < 1e-6


def test_every_part_of_both_networks_takes_part() -> None:
    torch.manual_seed(0)
    generator, discriminator = make_generator(), OasisDiscriminator(3, (12, 16), width=4)
    label_map, noise = make_inputs()
    discriminator(generator(label_map, noise)).square().sum().backward()
    for network in (generator, discriminator):
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
