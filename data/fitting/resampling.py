"""Pairs at another size: images resampled smoothly, label maps by the area that each class covers."""

from __future__ import annotations

import functools

import numpy as np

from scenepalette.data.arrays import resize_image
from scenepalette.data.classes import IGNORE_ID

_CELLS_AT_ONCE = 2**22


def resample_pairs(images: np.ndarray, labels: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Resample pairs to a size.

    Args:
        images: uint8 [B, H, W, 3].
        labels: uint8 [B, H, W], ids or IGNORE_ID.
        size: Height and width in pixels.

    Returns:
        Images resized bilinearly with antialiasing, and labels by `resample_label`; the same arrays if they have the
        size already.
    """
    if labels.shape[1:] == tuple(size):
        return images, labels
    return (
        np.stack([resize_image(image, size) for image in images]),
        np.stack([resample_label(label, size) for label in labels]),
    )


def resample_label(label: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resample a label map by area: each new pixel gets the class that covers most of it, the lowest id among equals.

    A new pixel is ignored where ignored pixels cover more than half of it; else they count for no class.

    Args:
        label: uint8 [H, W], ids or IGNORE_ID.
        size: Height and width in pixels; a different aspect ratio stretches the map.

    Returns:
        uint8 of that size; the same array if it has it already.
    """
    if label.shape == tuple(size):
        return label
    (rows, row_weights), (columns, column_weights) = (
        _overlaps(before, after) for before, after in zip(label.shape, size, strict=True)
    )
    result = label[rows[:, 0][:, None], columns[:, 0][None, :]]
    # Most new pixels lie within one class: only where old pixels under a new one differ has area to be counted.
    mixed = np.zeros(result.shape, dtype=bool)
    for row_tap in range(rows.shape[1]):
        for column_tap in range(columns.shape[1]):
            mixed |= label[rows[:, row_tap][:, None], columns[:, column_tap][None, :]] != result
    found = np.flatnonzero(mixed)
    taps = rows.shape[1] * columns.shape[1]
    for start in range(0, len(found), max(1, _CELLS_AT_ONCE // (taps + 256))):
        part = found[start : start + max(1, _CELLS_AT_ONCE // (taps + 256))]
        y, x = np.divmod(part, size[1])
        ids = label[rows[y][:, :, None], columns[x][:, None, :]].reshape(len(part), taps)
        areas = (row_weights[y][:, :, None] * column_weights[x][:, None, :]).reshape(len(part), taps)
        result.reshape(-1)[part] = _majority(ids, areas)
    return result


def _majority(ids: np.ndarray, areas: np.ndarray) -> np.ndarray:
    """Return the id that covers most of each new pixel.

    Args:
        ids: uint8 [N, T], ids of the old pixels under each new one.
        areas: int [N, T], how much of the new pixel each of them covers, 0 for none.
    """
    count = len(ids)
    cells = np.arange(count)[:, None] * (IGNORE_ID + 1) + ids
    # Areas are whole numbers below 2^53, whose sums are exact.
    votes = np.bincount(cells.ravel(), areas.ravel(), count * (IGNORE_ID + 1)).reshape(count, IGNORE_ID + 1)
    ignored = 2 * votes[:, IGNORE_ID] > areas.sum(axis=1)
    return np.where(ignored, IGNORE_ID, votes[:, :IGNORE_ID].argmax(axis=1)).astype(np.uint8)


@functools.lru_cache(maxsize=16)
def _overlaps(before: int, after: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which old pixels lie under each new one along one side, and how much of it each covers.

    Lengths are counted in parts of which an old pixel has `after` and a new one `before`, so that all are whole.

    Returns:
        int64 [after, T] and [after, T]: places among the old pixels, and lengths; unused entries repeat the first place
        with the length 0.
    """
    begin = np.arange(after, dtype=np.int64) * before
    first, last = begin // after, (begin + before - 1) // after
    places = first[:, None] + np.arange(int((last - first).max()) + 1)
    lengths = np.minimum((places + 1) * after, (begin + before)[:, None]) - np.maximum(places * after, begin[:, None])
    used = lengths > 0
    return np.where(used, places, first[:, None]), np.where(used, lengths, 0)
