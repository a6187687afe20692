"""A flow that makes shards on a cluster; in a module of its own, as workers import what they are given tasks of."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from prefect import flow

from benchmarks.clusters.loopback import processor_seconds
from benchmarks.runners import UNIT, short_run
from scenepalette.flows.shards import RunnerName, ShardPool, all_made, generate_pairs, tasks_of
from scenepalette.pipeline.run import Run


class Cost(NamedTuple):
    """What tasks took: seconds by the clock, and of processors, those of the flow and of the cluster."""

    seconds: float
    processor: float


def demo_run(shards: int, rows: int, run_dir: Path) -> Run:
    """Return a run that makes so many shards, on one thread."""
    return short_run(shards, rows, run_dir, ["compute.threads=1"])


@flow(name="benchmark-timed-shards", log_prints=False)
def timed_shards(
    shards: int,
    rows: int,
    run_dir: str,
    runner: RunnerName,
    workers: int,
    address: str,
    processes: Sequence[int] = (),
    times: int = 1,
) -> list[Cost]:
    """Make all shards, perhaps give the same tasks again, and finish the unit; return what each took.

    A shard has `rows` pairs; the processor seconds are those of this process and of `processes`.
    """
    run, pool, costs = demo_run(shards, rows, Path(run_dir)), ShardPool(runner, workers, address), []
    run.begin(UNIT)
    for _ in range(times):
        work = tasks_of(run, UNIT, run.pairs(UNIT).plans(run), pool)
        began, before = time.perf_counter(), time.process_time() + processor_seconds(processes)
        for _ in all_made(work, pool):
            pass
        after = time.process_time() + processor_seconds(processes)
        costs.append(Cost(time.perf_counter() - began, after - before))
    generate_pairs(run, UNIT, pool)
    return costs
