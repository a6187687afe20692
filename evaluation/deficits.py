"""What a segmenter lacks of each class, of what a network of its stride could reach."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scenepalette.evaluation.miou import intersection_over_union, mean_of_defined, overlaps


def class_deficits(
    confusions: Sequence[np.ndarray], eval_ids: Sequence[int], oracle: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the intersection over union of each class, and by how much it falls short of what can be reached.

    d_k = max(0, O_k - mean over seeds of IoU_k), where O_k is the IoU of a segmenter that is perfect but for its stride
    (`scenepalette.evaluation.oracle`): no pair helps with what the network cannot draw.

    Args:
        confusions: Of each seed, int [N, K, K] or [K, K] of the same images.
        eval_ids: Classes that count; the others lack nothing.
        oracle: int [K, K], the oracle's confusion on these images; None to take 1 as reachable.

    Returns:
        float64 [K], nan for a class that the images do not show, and float64 [K], 0 for such a class.
    """
    totals = np.stack([np.asarray(each).reshape(-1, *each.shape[-2:]).sum(axis=0) for each in confusions])
    shown = totals[0].sum(axis=1) > 0
    reached = mean_of_defined(intersection_over_union(overlaps(totals, eval_ids)), axis=0)
    reached = np.where(shown, reached, np.nan)
    best = np.ones(len(reached)) if oracle is None else intersection_over_union(overlaps(oracle, eval_ids))
    counted = np.isin(np.arange(len(reached)), eval_ids)
    return reached, np.where(counted, np.maximum(0.0, np.nan_to_num(best - reached)), 0.0)
