"""Where long work reports how far it is."""

from __future__ import annotations

import sys
import time
from typing import Protocol


class Progress(Protocol):
    """Where long work reports how far it is."""

    def start(self, description: str, total: int, done: int = 0) -> None:
        """Begin a piece of work of `total` units, of which `done` were finished earlier."""

    def advance(self, count: int = 1, **values: float) -> None:
        """Report `count` more finished units and current values such as losses."""

    def finish(self) -> None:
        """End the piece of work, whether all its units were reported or not; more calls do nothing."""


class NoProgress:
    """Progress that is not shown."""

    def start(self, description: str, total: int, done: int = 0) -> None:
        """Do nothing."""

    def advance(self, count: int = 1, **values: float) -> None:
        """Do nothing."""

    def finish(self) -> None:
        """Do nothing."""


NO_PROGRESS = NoProgress()


class EnoughError(Exception):
    """Raised by a progress to end a training that is only timed."""


class PlainProgress:
    """Progress as plain lines for logs and pipes: at most one line per `interval` seconds, with time left."""

    def __init__(self, interval: float = 15.0) -> None:
        """Print at most one line per `interval` seconds."""
        self.interval = interval
        self._description, self._total, self._done, self._first = "", 0, 0, 0
        self._began = self._printed = time.monotonic()
        self._working = False

    def start(self, description: str, total: int, done: int = 0) -> None:
        """Begin a piece of work and say so; one that was not finished is said to have stopped."""
        self.finish()
        self._description, self._total, self._done, self._first = description, total, done, done
        self._began = self._printed = time.monotonic()
        self._working = True
        self._say(f"{done} of {total}" if done else f"{total}")

    def advance(self, count: int = 1, **values: float) -> None:
        """Count, and print a line if the last one is old enough."""
        self._done += count
        now = time.monotonic()
        if now - self._printed >= self.interval and self._done > self._first:
            self._printed = now
            left = (now - self._began) / (self._done - self._first) * (self._total - self._done)
            shown = "".join(f" {name}={value:.3g}" for name, value in values.items())
            self._say(f"{self._done} of {self._total}, {left:.0f} s left{shown}")

    def finish(self) -> None:
        """Say how long the piece of work took, and where it stopped if not all of it was done."""
        if self._working:
            self._working = False
            seconds = time.monotonic() - self._began
            finished = self._done >= self._total
            self._say(
                f"done in {seconds:.0f} s"
                if finished
                else f"stopped after {self._done} of {self._total}, {seconds:.0f} s"
            )

    def _say(self, text: str) -> None:
        print(f"{self._description}: {text}", file=sys.stderr, flush=True)
