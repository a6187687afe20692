"""Semantically-assisted activation (SAA) and the losses attached to it (Le Moing et al., 2021, 3.1 and 3.2)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

LOG_EPSILON = 1e-12
LARGEST_RATIO = 20.0  # of two classes' weights; a class of one pixel in a million must not be all that counts


class ActivatedMask(NamedTuple):
    """What one SAA module puts out.

    Attributes:
        mask: m of Eq. 2, BKHW in [0, 1], summing to 1 over classes at each pixel.
        log_density: ln omega, BKHW: each class sums to its target share over the pixels; -inf for a class of share 0.
    """

    mask: Tensor
    log_density: Tensor


def semantically_assisted_activation(features: Tensor, palette: Tensor, iterations: int = 1) -> ActivatedMask:
    """Turn features into a soft layout that spends the palette (Eq. 1 and 2).

    Computed on logarithms in float32: rho and omega of a large map would lose digits otherwise, and the normalisation
    of Eq. 2 is exact without an epsilon.

    Args:
        features: f, BKHW.
        palette: t, BK, rows summing to 1.
        iterations: Sinkhorn iterations (appendix A, Eq. 9 and 10), at least 1, as in the paper; each further one brings
            the shares of the mask closer to the palette.
    """
    assert iterations >= 1
    # Sums over pixels, and over classes, are computed fastest class after class in memory.
    features = features.to(torch.float32, memory_format=torch.contiguous_format)
    log_palette = palette.float().log()[:, :, None, None]
    log_density = log_palette + _over_pixels(features)  # omega_c = t_c * rho_c
    for _ in range(iterations - 1):
        # Eq. 10 scales the features, not omega: those of a class without a share stay finite.
        features = features - torch.logsumexp(log_density, dim=1, keepdim=True)
        log_density = log_palette + _over_pixels(features)  # Eq. 9
    return ActivatedMask(torch.softmax(log_density, dim=1), log_density)  # Eq. 2


def _over_pixels(features: Tensor) -> Tensor:
    """Return ln rho of Eq. 1."""
    return features - torch.logsumexp(features, dim=(2, 3), keepdim=True)


def entropy_loss(mask: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return L_ENT of Eq. 3: the mean over samples and pixels of the entropy of the classes, in nats.

    Args:
        mask: m, BKHW, summing to 1 over classes.
        weights: [K], of each class's term; None for 1.
    """
    terms = mask * (mask + LOG_EPSILON).log()
    if weights is not None:
        terms = weights[:, None, None] * terms
    return -terms.sum(dim=1).mean()


def spread_loss(log_density: Tensor, pixel_weights: Tensor | None = None) -> Tensor:
    """Return L_SPR of Eq. 4: the mean over samples and pixels of (1 - HW * sum_c omega_c)^2.

    Args:
        log_density: ln omega, BKHW.
        pixel_weights: BHW, of each pixel's term; None for 1.
    """
    pixels = log_density.shape[2] * log_density.shape[3]
    terms = (1.0 - pixels * torch.logsumexp(log_density, dim=1).exp()).square()
    return (terms if pixel_weights is None else pixel_weights * terms).mean()


def conditional_loss(scales: list[ActivatedMask], weights: Tensor | None = None) -> Tensor:
    """Return L_COND = L_ENT + L_SPR, averaged over the given scales.

    The sum over scales is divided by their number, so that the weight against the adversarial loss stays the same
    while the network grows.

    Args:
        scales: Of each level.
        weights: [K], how much each class counts; None for all alike. A pixel's spread counts by its classes.
    """

    def loss(scale: ActivatedMask) -> Tensor:
        pixel_weights = None
        if weights is not None:
            pixel_weights = torch.einsum("k,bkhw->bhw", weights, scale.mask.detach())
        return entropy_loss(scale.mask, weights) + spread_loss(scale.log_density, pixel_weights)

    return torch.stack([loss(scale) for scale in scales]).mean()


def class_weights(shares: Tensor, balance: float) -> Tensor:
    """Return how much each class counts in L_COND, [K]: by its share to the power of -balance.

    Weights of the classes are 1 on average over pixels, and none is more than LARGEST_RATIO times the smallest.

    Args:
        shares: [K], of all real layouts, summing to 1; classes that never occur count like the rarest ones.
        balance: 0 for weights of 1, 1 for the inverse share.
    """
    most = float(shares.max())
    weights = (shares.clamp(min=most / LARGEST_RATIO ** (1 / balance)) / most) ** -balance if balance else shares**0
    return weights / (weights * shares).sum()
