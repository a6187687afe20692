from __future__ import annotations

import math

import pytest
import torch

from scenepalette.generators.images.lecam import DECAY, LecamAnchors, log_odds_of_real


def test_with_one_real_class_log_odds_are_the_difference_of_logits() -> None:
    logits = torch.randn(2, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(log_odds_of_real(logits), logits[:, 0] - logits[:, 1])


def test_log_odds_are_those_of_the_softmax() -> None:
    logits = torch.randn(2, 6, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p = logits.softmax(dim=1)[:, :-1].sum(dim=1)
    torch.testing.assert_close(log_odds_of_real(logits), (p / (1 - p)).log())


def test_the_regularisation_by_hand() -> None:
    anchors = LecamAnchors()
    # First step: anchors are the means of the step itself, 2 for real and -1 for generated scores.
    first = anchors([torch.tensor([1.0, 3.0])], [torch.tensor([-2.0, 0.0])])
    assert first.item() == pytest.approx((2**2 + 4**2) / 2 + (4**2 + 2**2) / 2)
    # Second step: those means are the anchors.
    second = anchors([torch.tensor([4.0, 4.0])], [torch.tensor([1.0, 1.0])])
    assert second.item() == pytest.approx(5**2 + 1**2)
    # Third step: the mean of both steps, the later one weighing 1 / DECAY times the earlier one.
    real, fake = (2 * DECAY + 4) / (DECAY + 1), (-1 * DECAY + 1) / (DECAY + 1)
    third = anchors([torch.tensor([0.0])], [torch.tensor([0.0])])
    assert third.item() == pytest.approx(fake**2 + real**2, rel=1e-4)


def test_scales_have_their_own_anchors_and_are_averaged() -> None:
    both, fine, coarse = LecamAnchors(2), LecamAnchors(), LecamAnchors()
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        real, fake = ([torch.randn(2, 1, n, n, generator=generator) for n in (8, 4)] for _ in range(2))
        result = both(real, fake)
        torch.testing.assert_close(result, (fine(real[:1], fake[:1]) + coarse(real[1:], fake[1:])) / 2)


def test_pixels_that_do_not_count_are_left_out() -> None:
    scores = [torch.tensor([[1.0, 2.0], [3.0, math.nan]])]
    counted = torch.tensor([[True, True], [True, False]])
    anchors = LecamAnchors()
    anchors(scores, scores, counted)
    torch.testing.assert_close(anchors.sums / anchors.weight, torch.full((2, 1), 2.0))
    assert anchors(scores, scores, counted).item() == pytest.approx(2 * (1 + 0 + 1) / 3)


def test_the_gradient_pulls_each_side_towards_the_anchor_of_the_other() -> None:
    anchors = LecamAnchors()
    anchors([torch.tensor([2.0])], [torch.tensor([-1.0])])
    real, fake = torch.tensor([2.0], requires_grad=True), torch.tensor([-1.0], requires_grad=True)
    anchors([real], [fake]).backward()
    assert real.grad is not None and real.grad.item() == pytest.approx(2 * (2 - -1))
    assert fake.grad is not None and fake.grad.item() == pytest.approx(2 * (-1 - 2))
    assert not anchors.sums.requires_grad
