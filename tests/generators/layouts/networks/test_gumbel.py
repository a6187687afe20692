from __future__ import annotations

import math

import pytest
import torch

from scenepalette.common.randomness import torch_generator
from scenepalette.generators.layouts.networks.gumbel import gumbel_softmax, sample_gumbel, straight_through


def test_straight_through_is_one_hot_forward_and_the_identity_backward() -> None:
    soft = torch.tensor([[[[0.2, 0.5]], [[0.7, 0.1]], [[0.1, 0.4]]]], requires_grad=True)
    hard = straight_through(soft)
    assert torch.equal(hard, torch.tensor([[[[0.0, 1.0]], [[1.0, 0.0]], [[0.0, 0.0]]]]))
    weights = torch.randn(1, 3, 1, 2, generator=torch.Generator().manual_seed(0))
    (weights * hard).sum().backward()
    assert soft.grad is not None
    assert torch.equal(soft.grad, weights)


def test_straight_through_keeps_a_one_hot_layout() -> None:
    hard = straight_through(torch.softmax(torch.randn(2, 4, 5, 6), dim=1))
    assert torch.equal(straight_through(hard), hard)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_gumbel_softmax_by_hand(temperature: float) -> None:
    share, noise, weights = [0.5, 0.3, 0.2], [0.1, 1.2, -0.4], [1.0, -2.0, 0.5]
    soft = torch.tensor(share).view(1, 3, 1, 1).requires_grad_(True)
    drawn = gumbel_softmax(soft, torch.tensor(noise).view(1, 3, 1, 1), temperature)
    # Eq. 1: ln 0.5 + 0.1 = -0.593, ln 0.3 + 1.2 = -0.004, ln 0.2 - 0.4 = -2.009: the second class is drawn.
    assert drawn.flatten().tolist() == [0.0, 1.0, 0.0]
    (drawn.flatten() * torch.tensor(weights)).sum().backward()
    powers = [math.exp((math.log(p) + g) / temperature) for p, g in zip(share, noise, strict=True)]
    scores = [power / sum(powers) for power in powers]
    mean = sum(w * s for w, s in zip(weights, scores, strict=True))
    # dS_k / dP_j = S_k (1 if k = j - S_j) / (tau P_j)
    expected = [s * (w - mean) / (temperature * p) for w, s, p in zip(weights, scores, share, strict=True)]
    assert soft.grad is not None
    assert soft.grad.flatten().tolist() == pytest.approx(expected, rel=1e-5)


def test_classes_are_drawn_as_often_as_their_shares_say() -> None:
    share = torch.tensor([0.6, 0.3, 0.1, 0.0])
    soft = share.view(1, 4, 1, 1).expand(2, 4, 200, 200)
    drawn = gumbel_softmax(soft, sample_gumbel((4, 200, 200), [torch_generator(0, i) for i in range(2)]))
    assert torch.equal(drawn.sum(dim=1), torch.ones(2, 200, 200))
    # Five standard deviations of a share of 0.5 of 40,000 pixels are 0.0125.
    torch.testing.assert_close(drawn.mean(dim=(2, 3)), share.expand(2, 4), atol=0.0125, rtol=0)
    assert drawn[:, 3].max() == 0.0


def test_shares_of_zero_and_one_have_finite_gradients() -> None:
    logits = torch.tensor([[90.0, -90.0, 0.0]]).view(1, 3, 1, 1).expand(1, 3, 40, 40).clone().requires_grad_(True)
    drawn = gumbel_softmax(torch.softmax(logits, dim=1), sample_gumbel((3, 40, 40), [torch_generator(1)]))
    assert torch.equal(drawn[:, 0], torch.ones(1, 40, 40))
    drawn[:, 1:].sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_gumbel_noise_has_its_distribution_and_belongs_to_its_sample() -> None:
    noise = sample_gumbel((3, 100, 100), [torch_generator(5, sample) for sample in range(3)])
    assert noise.shape == (3, 3, 100, 100)
    assert torch.isfinite(noise).all()
    assert noise.mean().item() == pytest.approx(0.5772, abs=0.02)  # Euler's constant
    assert noise.var().item() == pytest.approx(math.pi**2 / 6, rel=0.03)
    assert torch.equal(sample_gumbel((3, 100, 100), [torch_generator(5, 2)])[0], noise[2])
    assert not torch.equal(noise[0], noise[1])
