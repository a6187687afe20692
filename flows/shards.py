"""Shards as tasks: one task makes one shard, on whichever task runner is named; a last task finishes the folder.

A shard's bytes are a function of the run alone, so that any number of tasks, threads, processes and machines may share
the work, and a shard whose worker is lost is made again by another: files appear under their names only when complete.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from prefect import Task, task
from prefect.futures import PrefectFuture
from prefect.settings import get_current_settings
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner
from pydantic import Field

from scenepalette.common.errors import ConfigError, ScenepaletteError
from scenepalette.common.processors import choose_threads, usable_processors
from scenepalette.common.progress import PlainProgress
from scenepalette.flows.artifacts import LOG_SECONDS, ProgressArtifact
from scenepalette.flows.platforms.gpu import tagged
from scenepalette.flows.tasks.retries import RETRIES
from scenepalette.flows.tasks.workers import run_of_worker, server_problem, versions_here
from scenepalette.generators.pairs.base import PairMaker
from scenepalette.pipeline.config import RunConfig
from scenepalette.pipeline.device.memory import memory_explained
from scenepalette.pipeline.run import Run
from scenepalette.pipeline.stages.generate import make_shard
from scenepalette.pipeline.stages.shard_files import ShardPlan, is_written
from scenepalette.pipeline.units.records import fingerprint_of

RunnerName = Literal["threads", "processes", "dask", "ray"]
Workers = Annotated[int, Field(ge=1, le=256)]
MOST_SUBMITTED = 512
"""Shards that are submitted and not finished: each weighs on the memory of the flow's process and of the cluster."""
MOST_LOSSES = 3
"""How often processes of this machine are started again; as often as Dask and Ray repeat a task by themselves."""
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
            ConfigError: A package is missing, an address is given to a runner that has no cluster, or workers could
                not reach Prefect's server; all at once.
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
        if package is not None and self.address is not None:
            problem = server_problem(self.address, get_current_settings().api.url)
            problems += [problem] if problem else []
        if problems:
            raise ConfigError("Shards cannot be made in the way that was asked for.", problems)

    def warning(self, processors: float) -> str:
        """Return what to know before workers of this machine wait for each other, or "".

        Args:
            processors: What this process may use, by its affinity and the quota of its container.
        """
        if self.address is not None or self.workers <= processors or self.runner == "threads":
            return ""
        return (
            f"shard_workers asks for {self.workers} workers, but this process may use {processors:g} processors: on a "
            f"CPU they wait for each other, and each holds the models. {max(1, int(processors))} are as fast."
        )

    @contextmanager
    def started(self) -> Iterator[TaskRunner[Any]]:
        """Start the task runner and end it again.

        Raises:
            ConfigError: There is no cluster at the address.
        """
        runner = TASK_RUNNERS[self.runner](self)
        try:
            entered = runner.__enter__()
        except (OSError, RuntimeError, ValueError) as error:  # of Dask, TimeoutError among them; of Ray
            if self.address is None:
                raise
            raise ConfigError(
                f"cluster_address: no {self.runner} cluster answers at {self.address} ({type(error).__name__}: "
                f"{str(error).partition(chr(10))[0]}). Start it, or leave cluster_address out to start one here. A Ray "
                "cluster that asks for a token needs RAY_AUTH_MODE=token here as well."
            ) from error
        try:
            yield entered
        finally:
            runner.__exit__(None, None, None)


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
    # "local", or Ray would join any cluster that happens to run on this machine.
    local = {"address": "local", "num_cpus": pool.workers}
    local |= {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
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
    run.begin(name)
    plans = unit.plans(run)
    progress = ProgressArtifact(
        f"shards-{label}", f"{sum(plan.rows for plan in plans)} {label} pairs in {len(plans)} shard(s)", len(plans)
    )
    missing = [plan for plan in plans if is_written(run.run_dir / unit.name, plan) is None]
    progress.show(len(plans) - len(missing))
    work = tasks_of(run, name, missing, pool)
    if missing and (warning := pool.warning(usable_processors())):
        print(f"Warning: {warning}", file=sys.stderr)
    with run.making(unit), _kept_threads():
        run.progress.start(f"shards of {label}", len(plans), len(plans) - len(missing))
        for done, _ in enumerate(
            all_made(work, pool, tagged(make_one_shard, run.config, unit)), start=len(plans) - len(missing) + 1
        ):
            progress.show(done)
            run.progress.advance()
    finish_pairs(f"generate {label} finish", run.config.model_dump_json(), str(run.run_dir.absolute()), name)


def tasks_of(run: Run, name: str, plans: Sequence[ShardPlan], pool: ShardPool) -> list[dict[str, Any]]:
    """Return the parameters of `make_one_shard` for shards of a unit of pairs that has begun."""
    unit = run.pairs(name)
    shared = {
        "config": shared_among(run.config, pool).model_dump_json(),
        "run_dir": str(run.run_dir.absolute()),  # workers elsewhere have another working directory
        "unit": name,
        "fingerprint": fingerprint_of(unit, run.units),
        "versions": versions_here(),
    }
    return [
        {"label": f"generate {unit.label} {plan.name}", **shared}
        | {"name": plan.name, "first": plan.first, "rows": plan.rows}
        for plan in plans
    ]


def all_made(work: Iterable[Mapping[str, Any]], pool: ShardPool, task: Task[..., Any] | None = None) -> Iterator[str]:
    """Have shards made, and yield the path of each as it is finished.

    A shard whose worker is lost is made again: Dask and Ray repeat its task on another worker by themselves, and a
    pool of processes is started again here.

    Args:
        work: Parameters of `make_one_shard`, one for each shard.
        pool: Who makes them.
        task: `make_one_shard` with the tags that hold it back where it must not run beside others; by default none.

    Raises:
        ScenepaletteError: A shard cannot be made, its workers are lost again and again, or the cluster is.
    """
    left, losses = deque(work), 0
    while left:
        submitted: dict[PrefectFuture[Any], Mapping[str, Any]] = {}
        finished: queue.SimpleQueue[PrefectFuture[Any]] = queue.SimpleQueue()
        with pool.started() as runner:
            try:
                while left or submitted:
                    while left and len(submitted) < MOST_SUBMITTED:
                        future = runner.submit(task or make_one_shard, dict(left[0]))
                        submitted[future] = left.popleft()
                        future.add_done_callback(finished.put)
                    future = finished.get()
                    path = _result_of(future, submitted[future]["label"], pool)
                    del submitted[future]
                    losses = 0
                    yield path
            except BrokenExecutor as error:
                losses += 1
                if losses > MOST_LOSSES:
                    raise _lost(", ".join(each["label"] for each in submitted.values()), error) from error
                print(
                    f"A process that makes shards was lost; {len(submitted)} shard(s) are begun again.", file=sys.stderr
                )
                left.extendleft(reversed(submitted.values()))


def _result_of(future: PrefectFuture[Any], label: str, pool: ShardPool) -> str:
    try:
        return future.result()
    except (ScenepaletteError, BrokenExecutor):
        raise
    except Exception as error:
        cause = getattr(error, "cause", None) or error  # Ray wraps what its worker raised
        if isinstance(cause, ModuleNotFoundError):
            raise ConfigError(
                f"{label}: a worker cannot import {cause.name}; pip install 'scenepalette[{pool.runner}]' of the same "
                "version, and packages that add to it, on every machine of the cluster."
            ) from error
        if type(error).__module__.partition(".")[0] in ("distributed", "ray"):
            raise _lost(label, error) from error
        raise


def _lost(label: str, error: Exception) -> ScenepaletteError:
    """Return what to say of shards that were begun again in vain."""
    return ScenepaletteError(
        f"{label}: workers were lost {MOST_LOSSES + 1} times, or the whole cluster ({type(error).__name__}: "
        f"{str(error).partition(chr(10))[0]}). Their logs say why; a worker that takes more memory than there is, is "
        "ended by its system: fewer workers or a smaller generate.batch_size need less. Rerun to make what is missing."
    )


def shared_among(config: RunConfig, pool: ShardPool) -> RunConfig:
    """Return the configuration of one worker: this machine's threads of torch are shared among all.

    Machines of a cluster have cores of their own; there `compute.threads` is taken as it is. What trainings are
    followed with need not be installed there: none takes place.
    """
    update: dict[str, Any] = {"tracking": (), "tensorboard": False}
    if not pool.address:
        update["threads"] = max(1, (config.compute.threads or choose_threads().threads) // pool.workers)
    return config.model_copy(update={"compute": config.compute.model_copy(update=update)})


@task(name="generate-shard", task_run_name="{label}", log_prints=True, **RETRIES)
def make_one_shard(
    label: str,
    config: str,
    run_dir: str,
    unit: str,
    fingerprint: str,
    versions: dict[str, str],
    name: str,
    first: int,
    rows: int,
) -> str:
    """Make one shard, unless it is there.

    Args:
        label: Name of the task run.
        config: The run's configuration as JSON.
        run_dir: The run directory.
        unit: The unit of pairs, which has begun.
        fingerprint: What identifies the unit.
        versions: Result of `versions_here` where the flow runs.
        name: File name of the shard.
        first: Index of its first row.
        rows: Number of its rows.

    Returns:
        The shard's path.

    Raises:
        ConfigError: This worker has other software, or another run directory.
    """
    run = run_of_worker(config, run_dir, unit, fingerprint, versions)
    progress = PlainProgress(LOG_SECONDS)
    folder = run.run_dir / unit
    progress.start(label, rows)
    try:
        with memory_explained(run.units[unit]):
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
