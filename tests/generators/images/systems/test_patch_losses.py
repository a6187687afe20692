from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from scenepalette.generators.images.systems.patch_losses import (
    feature_matching_loss,
    hinge_discriminator_loss,
    hinge_generator_loss,
    kl_divergence,
    least_squares_discriminator_loss,
    least_squares_generator_loss,
    perceptual_loss,
)

REAL = [torch.tensor([[[[2.0, 0.5]]]]), torch.tensor([[[[-1.0]]]])]
FAKE = [torch.tensor([[[[-2.0, 1.0]]]]), torch.tensor([[[[0.0]]]])]


def test_hinge_by_hand() -> None:
    # Scale 1: real (0 + 0.5) / 2, fake (0 + 2) / 2; scale 2: real 2, fake 1.
    assert hinge_discriminator_loss(REAL, FAKE).item() == pytest.approx(((0.25 + 1.0) + (2.0 + 1.0)) / 2)
    assert hinge_generator_loss(FAKE).item() == pytest.approx((0.5 + 0.0) / 2)


def test_hinge_is_eq_2_of_the_paper() -> None:
    torch.manual_seed(0)
    real, fake = torch.randn(2, 3, 1, 4, 5)
    zero = torch.zeros(())
    expected = -torch.minimum(zero, -1 + real).mean() - torch.minimum(zero, -1 - fake).mean()
    torch.testing.assert_close(hinge_discriminator_loss([real], [fake]), expected)


def test_scores_beyond_the_margin_cost_the_discriminator_nothing() -> None:
    assert hinge_discriminator_loss([torch.full((2, 1, 3, 3), 1.5)], [torch.full((2, 1, 3, 3), -1.5)]).item() == 0.0


def test_least_squares_by_hand() -> None:
    # Scale 1: real (1 + 0.25) / 2, fake (4 + 1) / 2; scale 2: real 4, fake 0.
    expected = ((0.625 + 2.5) + (4.0 + 0.0)) / 2
    assert least_squares_discriminator_loss(REAL, FAKE).item() == pytest.approx(expected)
    assert least_squares_generator_loss(FAKE).item() == pytest.approx((9.0 + 0.0) / 2 + 1.0)


def test_feature_matching_by_hand_and_only_the_generated_side_learns() -> None:
    real = [[torch.zeros(1, 2, 1, 1, requires_grad=True), torch.ones(1, 1, 1, 1)], [torch.full((1, 1, 2, 1), 3.0)]]
    fake = [
        [torch.tensor([1.0, -3.0]).view(1, 2, 1, 1).requires_grad_(), torch.full((1, 1, 1, 1), 0.5)],
        [torch.tensor([3.0, 1.0]).view(1, 1, 2, 1)],
    ]
    loss = feature_matching_loss(real, fake)
    assert loss.item() == pytest.approx(((2.0 + 0.5) + 1.0) / 2)
    loss.backward()
    assert real[0][0].grad is None
    torch.testing.assert_close(fake[0][0].grad, torch.tensor([0.25, -0.25]).view(1, 2, 1, 1))


def test_perceptual_weights_grow_from_fine_to_coarse() -> None:
    def only(layer: int, count: int = 5) -> list[Tensor]:
        return [torch.tensor([1.0, 3.0]) if i == layer else torch.zeros(2) for i in range(count)]

    assert [perceptual_loss(only(i)).item() for i in range(5)] == pytest.approx([2 / 32, 2 / 16, 2 / 8, 2 / 4, 2.0])
    assert [perceptual_loss(only(i, 2)).item() for i in range(2)] == pytest.approx([2 / 4, 2.0])


def test_more_feature_maps_than_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        perceptual_loss([torch.ones(1)] * 6)


def test_kl_by_hand() -> None:
    mean, log_variance = torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([[0.0, math.log(4.0)], [0.0, 0.0]])
    expected = 0.5 * (1.0 + (4.0 - 1.0 - math.log(4.0))) / 2  # summed over Z, averaged over the batch
    assert kl_divergence(mean, log_variance).item() == pytest.approx(expected)


def test_kl_is_torchs() -> None:
    torch.manual_seed(0)
    mean, log_variance = torch.randn(2, 3, 7)
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(mean, (log_variance / 2).exp()), normal(0.0, 1.0))
    torch.testing.assert_close(kl_divergence(mean, log_variance), expected.sum(dim=1).mean())
