"""Clusters of Dask and Ray on this machine's loopback, whose workers can be lost as a machine is; for Linux."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

HOST, RAY_HOST = "127.0.0.1", "127.0.0.2"
START_SECONDS = 600.0
"""Until which a cluster has to be up; each worker imports its packages, all at once on few cores."""
POLL_SECONDS = 0.02


@dataclass
class Cluster:
    """A cluster that runs.

    Attributes:
        address: What a task runner connects to.
        log: What its processes say, as long as it runs.
        started: The processes that were started for it, which may have started others.
    """

    address: str
    log: Path
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def processes(self) -> list[int]:
        """Return all processes that run."""
        return [each for process in self.started for each in (process.pid, *descendants(process.pid))]

    def worker_with_open(self, part: str) -> tuple[int, str] | None:
        """Return a process that has a file open whose name holds this, and the file's name; None if none has."""
        for process in self.processes():
            for name in open_files(process):
                if part in name:
                    return process, name
        return None


def processor_seconds(processes: Iterable[int]) -> float:
    """Return what processes have used of processors, in seconds; one that has ended counts nothing."""
    seconds = 0.0
    for pid in processes:
        with suppress(psutil.Error):
            times = psutil.Process(pid).cpu_times()
            seconds += times.user + times.system
    return seconds


@contextmanager
def dask_cluster(workers: int, environment: Mapping[str, str]) -> Iterator[Cluster]:
    """Start a scheduler and workers of one thread each, which no nanny starts again."""
    port = _free_port()
    address = f"tcp://{HOST}:{port}"
    dask = [sys.executable, "-m", "dask"]
    head = [*dask, "scheduler", "--host", HOST, "--port", str(port), "--no-dashboard", "--no-show"]
    worker = [*dask, "worker", address, "--host", HOST, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
    worker += ["--memory-limit", "0"]
    # A scheduler that imports what tasks need at the first of them answers nobody meanwhile.
    preload = ["--preload", "scenepalette.flows.shards"]
    with _started(address, [[*head, *preload], *([[*worker, *preload]] * workers)], environment) as cluster:
        from distributed import Client

        with Client(address, timeout=START_SECONDS, set_as_default=False) as client:
            client.wait_for_workers(workers, timeout=START_SECONDS)
        yield cluster


@contextmanager
def ray_cluster(workers: int, environment: Mapping[str, str]) -> Iterator[Cluster]:
    """Start a node with a CPU for each worker; a worker is a process of it, and is replaced when it is lost."""
    port = _free_port()
    # Ray takes 127.0.0.1 for "find the address of this machine".
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"]
    command += ["--node-ip-address", RAY_HOST, "--port", str(port), "--num-cpus", str(workers)]
    command += ["--include-dashboard", "false", "--object-store-memory", str(100 * 2**20)]
    # It listens to this machine alone; with a token of the user, whoever connects would have to ask for it too.
    with _started(f"{RAY_HOST}:{port}", [command], {**environment, "RAY_AUTH_MODE": "disabled"}) as cluster:
        # Its port answers before its node is there. In a process of its own: one process connects once.
        code = f"import ray; ray.init('{cluster.address}', log_to_driver=False)"
        end = time.monotonic() + START_SECONDS
        while subprocess.run([sys.executable, "-c", code], capture_output=True, env=dict(environment)).returncode:
            if time.monotonic() > end:
                raise RuntimeError(f"The cluster did not start:\n{cluster.log.read_text()[-4000:]}")
        yield cluster


CLUSTERS: dict[str, Callable[[int, Mapping[str, str]], AbstractContextManager[Cluster]]] = {
    "dask": dask_cluster,
    "ray": ray_cluster,
}


@contextmanager
def _started(address: str, commands: list[list[str]], environment: Mapping[str, str]) -> Iterator[Cluster]:
    """Start the head and wait until it listens, then start the others; in the end, end all of them."""
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(address, Path(folder) / "log")

        def start(command: list[str]) -> None:
            with cluster.log.open("ab") as log:
                started = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    env=dict(environment),
                )
            cluster.started.append(started)

        try:
            head, *others = commands
            start(head)
            _wait_for_port(cluster)
            for command in others:
                start(command)
            yield cluster
        finally:
            lose(*cluster.processes())
            for process in cluster.started:
                process.wait()


def lose(*processes: int) -> None:
    """End processes at once, without a word to anyone (SIGKILL)."""
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _wait_for_port(cluster: Cluster) -> None:
    host, _, port = cluster.address.removeprefix("tcp://").partition(":")
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection((host, int(port)), 1.0).close()
            return
        except OSError:
            if time.monotonic() > end or cluster.started[0].poll() is not None:
                raise RuntimeError(f"The cluster did not start:\n{cluster.log.read_text()[-4000:]}") from None
            time.sleep(POLL_SECONDS)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return listener.getsockname()[1]


def descendants(pid: int) -> list[int]:
    """Return the processes that a process has started, and those that they have started; none once it has ended."""
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return []


def open_files(pid: int) -> list[str]:
    """Return the names of the files that a process has open; none once it has ended."""
    try:
        return [file.path for file in psutil.Process(pid).open_files()]
    except psutil.Error:
        return []
