"""How a segmenter's training is divided: images of each domain in a step, weights of their losses, learning rates.

Every arm takes `batch_size` images a step in all, so that an arm with generated pairs sees no more images than one
without. In a batch of B images with share s of generated ones, round(s B) are generated:

- `mixed`: s is `synthetic_share`, and falls in a straight line to 0 over the last `synthetic_fade` part of the steps,
  as the evaluated images are real. An arm with an adaptation keeps s to the end: it compares the two domains in
  every step, and a discriminator that sees one domain alone forgets the other.
- `pretrain`: generated pairs alone in the first `synthetic_share` part of the steps, real ones alone after.

The k-th real image that an arm draws is the same in all arms of a seed: each takes as many from one endless stream of
epochs as its batches have room for. Likewise the generated ones.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from scenepalette.segmenters.settings import Domain, SegmenterSettings


def images_of_step(settings: SegmenterSettings, domains: Collection[Domain], step: int) -> dict[Domain, int]:
    """Return how many images of each domain a step takes; a domain that it takes none of is left out.

    Args:
        settings: Numbers of the training.
        domains: Those that the arm has pairs of.
        step: Optimizer step, from 0.

    Returns:
        Numbers of images, real ones first, which sum to `settings.batch_size`.
    """
    if len(domains) == 1:
        return dict.fromkeys(domains, settings.batch_size)
    if settings.schedule == "pretrain":
        share = 1.0 if step < round(settings.synthetic_share * settings.steps) else 0.0
    else:
        share = settings.synthetic_share
        fading = settings.synthetic_fade * settings.steps if settings.adaptation == "none" else 0.0
        if settings.steps - step < fading:
            share *= (settings.steps - step) / fading
    synthetic = _rounded(share * settings.batch_size)
    counts: dict[Domain, int] = {"real": settings.batch_size - synthetic, "synthetic": synthetic}
    return {domain: count for domain, count in counts.items() if count}


def images_of_training(settings: SegmenterSettings, domains: Collection[Domain], domain: Domain) -> int:
    """Return how many images of a domain all steps of a training take; the other arguments as of `images_of_step`."""
    return sum(images_of_step(settings, domains, step).get(domain, 0) for step in range(settings.steps))


def division_problems(settings: SegmenterSettings) -> list[str]:
    """Return why a batch of real and generated images cannot be put together as the settings say, one text each."""
    share, size = settings.synthetic_share, settings.batch_size
    if settings.schedule == "pretrain":
        if settings.adaptation != "none":
            return [
                f"segmenters.schedule: pretrain gives a step images of one domain, but {settings.adaptation} compares "
                "two; use mixed, or leave out the arms with an adaptation"
            ]
        if round(share * settings.steps) in (0, settings.steps):
            return [
                f"segmenters.synthetic_share: {share} of {settings.steps} steps leaves one of the two parts of the "
                "training empty; train for more steps, or set it nearer to 0.5"
            ]
    elif _rounded(share * size) in (0, size):
        return [
            f"segmenters.batch_size: {size} images cannot be divided so that {share} of them are generated and one of "
            "each domain is left; raise it, or set segmenters.synthetic_share nearer to 0.5"
        ]
    return []


def combined_loss(losses: Mapping[Domain, Tensor], images: Mapping[Domain, int], synthetic_weight: float) -> Tensor:
    """Return the supervised loss of a batch: the mean of its domains' losses, each by its images and weight.

    (n_r L_r + w n_s L_s) / (n_r + w n_s), with n images, L the mean over a domain's labelled pixels, and w the weight
    of generated images. A weight changes which images are learned from, not how fast.

    Args:
        losses: Scalars of the labelled domains.
        images: Number of images of each.
        synthetic_weight: w.

    Returns:
        Scalar.
    """
    weights = {domain: images[domain] * (synthetic_weight if domain == "synthetic" else 1.0) for domain in losses}
    return torch.stack([weights[domain] * loss for domain, loss in losses.items()]).sum() / sum(weights.values())


def learning_rate_factor(settings: SegmenterSettings, step: int) -> float:
    """Return what learning rates are multiplied by: (1 - step / steps) ** poly_power, after a rise in a straight line.

    The rise takes the first `warmup` part of the steps, and multiplies the fall.
    """
    rising = round(settings.warmup * settings.steps)
    rise = min(1.0, (step + 1) / rising) if rising else 1.0
    return rise * (1 - step / settings.steps) ** settings.poly_power


def _rounded(value: float) -> int:
    """Return the nearest whole number, the upper one of two, where Python's `round` takes the even one."""
    return int(value + 0.5)
