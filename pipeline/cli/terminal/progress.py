"""A progress bar for terminals; logs and pipes get plain lines."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from scenepalette.common.progress import PlainProgress, Progress

SHOWN_VALUES = 3
# Steps are uneven (levels grow, checkpoints are written): time left follows the last two minutes.
SPEED_SECONDS = 120.0


class RichProgress:
    """Progress as a bar on standard error: description, count, time left and up to three current values."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._bar: Bar | None = None
        self._task = TaskID(0)

    def start(self, description: str, total: int, done: int = 0) -> None:
        """Begin a piece of work and draw its bar; one that was not finished is left as it stands."""
        self.finish()
        self._bar = Bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[values]}", markup=False, style="dim"),
            console=self._console,
            speed_estimate_period=SPEED_SECONDS,
        )
        self._task = self._bar.add_task(description, total=total, completed=done, values="")
        self._bar.start()

    def advance(self, count: int = 1, **values: float) -> None:
        """Move the bar on and show the values."""
        if self._bar is None:
            return
        if values:
            shown = list(values.items())[:SHOWN_VALUES]
            self._bar.update(self._task, values=" ".join(f"{name} {value:.3g}" for name, value in shown))
        self._bar.advance(self._task, count)

    def finish(self) -> None:
        """Leave the bar as it stands and give the terminal back; more calls do nothing."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def choose_progress() -> Progress:
    """Return a bar if standard error is a terminal, else plain lines."""
    return RichProgress() if sys.stderr.isatty() else PlainProgress()


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """Give out what `choose_progress` returns; the terminal is given back at the end of the block."""
    progress = choose_progress()
    try:
        yield progress
    finally:
        progress.finish()
