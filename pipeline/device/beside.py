"""Segmenters that are trained at once on one device, each in a process of its own: they share nothing but the data."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from abc import abstractmethod
from collections.abc import Sequence
from typing import IO, NamedTuple

from scenepalette.common.errors import TrainingError
from scenepalette.common.progress import Progress
from scenepalette.pipeline.run_directory.activity import told
from scenepalette.pipeline.units.workspace import Workspace

WORKER = "scenepalette.pipeline.beside_worker"
"""Module that is run to fill one unit's folder."""
LOOK_SECONDS = 0.2
LAST_LINES = 20


class MakesUnits(Workspace):
    """A run that begins and finishes units."""

    @abstractmethod
    def begin(self, name: str) -> None:
        """Mark a unit as begun."""

    @abstractmethod
    def finish(self, name: str) -> None:
        """Write the manifest of a unit whose work is done."""


class _Worker(NamedTuple):
    process: subprocess.Popen[bytes]
    errors: IO[bytes]


def make_beside(run: MakesUnits, names: Sequence[str], count: int) -> None:
    """Make units whose inputs are finished, up to `count` at once.

    Args:
        run: The run, whose directory the caller holds; its configuration is written there.
        names: Units of trainings.
        count: Processes at once.

    Raises:
        ScenepaletteError: One of them failed; the others are ended, and resume with the same command.
    """
    threads = max(1, run.threads.threads // count)
    left, working = list(names), dict[str, _Worker]()
    with told(run.run_dir, f"{len(left)} segmenters", run.progress) as progress:
        progress.start(f"Training {len(left)} segmenters, {count} at once", len(left))
        _make_all(run, left, working, count, threads, progress)
        progress.finish()


def _make_all(
    run: MakesUnits, left: list[str], working: dict[str, _Worker], count: int, threads: int, progress: Progress
) -> None:
    try:
        while left or working:
            while left and len(working) < count:
                name = left.pop(0)
                run.check_inputs(name)
                run.begin(name)
                working[name] = _start(run, name, threads)
            for name in [name for name, worker in working.items() if worker.process.poll() is not None]:
                _check(run, name, working.pop(name))
                run.finish(name)
                progress.advance(1)
            time.sleep(LOOK_SECONDS)
    finally:
        for worker in working.values():
            worker.process.terminate()
        for worker in working.values():
            worker.process.wait()
            worker.errors.close()


def _start(run: MakesUnits, name: str, threads: int) -> _Worker:
    command = [sys.executable, "-m", WORKER, str(run.run_dir), name, str(threads)]
    errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed when the process has ended)
    return _Worker(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors), errors)


def _check(run: MakesUnits, name: str, worker: _Worker) -> None:
    """Pass on what a process has said, and raise if it failed."""
    with worker.errors:
        worker.errors.seek(0)
        said = worker.errors.read().decode(errors="replace").strip()
    status = worker.process.returncode
    if status == 0:
        if said:
            print(said, file=sys.stderr, flush=True)
        return
    reason = "\n".join(said.splitlines()[-LAST_LINES:]) or f"the process ended with status {status}"
    raise TrainingError(
        f"{run.run_dir / name}: {reason}\nRerun the same command to resume; segmenters.parallel=1 trains one at a time."
    )
