from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import remove_parametrizations

from scenepalette.data.labels import one_hot
from scenepalette.generators.kernels import spade_tables
from scenepalette.generators.kernels.dispatch import TUNING
from scenepalette.generators.kernels.label_patches import ConditionCache
from scenepalette.generators.kernels.spade_tables import TabulatedSpadeBlock
from scenepalette.generators.nn.blocks import SpadeResidualBlock

CLASSES = 3


def trained_block(in_channels: int, out_channels: int) -> SpadeResidualBlock:
    torch.manual_seed(0)
    block = SpadeResidualBlock(in_channels, out_channels, CLASSES, hidden_channels=7)
    for _ in range(3):  # spectral norms and batch statistics move
        block(torch.randn(4, in_channels, 8, 8) * 2 + 1, torch.rand(4, CLASSES, 8, 8))
    for conv in (block.conv_0, block.conv_1, block.shortcut):
        if conv is not None:
            remove_parametrizations(conv, "weight")
    return block.eval()


def layouts() -> Tensor:
    label = torch.zeros(2, 8, 12, dtype=torch.int64)
    label[:, 3:] = 1
    label[1, :, 5:] = 2
    return label


@pytest.mark.parametrize("channels", [(6, 6), (6, 4)], ids=["plain skip", "shortcut"])
@pytest.mark.parametrize("share", [0.0, 2.0], ids=["all pixels", "patches"])
@pytest.mark.parametrize("by_mm", [True, False])
@torch.no_grad()
def test_a_tabulated_block_is_the_block(
    channels: tuple[int, int], share: float, by_mm: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuning = TUNING._replace(multiplies_by_mm=by_mm)
    monkeypatch.setattr("scenepalette.generators.kernels.label_patches.TUNING", tuning)
    monkeypatch.setattr("scenepalette.generators.kernels.spade_tables.TUNING", tuning)
    monkeypatch.setattr("scenepalette.generators.kernels.label_patches.DENSE_SHARE", share)
    monkeypatch.setattr(
        "scenepalette.generators.kernels.spade_tables.PASS_BYTES", 200
    )  # several passes, the last of them shorter
    block = trained_block(*channels)
    x = torch.randn(2, channels[0], 8, 12)
    small = torch.randn(2, channels[0], 4, 6)
    condition = one_hot(layouts(), CLASSES)
    expected = block(x, condition)
    doubled = {mode: nn.functional.interpolate(small, scale_factor=2, mode=mode) for mode in ("nearest", "bilinear")}
    expected_doubled = {mode: block(features, condition) for mode, features in doubled.items()}
    conditions = ConditionCache()
    tabulated, patches = TabulatedSpadeBlock(block, conditions, torch.float32), conditions.patches(condition, (8, 12))
    assert patches is not None and patches.is_dense == (share == 0.0)
    assert torch.allclose(tabulated(x, condition), expected, atol=1e-5)
    for at_once in (spade_tables.PIXELS_AT_ONCE, 100):  # and each image by itself
        monkeypatch.setattr(spade_tables, "PIXELS_AT_ONCE", at_once)
        for mode, wanted in expected_doubled.items():
            block.upsampling = mode
            assert torch.allclose(tabulated(small, condition), wanted, atol=1e-5)
            assert torch.allclose(block(small, condition), wanted, atol=1e-5)


@torch.no_grad()
def test_a_block_in_bfloat16_is_near_and_leaves_the_trained_block_as_it_was() -> None:
    block = trained_block(6, 4)
    before = {name: value.clone() for name, value in block.state_dict().items()}
    x, condition = torch.randn(2, 6, 8, 12), one_hot(layouts(), CLASSES)
    expected = TabulatedSpadeBlock(block, ConditionCache(), torch.float32)(x, condition)
    rough = TabulatedSpadeBlock(block, ConditionCache(), torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        result = rough(x, condition)
    assert result.dtype == torch.bfloat16 and torch.equal(rough(x, condition), result.float())
    assert (result.float() - expected).abs().mean() < 0.02 * expected.abs().mean()
    assert all(torch.equal(value, before[name]) for name, value in block.state_dict().items())
