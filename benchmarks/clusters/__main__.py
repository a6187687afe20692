"""Shards from clusters of Dask and Ray on loopback: the same bytes, the rate, the overhead, and a worker that is lost.

python -m benchmarks.clusters --clusters dask ray --workers 2 4 8 --shards 24 --rows 16

For each cluster and number of workers of one thread: the shards are made once, so that every worker has its models,
and once more with the clock; then the same tasks run with the shards already there, which is their overhead; then one
worker is ended (SIGKILL) while it writes a shard, after a third of the shards. Networks are those of the recipe demo,
trained for a step a level. Workers share this machine's cores, so the rate does not grow beyond them. Needs Linux.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("DO_NOT_TRACK", "1")

import pyarrow.parquet as pq
from prefect.settings import get_current_settings
from prefect.testing.utilities import prefect_test_harness

from benchmarks.clusters.loopback import CLUSTERS, POLL_SECONDS, Cluster, lose
from benchmarks.clusters.making import Cost, demo_run, timed_shards
from benchmarks.measure import machine, markdown_table
from benchmarks.runners import UNIT
from scenepalette.common.errors import ConfigError
from scenepalette.common.storage.files import sha256_of_file
from scenepalette.flows.shards import ShardPool
from scenepalette.pipeline.run import Run
from scenepalette.pipeline.stages.generate import make_shard
from scenepalette.pipeline.stages.shard_files import RECEIPTS, is_written

TEMPORARY, SHARD_BEING_WRITTEN = ".scenepalette-tmp", "/.train-"


class Loss(threading.Thread):
    """Ends a worker while it writes a shard, once some are finished, and watches until that shard is there.

    Attributes:
        shard: Name of the shard that was lost with it; "" if no worker was met while it wrote.
        seconds: From then until another worker had made the shard.
    """

    def __init__(self, cluster: Cluster, folder: Path, finished: int) -> None:
        super().__init__(daemon=True)
        self._cluster, self._folder, self._finished = cluster, folder, finished
        self.shard, self.seconds = "", float("nan")

    def run(self) -> None:
        """Wait, end the worker, and wait for its shard."""
        receipts = self._folder / RECEIPTS
        while len(list(receipts.glob("*.json"))) < self._finished:
            time.sleep(POLL_SECONDS)
        while (found := self._cluster.worker_with_open(SHARD_BEING_WRITTEN)) is None:
            time.sleep(POLL_SECONDS / 10)
        worker, path = found
        lose(worker)
        began = time.perf_counter()
        name = Path(path).name.removeprefix(".").partition(".parquet")[0] + ".parquet"
        self.shard = name
        while not (receipts / f"{name}.json").exists() and not (self._folder / name).exists():
            time.sleep(POLL_SECONDS)
        self.seconds = time.perf_counter() - began


def hashes_of(folder: Path) -> list[str]:
    """Return the SHA-256 of every shard, in order."""
    return [sha256_of_file(path) for path in sorted(folder.glob("*.parquet"))]


def measure(
    kind: Any, workers: int, run: Run, expected: Sequence[str], environment: dict[str, str]
) -> tuple[list[object], list[object]]:
    """Measure one cluster; return its lines of both tables."""
    folder, shards = run.run_dir / UNIT, len(expected)
    with CLUSTERS[kind](workers, environment) as cluster:
        making = (shards, run.config.generate.rows_per_shard, str(run.run_dir), kind, workers, cluster.address)
        same = True
        for _ in range(2):  # at first every worker imports and loads
            shutil.rmtree(folder, ignore_errors=True)
            made, given_again = timed_shards(*making, cluster.processes(), 2)
            same = same and hashes_of(folder) == list(expected)
        shutil.rmtree(folder)
        loss = Loss(cluster, folder, shards // 3)
        loss.start()
        with_loss = timed_shards(*making)[0].seconds
        loss.join(10.0)
        ids = [
            row
            for path in sorted(folder.glob("*.parquet"))
            for row in pq.read_table(path, columns=["id"])["id"].to_pylist()
        ]
        left = [str(path) for path in folder.rglob(f"*{TEMPORARY}")]
        whole = hashes_of(folder) == list(expected) and len(ids) == len(set(ids)) == run.pairs(UNIT).rows and not left
    rate = [kind, workers, f"{shards / made.seconds:.2f}", f"{made.processor / shards:.2f}"]
    rate += [f"{given_again.seconds / shards:.3f}", f"{given_again.processor / shards:.3f}", "yes" if same else "NO"]
    times = [f"{loss.seconds:.1f}", f"{with_loss - made.seconds:+.1f}"]
    return rate, [kind, workers, loss.shard, *times, "yes" if whole else "NO"]


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clusters", nargs="+", default=list(CLUSTERS), choices=list(CLUSTERS))
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--shards", type=int, default=24)
    parser.add_argument("--rows", type=int, default=16, help="pairs per shard")
    arguments = parser.parse_args()
    if min(arguments.workers) < 2:
        parser.error(f"--workers: {min(arguments.workers)}; give 2 or more, since one is lost")
    if arguments.shards < 6:
        parser.error(f"--shards: {arguments.shards}; give 6 or more, since a third is made before a worker is lost")
    lines: list[tuple[list[object], list[object]]] = []
    with tempfile.TemporaryDirectory() as temporary, prefect_test_harness(server_startup_timeout=300):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PREFECT_API_URL": str(get_current_settings().api.url)}
        environment |= {"RAY_USAGE_STATS_ENABLED": "0", "PREFECT_PLUGINS_ENABLED": "false"}
        run = demo_run(arguments.shards, arguments.rows, Path(temporary) / "run")
        run.make(list(run.units[UNIT].inputs))
        expected, alone = made_alone(run)
        for kind in arguments.clusters:
            try:
                ShardPool(kind).check()
            except ConfigError as error:
                print(error)
                continue
            for workers in arguments.workers:
                lines.append(measure(kind, workers, run, expected, environment))
                print(*lines[-1], flush=True)
    each = [f"{seconds / arguments.shards:.2f}" for seconds in alone]
    print(
        f"{machine()}\n{arguments.shards} shards of {arguments.rows} pairs; one process alone, without tasks: ", end=""
    )
    print(f"{each[0]} s a shard, {each[1]} s of processors\n")
    columns = ["cluster", "workers", "shards per s", "processor s per shard", "overhead, s per shard"]
    print(markdown_table([*columns, "overhead, processor s per shard", "same bytes"], [rate for rate, _ in lines]))
    columns = ["cluster", "workers", "shard that was lost", "s until it was made again"]
    columns += ["s that all shards took longer", "same bytes, no row twice"]
    print(f"\n{markdown_table(columns, [lost for _, lost in lines])}")


def made_alone(run: Run) -> tuple[list[str], Cost]:
    """Make the shards in this process, without tasks; return their hashes and what they took once models are loaded."""
    unit = run.pairs(UNIT)
    run.begin(UNIT)
    maker, generation, folder = run.pair_maker(UNIT), unit.generation(run.config), run.run_dir / UNIT
    list(maker.rows(0, 1, generation.batch_size))  # the size that the maker keeps to
    began, before = time.perf_counter(), time.process_time()
    for plan in unit.plans(run):
        make_shard(folder, plan, maker, generation, run.progress)
    cost = Cost(time.perf_counter() - began, time.process_time() - before)
    assert all(is_written(folder, plan) for plan in unit.plans(run))
    run.finish(UNIT)
    return hashes_of(folder), cost


if __name__ == "__main__":
    main()
