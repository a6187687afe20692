"""Run a flow in this process: `python -m scenepalette.flows.local augment demo --out runs/demo`.

Without a configured server, Prefect starts one for the time of the flow. `make demo` comes through here. With
`--task-runner`, the shards of flows that make pairs are made by several processes or a cluster (docs/scale.md).
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Literal

import typer

from scenepalette.common.errors import ConfigError
from scenepalette.pipeline.cli.main import report_errors
from scenepalette.pipeline.cli.options import (
    ModelsOption,
    OutOption,
    RecipeArgument,
    SetOption,
    WaitOption,
    how_to_continue,
    request_of,
)
from scenepalette.pipeline.cli.terminal.results import print_results
from scenepalette.pipeline.cli.terminal.streams import run_program

FlowName = Literal[
    "augment",
    "fit-palettes",
    "train-layouts",
    "train-images",
    "finetune",
    "generate-dataset",
    "train-segmenter",
    "report",
    "compare",
    "curve",
    "loop",
]
MAKE_PAIRS = ("augment", "generate-dataset", "compare", "curve", "loop")
# As `RunnerName` of flows/shards.py, which imports Prefect; the settings below have to come before that.
Runner = Literal["threads", "processes", "dask", "ray"]


def _given(text: str) -> str:
    """Take an address that is not empty, as that of an unset variable would be."""
    if not text.strip():
        raise typer.BadParameter("it is empty; name a running cluster, or leave the option out to start one here.")
    return text.strip()


def run(
    flow: Annotated[FlowName, typer.Argument(help="Name of the flow.")],
    recipe: RecipeArgument,
    changes: SetOption = None,
    out: OutOption = None,
    models_from: ModelsOption = None,
    wait: WaitOption = 0.0,
    task_runner: Annotated[
        Runner | None,
        typer.Option(help="Where shards are made: threads, processes, or a cluster.", show_default="threads"),
    ] = None,
    shard_workers: Annotated[
        int | None,
        typer.Option(min=1, max=256, help="Shards made at once; of a running cluster, it decides.", show_default="1"),
    ] = None,
    cluster_address: Annotated[
        str | None,
        typer.Option(
            help="Dask scheduler or Ray cluster that runs, such as tcp://HEAD:8786 or ray://HEAD:10001.",
            show_default="one is started here",
            parser=_given,
        ),
    ] = None,
) -> None:
    """Run a flow on Prefect's embedded server, or on the server that PREFECT_API_URL names."""
    workers = {"task_runner": task_runner, "shard_workers": shard_workers, "cluster_address": cluster_address}
    pool = {name: value for name, value in workers.items() if value is not None}
    with report_errors():
        if pool and flow not in MAKE_PAIRS:
            options = ", ".join(f"--{name.replace('_', '-')}" for name in pool)
            raise ConfigError(f"{options}: {flow} makes no pairs; these options are for {', '.join(MAKE_PAIRS)}.")
        request = request_of(recipe, changes, out, models_from)
        from scenepalette.pipeline.config import load_config

        # Problems are reported before a server starts.
        load_config(request.recipe, request.overrides, request.run_dir)
        # Read when Prefect is imported: the embedded server sends no telemetry.
        os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        os.environ.setdefault("DO_NOT_TRACK", "1")
        # The embedded server has to be up in 20 seconds otherwise, which a busy machine does not keep.
        os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")
        from scenepalette.flows import stages
        from scenepalette.flows.augment import augment
        from scenepalette.flows.servers import shared_server, unreachable
        from scenepalette.flows.shards import ShardPool

        if pool:
            ShardPool(task_runner or "threads", shard_workers or 1, cluster_address).check()
        problem = unreachable()
        if problem is not None:
            raise ConfigError(f"{problem} Without PREFECT_API_URL a server is started for the time of the flow.")

        chosen = augment if flow == "augment" else getattr(stages, flow.replace("-", "_"))
        try:
            with shared_server() if task_runner not in (None, "threads") else nullcontext():
                made = chosen(
                    recipe=recipe,
                    # As it is resolved here: there is one folder to name, whenever the flow begins.
                    out=None if out is None else str(request.run_dir),
                    overrides=list(request.overrides),
                    wait_minutes=wait,
                    **pool,
                )
        except KeyboardInterrupt as interrupt:
            interrupt.add_note(how_to_continue(request))
            raise
        print_results(Path(made).parent, Path(made).name)


if __name__ == "__main__":
    run_program(lambda: typer.run(run))
