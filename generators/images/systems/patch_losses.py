"""Losses of image systems with a PatchGAN discriminator: hinge, least squares, feature matching, perceptual, KL.

Scores come as one tensor per scale of the discriminator, features as one list per scale. Shapes: B batch, Z latent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

PERCEPTUAL_WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)  # of five layers from fine to coarse (pix2pixHD, SPADE)


def hinge_generator_loss(scores: Sequence[Tensor]) -> Tensor:
    """Return -E[D(fake)], averaged over scales (Azadi et al., 2019, Eq. 2).

    Args:
        scores: The discriminator's scores of generated images.
    """
    return _mean_over([-score.mean() for score in scores])


def hinge_discriminator_loss(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """Return -E[min(0, -1 + D(real))] - E[min(0, -1 - D(fake))], averaged over scales (Azadi et al., 2019, Eq. 2).

    Args:
        real: Scores of real images.
        fake: Scores of generated images.
    """
    return _mean_over([F.relu(1 - r).mean() + F.relu(1 + f).mean() for r, f in zip(real, fake, strict=True)])


def least_squares_generator_loss(scores: Sequence[Tensor]) -> Tensor:
    """Return E[(D(fake) - 1)^2], summed over scales (Mao et al., 2017, as Wang et al., 2018, Eq. 3, use it).

    Args:
        scores: The discriminator's scores of generated images.
    """
    return torch.stack([(score - 1).square().mean() for score in scores]).sum()


def least_squares_discriminator_loss(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """Return (E[(D(real) - 1)^2] + E[D(fake)^2]) / 2, summed over scales (Mao et al., 2017, Eq. 9).

    Args:
        real: Scores of real images.
        fake: Scores of generated images.
    """
    parts = [(r - 1).square().mean() + f.square().mean() for r, f in zip(real, fake, strict=True)]
    return torch.stack(parts).sum() / 2


def feature_matching_loss(real: Sequence[Sequence[Tensor]], fake: Sequence[Sequence[Tensor]]) -> Tensor:
    """Return the mean absolute difference of the discriminator's features, summed over layers.

    Wang et al., 2018, Eq. 4.

    Scales are averaged, so that the weight of 10 means the same for any number of them.

    Args:
        real: Features of real images; no gradient reaches them.
        fake: Features of generated images, of the same shapes.
    """
    return _mean_over(
        [
            torch.stack([F.l1_loss(f, r.detach()) for r, f in zip(reals, fakes, strict=True)]).sum()
            for reals, fakes in zip(real, fake, strict=True)
        ]
    )


def perceptual_loss(distances: Sequence[Tensor]) -> Tensor:
    """Return the weighted sum of distances of features, averaged over the batch (Wang et al., 2018; Park et al., 2019).

    Args:
        distances: One [B] per layer from fine to coarse, at most five; of fewer, the coarsest weighs 1 as well.
    """
    weights = PERCEPTUAL_WEIGHTS[-len(distances) :]
    return torch.stack([w * d.mean() for w, d in zip(weights, distances, strict=True)]).sum()


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return KL(N(mean, variance) || N(0, 1)) of a diagonal normal distribution, averaged over the batch.

    Args:
        mean: BZ.
        log_variance: BZ, natural logarithm.
    """
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1).mean()


def _mean_over(parts: list[Tensor]) -> Tensor:
    return torch.stack(parts).mean()


GeneratorLoss = Callable[[Sequence[Tensor]], Tensor]
DiscriminatorLoss = Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]
