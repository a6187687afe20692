from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import entropy

from scenepalette.segmenters.advent import (
    ADAPTED_DOMAIN,
    REFERENCE_DOMAIN,
    build_advent_discriminator,
    domain_loss,
    minimum_entropy_loss,
    weighted_self_information,
)


def test_self_information_by_hand() -> None:
    probabilities = torch.tensor([0.5, 0.25, 0.25, 0.0]).view(1, 4, 1, 1)
    # -p log2 p = 0.5, 0.5, 0.5, 0; log2 4 = 2
    expected = torch.tensor([0.25, 0.25, 0.25, 0.0]).view(1, 4, 1, 1)
    torch.testing.assert_close(weighted_self_information(probabilities), expected)


def test_entropy_of_a_prediction_equals_scipys() -> None:
    probabilities = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0)).softmax(dim=1)
    expected = entropy(probabilities.numpy(), base=5, axis=1).mean()
    assert minimum_entropy_loss(probabilities).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("probabilities", "loss"), [([0.25] * 4, 1.0), ([0.0, 1.0, 0.0, 0.0], 0.0)])
def test_entropy_limits(probabilities: list[float], loss: float) -> None:
    map_of_one_pixel = torch.tensor(probabilities).view(1, 4, 1, 1)
    assert minimum_entropy_loss(map_of_one_pixel).item() == pytest.approx(loss, abs=1e-6)


def test_gradient_is_finite_where_a_softmax_underflows() -> None:
    logits = torch.tensor([0.0, 500.0]).view(1, 2, 1, 1).requires_grad_()
    minimum_entropy_loss(logits.softmax(dim=1)).backward()
    assert logits.grad is not None and torch.isfinite(logits.grad).all()


def test_discriminator_as_published() -> None:
    discriminator = build_advent_discriminator(12)
    pairs = [(12, 64), (64, 128), (128, 256), (256, 512), (512, 1)]
    assert sum(p.numel() for p in discriminator.parameters()) == sum(16 * a * b + b for a, b in pairs)
    assert discriminator(torch.zeros(2, 12, 96, 128)).shape == (2, 1, 3, 4)


def test_domain_loss_by_hand() -> None:
    scores = torch.tensor([0.0, 2.0])
    adapted = (math.log(2) + math.log(1 + math.exp(-2))) / 2
    reference = (math.log(2) + math.log(1 + math.exp(2))) / 2
    assert domain_loss(scores, ADAPTED_DOMAIN).item() == pytest.approx(adapted, rel=1e-5)
    assert domain_loss(scores, REFERENCE_DOMAIN).item() == pytest.approx(reference, rel=1e-5)
