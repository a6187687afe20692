"""Work on all cores that this process may use, in bounded memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST_WORKERS = 32
"""Each holds an image of up to 67 million pixels."""


def worker_count(most: int = MOST_WORKERS) -> int:
    """Return how many threads may work: the cores that this process may run on, or OMP_NUM_THREADS if that is fewer."""
    # Not the machine's cores: batch systems and containers give a process some of them.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    stated = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if stated.isascii() and stated.isdigit() and int(stated) > 0:
        cores = min(cores, int(stated))
    return max(1, min(cores, most))


def map_in_order(work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Yield the results of work on items, in their order; few are under way or waiting at a time.

    Decoding and most of NumPy's work happen outside the interpreter lock, so threads use all cores. Unlike
    `Executor.map`, which begins all work at once, this keeps memory bounded where results are taken slowly.

    Args:
        work: What is done with an item, in one of several threads.
        items: The items.
    """
    workers = worker_count()
    with ThreadPoolExecutor(workers) as executor:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(executor.submit(work, item))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
