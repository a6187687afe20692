"""Trainings that are done at once on one device, each in a process of its own: they share nothing but what they read.

On a few processors this is faster than one training after another with all threads, as small convolutions are divided
badly: two segmenters of 96x128 beside each other, with one thread each, take the time of one with two
(docs/results/speed.md).
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import IO, NamedTuple

from scenepalette.common.errors import ScenepaletteError, TrainingError
from scenepalette.common.processors import choose_threads
from scenepalette.common.progress import Progress
from scenepalette.common.registry import Registry
from scenepalette.pipeline.config import RunConfig
from scenepalette.pipeline.device.memory import available_memory, ending_of
from scenepalette.pipeline.run_directory.activity import TELL_SECONDS, forget_beside, read_beside, told
from scenepalette.pipeline.units.records import account
from scenepalette.pipeline.units.workspace import Workspace
from scenepalette.training.device.abilities import chosen_accelerator

# A script or a notebook may have told only this process where the package is.
WORKER = """
import json, sys
sys.path[:] = json.loads(sys.argv.pop(1))
from scenepalette.pipeline.beside_worker import main
sys.exit(main(*sys.argv[1:]))
"""
"""Program that fills one unit's folder, with the modules of this process."""
MOST_AT_ONCE = 4
"""With more threads than that, each training has several."""
MEMORY_OF_ONE = 4 * 2**30
"""Bytes for a training on a CPU; OASIS of the recipe camvid-cpu takes 3 GiB."""
LOOK_SECONDS = 0.2
END_SECONDS = 20.0
"""How long a process may take to end when it is asked to: as a step may."""
LAST_LINES = 20
MADE = 87
"""Exit status of a process that has filled its folder; 0 may be that of a version installed since, which did not."""


def trainings_at_once(config: RunConfig, threads: int | None = None) -> int:
    """Return how many trainings are done at once if nothing keeps them from it.

    Args:
        config: The configuration.
        threads: Those that the process would use for one; None for those of the configuration, or usual ones.
    """
    if config.compute.parallel is not None:
        return config.compute.parallel
    # What this process alone knows, such as a system added by a script, other processes could not train.
    if config.compute.tracking or chosen_accelerator(config.compute.accelerator) != "cpu":
        return 1
    if Registry.knows_of_this_process():
        return 1
    threads = threads or config.compute.threads or choose_threads().threads
    return max(1, min(threads, MOST_AT_ONCE, available_memory() // MEMORY_OF_ONE))


def one_more(config: RunConfig, count: int, threads: int) -> bool:
    """Return whether another training is begun than there are processors for.

    Trainings of one thread share processors evenly, and so none idles while the longest is left. Those of several
    threads wait for each other, and a number that the configuration gives is kept.

    Args:
        config: The configuration.
        count: Trainings for which there are processors.
        threads: Of each of them.
    """
    chosen = config.compute.parallel or config.segmenters.parallel
    return not chosen and count > 1 and threads == 1 and available_memory() >= (count + 1) * MEMORY_OF_ONE


class _Worker(NamedTuple):
    process: subprocess.Popen[bytes]
    errors: IO[bytes]


def make_beside(run: Workspace, names: Sequence[str], count: int) -> None:
    """Make units, up to `count` at once or one more, each as soon as what it is made from is finished.

    A unit's account gets the time that passes, divided by the number of those made at once, so that the units' sum is
    that of the machine.

    Args:
        run: The run, whose directory the caller holds; its configuration is written there.
        names: Units of trainings, each after those of them that it is made from.
        count: Trainings for which there are processors; each has its share of the threads.

    Raises:
        ScenepaletteError: One of them failed; the others are ended, and resume with the same command.
    """
    noun = "segmenters" if all(run.units[name].stage == "segmenters" for name in names) else "units"
    threads = max(1, run.threads.threads // count)
    if len(names) > count and one_more(run.config, count, threads):
        count += 1
    with told(run.run_dir, f"{len(names)} {noun}", run.progress) as progress:
        progress.start(f"Training {len(names)} {noun}, {count} at once (percent of each)", 100 * len(names))
        _Beside(run, list(names), threads, progress).make(count)
        progress.finish()


class _Beside:
    """The processes that work at one time, and what is left for them."""

    def __init__(self, run: Workspace, left: list[str], threads: int, progress: Progress) -> None:
        self._run, self._left, self._threads, self._progress = run, left, threads, progress
        self._working: dict[str, _Worker] = {}
        self._percent = dict.fromkeys(left, 0)
        self._longest = dict.fromkeys(left, 0)
        self._seconds = dict.fromkeys(left, 0.0)
        self._said: set[str] = set()

    def make(self, count: int) -> None:
        looked = shown = time.monotonic()
        try:
            self._start(count)
            while self._working:
                time.sleep(LOOK_SECONDS)
                now = time.monotonic()
                for name in self._working:
                    self._seconds[name] += (now - looked) / len(self._working)
                looked = now
                ended = [name for name, worker in self._working.items() if worker.process.poll() is not None]
                # What is whole is finished before another one's failure is told.
                for name in sorted(ended, key=lambda name: self._working[name].process.returncode != MADE):
                    self._account(name)
                    self._pass_on(_words_of(self._run, name, self._working.pop(name)))
                    self._run.finish(name)
                    self._show(name, 100)
                if ended:
                    self._start(count)
                elif now >= shown + TELL_SECONDS:
                    shown = now
                    self._look()
        finally:
            for worker in self._working.values():
                worker.process.terminate()
            for worker in self._working.values():
                _wait_for(worker.process)
                worker.errors.close()
            with contextlib.suppress(ScenepaletteError):  # as on a full disk, which is told already
                for name in self._working:
                    self._account(name)
            forget_beside(self._run.run_dir)

    def _account(self, name: str) -> None:
        account(self._run.run_dir, self._run.units[name], self._seconds[name])

    def _pass_on(self, words: str) -> None:
        """Print what a process has said, without what another has said before."""
        lines = [line for line in words.splitlines() if line not in self._said]
        self._said.update(lines)
        if lines:
            print("\n".join(lines), file=sys.stderr, flush=True)

    def _start(self, count: int) -> None:
        """Start what can be made now, in order, as long as fewer than `count` work."""
        for name in [*self._left]:
            if len(self._working) >= count:
                return
            if all(self._run.is_finished(other) for other in self._run.units[name].inputs):
                self._left.remove(name)
                self._run.check_inputs(name)
                self._run.begin(name)
                self._working[name] = _started(self._run, name, self._threads)

    def _look(self) -> None:
        """Show how far the trainings are that work."""
        for activity in read_beside(self._run.run_dir):
            # Of a unit's pieces of work, such as a training and an evaluation, the longest counts.
            if activity.unit in self._working and activity.total >= self._longest[activity.unit]:
                self._longest[activity.unit] = activity.total
                self._show(activity.unit, 99 * activity.done // max(1, activity.total))

    def _show(self, name: str, percent: int) -> None:
        more = max(0, percent - self._percent[name])
        self._percent[name] += more
        working = {name: float(self._percent[name]) for name in self._working}
        self._progress.advance(more, **working)


def _started(run: Workspace, name: str, threads: int) -> _Worker:
    # -P: a module of the user's folder must not take the place of one that the program needs.
    command = [sys.executable, "-P", "-c", WORKER, json.dumps([path for path in sys.path if isinstance(path, str)])]
    command += [str(run.run_dir), name, str(threads), str(os.getpid())]
    # On the disk that results are written to, so that no other can be full.
    errors = tempfile.TemporaryFile(dir=run.run_dir)  # noqa: SIM115 (closed when the process has ended)
    try:
        return _Worker(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors), errors)
    except BaseException:
        errors.close()
        raise


def _wait_for(process: subprocess.Popen[bytes]) -> None:
    """Wait until a process has ended that was asked to, and kill it if it does not: files are written atomically."""
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _words_of(run: Workspace, name: str, worker: _Worker) -> str:
    """Return what a process that has ended has said.

    Raises:
        TrainingError: It failed.
    """
    with worker.errors:
        worker.errors.seek(0)
        said = worker.errors.read().decode(errors="replace").strip()
    status = worker.process.returncode
    if status == MADE:
        return said
    lines = said.splitlines()[-LAST_LINES:]
    if status < 0 or not lines:  # what it said before it was killed, such as a warning, is not why
        lines.append(ending_of(status))
    reason = "\n".join(lines)
    raise TrainingError(
        f"{run.run_dir / name}: {reason}\nRerun the same command to resume; compute.parallel=1 trains one at a time."
    )
