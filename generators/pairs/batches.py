"""How many pairs a device makes at once, and making them while others are written."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from typing import TypeVar

import torch

from scenepalette.training.device.fitting import halved

Item = TypeVar("Item")

LARGEST_BATCH = 256
SPARE = 0.4
"""Share of a GPU's memory that a batch may take for one twice as large to be tried."""


class BatchSize:
    """Rows that are made at once: as many as were asked for, half as many where memory is lacking, or as many as fit.

    Rows are functions of their index; on a GPU, other sizes of batches may round them differently.

    Attributes:
        grows: Whether batches become larger on a GPU while its memory has room.
    """

    def __init__(self, device: torch.device, grows: bool = False) -> None:
        self._device, self.grows = device, grows
        self._size = 0
        self._most = LARGEST_BATCH
        if grows and device.type == "cuda":  # what a training took in this process says nothing of pairs
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)

    def of(self, asked: int) -> int:
        """Return how many rows to make, where so many were asked for."""
        self._size = self._size or asked
        return self._size

    def fitted(self) -> None:
        """Note that a batch of this size could be made."""
        if self.grows and self._device.type == "cuda" and 2 * self._size <= self._most:
            taken = torch.cuda.max_memory_reserved(self._device)
            if taken <= SPARE * torch.cuda.get_device_properties(self._device).total_memory:
                self._size *= 2

    def lacked_memory(self, rows: int) -> None:
        """Halve a batch for which memory was lacking.

        Args:
            rows: Rows of the batch.

        Raises:
            ScenepaletteError: It was a single row.
        """
        self._size = self._most = halved(rows, "pairs", "generate.batch_size")


class _Failed:
    """Carries an error out of the thread."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


_END = object()


def made_ahead(items: Iterator[Item], count: int) -> Generator[Item, None, None]:
    """Yield items that a thread takes from an iterator, up to `count` ahead of whoever uses them.

    Args:
        items: An iterator or generator, used in the thread alone; what it raises is raised here.
        count: Items that may wait.
    """
    waiting: queue.Queue[object] = queue.Queue(count)
    stopped = threading.Event()

    def put(item: object) -> bool:
        while not stopped.is_set():
            try:
                waiting.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def take() -> None:
        try:
            for item in items:
                if not put(item):
                    break
            else:
                put(_END)
        except BaseException as error:
            put(_Failed(error))
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()

    thread = threading.Thread(target=take, name="pairs-ahead", daemon=True)
    thread.start()
    try:
        while (item := waiting.get()) is not _END:
            if isinstance(item, _Failed):
                raise item.error
            yield item  # type: ignore[misc]
    finally:
        stopped.set()
        thread.join()
