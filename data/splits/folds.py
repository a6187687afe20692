"""Folds of a training split for cross-fitting: contiguous blocks of recordings, so that neighbours stay together.

Frames that follow each other look alike: a model that learned from one has as good as seen the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from scenepalette.data.sequences import sequences_of, sources_of


def folds_of(ids: Sequence[str], count: int) -> np.ndarray:
    """Return the fold of each sample.

    Every recording is cut into `count` contiguous blocks of even length, one for each fold; the longest block goes to
    the fold that has the fewest samples so far. Tiles of one image are in the same fold.

    Args:
        ids: N ids of samples.
        count: Number of folds F.

    Returns:
        int64 [N], 0 .. F-1.
    """
    images, places = sources_of(ids)
    folds, sizes = np.zeros(len(images), dtype=np.int64), np.zeros(count, dtype=np.int64)
    for recording in sequences_of(images):
        # In front come the longer ones.
        for fold, block in zip(np.argsort(sizes, kind="stable"), np.array_split(recording, count), strict=True):
            folds[block.astype(np.int64)] = fold
            sizes[fold] += len(block)
    return folds[places]


def judges_of(sources: Sequence[str], folds: Mapping[str, int], count: int) -> tuple[int, ...]:
    """Return the teachers that saw none of some samples; teacher k is trained on all folds but k.

    Args:
        sources: Ids of samples; what is in no fold was seen by no teacher.
        folds: Fold of each training sample.
        count: Number of folds.

    Returns:
        Numbers of the teachers, in rising order; none if samples of several folds are among the sources.
    """
    of_sources = {folds[source] for source in sources if source in folds}
    if not of_sources:
        return tuple(range(count))
    return tuple(of_sources) if len(of_sources) == 1 else ()


def classes_by_fold(labels: np.ndarray, folds: np.ndarray, count: int, num_classes: int) -> np.ndarray:
    """Return whether each class has a pixel in each fold.

    Args:
        labels: uint8 [N, H, W].
        folds: int [N].
        count: Number of folds F.
        num_classes: K.

    Returns:
        bool [F, K].
    """
    present = np.zeros((count, 256), dtype=bool)
    for label, fold in zip(labels, folds, strict=True):
        present[fold] |= np.bincount(np.asarray(label).ravel(), minlength=256) > 0
    return present[:, :num_classes]
