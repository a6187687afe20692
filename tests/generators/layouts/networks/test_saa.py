from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from scenepalette.generators.layouts.networks.saa import (
    LARGEST_RATIO,
    ActivatedMask,
    class_weights,
    conditional_loss,
    entropy_loss,
    semantically_assisted_activation,
    spread_loss,
)


def random_case(seed: int, batch: int = 2, classes: int = 4, height: int = 3, width: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    features = 3 * torch.randn(batch, classes, height, width, generator=generator)
    palette = torch.rand(batch, classes, generator=generator)
    return features, palette / palette.sum(dim=1, keepdim=True)


def by_loops(features: Tensor, palette: Tensor) -> tuple[list[list[list[float]]], list[list[list[float]]]]:
    """Return m and omega as [sample][class][pixel], one sum of Eq. 1 and 2 at a time."""
    masks, densities = [], []
    for sample, shares in zip(features.flatten(2).tolist(), palette.tolist(), strict=True):
        density = []
        for feature, share in zip(sample, shares, strict=True):
            total = sum(math.exp(value) for value in feature)
            density.append([share * math.exp(value) / total for value in feature])
        pixels = range(len(density[0]))
        sums = [sum(values[pixel] for values in density) for pixel in pixels]
        masks.append([[values[pixel] / sums[pixel] for pixel in pixels] for values in density])
        densities.append(density)
    return masks, densities


def test_two_pixels_by_hand() -> None:
    # rho = (3/4, 1/4) and (1/2, 1/2); omega = (3/8, 1/8) and (1/4, 1/4); m = (3/5, 1/3) and (2/5, 2/3).
    features = torch.tensor([[[[math.log(3), 0.0]], [[7.0, 7.0]]]])
    result = semantically_assisted_activation(features, torch.tensor([[0.5, 0.5]]))
    expected = torch.tensor([[[[3 / 8, 1 / 8]], [[1 / 4, 1 / 4]]]])
    torch.testing.assert_close(result.log_density.exp(), expected)
    torch.testing.assert_close(result.mask, torch.tensor([[[[3 / 5, 1 / 3]], [[2 / 5, 2 / 3]]]]))
    # H(3/5) = 0.673012 and H(1/3) = 0.636514; (1 - 2 * 5/8)^2 = (1 - 2 * 3/8)^2 = 1/16.
    assert entropy_loss(result.mask).item() == pytest.approx((0.673012 + 0.636514) / 2, abs=1e-6)
    assert spread_loss(result.log_density).item() == pytest.approx(1 / 16, abs=1e-6)
    assert conditional_loss([result]).item() == pytest.approx(0.654763 + 0.0625, abs=2e-6)


@pytest.mark.parametrize("seed", range(3))
def test_activation_and_losses_equal_plain_loops(seed: int) -> None:
    features, palette = random_case(seed)
    masks, densities = by_loops(features, palette)
    result = semantically_assisted_activation(features, palette)
    torch.testing.assert_close(result.mask.flatten(2), torch.tensor(masks), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(result.log_density.exp().flatten(2), torch.tensor(densities), rtol=1e-5, atol=1e-7)

    samples, pixels = range(len(masks)), range(len(masks[0][0]))
    entropies = [-sum(c[p] * math.log(c[p]) for c in masks[s]) for s in samples for p in pixels]
    spreads = [(1 - len(pixels) * sum(c[p] for c in densities[s])) ** 2 for s in samples for p in pixels]
    count = len(samples) * len(pixels)
    assert entropy_loss(result.mask).item() == pytest.approx(sum(entropies) / count, rel=1e-5)
    assert spread_loss(result.log_density).item() == pytest.approx(sum(spreads) / count, rel=1e-5)


def test_density_spends_the_palette_and_the_mask_is_a_distribution_at_each_pixel() -> None:
    features, palette = random_case(5, height=16, width=32)
    result = semantically_assisted_activation(features, palette)
    torch.testing.assert_close(result.log_density.exp().sum(dim=(2, 3)), palette)
    torch.testing.assert_close(result.mask.sum(dim=1), torch.ones(2, 16, 32))
    assert result.mask.min() >= 0


def test_it_is_one_step_of_the_sinkhorn_algorithm() -> None:
    # Appendix A, Eq. 9 and 10, from P = exp(f); further steps would bring the soft shares to the palette exactly.
    features, palette = random_case(6, batch=1)
    plan, shares = features[0].flatten(1).double().exp(), palette[0].double()
    pixels = plan.shape[1]
    plan = torch.diag(shares / plan.sum(dim=1)) @ plan
    plan = plan @ torch.diag((1 / pixels) / plan.sum(dim=0))
    mask = semantically_assisted_activation(features, palette).mask
    torch.testing.assert_close(mask[0].flatten(1).double(), pixels * plan, rtol=1e-5, atol=1e-7)


def sinkhorn_by_loops(features: np.ndarray, palette: np.ndarray, iterations: int) -> tuple[np.ndarray, np.ndarray]:
    """Return m and the last omega, [K, N], by appendix A: scale each row to its share, then each column to 1 / N."""
    plan = np.exp(features.astype(np.float64))
    classes, pixels = plan.shape
    density = plan
    for _ in range(iterations):
        for c in range(classes):
            plan[c] *= palette[c] / plan[c].sum()
        density = plan.copy()
        for n in range(pixels):
            plan[:, n] *= (1 / pixels) / plan[:, n].sum()
    return pixels * plan, density


@pytest.mark.parametrize("iterations", [1, 2, 5])
def test_sinkhorn_iterations_equal_plain_loops(iterations: int) -> None:
    features, palette = random_case(7)
    result = semantically_assisted_activation(features, palette, iterations)
    for sample in range(2):
        mask, density = sinkhorn_by_loops(features[sample].flatten(1).numpy(), palette[sample].numpy(), iterations)
        np.testing.assert_allclose(result.mask[sample].flatten(1).numpy(), mask, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(result.log_density[sample].flatten(1).exp().numpy(), density, rtol=1e-4, atol=1e-7)


def test_one_iteration_is_the_activation_of_the_paper_to_the_bit() -> None:
    features, palette = random_case(8, height=16, width=32)
    density = palette.log()[:, :, None, None] + (features - torch.logsumexp(features, dim=(2, 3), keepdim=True))
    for result in (
        semantically_assisted_activation(features, palette),
        semantically_assisted_activation(features, palette, 1),
    ):
        assert torch.equal(result.log_density, density)
        assert torch.equal(result.mask, torch.softmax(density, dim=1))


def test_further_iterations_bring_the_shares_of_the_mask_to_the_palette() -> None:
    features, palette = random_case(9, height=8, width=8)
    gaps = []
    for iterations in (1, 2, 4, 200):
        result = semantically_assisted_activation(features, palette, iterations)
        torch.testing.assert_close(result.log_density.exp().sum(dim=(2, 3)), palette)
        torch.testing.assert_close(result.mask.sum(dim=1), torch.ones(2, 8, 8))
        gaps.append((result.mask.mean(dim=(2, 3)) - palette).abs().max().item())
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0] > 0.01 and gaps[-1] < 1e-5
    assert spread_loss(result.log_density).item() == pytest.approx(0.0, abs=1e-6)


def test_further_iterations_leave_out_a_class_without_a_share_and_harm_no_gradient() -> None:
    features, _ = random_case(2)
    features.requires_grad_(True)
    palette = torch.tensor([[0.5, 0.0, 0.5, 0.0], [0.0, 0.0, 1.0, 0.0]])
    result = semantically_assisted_activation(features, palette, 3)
    assert result.mask[:, [1, 3]].abs().max().item() == 0.0
    conditional_loss([result]).backward()
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()
    assert features.grad[0, [0, 2]].abs().max().item() > 0.0


def test_low_losses_mean_that_the_palette_is_met() -> None:
    # Section 3.2: with little spread and entropy the hard shares are the palette. Four pixels, two and two.
    features = torch.tensor([[[[60.0, 60.0], [0.0, 0.0]], [[0.0, 0.0], [60.0, 60.0]]]])
    result = semantically_assisted_activation(features, torch.tensor([[0.5, 0.5]]))
    assert conditional_loss([result]).item() == pytest.approx(0.0, abs=1e-6)
    assert result.mask.argmax(dim=1).tolist() == [[[0, 0], [1, 1]]]
    # Spent on one pixel alone, the same palette spreads badly: (1 - 4 * 1/2)^2 = 1 at two pixels, 1 at the others.
    features = torch.tensor([[[[60.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 60.0]]]])
    result = semantically_assisted_activation(features, torch.tensor([[0.5, 0.5]]))
    assert spread_loss(result.log_density).item() == pytest.approx(1.0, abs=1e-5)


def test_equal_features_give_the_palette_at_every_pixel() -> None:
    palette = torch.tensor([[0.7, 0.2, 0.1]])
    result = semantically_assisted_activation(torch.full((1, 3, 4, 4), 11.0), palette)
    torch.testing.assert_close(result.mask, palette[:, :, None, None].expand(1, 3, 4, 4))
    assert spread_loss(result.log_density).item() == pytest.approx(0.0, abs=1e-10)
    entropy = -sum(p * math.log(p) for p in (0.7, 0.2, 0.1))
    assert entropy_loss(result.mask).item() == pytest.approx(entropy, rel=1e-5)


def test_a_palette_of_one_class_gives_it_everywhere() -> None:
    features, _ = random_case(1)
    palette = torch.tensor([[0.0, 0.0, 1.0, 0.0]]).expand(2, -1)
    result = semantically_assisted_activation(features, palette)
    assert torch.equal(result.mask[:, 2], torch.ones(2, 3, 5))
    assert entropy_loss(result.mask).item() == pytest.approx(0.0, abs=1e-9)


def test_a_class_without_a_share_gets_no_mass_and_harms_no_gradient() -> None:
    features, _ = random_case(2)
    features[:, 1] += 100.0
    features.requires_grad_(True)
    palette = torch.tensor([[0.5, 0.0, 0.5, 0.0]]).expand(2, -1)
    result = semantically_assisted_activation(features, palette)
    assert result.mask[:, [1, 3]].abs().max().item() == 0.0
    conditional_loss([result]).backward()
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()
    assert features.grad[:, [1, 3]].abs().max().item() == 0.0
    assert features.grad[:, [0, 2]].abs().max().item() > 0.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_large_features_and_low_precision_stay_finite_float32(dtype: torch.dtype) -> None:
    features, palette = random_case(3, height=64, width=128)
    result = semantically_assisted_activation((300 * features).to(dtype), palette)
    assert result.mask.dtype == torch.float32
    assert torch.isfinite(result.mask).all()
    torch.testing.assert_close(result.mask.sum(dim=1), torch.ones(2, 64, 128))
    torch.testing.assert_close(result.log_density.exp().sum(dim=(2, 3)), palette, rtol=1e-4, atol=1e-5)
    assert math.isfinite(conditional_loss([result]).item())


def test_conditional_loss_is_the_mean_over_scales() -> None:
    scales = [semantically_assisted_activation(*random_case(seed, height=2 + seed)) for seed in range(3)]
    each = [(entropy_loss(scale.mask) + spread_loss(scale.log_density)).item() for scale in scales]
    assert conditional_loss(scales).item() == pytest.approx(sum(each) / 3, rel=1e-6)


def test_entropy_of_a_uniform_mask_is_the_logarithm_of_the_classes() -> None:
    mask = ActivatedMask(torch.full((2, 8, 3, 3), 1 / 8), torch.zeros(1)).mask
    assert entropy_loss(mask).item() == pytest.approx(math.log(8), rel=1e-6)


def test_weights_of_classes_by_hand() -> None:
    shares = torch.tensor([0.64, 0.32, 0.04])
    # By the root: 1 : sqrt 2 : 4, and 0.64 + 0.32 sqrt 2 + 0.16 on average over pixels.
    expected = torch.tensor([1.0, math.sqrt(2), 4.0]) / (0.8 + 0.32 * math.sqrt(2))
    torch.testing.assert_close(class_weights(shares, 0.5), expected)
    assert class_weights(shares, 0.0).tolist() == [1.0, 1.0, 1.0]
    torch.testing.assert_close(class_weights(shares, 1.0), 1 / shares / 3)


@pytest.mark.parametrize("balance", [0.1, 0.5, 1.0])
def test_a_class_that_hardly_occurs_counts_a_bounded_time_more(balance: float) -> None:
    weights = class_weights(torch.tensor([1.0 - 1e-30, 1e-30, 0.0]), balance)
    assert weights[1] == weights[2]
    assert float(weights[1] / weights[0]) == pytest.approx(LARGEST_RATIO, rel=1e-4)


def test_weighted_losses_equal_plain_loops_and_weights_of_one_change_nothing() -> None:
    features, palette = random_case(8)
    masks, densities = by_loops(features, palette)
    result = semantically_assisted_activation(features, palette)
    weights = [0.5, 2.0, 1.0, 3.0]
    entropies, spreads = [], []
    for mask, density in zip(masks, densities, strict=True):
        pixels = range(len(mask[0]))
        entropies += [-sum(w * c[p] * math.log(c[p]) for w, c in zip(weights, mask, strict=True)) for p in pixels]
        spreads += [
            sum(w * c[p] for w, c in zip(weights, mask, strict=True))
            * (1 - len(pixels) * sum(c[p] for c in density)) ** 2
            for p in pixels
        ]
    expected = sum(entropies) / len(entropies) + sum(spreads) / len(spreads)
    assert conditional_loss([result], torch.tensor(weights)).item() == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(conditional_loss([result], torch.ones(4)), conditional_loss([result]))
