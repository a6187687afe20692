"""AdvEnt and MinEnt: align the predictions on two domains through their entropy.

Le Moing et al., 2021, Appendix C, takes over from AdvEnt (Vu et al., 2019) its main ingredient: a discriminator tells
from the weighted self-information maps of a prediction which domain the image is of, and the segmenter is trained to
fool it. K is the number of classes.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# The discriminator's answers; the adapted domain is the one whose predictions are trained to be taken for the other.
REFERENCE_DOMAIN = 0.0
ADAPTED_DOMAIN = 1.0
# Five halvings: below this size the last convolution has nothing left to look at.
SMALLEST_SIDE = 32


def weighted_self_information(probabilities: Tensor) -> Tensor:
    """Return I = -p log2 p / log2 K per pixel and class.

    Args:
        probabilities: BKHW in [0, 1], summing to 1 over K.

    Returns:
        BKHW; the sum over K is the pixel's entropy, 0 for a certain and 1 for a uniform prediction.
    """
    num_classes = probabilities.shape[1]
    # The tiny summand keeps value and gradient finite where a softmax has underflowed to 0.
    return -probabilities * torch.log2(probabilities + 1e-30) / math.log2(num_classes)


def minimum_entropy_loss(probabilities: Tensor) -> Tensor:
    """Return the mean normalised entropy of a prediction (MinEnt, the direct variant of AdvEnt).

    Args:
        probabilities: BKHW in [0, 1], summing to 1 over K.

    Returns:
        Scalar in [0, 1].
    """
    return weighted_self_information(probabilities).sum(dim=1).mean()


def build_advent_discriminator(num_classes: int, width: int = 64) -> nn.Sequential:
    """Build AdvEnt's domain discriminator: five 4x4 convolutions of stride 2 with leaky ReLU 0.2 between them.

    Args:
        num_classes: K, channels of the self-information map.
        width: Channels after the first convolution, doubled by each of the next three.

    Returns:
        Network from BKHW to scores B1(H/32)(W/32); a score above 0 means the adapted domain.
    """
    channels = [num_classes, width, 2 * width, 4 * width, 8 * width]
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(channels):
        layers += [nn.Conv2d(before, after, kernel_size=4, stride=2, padding=1), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Conv2d(channels[-1], 1, kernel_size=4, stride=2, padding=1))


def domain_loss(scores: Tensor, domain: float) -> Tensor:
    """Return the binary cross-entropy of a discriminator's scores against one domain for all of them.

    Args:
        scores: Logits of any shape.
        domain: `REFERENCE_DOMAIN` or `ADAPTED_DOMAIN`.

    Returns:
        Scalar.
    """
    return F.binary_cross_entropy_with_logits(scores, torch.full_like(scores, domain))
