"""Confusion matrices in the resolution of label files: scores are resized to it, tiles are put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from scenepalette.common.progress import NO_PROGRESS, Progress
from scenepalette.data.arrays import Pairs
from scenepalette.evaluation.miou import apply_to_pairs, check_classes, confusion_of_batch, confusion_per_image

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_NUMBERS_AT_ONCE = 2**25


def confusion_of_images(
    model: nn.Module, pairs: Pairs, batch_size: int, fabric: Fabric, progress: Progress = NO_PROGRESS
) -> np.ndarray:
    """Predict all pairs and return one confusion matrix per image, by the labels that they are evaluated by.

    With `pairs.native`, the scores of each row are resized bilinearly to the row's label in its own size, which is read
    when it is its turn, and rows that are tiles of one image are added up; else see `confusion_per_image`.

    Args:
        model: Segmenter with one output channel per class of the pairs' table.
        pairs: Real pairs, at the size that the segmenter works at.
        batch_size: Images at once; the result does not depend on it.
        fabric: Device and precision.
        progress: Counts images.

    Returns:
        int64 [N, K, K] for the N images of `pairs.image_ids`, rows the truth, columns the prediction; ignored pixels
        are in no cell.

    Raises:
        DataError: The network's classes are not those of the pairs, a label is out of range, or cannot be read.
    """
    native, classes = pairs.native, pairs.table.num_classes
    if native is None:
        return confusion_per_image(model, pairs, batch_size, fabric, progress)

    def scores(image: Tensor, label: Tensor) -> Tensor:
        logits = model(image)  # B K H W
        check_classes(logits, pairs.table)
        return logits.float()

    total = np.zeros((len(native.image_ids), classes, classes), dtype=np.int64)
    row = 0
    for batch in apply_to_pairs(model, pairs, scores, batch_size, fabric, progress, "Evaluating the segmenter"):
        for logits in batch:
            label = torch.from_numpy(native[row].astype(np.int64)).to(logits.device)
            prediction = predict_at(logits, (label.shape[0], label.shape[1]))
            total[native.images[row]] += confusion_of_batch(prediction[None], label[None], classes)[0].cpu().numpy()
            row += 1
    return total


def predict_at(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the class of the largest score at each pixel once scores are resized bilinearly.

    Some classes are resized at once, so that images of many classes and pixels need little memory.

    Args:
        logits: Float [K, h, w].
        size: Height and width of the result.

    Returns:
        int64 [H, W], the lowest id among equal scores.
    """
    step = max(1, _NUMBERS_AT_ONCE // (size[0] * size[1]))
    best: Tensor | None = None
    chosen = torch.zeros(size, dtype=torch.int64, device=logits.device)
    with torch.inference_mode():
        for first in range(0, len(logits), step):
            part = logits[None, first : first + step]
            if part.shape[2:] != size:
                part = functional.interpolate(part, size, mode="bilinear", align_corners=False)
            values, places = part[0].max(dim=0)
            if best is None:
                best, chosen = values, places
            else:
                better = values > best
                best = torch.where(better, values, best)
                chosen = torch.where(better, places + first, chosen)
    return chosen
