"""Adversarial losses of layout generators and the softening of real layouts (Semantic Palette, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

DRIFT = 1e-3  # ProGAN, appendix A.1: keeps the critic's scores near zero


def critic_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """Return the Wasserstein critic's loss without penalty (Gulrajani et al., 2017), with ProGAN's drift term.

    Args:
        real_scores: [B].
        fake_scores: [B].
    """
    assert real_scores.ndim == fake_scores.ndim == 1
    return fake_scores.mean() - real_scores.mean() + DRIFT * real_scores.square().mean()


def generator_loss(fake_scores: Tensor) -> Tensor:
    """Return the Wasserstein generator's loss: the negative mean score.

    Args:
        fake_scores: [B].
    """
    return -fake_scores.mean()


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, share: Tensor) -> Tensor:
    """Return the mean of (|gradient of the critic| - 1)^2 on lines between real and generated samples.

    Gulrajani et al., "Improved training of Wasserstein GANs", Eq. 3, without its weight of 10.

    Args:
        critic: Maps BKHW to [B].
        real: BKHW.
        fake: BKHW.
        share: [B] in [0, 1], the position on the line.
    """
    mixed = torch.lerp(real.detach(), fake.detach(), share[:, None, None, None]).requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1.0).square().mean()


def soften_layout(layout: Tensor, sigma: float) -> Tensor:
    """Mix a one-hot layout half and half with its Gaussian-blurred copy, so that the true class keeps the majority.

    Args:
        layout: One-hot BKHW.
        sigma: Standard deviation of the blur in pixels.
    """
    side = min(layout.shape[2:])
    radius = min(max(1, round(3 * sigma)), (side - 1) // 2)
    if radius < 1:
        return layout
    # The blur mirrors at the border, which keeps the classes summing to 1.
    return 0.5 * layout + 0.5 * gaussian_blur(layout, [2 * radius + 1] * 2, [sigma] * 2)


def layout_at_level(layout: Tensor, size: tuple[int, int], fade: float, relative_sigma: float) -> Tensor:
    """Return real layouts as the critic sees them at a level of the growing network.

    Pixels are picked, not averaged, when the layout is made smaller: rare classes keep their share on average and the
    result is one-hot again before it is softened. While a level fades in, real layouts are mixed with their own lower
    resolution, as the generated ones are (ProGAN, Figure 2).

    Args:
        layout: One-hot BKHW at full size.
        size: Height and width of the level.
        fade: In [0, 1].
        relative_sigma: Blur of the softening as a fraction of the level's height.
    """
    small = soften_layout(F.interpolate(layout, size=size, mode="nearest-exact"), relative_sigma * size[0])
    if fade < 1:
        half = (size[0] // 2, size[1] // 2)
        lower = soften_layout(F.interpolate(layout, size=half, mode="nearest-exact"), relative_sigma * half[0])
        small = torch.lerp(F.interpolate(lower, size=size, mode="nearest"), small, fade)
    return small
