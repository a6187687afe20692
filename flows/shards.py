"""Shards as tasks: one task makes one shard, on whichever task runner is named; a last task finishes the folder.

A shard's bytes are a function of the run alone, so that any number of tasks, threads, processes and machines may share
the work.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from prefect import task
from prefect.futures import PrefectFuture, as_completed
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner
from pydantic import Field

from scenepalette.common.errors import ConfigError
from scenepalette.common.progress import PlainProgress
from scenepalette.flows.artifacts import ProgressArtifact
from scenepalette.flows.platforms.gpu import tagged
from scenepalette.flows.retries import RETRIES
from scenepalette.generators.pairs.base import PairMaker
from scenepalette.pipeline.config import RunConfig
from scenepalette.pipeline.run import Run
from scenepalette.pipeline.stages.generate import ShardPlan, is_written, make_shard
from scenepalette.pipeline.units.records import fingerprint_of

RunnerName = Literal["threads", "processes", "dask", "ray"]
Workers = Annotated[int, Field(ge=1, le=256)]
LOG_SECONDS = 30.0
# The package that a runner needs beside Prefect; each is installed by the extra of the runner's name.
PACKAGES: dict[RunnerName, str] = {"dask": "prefect_dask", "ray": "prefect_ray"}


@dataclass(frozen=True)
class ShardPool:
    """Where shards are made, and how many at once.

    Attributes:
        runner: "threads" or "processes" of the flow run's own process, or workers of "dask" or "ray".
        workers: Shards that are made at once; of a cluster's address, the cluster decides.
        address: Of a Dask scheduler or a Ray cluster that runs, such as "tcp://10.0.0.5:8786" or "ray://10.0.0.5:10001".
            Without it, Dask and Ray are started on this machine, for loopback alone.
    """

    runner: RunnerName = "threads"
    workers: int = 1
    address: str | None = None

    def check(self) -> None:
        """Refuse what cannot be used before any work is done.

        Raises:
            ConfigError: A package is missing, or an address is given to a runner that has no cluster; all at once.
        """
        problems = []
        package = PACKAGES.get(self.runner)
        if package is not None and find_spec(package) is None:
            problems.append(
                f"task_runner: {self.runner} needs a package that is not installed; pip install "
                f"'scenepalette[{self.runner}]', on every machine of the cluster too"
            )
        if package is None and self.address is not None:
            problems.append(
                f"cluster_address: {self.runner} work on this machine alone; leave it out, or set task_runner to "
                f"{' or '.join(PACKAGES)}"
            )
        if problems:
            raise ConfigError("Shards cannot be made in the way that was asked for.", problems)

    def start(self) -> TaskRunner[Any]:
        """Return the task runner, to be entered."""
        return TASK_RUNNERS[self.runner](self)


ONE_AT_A_TIME = ShardPool()


def _dask(pool: ShardPool) -> TaskRunner[Any]:
    from prefect_dask.task_runners import DaskTaskRunner

    if pool.address:
        return DaskTaskRunner(address=pool.address)
    local = {"n_workers": pool.workers, "threads_per_worker": 1, "host": "127.0.0.1", "dashboard_address": None}
    return DaskTaskRunner(cluster_kwargs=local)


def _ray(pool: ShardPool) -> TaskRunner[Any]:
    # Read when Ray is started: it sends no telemetry.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    from prefect_ray import RayTaskRunner

    if pool.address:
        return RayTaskRunner(address=pool.address)
    local = {"num_cpus": pool.workers, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    return RayTaskRunner(init_kwargs=local)


TASK_RUNNERS: dict[RunnerName, Callable[[ShardPool], TaskRunner[Any]]] = {
    "threads": lambda pool: ThreadPoolTaskRunner(max_workers=pool.workers),
    "processes": lambda pool: ProcessPoolTaskRunner(max_workers=pool.workers),
    "dask": _dask,
    "ray": _ray,
}


def generate_pairs(run: Run, name: str, pool: ShardPool) -> None:
    """Make the shards of a unit of pairs whose models are finished; called inside a flow.

    Args:
        run: The run, whose directory is held by the caller.
        name: The unit, for example "shards/full".
        pool: Who makes them.
    """
    unit = run.pairs(name)
    label = unit.label
    # Workers elsewhere have another working directory.
    config, folder = run.config.model_dump_json(), str(run.run_dir.absolute())
    run.begin(name)
    plans = unit.plans(run)
    progress = ProgressArtifact(
        f"shards-{label}", f"{sum(plan.rows for plan in plans)} {label} pairs in {len(plans)} shard(s)", len(plans)
    )
    missing = [plan for plan in plans if is_written(run.run_dir / unit.name, plan) is None]
    progress.show(len(plans) - len(missing))
    with run.making(unit), _kept_threads(), pool.start() as runner:
        run.progress.start(f"shards of {label}", len(plans), len(plans) - len(missing))
        shard_config = shared_among(run.config, pool).model_dump_json()
        make_shard_task = tagged(make_one_shard, run.config, unit)
        futures: list[PrefectFuture[Any]] = [
            runner.submit(
                make_shard_task,
                {"label": f"generate {label} {plan.name}", "config": shard_config, "run_dir": folder, "unit": name}
                | {"name": plan.name, "first": plan.first, "rows": plan.rows},
            )
            for plan in missing
        ]
        for done, future in enumerate(as_completed(futures), start=len(plans) - len(missing) + 1):
            future.result()
            progress.show(done)
            run.progress.advance()
    finish_pairs(f"generate {label} finish", config, folder, name)


def shared_among(config: RunConfig, pool: ShardPool) -> RunConfig:
    """Return the configuration of one worker: this machine's threads of torch are shared among all.

    Machines of a cluster have cores of their own; there `compute.threads` is taken as it is.
    """
    if pool.address:
        return config
    threads = config.compute.threads or torch.get_num_threads()
    compute = config.compute.model_copy(update={"threads": max(1, threads // pool.workers)})
    return config.model_copy(update={"compute": compute})


@task(name="generate-shard", task_run_name="{label}", log_prints=True, **RETRIES)
def make_one_shard(label: str, config: str, run_dir: str, unit: str, name: str, first: int, rows: int) -> str:
    """Make one shard, unless it is there.

    Args:
        label: Name of the task run.
        config: The run's configuration as JSON.
        run_dir: The run directory.
        unit: The unit of pairs.
        name: File name of the shard.
        first: Index of its first row.
        rows: Number of its rows.

    Returns:
        The shard's path.
    """
    # What the run reads from outside was settled when it was planned; this machine may see it elsewhere.
    run = Run(RunConfig.model_validate_json(config), Path(run_dir), look=False)
    progress = PlainProgress(LOG_SECONDS)
    folder = run.run_dir / unit
    progress.start(label, rows)
    try:
        maker, generation = shared_pair_maker(run, unit), run.pairs(unit).generation(run.config)
        make_shard(folder, ShardPlan(name, first, rows), maker, generation, progress)
    finally:
        progress.finish()
    return str(folder / name)


@task(name="finish-shards", task_run_name="{label}", log_prints=True, **RETRIES)
def finish_pairs(label: str, config: str, run_dir: str, unit: str) -> str:
    """Check all shards of a unit of pairs and write its card and, last, its manifest; returns the folder."""
    run = Run(RunConfig.model_validate_json(config), Path(run_dir), look=False)
    run.finish(unit)
    return str(run.run_dir / unit)


_makers: dict[tuple[Any, ...], PairMaker] = {}
_makers_lock = threading.Lock()


def shared_pair_maker(run: Run, unit: str) -> PairMaker:
    """Return the pair maker of a unit; a process loads its models once and all its threads share them.

    They may: networks are in eval mode and take no gradients, random numbers come from generators of each row, and
    inference mode and autocast, which `PairMaker.rows` sets, hold for one thread.
    """
    files = run.pairs(unit).models.weights(run.run_dir).values()
    # Weights and sources that were made again in the same place are others.
    stamps = tuple(file.stat().st_mtime_ns for file in files if file.is_file())
    fingerprint = fingerprint_of(run.units[unit], run.units)
    key = (run.config.model_dump_json(), str(run.run_dir.absolute()), unit, fingerprint, stamps)
    with _makers_lock:
        if key not in _makers:
            # Units are made one after the other: models of the one before are not needed again.
            _makers.clear()
            _makers[key] = run.pair_maker(unit)
        return _makers[key]


@contextmanager
def _kept_threads() -> Iterator[None]:
    """Give later stages all threads of torch again, after shards that were made at once shared them."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
