"""Losses of layouts beside L_COND, and real layouts as the discriminator sees them.

Le Moing et al., 2021, section 3.2.

Shapes: B batch, K classes, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from scenepalette.generators.kernels.winograd import input_gradients_alone
from scenepalette.generators.layouts.networks.saa import LOG_EPSILON

DRIFT = 1e-3  # Karras et al., 2018, appendix A.1: keeps the discriminator's scores near zero


def discriminator_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """Return the Wasserstein discriminator's loss without penalty (Gulrajani et al., 2017), with ProGAN's drift term.

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


def gradient_penalty(discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, share: Tensor) -> Tensor:
    """Return the mean of (|gradient of the discriminator| - 1)^2 on lines between real and generated samples.

    Gulrajani et al., "Improved training of Wasserstein GANs", Eq. 3, without its weight of 10.

    Args:
        discriminator: Maps BKHW to [B].
        real: BKHW.
        fake: BKHW.
        share: [B] in [0, 1], the position on the line.
    """
    mixed = torch.lerp(real.detach(), fake.detach(), share[:, None, None, None]).requires_grad_(True)
    scores = discriminator(mixed).sum()
    with input_gradients_alone():
        (gradient,) = torch.autograd.grad(scores, mixed, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1.0).square().mean()


def matching_loss(soft: Tensor, palette: Tensor) -> Tensor:
    """Return L_MATCH of Eq. 13: the mean over samples of KL(target palette, shares of the soft layout), in nats.

    Args:
        soft: m, BKHW, summing to 1 over classes.
        palette: t, BK, rows summing to 1.
    """
    shares = soft.mean(dim=(2, 3))  # Eq. 12
    return F.kl_div((shares + LOG_EPSILON).log(), palette, reduction="batchmean")


def novelty_loss(soft: Tensor, layout: Tensor, edited: Tensor) -> Tensor:
    """Return L_NOV of Eq. 14: how much of the edited pixels is still what was there before, the mean over samples.

    A sample without an edited pixel counts as 0.

    Args:
        soft: m, BKHW: the merged layout, summing to 1 over classes.
        layout: l, one-hot BKHW: the layout before the edit, of the same H x W.
        edited: E, BHW bool: where the generated mask has more of a class than of the background.
    """
    kept = (soft * layout).sum(dim=1)
    pixels = edited.sum(dim=(1, 2))
    return ((kept * edited).sum(dim=(1, 2)) / pixels.clamp(min=1)).mean()


def soften_layout(layout: Tensor, sigma: float) -> Tensor:
    """Mix a one-hot layout half and half with its Gaussian-blurred copy, so that the true class keeps the majority.

    Args:
        layout: One-hot BKHW.
        sigma: Standard deviation of the blur in pixels.
    """
    from torchvision.transforms.functional import gaussian_blur

    side = min(layout.shape[2:])
    radius = min(max(1, round(3 * sigma)), (side - 1) // 2)
    if radius < 1:
        return layout
    # The blur mirrors at the border, which keeps the classes summing to 1.
    return 0.5 * layout + 0.5 * gaussian_blur(layout, [2 * radius + 1] * 2, [sigma] * 2)


def layout_at_level(layout: Tensor, size: tuple[int, int], fade: float, relative_sigma: float) -> Tensor:
    """Return real layouts as the discriminator sees them at a level of the growing network.

    Pixels are picked, not averaged, when the layout is made smaller: rare classes keep their share on average and the
    result is one-hot again before it is softened. While a level fades in, real layouts are mixed with their own lower
    resolution, as the generated ones are (Karras et al., 2018, Figure 2).

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


def hard_layout_at_level(layout: Tensor, size: tuple[int, int], fade: float, uniform: Tensor) -> Tensor:
    """Return real layouts at a level as one class a pixel, for discriminators that are shown drawn classes.

    While a level fades in, generated classes are drawn from a mixture with the lower level's shares; so are these.

    Args:
        layout: One-hot BKHW at full size.
        size: Height and width of the level.
        fade: In [0, 1].
        uniform: B1hw of the level's size, uniform in [0, 1): which pixels take the lower resolution's class.
    """
    small = F.interpolate(layout, size=size, mode="nearest-exact")
    if fade < 1:
        lower = F.interpolate(layout, size=(size[0] // 2, size[1] // 2), mode="nearest-exact")
        small = torch.where(uniform < fade, small, F.interpolate(lower, size=size, mode="nearest"))
    return small
