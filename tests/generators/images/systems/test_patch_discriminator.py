from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from scenepalette.generators.images.systems.patch_discriminator import PatchDiscriminator
from scenepalette.generators.nn.blocks import count_parameters


def test_parameters_of_the_papers_discriminator() -> None:
    with torch.device("meta"):
        network = PatchDiscriminator(36, (256, 512))
    # 4x4 convolutions 39-64-128-256-512-1, twice; instance norm has neither parameters nor biases before it.
    one = 16 * (39 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512) + 64 + 1
    assert count_parameters(network) == 2 * one
    assert count_parameters(network) == pytest.approx(5.5e6, rel=0.03)  # Schönfeld et al., 2021, appendix C.1


def test_maps_at_both_scales_are_the_papers() -> None:
    with torch.device("meta"):
        outputs = PatchDiscriminator(4, (256, 256))(torch.zeros(1, 3, 256, 256), torch.zeros(1, 4, 256, 256))
    shapes = [[tuple(feature.shape[1:]) for feature in output.features] for output in outputs]
    assert shapes[0] == [(64, 129, 129), (128, 65, 65), (256, 33, 33), (512, 34, 34)]
    assert shapes[1] == [(64, 65, 65), (128, 33, 33), (256, 17, 17), (512, 18, 18)]
    assert [tuple(output.scores.shape) for output in outputs] == [(1, 1, 35, 35), (1, 1, 19, 19)]


def test_a_patch_is_70_pixels_wide() -> None:
    torch.manual_seed(0)
    network = PatchDiscriminator(0, (256, 256), width=2, scales=1).eval()
    # Without instance norm, which looks at the whole map, a score's gradient shows what it looks at.
    image = torch.randn(1, 3, 256, 256, requires_grad=True)
    x = image
    *layers, last = network.networks[0].convs  # type: ignore[misc]
    for conv in layers:
        x = F.leaky_relu(conv(x), 0.2)
    last(x)[0, 0, 17, 17].backward()
    assert image.grad is not None
    seen = image.grad[0].abs().sum(dim=0) > 0
    assert (seen.any(dim=0).sum().item(), seen.any(dim=1).sum().item()) == (70, 70)


@pytest.mark.parametrize(
    ("size", "strided"), [((256, 512), 3), ((96, 128), 3), ((64, 96), 3), ((32, 48), 2), ((12, 16), 1), ((8, 8), 1)]
)
def test_small_images_get_fewer_strided_layers(size: tuple[int, int], strided: int) -> None:
    network = PatchDiscriminator(3, size, width=4)
    outputs = network(torch.rand(2, 3, *size), torch.rand(2, 3, *size))
    assert all(len(output.features) == strided + 1 for output in outputs)
    assert all(min(output.scores.shape[2:]) >= 4 for output in outputs)


def test_the_published_order_of_layers() -> None:
    torch.manual_seed(0)
    network = PatchDiscriminator(2, (32, 32), width=3, spectral=False)
    image, condition = torch.randn(2, 3, 32, 32), torch.randn(2, 2, 32, 32)
    x = torch.cat([condition, image], dim=1)
    pool = nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False)
    for scale, output in enumerate(network(image, condition)):
        y = x if scale == 0 else pool(x)
        first, second, third, last = network.networks[scale].convs  # type: ignore[misc]
        features = [F.leaky_relu(first(y), 0.2)]
        for conv in (second, third):
            features.append(F.leaky_relu(nn.InstanceNorm2d(conv.out_channels)(conv(features[-1])), 0.2))
        for found, wanted in zip(output.features, features, strict=True):
            torch.testing.assert_close(found, wanted)
        torch.testing.assert_close(output.scores, last(features[-1]))


def test_spectral_norm_is_in_every_convolution_or_in_none() -> None:
    for spectral in (True, False):
        network = PatchDiscriminator(2, (32, 32), width=3, spectral=spectral)
        convs = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
        assert len(convs) == 2 * 4
        assert all(hasattr(conv, "parametrizations") == spectral for conv in convs)


def test_the_condition_changes_the_scores_and_an_unconditional_network_takes_none() -> None:
    torch.manual_seed(0)
    image, condition = torch.randn(1, 3, 32, 32), torch.randn(1, 2, 32, 32)
    conditional = PatchDiscriminator(2, (32, 32), width=3).eval()
    first, second = conditional(image, condition)[0].scores, conditional(image, -condition)[0].scores
    assert (first - second).abs().mean() > 1e-3
    alone = PatchDiscriminator(0, (32, 32), width=3).eval()
    assert len(alone(image)) == 2
    with pytest.raises(AssertionError):
        alone(image, condition)
