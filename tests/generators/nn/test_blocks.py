from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scenepalette.generators.nn.blocks import (
    EqualizedConv2d,
    EqualizedLinear,
    SpadeResidualBlock,
    SpatiallyAdaptiveNorm,
    estimate_batch_statistics,
    pixel_norm,
)


def test_equalised_layers_by_hand() -> None:
    conv = EqualizedConv2d(2, 1, 1)
    nn.init.ones_(conv.weight)
    nn.init.constant_(conv.bias, 0.5)
    # He's constant for a fan-in of 2 is sqrt(2 / 2) = 1.
    assert conv(torch.tensor([[[[3.0]], [[4.0]]]])).item() == pytest.approx(7.5)
    linear = EqualizedLinear(4, 1, gain=1.0)
    nn.init.ones_(linear.weight)
    assert linear(torch.ones(1, 4)).item() == pytest.approx(4 / math.sqrt(4))
    assert EqualizedConv2d(3, 5, (2, 4)).scale == pytest.approx(math.sqrt(2 / 24))


def test_equalised_weights_start_with_unit_variance_and_keep_the_variance_of_features() -> None:
    torch.manual_seed(0)
    conv = EqualizedConv2d(64, 128, 3, padding=1)
    assert conv.weight.std().item() == pytest.approx(1.0, abs=0.02)
    assert conv.bias.abs().max().item() == 0.0
    y = F.relu(conv(torch.randn(4, 64, 16, 16)))[:, :, 1:-1, 1:-1]
    assert y.square().mean().item() == pytest.approx(1.0, abs=0.05)  # gain sqrt(2) makes up for the ReLU


def test_pixel_norm_by_hand() -> None:
    x = torch.tensor([[3.0, 4.0]])
    torch.testing.assert_close(pixel_norm(x), x / math.sqrt(12.5))
    features = torch.randn(2, 8, 3, 4)
    normed = pixel_norm(features)
    torch.testing.assert_close(normed.square().mean(dim=1), torch.ones(2, 3, 4))
    torch.testing.assert_close(normed[1, :, 2, 3], pixel_norm(features[1:, :, 2, 3])[0])
    assert pixel_norm(features.bfloat16()).dtype == torch.bfloat16
    assert torch.isfinite(pixel_norm(torch.zeros(1, 4))).all()


def test_spatially_adaptive_norm_by_hand() -> None:
    norm = SpatiallyAdaptiveNorm(2, 3, hidden_channels=4)
    x, condition = torch.randn(3, 2, 4, 5), torch.randn(3, 3, 4, 5)
    hidden = norm.hidden(condition).clamp(min=0)
    modulation = norm.scale_and_shift(hidden)
    mean = x.mean(dim=(0, 2, 3), keepdim=True)
    deviation = (x.var(dim=(0, 2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()
    expected = (x - mean) / deviation * (1 + modulation[:, :2]) + modulation[:, 2:]
    torch.testing.assert_close(norm(x, condition), expected)


def test_spade_block_by_its_parts() -> None:
    block = SpadeResidualBlock(4, 6, 3, hidden_channels=5, spectral=False).eval()
    x, condition = torch.randn(2, 4, 4, 5), torch.randn(2, 3, 4, 5)

    def modulated(norm: SpatiallyAdaptiveNorm, y: Tensor) -> Tensor:
        y = norm(y, condition)
        return torch.where(y > 0, y, 0.2 * y)

    assert block.shortcut is not None
    y = block.conv_0(modulated(block.norm_0, x))
    y = block.conv_1(modulated(block.norm_1, y))
    skip = block.shortcut(block.norm_shortcut(x, condition))  # no activation in the shortcut
    torch.testing.assert_close(block(x, condition), y + skip)
    same = SpadeResidualBlock(4, 4, 3, hidden_channels=5, spectral=False)
    assert same.shortcut is None
    for conv in (same.conv_0, same.conv_1):
        nn.init.zeros_(conv.weight)  # type: ignore[arg-type]
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    torch.testing.assert_close(same(x, condition), x)


def test_spectral_norm_bounds_the_convolutions_and_leaves_the_modulations() -> None:
    torch.manual_seed(0)
    block = SpadeResidualBlock(4, 6, 3, hidden_channels=5)
    condition = torch.randn(2, 3, 4, 5)
    for _ in range(60):  # power iterations
        block(torch.randn(2, 4, 4, 5), condition)
    block.eval()
    for name in ("conv_0", "conv_1", "shortcut"):
        weight = getattr(block, name).weight.detach().flatten(1).numpy()
        assert np.linalg.norm(weight, 2) == pytest.approx(1.0, abs=1e-3), name
    names = [name for name, _ in block.named_parameters() if name.endswith("original")]
    assert len(names) == 3
    assert not any(name.startswith("norm") for name in names)


class TwoNorms(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.BatchNorm2d(3, affine=False, momentum=0.1)
        self.conv = nn.Conv2d(3, 2, 1)
        self.second = nn.BatchNorm2d(2, affine=False, momentum=0.3)
        self.dropout = nn.Dropout(0.9)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.second(self.conv(self.first(x))))


def test_estimated_statistics_are_those_of_all_batches_together() -> None:
    torch.manual_seed(0)
    network = TwoNorms()
    batches = [torch.randn(4, 3, 5, 6) * (1 + i) + i for i in range(3)]
    for batch in batches:
        network(7 * batch)  # statistics of another life, to be forgotten
    estimate_batch_statistics(network, (partial(network, batch) for batch in batches))

    pooled = torch.cat(batches)
    torch.testing.assert_close(network.first.running_mean, pooled.mean(dim=(0, 2, 3)))
    variances = torch.stack([batch.var(dim=(0, 2, 3)) for batch in batches])
    torch.testing.assert_close(network.first.running_var, variances.mean(dim=0))
    # The second norm sees what the first gives in training mode.
    seen = [network.conv(F.batch_norm(batch, None, None, training=True)) for batch in batches]
    torch.testing.assert_close(network.second.running_mean, torch.cat(seen).mean(dim=(0, 2, 3)))

    assert not any(module.training for module in network.modules())
    assert (network.first.momentum, network.second.momentum) == (0.1, 0.3)
    torch.testing.assert_close(network(batches[0]), network(batches[0]), rtol=0, atol=0)
