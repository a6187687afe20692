from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor, nn

from scenepalette.data.labels import one_hot
from scenepalette.generators.layouts.losses import (
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    hard_layout_at_level,
    layout_at_level,
    matching_loss,
    novelty_loss,
    soften_layout,
)
from scenepalette.generators.layouts.networks.progressive import LayoutDiscriminator


def test_adversarial_losses_by_hand() -> None:
    real, fake = torch.tensor([1.0, 3.0]), torch.tensor([0.5, -1.5])
    # -0.5 - 2 + 0.001 * (1 + 9) / 2
    assert discriminator_loss(real, fake).item() == pytest.approx(-2.495)
    assert generator_loss(fake).item() == pytest.approx(0.5)


def test_scores_of_another_shape_are_refused() -> None:
    with pytest.raises(AssertionError):
        discriminator_loss(torch.zeros(2, 1), torch.zeros(2))


def test_penalty_of_a_linear_discriminator_depends_on_its_slope_alone() -> None:
    slope = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(0))
    real, fake = torch.randn(2, 5, 3, 2, 4, generator=torch.Generator().manual_seed(1))
    penalty = gradient_penalty(lambda x: (x * slope).sum(dim=(1, 2, 3)), real, fake, torch.rand(5))
    assert penalty.item() == pytest.approx((math.sqrt(slope.square().sum().item()) - 1) ** 2, rel=1e-5)


def test_penalty_is_taken_on_the_line_between_the_samples() -> None:
    # The gradient of |x|^2 / 2 is x itself: its norm tells where the penalty was taken.
    real, fake = torch.zeros(3, 1, 1, 2), torch.zeros(3, 1, 1, 2)
    real[:, 0, 0, 0], fake[:, 0, 0, 1] = 3.0, 4.0
    share = torch.tensor([0.0, 1.0, 0.5])  # at (3, 0), (0, 4) and (1.5, 2)
    penalty = gradient_penalty(lambda x: x.square().sum(dim=(1, 2, 3)) / 2, real, fake, share)
    assert penalty.item() == pytest.approx((2.0**2 + 3.0**2 + 1.5**2) / 3)


def test_value_and_parameter_gradient_of_the_penalty_by_finite_differences() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Tanh(), nn.Conv2d(3, 1, 2), nn.Softplus()).double()

    def discriminator(x: Tensor) -> Tensor:
        return 10 * net(x).mean(dim=(1, 2, 3))

    real, fake = torch.randn(2, 3, 2, 5, 4, dtype=torch.float64)
    share = torch.rand(3, dtype=torch.float64)

    def by_differences() -> float:
        """Return the penalty with the discriminator's gradient from central differences in every input."""
        with torch.no_grad():
            mixed, step = (1 - share[:, None, None, None]) * real + share[:, None, None, None] * fake, 1e-5
            squares = torch.zeros(3, dtype=torch.float64)
            for index in range(mixed[0].numel()):
                offset = torch.zeros(mixed[0].numel(), dtype=torch.float64)
                offset[index] = step
                offset = offset.view_as(mixed[0])
                squares += ((discriminator(mixed + offset) - discriminator(mixed - offset)) / (2 * step)).square()
            return float(((squares.sqrt() - 1) ** 2).mean())

    penalty = gradient_penalty(discriminator, real, fake, share)
    assert penalty.item() == pytest.approx(by_differences(), rel=1e-8)
    assert penalty.item() > 1e-2
    penalty.backward()
    for parameter in net.parameters():
        flat = parameter.data.view(-1)
        for index in {0, len(flat) // 2, len(flat) - 1}:
            kept, step = flat[index].item(), 1e-5
            flat[index] = kept + step
            above = gradient_penalty(discriminator, real, fake, share).item()
            flat[index] = kept - step
            below = gradient_penalty(discriminator, real, fake, share).item()
            flat[index] = kept
            gradient = 0.0 if parameter.grad is None else parameter.grad.view(-1)[index].item()
            assert gradient == pytest.approx((above - below) / (2 * step), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("fade", [0.5, 1.0])
def test_parameter_gradients_of_the_layout_discriminators_penalty(fade: float, monkeypatch: pytest.MonkeyPatch) -> None:
    # Double precision throughout, also where the discriminator asks for single: differences need small steps, because
    # the penalty jumps where a leaky ReLU bends.
    monkeypatch.setattr(torch.Tensor, "float", lambda self: self)
    torch.manual_seed(0)
    discriminator = LayoutDiscriminator(3, (3, 4), 2, 8, 32).double()
    real, fake = torch.softmax(torch.randn(2, 4, 3, 12, 16, dtype=torch.float64), dim=2)
    share = torch.rand(4, dtype=torch.float64)

    def penalty() -> Tensor:
        return gradient_penalty(partial(discriminator, level=2, fade=fade), real, fake, share)

    penalty().backward()
    parameters = [parameter for parameter in discriminator.parameters() if parameter.grad is not None]
    assert len(parameters) >= 10
    for parameter in parameters:
        assert parameter.grad is not None
        direction, step, values = torch.randn_like(parameter), 1e-7, []
        for move in (step, -2 * step, step):  # forth, back and home again
            with torch.no_grad():
                parameter.add_(direction, alpha=move)
            values.append(penalty().item())
        slope = (parameter.grad * direction).sum().item()
        assert slope == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-4, abs=1e-6)


def blurred_by_scipy(layout: np.ndarray, sigma: float, radius: int) -> np.ndarray:
    for axis in (2, 3):
        layout = gaussian_filter1d(layout, sigma, axis=axis, mode="mirror", radius=radius)
    return layout


@pytest.mark.parametrize(("sigma", "radius"), [(1.0, 3), (1.6, 5), (0.2, 1), (9.0, 5)])
def test_softening_is_half_the_layout_and_half_its_gaussian_blur(sigma: float, radius: int) -> None:
    label = torch.randint(0, 3, (2, 12, 16), generator=torch.Generator().manual_seed(0))
    layout = one_hot(label, 3)
    soft = soften_layout(layout, sigma)
    expected = 0.5 * layout.numpy() + 0.5 * blurred_by_scipy(layout.double().numpy(), sigma, radius)
    np.testing.assert_allclose(soft.numpy(), expected, atol=1e-6)
    torch.testing.assert_close(soft.sum(dim=1), torch.ones(2, 12, 16))
    # Section 3.2: the prevailing class at each pixel stays the true one.
    assert torch.equal(soft.argmax(dim=1), label)
    assert soft.gather(1, label[:, None]).min() > 0.5


def test_a_layout_too_small_to_blur_is_left_alone() -> None:
    layout = one_hot(torch.tensor([[[0, 1, 1, 0], [1, 1, 0, 0]]]), 2)
    assert torch.equal(soften_layout(layout, 1.0), layout)


def test_a_uniform_layout_stays_as_it_is() -> None:
    layout = one_hot(torch.ones(1, 6, 8, dtype=torch.int64), 3)
    torch.testing.assert_close(soften_layout(layout, 2.0), layout)


def test_layouts_of_a_level_are_picked_softened_and_faded() -> None:
    label = torch.randint(0, 3, (2, 24, 32), generator=torch.Generator().manual_seed(0))
    layout = one_hot(label, 3)
    picked = one_hot(label[:, 1::2, 1::2], 3)  # the pixel under the centre of each 2x2, rounded down
    lower = one_hot(label[:, 2::4, 2::4], 3)
    full = layout_at_level(layout, (12, 16), 1.0, 1 / 12)
    torch.testing.assert_close(full, soften_layout(picked, 1.0))
    half = soften_layout(lower, 0.5).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    torch.testing.assert_close(layout_at_level(layout, (12, 16), 0.0, 1 / 12), half)
    torch.testing.assert_close(layout_at_level(layout, (12, 16), 0.25, 1 / 12), 0.75 * half + 0.25 * full)


@pytest.mark.parametrize("size", [(3, 4), (6, 8), (24, 32)])
def test_layouts_of_every_level_sum_to_one(size: tuple[int, int]) -> None:
    layout = one_hot(torch.randint(0, 3, (2, 24, 32), generator=torch.Generator().manual_seed(0)), 3)
    small = layout_at_level(layout, size, 1.0, 1 / 64)
    assert small.shape == (2, 3, *size)
    torch.testing.assert_close(small.sum(dim=1), torch.ones(2, *size))


def test_matching_loss_by_hand() -> None:
    # Shares 1/2 and 1/2 of the first sample, 3/4 and 1/4 of the second; nothing is wanted of its second class.
    soft = torch.tensor([[[[0.9, 0.1]], [[0.1, 0.9]]], [[[1.0, 0.5]], [[0.0, 0.5]]]], requires_grad=True)
    palette = torch.tensor([[0.25, 0.75], [1.0, 0.0]])
    first = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    second = math.log(1 / 0.75)
    loss = matching_loss(soft, palette)
    assert loss.item() == pytest.approx((first + second) / 2, rel=1e-6)
    loss.backward()
    # d/dm of -t_c ln(mean of m_c) is -t_c / share / pixels, here for half of the mean over samples.
    assert soft.grad is not None
    assert soft.grad[0, 1].flatten().tolist() == pytest.approx([-0.75 / 0.5 / 2 / 2] * 2)


def test_matching_is_met_by_a_layout_that_never_shows_a_class() -> None:
    # Section 3.2: why the paper does without this loss. The second class has its share and no pixel.
    soft = torch.tensor([[0.7, 0.3]])[:, :, None, None].expand(1, 2, 4, 4)
    assert matching_loss(soft, torch.tensor([[0.7, 0.3]])).item() == pytest.approx(0.0, abs=1e-6)
    assert soft.argmax(dim=1).max() == 0
    assert matching_loss(one_hot(torch.zeros(1, 4, 4, dtype=torch.int64), 2), torch.tensor([[0.7, 0.3]])) > 5


def test_novelty_loss_by_hand() -> None:
    layout = one_hot(torch.tensor([[[0, 1, 1]], [[2, 2, 0]], [[0, 0, 0]]]), 3)
    soft = torch.zeros(3, 3, 1, 3)
    soft[0, :, 0] = torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.1, 0.3], [0.5, 0.4, 0.1]]).T
    soft[1, :, 0] = torch.tensor([[0.1, 0.2, 0.7], [0.0, 0.0, 1.0], [0.9, 0.1, 0.0]]).T
    soft[2] = layout[2]
    edited = torch.tensor([[[1, 1, 0]], [[0, 1, 0]], [[0, 0, 0]]]) > 0
    # First: (0.2 + 0.1) / 2; second: 1.0 / 1; third: nothing was edited.
    assert novelty_loss(soft, layout, edited).item() == pytest.approx((0.15 + 1.0 + 0.0) / 3)
    assert novelty_loss(1 - layout, layout, edited).item() == 0.0


def test_hard_layouts_of_a_level_are_picked_from_both_resolutions_while_it_fades_in() -> None:
    label = torch.randint(0, 3, (2, 24, 32), generator=torch.Generator().manual_seed(0))
    layout, uniform = one_hot(label, 3), torch.rand(2, 1, 12, 16, generator=torch.Generator().manual_seed(1))
    full = one_hot(label[:, 1::2, 1::2], 3)
    half = one_hot(label[:, 2::4, 2::4], 3).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    assert torch.equal(hard_layout_at_level(layout, (12, 16), 1.0, uniform), full)
    mixed = hard_layout_at_level(layout, (12, 16), 0.25, uniform)
    assert torch.equal(mixed, torch.where(uniform < 0.25, full, half))
    assert set(mixed.unique().tolist()) == {0.0, 1.0}
