"""Operations on label maps (class ids) and soft layouts (one share per class and pixel).

K is the number of classes, B the batch, H x W the size. Label maps hold 0..K-1, or IGNORE_ID where there is no class.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt

from scenepalette.common.errors import ScenepaletteError
from scenepalette.data.classes import IGNORE_ID
from scenepalette.data.decoding.label_images import value_counts

COUNTED_ROWS = 1024


def labels_to_palette(label: torch.Tensor, num_classes: int, *, checked: bool = False) -> torch.Tensor:
    """Return each label map's palette: every class's share of the labelled pixels.

    Args:
        label: int64 [B, H, W] of ids 0..K-1, or IGNORE_ID; ignored pixels count in no share.
        num_classes: K.
        checked: Whether the maps are known to have such ids and a labelled pixel each; a GPU is then not waited for.

    Returns:
        float32 [B, K]; rows sum to 1.

    Raises:
        ScenepaletteError: A map has no labelled pixel, or holds an id outside 0..K-1.
    """
    labelled = _labelled_pixels(label, num_classes, checked)
    batch = label.shape[0]
    # One histogram for the whole batch: map b counts in the bins b*K .. b*K + K-1, and ignored pixels after all.
    first_bins = torch.arange(batch, device=label.device).view(batch, 1, 1) * num_classes
    bins = (label + first_bins).where(labelled, batch * num_classes)
    counts = count_ids(bins, batch * num_classes + 1)[:-1].view(batch, num_classes)
    totals = counts.sum(dim=1, keepdim=True)
    empty = [] if checked else torch.nonzero(totals[:, 0] == 0)[:, 0].tolist()
    if empty:
        raise ScenepaletteError(
            f"Label maps {empty} of a batch of {batch} have no labelled pixel (all are {IGNORE_ID}), so they have no "
            "palette. Leave them out."
        )
    return (counts.double() / totals.double()).float()


def count_ids(ids: torch.Tensor, count: int) -> torch.Tensor:
    """Return how often each of 0 .. count - 1 occurs, int64 [count]; a GPU is not waited for.

    Args:
        ids: int64 of any shape, 0 .. count - 1.
        count: How many numbers there are.
    """
    flat = ids.flatten()
    # `bincount` waits for a GPU, to see what the largest is.
    return torch.bincount(flat, minlength=count) if flat.device.type == "cpu" else count_by_rows(flat, count)


def count_by_rows(ids: torch.Tensor, count: int) -> torch.Tensor:
    """Return what `count_ids` does for int64 [N]: counted in many rows, so that few threads add to the same number."""
    rows = math.gcd(len(ids), COUNTED_ROWS)
    first = torch.arange(rows, device=ids.device)[:, None] * count
    bins = (ids.view(rows, -1) + first).flatten()
    counts = torch.zeros(rows * count, dtype=torch.int64, device=ids.device).scatter_add_(
        0, bins, torch.ones_like(bins)
    )
    return counts.view(rows, count).sum(dim=0)


def one_hot(label: torch.Tensor, num_classes: int, *, checked: bool = False) -> torch.Tensor:
    """Turn class ids into a layout with a 1 at each pixel's class.

    Args:
        label: int64 [B, H, W] of ids 0..K-1, or IGNORE_ID.
        num_classes: K.
        checked: Whether the maps are known to have such ids; a GPU is then not waited for.

    Returns:
        float32 [B, K, H, W] of 0 and 1; ignored pixels are 0 in every class.

    Raises:
        ScenepaletteError: An id is outside 0..K-1.
    """
    labelled = _labelled_pixels(label, num_classes, checked)
    batch, height, width = label.shape
    layout = torch.zeros(batch, num_classes, height, width, device=label.device)
    ids = label.masked_fill(~labelled, 0)
    return layout.scatter_(1, ids[:, None], labelled[:, None].float())


def soft_to_label(soft: torch.Tensor) -> torch.Tensor:
    """Return the class with the largest share at each pixel, the lowest id among equals.

    Args:
        soft: [B, K, H, W], shares or logits.

    Returns:
        int64 [B, H, W] of 0..K-1.
    """
    return soft.argmax(dim=1)


def fill_ignored(label: np.ndarray) -> np.ndarray:
    """Give each ignored pixel the class of the nearest labelled pixel (Euclidean distance).

    Args:
        label: uint8 [H, W]; IGNORE_ID marks ignored pixels.

    Returns:
        A new uint8 [H, W] without ignored pixels.

    Raises:
        ScenepaletteError: The map has no labelled pixel.
    """
    ignored = label == IGNORE_ID
    if ignored.all():
        raise ScenepaletteError(
            f"A label map of {label.shape[0]} x {label.shape[1]} pixels has no labelled pixel to fill the ignored ones "
            "from. Leave it out."
        )
    if not ignored.any():
        return label.copy()
    nearest = np.asarray(distance_transform_edt(ignored, return_distances=False, return_indices=True))
    return label[nearest[0], nearest[1]]


def label_counts(label: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the pixels of each class in a label map uint8 [H, W], and in the last place of ignored ones: [K + 1]."""
    return class_pixels(value_counts(label), num_classes)


def class_pixels(counts: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the pixels of each class and, in the last place, of ignored ones, [K + 1], by those of each id, [256]."""
    return np.append(counts[:num_classes], counts[IGNORE_ID])


def _labelled_pixels(label: torch.Tensor, num_classes: int, checked: bool) -> torch.Tensor:
    """Return bool [B, H, W], true where there is a class; refuse ids that would crash deep in a kernel."""
    labelled = label != IGNORE_ID
    if checked:
        return labelled
    wrong = labelled & ((label < 0) | (label >= num_classes))
    if wrong.any():
        values = torch.unique(label[wrong]).tolist()
        raise ScenepaletteError(
            f"A label map holds the ids {values[:8]}; required are 0 to {num_classes - 1}, or {IGNORE_ID} for ignored "
            "pixels. Check the class table or remap the labels."
        )
    return labelled
