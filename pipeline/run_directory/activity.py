"""What a process is making in a run directory right now, for others to see.

The lock tells that a process works in a run directory, not which, nor how far it is. A small file beside the lock says
so while a unit is made. It is a courtesy: a file that cannot be written stops nothing, and one that a killed process
left is recognised by its process being gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil

from scenepalette.common.errors import ScenepaletteError
from scenepalette.common.progress import Progress
from scenepalette.common.storage.files import write_atomically

ACTIVITY = ".scenepalette-activity.json"
BESIDE = ".scenepalette-activity-{process}.json"
"""Of a process that the one holding the run directory has started."""
TELL_SECONDS = 5.0
# Times of one process's start, as two readings of it may differ.
_SAME_SECONDS = 2.0


@dataclass(frozen=True)
class Activity:
    """What is being made.

    Attributes:
        unit: The unit.
        process: Id of the process that makes it.
        host: Name of its machine.
        process_began: When the process began, see `_beginning_of`: ids are used again.
        began: When it began with the unit.
        told: When it last said so.
        work: Which piece of the unit's work it is at, such as "train images"; empty before the first.
        done: Finished parts of it, such as steps.
        total: All its parts.
        work_began: When it began with the piece.
        work_first: Parts that had been finished before.
    """

    unit: str
    process: int
    host: str
    process_began: float
    began: float
    told: float
    work: str = ""
    done: int = 0
    total: int = 0
    work_began: float = 0.0
    work_first: int = 0

    @property
    def is_here(self) -> bool:
        """Whether it is a process of this machine, so that it can be known to live."""
        return self.host == socket.gethostname()

    def seconds_left(self, now: float) -> float | None:
        """Return the seconds that are left of the piece of work, at its speed so far; None before that is known."""
        if not self.work or self.done <= self.work_first:
            return None
        speed = (self.done - self.work_first) / max(1e-9, self.told - self.work_began)
        return max(0.0, (self.total - self.done) / speed - (now - self.told))


class ToldProgress:
    """Progress that is passed on, and told in the run directory."""

    def __init__(self, run_dir: Path, unit: str, progress: Progress, *, beside: bool = False) -> None:
        """Tell that a unit is begun; `beside` says that another process, which tells too, has asked for it."""
        self._path = run_dir / (BESIDE.format(process=os.getpid()) if beside else ACTIVITY)
        self._inner = progress
        now = time.time()
        began = _beginning_of(psutil.Process())
        self._now = Activity(unit, os.getpid(), socket.gethostname(), began, now, now)
        self._tell()

    def start(self, description: str, total: int, done: int = 0) -> None:
        """Begin a piece of work."""
        self._inner.start(description, total, done)
        self._set(work=description, total=total, done=done, work_first=done, work_began=time.time())
        self._tell()

    def advance(self, count: int = 1, **values: float) -> None:
        """Count, and tell it if it was last told some seconds ago."""
        self._inner.advance(count, **values)
        self._set(done=self._now.done + count)
        if abs(time.time() - self._now.told) >= TELL_SECONDS:  # also where the clock was set back
            self._tell()

    def finish(self) -> None:
        """End the piece of work."""
        self._inner.finish()

    def _set(self, **values: str | int | float) -> None:
        self._now = replace(self._now, **values)

    def _tell(self) -> None:
        self._set(told=time.time())
        if not self._path.parent.is_dir():  # it is not made for this alone
            return
        with contextlib.suppress(OSError, ScenepaletteError):
            write_atomically(self._path, json.dumps(asdict(self._now)) + "\n", durable=False)

    def end(self) -> None:
        """Tell that nothing is made any more."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


@contextlib.contextmanager
def told(run_dir: Path, unit: str, progress: Progress, *, beside: bool = False) -> Iterator[ToldProgress]:
    """Tell others that the block makes a unit; whoever asked for it `beside` others holds the run directory."""
    telling = ToldProgress(run_dir, unit, progress, beside=beside)
    try:
        yield telling
    finally:
        telling.end()


def read_activity(run_dir: Path) -> Activity | None:
    """Return what a process is making in a run directory; None if none does, or nothing can be known of it."""
    return _read(run_dir / ACTIVITY)


def read_beside(run_dir: Path) -> list[Activity]:
    """Return what each of the processes makes that train beside each other in a run directory."""
    paths = sorted(run_dir.glob(BESIDE.format(process="*")))
    return [found for path in paths if (found := _read(path)) is not None]


def forget_beside(run_dir: Path) -> None:
    """Remove what processes left that were killed; the caller holds the run directory, and all of them have ended."""
    with contextlib.suppress(OSError):
        for path in run_dir.glob(BESIDE.format(process="*")):
            path.unlink(missing_ok=True)


def _read(path: Path) -> Activity | None:
    try:
        found = Activity(**json.loads(path.read_text(encoding="utf-8")))
        if found.is_here and abs(_beginning_of(psutil.Process(found.process)) - found.process_began) > _SAME_SECONDS:
            return None
    except (OSError, ValueError, TypeError, psutil.Error):
        return None
    return found


def _beginning_of(process: psutil.Process) -> float:
    """Return when a process began, in seconds since 1970; on Linux since the machine did, as a clock may be set there.

    The system keeps the latter, and psutil adds when the machine began by the clock of now.
    """
    return process.create_time() - (psutil.boot_time() if psutil.LINUX else 0.0)
