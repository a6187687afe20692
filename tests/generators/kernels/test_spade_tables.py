from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from scenepalette.data.labels import one_hot
from scenepalette.generators.kernels.dispatch import TUNING
from scenepalette.generators.kernels.label_patches import Patches, class_symbols
from scenepalette.generators.kernels.spade_tables import TabulatedSpadeBlock, fold_parametrizations
from scenepalette.generators.nn.blocks import SpadeResidualBlock

CLASSES = 3


def trained_block(in_channels: int, out_channels: int) -> SpadeResidualBlock:
    torch.manual_seed(0)
    block = SpadeResidualBlock(in_channels, out_channels, CLASSES, hidden_channels=7)
    for _ in range(3):  # spectral norms and batch statistics move
        block(torch.randn(4, in_channels, 8, 8) * 2 + 1, torch.rand(4, CLASSES, 8, 8))
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
    expected_doubled = block(nn.functional.interpolate(small, scale_factor=2, mode="nearest"), condition)
    fold_parametrizations(block)
    tabulated, patches = TabulatedSpadeBlock(block, torch.float32), Patches(class_symbols(layouts(), CLASSES))
    assert patches.is_dense == (share == 0.0)
    assert torch.allclose(tabulated(x, patches), expected, atol=1e-5)
    assert torch.allclose(tabulated(small, patches), expected_doubled, atol=1e-5)


@torch.no_grad()
def test_a_block_in_bfloat16_is_near_and_leaves_the_trained_block_as_it_was() -> None:
    block = trained_block(6, 4)
    fold_parametrizations(block)
    before = {name: value.clone() for name, value in block.state_dict().items()}
    x, patches = torch.randn(2, 6, 8, 12), Patches(class_symbols(layouts(), CLASSES))
    expected = TabulatedSpadeBlock(block, torch.float32)(x, patches)
    result = TabulatedSpadeBlock(block, torch.bfloat16)(x, patches)
    assert result.dtype == torch.bfloat16
    assert (result.float() - expected).abs().mean() < 0.02 * expected.abs().mean()
    assert all(torch.equal(value, before[name]) for name, value in block.state_dict().items())


def test_folding_keeps_the_weight_of_the_moment() -> None:
    torch.manual_seed(0)
    conv = spectral_norm(nn.Conv2d(3, 4, 3)).eval()
    weight = conv.weight.detach().clone()
    fold_parametrizations(nn.Sequential(conv))
    assert torch.equal(conv.weight, weight) and isinstance(conv.weight, nn.Parameter)
    assert set(conv.state_dict()) == {"weight", "bias"}
