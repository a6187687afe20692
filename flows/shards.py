"""Shards as tasks: one task makes one shard, on whichever task runner is named; a last task finishes the folder.

A shard's bytes are a function of the run alone, so that any number of tasks, threads and machines may share the work.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from prefect import task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.futures import PrefectFuture, as_completed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from pydantic import Field

from flows.retries import RETRIES
from generators.production import PairMaker
from pipeline.config import RunConfig
from pipeline.run import Run
from pipeline.stages.generate import ShardPlan, is_written, make_shard, plan_shards
from pipeline.units import begin, timed
from training.loop import PlainProgress

RunnerName = Literal["threads"]
Workers = Annotated[int, Field(ge=1, le=256)]
LOG_SECONDS = 30.0

TASK_RUNNERS: dict[RunnerName, Callable[[int], TaskRunner[Any]]] = {
    "threads": lambda workers: ThreadPoolTaskRunner(max_workers=workers),
}


def generate_pairs(run: Run, name: str, task_runner: RunnerName, workers: int) -> None:
    """Make the shards of a unit of pairs whose models are finished; called inside a flow.

    Args:
        run: The run, whose directory is held by the caller.
        name: The unit, for example "shards/full".
        task_runner: Where the tasks run.
        workers: Shards that are made at once.
    """
    unit, label = run.units[name], name.removeprefix("shards/")
    generation = run.generation_of(name)
    plans = plan_shards(generation)
    config, folder = run.config.model_dump_json(), str(run.run_dir)
    threads = run.config.compute.threads or torch.get_num_threads()
    shared = run.config.compute.model_copy(update={"threads": max(1, threads // workers)})
    shard_config = run.config.model_copy(update={"compute": shared}).model_dump_json()
    begin(run.run_dir, unit, run.units)
    progress = create_progress_artifact(
        0.0,
        key=f"shards-{label.replace('/', '-')}",
        description=f"{generation.pairs} {label} pairs in {len(plans)} shard(s)",
    )
    missing = [plan for plan in plans if is_written(run.run_dir / unit.name, plan) is None]
    with timed(run.run_dir, unit), _kept_threads(), TASK_RUNNERS[task_runner](workers) as runner:
        futures: list[PrefectFuture[Any]] = [
            runner.submit(
                make_one_shard,
                {"label": f"generate {label} {plan.name}", "config": shard_config, "run_dir": folder, "unit": name}
                | {"name": plan.name, "first": plan.first, "rows": plan.rows},
            )
            for plan in missing
        ]
        for done, future in enumerate(as_completed(futures), start=len(plans) - len(missing) + 1):
            future.result()
            update_progress_artifact(progress, 100.0 * done / len(plans))  # type: ignore[arg-type]
    finish_pairs(f"generate {label} finish", config, folder, name)


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
    run = Run(RunConfig.model_validate_json(config), Path(run_dir))
    progress = PlainProgress(LOG_SECONDS)
    folder = run.run_dir / unit
    progress.start(label, rows)
    make_shard(folder, ShardPlan(name, first, rows), shared_pair_maker(run, unit), run.generation_of(unit), progress)
    progress.finish()
    return str(folder / name)


@task(name="finish-shards", task_run_name="{label}", log_prints=True, **RETRIES)
def finish_pairs(label: str, config: str, run_dir: str, unit: str) -> str:
    """Check all shards of a unit of pairs and write its card and, last, its manifest; returns the folder."""
    run = Run(RunConfig.model_validate_json(config), Path(run_dir))
    run.finish_pairs(unit)
    return str(run.run_dir / unit)


_makers: dict[tuple[Any, ...], PairMaker] = {}
_makers_lock = threading.Lock()


def shared_pair_maker(run: Run, unit: str) -> PairMaker:
    """Return the pair maker of a unit; a process loads its models once and all its threads share them.

    They may: networks are in eval mode and take no gradients, random numbers come from generators of each row, and
    inference mode and autocast, which `PairMaker.rows` sets, hold for one thread.
    """
    models = run.models_of(unit)
    files = [models.image_weights(run.run_dir), models.layout_weights(run.run_dir)]
    # Weights that were trained anew in the same place are other weights.
    stamps = tuple(file.stat().st_mtime_ns for file in files if file is not None)
    key = (run.config.model_dump_json(), str(run.run_dir.absolute()), unit, stamps)
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
