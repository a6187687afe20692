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
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

HOST = "127.0.0.1"
START_SECONDS = 600.0
"""Until which a cluster has to be up; each worker imports its packages, all at once on few cores."""
PRELOADED = "scenepalette.flows.shards"
"""What tasks need: a scheduler that imports it at the first task answers nobody meanwhile."""
POLL_SECONDS = 0.02


@dataclass
class Cluster:
    """A cluster that runs.

    Attributes:
        address: What a task runner connects to.
        workers: Of each worker, the process that was started for it.
        head: Process of the scheduler, or of Ray's head.
        log: What its processes say, as long as it runs.
    """

    address: str
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    head: int = 0
    log: Path = Path(os.devnull)

    def worker_with_open(self, suffix: str) -> tuple[subprocess.Popen[bytes], str] | None:
        """Return a worker that has a file open whose name ends so, and the file's name; None if none has."""
        for worker in self.workers:
            for process in (worker.pid, *descendants(worker.pid)):
                for name in open_files(process):
                    if name.endswith(suffix):
                        return worker, name
        return None

    def processes(self) -> list[int]:
        """Return all processes that run: of the head, and of the workers."""
        started = [self.head, *(worker.pid for worker in self.workers)]
        return [each for pid in started for each in (pid, *descendants(pid))]

    def lose(self, worker: subprocess.Popen[bytes]) -> None:
        """End a worker with all its processes at once, without a word to anyone (SIGKILL)."""
        _kill(worker)
        self.workers.remove(worker)


def processor_seconds(processes: Iterable[int]) -> float:
    """Return what processes have used of processors, in seconds; one that has ended counts nothing."""
    ticks = 0
    for pid in processes:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def dask_cluster(workers: int, environment: Mapping[str, str]) -> Iterator[Cluster]:
    """Start a scheduler and workers of one thread each, which no nanny starts again."""
    port = _free_port()
    address = f"tcp://{HOST}:{port}"
    dask = [sys.executable, "-m", "dask"]
    head = [*dask, "scheduler", "--host", HOST, "--port", str(port), "--no-dashboard", "--no-show"]
    head += ["--preload", PRELOADED]
    worker = [*dask, "worker", address, "--host", HOST, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
    worker += ["--memory-limit", "0", "--preload", PRELOADED]

    def ready() -> int:
        from distributed import Client

        with Client(address, timeout=START_SECONDS, set_as_default=False) as client:
            return len(client.scheduler_info(n_workers=-1)["workers"])

    commands = [[*worker, "--name", str(number)] for number in range(workers)]
    with _started(Cluster(address), head, commands, ready, environment) as cluster:
        yield cluster


@contextmanager
def ray_cluster(workers: int, environment: Mapping[str, str]) -> Iterator[Cluster]:
    """Start a head without CPUs, and a node of one CPU for each worker."""
    port = _free_port()
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--node-ip-address", HOST, "--block"]
    ray += ["--disable-usage-stats", "--object-store-memory", str(100 * 2**20)]
    head = [*ray, "--head", "--port", str(port), "--num-cpus", "0", "--include-dashboard", "false"]
    node = [*ray, "--address", f"{HOST}:{port}", "--num-cpus", "1"]

    def ready() -> int:
        code = (
            f"import ray; ray.init('{HOST}:{port}', log_to_driver=False, logging_level='ERROR');"
            "print(sum(n['Alive'] for n in ray.nodes()) - 1)"
        )
        # In a process of its own: one process connects to one cluster.
        asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(environment))
        return int(asked.stdout.split()[-1]) if asked.returncode == 0 else 0

    with _started(Cluster(f"{HOST}:{port}"), head, [node] * workers, ready, environment) as cluster:
        yield cluster


CLUSTERS: dict[str, Callable[[int, Mapping[str, str]], Iterator[Cluster]]] = {
    "dask": dask_cluster,  # type: ignore[dict-item]
    "ray": ray_cluster,  # type: ignore[dict-item]
}


@contextmanager
def _started(
    cluster: Cluster,
    head: list[str],
    workers: list[list[str]],
    ready: Callable[[], int],
    environment: Mapping[str, str],
) -> Iterator[Cluster]:
    processes: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory() as folder:
        cluster.log = Path(folder) / "log"

        def start(command: list[str]) -> subprocess.Popen[bytes]:
            with cluster.log.open("ab") as log:
                processes.append(
                    subprocess.Popen(
                        command,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                        env=dict(environment),
                    )
                )
            return processes[-1]

        try:
            cluster.head = start(head).pid
            _wait_for_port(int(cluster.address.rpartition(":")[2]))
            cluster.workers = [start(command) for command in workers]
            end = time.monotonic() + START_SECONDS
            while ready() < len(workers):
                if time.monotonic() > end or any(process.poll() is not None for process in processes):
                    raise RuntimeError(f"The cluster did not start:\n{cluster.log.read_text()[-4000:]}")
                time.sleep(0.2)
            yield cluster
        finally:
            for process in reversed(processes):
                _kill(process)


def _wait_for_port(port: int) -> None:
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection((HOST, port), 1.0).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(POLL_SECONDS)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return listener.getsockname()[1]


def _kill(process: subprocess.Popen[bytes]) -> None:
    for pid in (*descendants(process.pid), process.pid):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()


def descendants(pid: int) -> list[int]:
    """Return the processes that a process has started, and those that they have started."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                # PID (NAME) STATE PARENT ...; a name may hold spaces and brackets.
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            parents.setdefault(parent, []).append(int(entry.name))
    found, left = list[int](), [pid]
    while left:
        children = parents.get(left.pop(), [])
        found += children
        left += children
    return found


def open_files(pid: int) -> list[str]:
    """Return the names of the files that a process has open."""
    names = []
    try:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                names.append(os.readlink(link))
            except OSError:
                continue
    except OSError:
        pass
    return names
