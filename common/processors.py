"""How many threads to compute and to read with, and how they wait, on machines that are shared or have a quota.

torch starts a thread for every processor that it sees, and between two operations its threads wait by spinning. Where
another process needs one of the processors, a thread is always late and all others spin until it comes: two threads on
two processors, one of them busy, are slower than one thread. In a container with a quota the threads use up the quota
by waiting. Measured by `python -m benchmarks.contention` (docs/results/speed.md).
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

SPINS = "20000"
"""Rounds that a waiting thread spins before it sleeps, as GNU OpenMP counts them; its own choice is 300,000 or more."""
SAMPLE_SECONDS = 0.2
"""How long it is watched what other processes do."""
BUSY = 0.3
"""Processors' worth of other work from which the machine counts as busy."""
MOST_WORKERS = 32
"""Each holds an image of up to 67 million pixels."""


class ThreadChoice(NamedTuple):
    """How many threads are computed with, and why.

    Attributes:
        threads: Their number, at least 1.
        processors: What this process may use: by its affinity, and by the quota of its control group.
        others: Processors' worth of work of other processes as the choice was made; 0 where it cannot be told.
        chosen_by: Name of the environment variable of the user that decided, or "".
    """

    threads: int
    processors: float
    others: float
    chosen_by: str = ""

    @property
    def is_busy(self) -> bool:
        """Whether other processes slow this one down."""
        return self.others >= BUSY

    @property
    def warning(self) -> str:
        """What the user should know before waiting, or ""."""
        if self.threads > self.processors and self.chosen_by:
            return (
                f"{self.chosen_by} asks for {self.threads} threads, but this process may use {self.processors:g} "
                f"processors (affinity and quota of its container): threads then wait for each other. Leave it out, or "
                f"set it to {max(1, int(self.processors))}."
            )
        if self.is_busy and not self.chosen_by:
            return (
                f"other processes keep {self.others:.1f} of {self.processors:g} processors busy, so that "
                f"{self.threads} thread{' is' if self.threads == 1 else 's are'} used and everything takes longer. "
                "Rerun on an idle machine, or choose compute.threads."
            )
        return ""

    def __str__(self) -> str:
        """Return a phrase for logs and reports."""
        text = f"{self.threads} thread{'' if self.threads == 1 else 's'} on {self.processors:g} usable processors"
        if self.chosen_by:
            return f"{text} (set by {self.chosen_by})"
        return f"{text} (others keep {self.others:.1f} busy)" if self.is_busy else text


def set_waiting_policy(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let threads that wait for each other sleep soon; to be called before torch is imported, else without effect.

    The environment variables of the user win: whoever set one of OpenMP's waiting has chosen.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & environment.keys():
        environment["GOMP_SPINCOUNT"] = SPINS


def choose_threads(root: Path = Path("/"), environment: MutableMapping[str, str] = os.environ) -> ThreadChoice:
    """Choose one thread for each processor that this process may use and that no other process keeps busy.

    Args:
        root: Where the file systems /proc and /sys are.
        environment: OMP_NUM_THREADS, if it is set, decides.
    """
    processors = usable_processors(root)
    if given := _given_threads(environment):
        return ThreadChoice(given, processors, 0.0, "OMP_NUM_THREADS")
    others = min(busy_processors(root), float(len(_affinity())))
    free = min(processors, len(_affinity()) - round(others))
    return ThreadChoice(max(1, int(free)), processors, others)


def worker_count(most: int = MOST_WORKERS, root: Path = Path("/"), environment: Mapping[str, str] = os.environ) -> int:
    """Return how many threads may read files: one for each usable processor, or OMP_NUM_THREADS if that is fewer.

    Args:
        most: Their largest number, whatever the machine is.
        root: Where the file systems /proc and /sys are.
        environment: OMP_NUM_THREADS, if it is set, bounds them.
    """
    usable = int(usable_processors(root))
    return max(1, min(usable, most, _given_threads(environment) or usable))


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


def usable_processors(root: Path = Path("/")) -> float:
    """Return how many processors this process may use: those of its affinity, or a smaller quota (cgroup v1 or v2)."""
    quotas = [_quota_v2(folder) for folder in _groups(root, "", "sys/fs/cgroup")]
    quotas += [
        _quota_v1(folder) for name in ("cpu", "cpu,cpuacct") for folder in _groups(root, name, f"sys/fs/cgroup/{name}")
    ]
    return min([float(len(_affinity())), *(quota for quota in quotas if quota)])


def busy_processors(root: Path = Path("/"), seconds: float = SAMPLE_SECONDS) -> float:
    """Return how many processors' worth of work other processes do on those that this one may use.

    Args:
        root: Where /proc is.
        seconds: How long it is watched.

    Returns:
        0 or more; the load average of the last minute where there is no /proc, 0 if there is none either.
    """
    before, own = _busy_ticks(root), time.process_time()
    if before is None:
        try:
            return os.getloadavg()[0]
        except (OSError, AttributeError):  # AttributeError: not on every system
            return 0.0
    began = time.perf_counter()
    time.sleep(seconds)
    passed, own = time.perf_counter() - began, time.process_time() - own
    after = _busy_ticks(root)
    if after is None or passed <= 0:
        return 0.0
    return max(0.0, ((after - before) / os.sysconf("SC_CLK_TCK") - own) / passed)


def _given_threads(environment: Mapping[str, str]) -> int:
    """Return OMP_NUM_THREADS, of a list the first; 0 if it says nothing."""
    given = environment.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(given) if given.isdecimal() else 0


def _affinity() -> set[int]:
    if sys.platform == "linux":
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _busy_ticks(root: Path) -> int | None:
    """Return the clock ticks that the processors of this process's affinity have worked, or None."""
    try:
        lines = (root / "proc/stat").read_text(encoding="ascii").splitlines()
        names = {f"cpu{number}" for number in _affinity()}
        # user, nice, system, idle, iowait, irq, softirq, steal; a guest's time is in user already.
        times = [
            [int(field) for field in line.split()[1:9]]
            for line in lines
            if line.split()[:1] and line.split()[0] in names
        ]
    except (OSError, ValueError):
        return None
    return sum(sum(each) - each[3] - each[4] for each in times) if times else None


def _groups(root: Path, controller: str, mounted: str) -> list[Path]:
    """Return the folders of this process's control group and of all above it, which may have quotas of their own."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        lines = []
    base = root / mounted
    # HIERARCHY:CONTROLLERS:PATH; version 2 is hierarchy 0 and names no controllers.
    paths = [parts[2] for line in lines if len(parts := line.split(":", 2)) == 3 and parts[1] == controller]
    folders = [base]  # in a container its own group is mounted here, whatever its path is called outside
    for path in paths:
        folder = base / path.lstrip("/")
        while folder != base and base in folder.parents:
            folders.append(folder)
            folder = folder.parent
    return folders


def _quota_v2(folder: Path) -> float:
    """Return the processors' worth of cpu.max, or 0 for no quota."""
    try:
        quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        return 0.0 if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return 0.0


def _quota_v1(folder: Path) -> float:
    """Return the processors' worth of cpu.cfs_quota_us, or 0 for no quota."""
    try:
        quota, period = (
            int((folder / f"cpu.cfs_{name}_us").read_text(encoding="ascii")) for name in ("quota", "period")
        )
        return max(0.0, quota / period)
    except (OSError, ValueError, ZeroDivisionError):
        return 0.0
