"""The best that a segmenter of a given stride can do: its class scores are the truth, only as coarse as it has them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch.nn import functional

from scenepalette.evaluation.miou import confusion_of_batch


def oracle_confusion(labels: Iterable[np.ndarray], num_classes: int, stride: int) -> np.ndarray:
    """Count the pixels of a perfect segmenter whose scores have one pixel per `stride` image pixels each way.

    Its scores are the shares of the classes in each square of stride x stride pixels, enlarged bilinearly as segmenters
    enlarge theirs; the largest is predicted. A class that never fills the most of a square, such as a pole, is lost
    whatever the network learns.

    Args:
        labels: Label maps [H, W] of class ids, IGNORE_ID where there is none; sizes may differ.
        num_classes: K.
        stride: Image pixels per score, 1 or more.

    Returns:
        int64 [K, K], rows the truth, columns the prediction; ignored pixels are in no cell.
    """
    total = np.zeros((num_classes, num_classes), np.int64)
    for label in labels:
        truth = torch.from_numpy(np.asarray(label).astype(np.int64))[None]  # 1 H W
        # Ignored pixels are of no class: they lower the scores of all.
        shares = functional.one_hot(truth.clamp(max=num_classes), num_classes + 1)[..., :num_classes]  # 1 H W K
        scores = functional.avg_pool2d(shares.permute(0, 3, 1, 2).float(), stride, ceil_mode=True)
        scores = functional.interpolate(scores, truth.shape[1:], mode="bilinear", align_corners=False)
        total += confusion_of_batch(scores.argmax(dim=1), truth, num_classes)[0].numpy()
    return total
