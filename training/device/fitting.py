"""Batches whose size does not change results: half as large where the memory of a device is too small for them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

from scenepalette.common.errors import ScenepaletteError

Result = TypeVar("Result")


def in_fitting_batches(
    count: int, batch_size: int, work: Callable[[range], Result], what: str = "images"
) -> Iterator[tuple[range, Result]]:
    """Yield what `work` makes of rows 0 to `count - 1`, in order, batch by batch.

    Args:
        count: Number of rows.
        batch_size: Rows at once; half as many from where the device lacks memory for them.
        work: Takes a range of rows; called again with fewer of them where it raised torch.OutOfMemoryError.
        what: What the rows are, in the plural.

    Yields:
        The rows, and the result.

    Raises:
        ScenepaletteError: The device lacks memory for one row.
    """
    first = 0
    while first < count:
        rows = range(first, min(first + batch_size, count))
        try:
            result, fits = work(rows), True
        except torch.OutOfMemoryError:
            result, fits = None, False
        if not fits:  # outside: while an error is handled, it holds on to the memory of what failed
            batch_size = halved(len(rows), what)
            continue
        yield rows, result  # type: ignore[misc]
        first = rows.stop


def halved(rows: int, what: str, begins_so: str = "") -> int:
    """Return half of a number of rows for which memory was lacking, say so, and let go of the memory that is kept.

    Args:
        rows: Rows that were tried.
        what: What they are, in the plural.
        begins_so: A setting that begins with fewer of them.

    Raises:
        ScenepaletteError: It was a single row.
    """
    if rows == 1:
        raise ScenepaletteError(
            f"The device's memory is too small for a single one of the {what}. Free some of it (nvidia-smi shows who "
            "uses it), or use compute.accelerator=cpu; a smaller data.size or narrower networks need a new run."
        )
    size = rows // 2
    setting = f" {begins_so}={size} begins so." if begins_so else ""
    print(
        f"Warning: the device's memory is too small for {rows} {what} at once; from here on {size} are taken.{setting}",
        file=sys.stderr,
        flush=True,
    )
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    return size
