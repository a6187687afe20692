"""Choosing rows: hard, trusted and new ones, while every class keeps the share that was asked for.

More rows are made than are needed. FreeMask (Yang et al., 2023, section 3) makes more images of hard layouts; here
the rows themselves are ranked, as a small generator paints some of them badly.
"""

from __future__ import annotations

import numpy as np

from scenepalette.common.errors import DataError

_CANDIDATES = 32
_TOLERANCE = 1e-9


def score_rows(hardness: np.ndarray, trusted: np.ndarray, novelty: np.ndarray, copies: np.ndarray) -> np.ndarray:
    """Return how much each row is worth: rank of hardness x trusted share x rank of novelty.

    Args:
        hardness: float [N], mean loss of the teachers over the pixels that are trusted; nan without one.
        trusted: float [N], share of pixels that are trusted; nan in rows that no teacher judged.
        novelty: float [N], distance to the nearest training image.
        copies: bool [N], rows whose image is as good as a training image.

    Returns:
        float64 [N] in [0, 1]. A rank is the part of the rows that have no more. Copies are worth 0, rows that no
        teacher judged as much as the median of the others.

    Raises:
        DataError: No teacher judged any row.
    """
    judged = ~np.isnan(trusted)
    if not judged.any():
        raise DataError("No row was judged by teachers, so that none can be preferred. Leave the selection out.")
    hard = _ranks(np.where(np.isnan(hardness), -np.inf, hardness)[judged])
    scores = np.zeros(len(trusted))
    scores[judged] = hard * trusted[judged] * _ranks(novelty)[judged]
    scores[~judged] = np.median(scores[judged])
    return np.where(copies, 0.0, scores)


def _ranks(values: np.ndarray) -> np.ndarray:
    return np.searchsorted(np.sort(values), values, side="right") / len(values)


def select_rows(scores: np.ndarray, palettes: np.ndarray, count: int, quotas: np.ndarray) -> np.ndarray:
    """Return the rows of the highest scores, after exchanges that bring every class to its quota as far as possible.

    While a class is short, the row with much of it whose entry lessens the sum of relative shortfalls most takes the
    place of a chosen one; of equal exchanges, that of the better score.

    Args:
        scores: float [N].
        palettes: float [N, K], shares of the classes in each row.
        count: How many rows to choose, at most N.
        quotas: float [K], least share of each class among the chosen rows; at most 1 in all.

    Returns:
        int64 [count], in rising order.

    Raises:
        DataError: There are fewer rows.
    """
    if not 1 <= count <= len(scores):
        raise DataError(f"{count} rows are to be selected of {len(scores)}; select 1 to {len(scores)}.")
    chosen = np.zeros(len(scores), dtype=bool)
    chosen[np.argsort(-scores, kind="stable")[:count]] = True
    asked = np.flatnonzero(quotas > 0)
    shares, wanted = palettes[:, asked], quotas[asked] * count

    def shortfalls(totals: np.ndarray) -> np.ndarray:
        return np.maximum(0.0, wanted - totals) / wanted

    stuck = np.zeros(len(asked), dtype=bool)
    for _ in range(2 * count):
        total = shares[chosen].sum(axis=0)
        short = shortfalls(total)
        open_classes = np.where(stuck, 0.0, short)
        if not len(asked) or open_classes.max() <= _TOLERANCE:
            break
        of_class = int(open_classes.argmax())
        others, members = np.flatnonzero(~chosen), np.flatnonzero(chosen)
        entering = others[np.argsort(-shares[others, of_class], kind="stable")[:_CANDIDATES]]
        totals = total + shares[entering][:, None] - shares[members][None]  # E M K
        gains = short.sum() - shortfalls(totals).sum(axis=-1)
        worth = scores[entering][:, None] - scores[members][None]
        if not gains.size or gains.max() <= _TOLERANCE:
            stuck[of_class] = True
            continue
        equal = gains >= gains.max() - _TOLERANCE
        entry, member = np.unravel_index(np.where(equal, worth, -np.inf).argmax(), gains.shape)
        chosen[members[member]], chosen[entering[entry]] = False, True
        stuck[:] = False
    return np.flatnonzero(chosen)
