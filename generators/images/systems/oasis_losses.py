"""Losses of OASIS: balanced (K+1)-class cross-entropy (Eq. 1, 2, 4) and LabelMix consistency (Eq. 3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from scenepalette.data.classes import IGNORE_ID
from scenepalette.data.labels import count_ids
from scenepalette.training.ranks import ALONE, Ranks


def class_weights(label: Tensor, num_classes: int, ranks: Ranks = ALONE) -> Tensor:
    """Return alpha of Eq. 2 for a batch: the inverse of each class's frequency.

    Divided by the number of classes that occur, so that real pixels weigh 1 on average, as fake ones do; classes that
    do not occur get 0.

    Args:
        label: BHW class ids, 255 for ignored pixels.
        num_classes: K.
        ranks: The processes that have a part of the batch each.

    Returns:
        float32 [K].
    """
    counts = ranks.total(count_ids(label, 256)[:num_classes]).float()
    present = counts > 0
    return torch.where(present, counts.sum() / (counts.clamp(min=1) * present.sum().clamp(min=1)), 0.0)


def real_loss(logits: Tensor, label: Tensor, ranks: Ranks = ALONE) -> Tensor:
    """Return the mean over labelled pixels of alpha_c * cross-entropy to the true class.

    The first term of Eq. 1 for real images, and Eq. 4 (the generator's loss) for generated ones.

    Args:
        logits: B(K+1)HW.
        label: BHW class ids, 255 where the loss does not look.
        ranks: The processes that have a part of the batch each; the mean is over that of all, its sum over this part
            alone, times their number.
    """
    num_classes = logits.shape[1] - 1
    weights = F.pad(class_weights(label, num_classes, ranks), (0, 1))
    total = F.cross_entropy(logits, label, weight=weights, ignore_index=IGNORE_ID, reduction="sum")
    return total / _pixels_a_rank(label != IGNORE_ID, ranks)


def fake_loss(logits: Tensor, visible: Tensor, ranks: Ranks = ALONE) -> Tensor:
    """Return the mean cross-entropy of pixels to the fake class (second term of Eq. 1).

    Args:
        logits: B(K+1)HW.
        visible: BHW bool, false where augmentation left no pixel of the image.
        ranks: As of `real_loss`.
    """
    label = torch.where(visible, logits.shape[1] - 1, IGNORE_ID)
    total = F.cross_entropy(logits, label, ignore_index=IGNORE_ID, reduction="sum")
    return total / _pixels_a_rank(visible, ranks)


def _pixels_a_rank(chosen: Tensor, ranks: Ranks) -> Tensor:
    """Return by what a sum over one process's pixels is divided so that its mean over processes is that over pixels."""
    return ranks.total(chosen.sum()).clamp(min=1) / ranks.count


def label_mix_mask(label: Tensor, choices: Tensor) -> Tensor:
    """Return M of LabelMix: each class of each sample comes as a whole from the real or from the generated image.

    Args:
        label: BHW class ids, 255 for ignored pixels (which count as one more class).
        choices: [B, 256] bool, true where a class is taken from the real image.

    Returns:
        B1HW bool.
    """
    return torch.gather(choices, 1, label.flatten(1)).view_as(label)[:, None]


def label_mix(real: Tensor, fake: Tensor, mask: Tensor) -> Tensor:
    """Return LabelMix(x, x_hat, M) = M * x + (1 - M) * x_hat for BCHW tensors and a B1HW mask."""
    return torch.where(mask, real, fake)


def label_mix_loss(mixed_logits: Tensor, real_logits: Tensor, fake_logits: Tensor, mask: Tensor) -> Tensor:
    """Return L_cons of Eq. 3 as a mean square over samples, classes and pixels.

    Args:
        mixed_logits: Logits of the mixed image, B(K+1)HW.
        real_logits: Logits of the real image.
        fake_logits: Logits of the generated image.
        mask: M, B1HW bool.
    """
    return F.mse_loss(mixed_logits, label_mix(real_logits, fake_logits, mask))
