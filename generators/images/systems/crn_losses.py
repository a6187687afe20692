"""Losses of CRN: layers of equal say, and the best of k outputs class by class (Chen and Koltun, ICCV 2017).

Shapes: B batch, K classes, k outputs per layout, L feature layers, C features, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from scenepalette.common.randomness import numpy_generator
from scenepalette.data.arrays import Pairs
from scenepalette.generators.images.base import FeatureNetwork
from scenepalette.generators.images.perceptual import feature_distances

REFERENCE_IMAGES = 32
MEAN_SHARE = 0.001  # of the mean over outputs in the diversity loss, as in the authors' training


def layer_weights(distances: Sequence[Tensor]) -> Tensor:
    """Return lambda of Li et al., 2019, Eq. 1: each layer's share of the total of given distances is the same.

    Args:
        distances: One [B] per layer.

    Returns:
        float32 [L]; with them the mean total is 1. A layer without any distance gets 1 / L.
    """
    levels = torch.stack([distance.float().mean() for distance in distances])
    return torch.where(levels > 0, 1.0 / levels, 1.0) / len(levels)


@torch.no_grad()
def balance_layers(features: FeatureNetwork, pairs: Pairs, seed: int, device: torch.device) -> Tensor:
    """Return the layers' weights under which another real image is at distance 1, every layer saying the same.

    They stay as they are throughout a training, so that losses of different steps can be compared.

    Args:
        features: On `device`, in eval mode.
        pairs: Real images; at most 32 of them are looked at.
        seed: The run's seed; decides which.
        device: Where features are computed.

    Returns:
        float32 [L] on `device`.
    """
    order = numpy_generator(seed, "layer-weights").permutation(len(pairs))[:REFERENCE_IMAGES]
    before = features(pairs.batch(order[-1:])[0].to(device))
    measured = []
    for index in order:
        current = features(pairs.batch([int(index)])[0].to(device))
        measured.append(feature_distances(current, before))
        before = current
    return layer_weights([torch.cat(layer) for layer in zip(*measured, strict=True)])


def total_distance(distances: Sequence[Tensor], weights: Tensor) -> Tensor:
    """Return the weighted sum over layers (Li et al., 2019, Eq. 1).

    Args:
        distances: One tensor per layer, all of one shape.
        weights: lambda, [L].
    """
    return torch.stack(list(distances), dim=-1) @ weights


def class_distances(generated: list[Tensor], real: list[Tensor], label_map: Tensor) -> list[Tensor]:
    """Return what each class contributes to the mean absolute difference of features, per layer and output.

    Summed over classes it is the mean over the whole map.

    Args:
        generated: Feature maps (B k)CHW, the k outputs of a sample in a row.
        real: Feature maps BCHW; no gradient reaches them.
        label_map: BKHW at any size, summing to 1 over classes; averaged down to each layer's size.

    Returns:
        One [B, k, K] per layer.
    """
    distances = []
    for a, b in zip(generated, real, strict=True):
        difference = (a.unflatten(0, (len(b), -1)) - b.detach()[:, None]).abs().mean(dim=2)  # B k h w
        height, width = b.shape[2:]
        mask = F.adaptive_avg_pool2d(label_map, (height, width))  # B K h w
        distances.append(torch.einsum("bohw,bchw->boc", difference, mask) / (height * width))
    return distances


def diversity_loss(distance: Tensor) -> Tensor:
    """Return the loss of the best output, chosen for each class on its own (Chen and Koltun, 2017, section 3.4).

    Only the best output of a class is drawn towards the real image, so that the outputs come to differ. The mean over
    all outputs takes part with a thousandth, as in the authors' training: an output that is best nowhere still learns
    to make images. With k = 1 it is the plain loss.

    Args:
        distance: [B, k, K].
    """
    best = distance.amin(dim=1)
    return ((1 - MEAN_SHARE) * best + MEAN_SHARE * distance.mean(dim=1)).sum(dim=1).mean()
