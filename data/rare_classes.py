"""Which classes are rare: those that a mean over classes hides and that copy-paste and the report single out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

RARE_FRACTION = 0.5
"""A class is rare if its share is below this fraction of the median share of the classes that occur."""


def rare_classes(shares: Sequence[float] | np.ndarray, among: Sequence[int] | None = None) -> tuple[int, ...]:
    """Return the classes that occur, but cover less than half as many pixels as the median class.

    A class that never occurs is not rare but absent: nothing can be learned of it, and it does not count in the median.

    Args:
        shares: Share of each of the K classes among the labelled pixels of the training split.
        among: Class ids that are looked at, such as the evaluated ones; None for all.

    Returns:
        Class ids in ascending order; none if at most one class occurs.
    """
    values = np.asarray(shares, dtype=np.float64)
    ids = range(len(values)) if among is None else sorted(set(among))
    present = [index for index in ids if values[index] > 0]
    if not present:
        return ()
    limit = RARE_FRACTION * float(np.median(values[present]))
    return tuple(index for index in present if values[index] < limit)
