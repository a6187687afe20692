"""Run a flow in this process: `python -m scenepalette.flows.local augment demo --out runs/demo`.

Without a configured server, Prefect starts one for the time of the flow. `make demo` comes through here.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from scenepalette.common.errors import ConfigError
from scenepalette.pipeline.cli.main import print_comparison, print_curve, print_loop, print_summary, report_errors
from scenepalette.pipeline.cli.options import (
    ModelsOption,
    OutOption,
    RecipeArgument,
    SetOption,
    WaitOption,
    how_to_continue,
    request_of,
)
from scenepalette.pipeline.cli.streams import run_program

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


def run(
    flow: Annotated[FlowName, typer.Argument(help="Name of the flow.")],
    recipe: RecipeArgument,
    changes: SetOption = None,
    out: OutOption = None,
    models_from: ModelsOption = None,
    wait: WaitOption = 0.0,
) -> None:
    """Run a flow on Prefect's embedded server, or on the server that PREFECT_API_URL names."""
    with report_errors():
        request = request_of(recipe, changes, out, models_from)
        # Problems are reported before a server starts.
        request.config()
        # Read when Prefect is imported: the embedded server sends no telemetry.
        os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        os.environ.setdefault("DO_NOT_TRACK", "1")
        # The embedded server has to be up in 20 seconds otherwise, which a busy machine does not keep.
        os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")
        from scenepalette.flows import stages
        from scenepalette.flows.augment import augment
        from scenepalette.flows.servers import unreachable

        problem = unreachable()
        if problem is not None:
            raise ConfigError(f"{problem} Without PREFECT_API_URL a server is started for the time of the flow.")

        chosen = augment if flow == "augment" else getattr(stages, flow.replace("-", "_"))
        try:
            folder = Path(
                chosen(
                    recipe=recipe,
                    # As it is resolved here: there is one folder to name, whenever the flow begins.
                    out=None if out is None else str(request.run_dir),
                    overrides=list(request.overrides),
                    wait_minutes=wait,
                )
            )
        except KeyboardInterrupt as interrupt:
            interrupt.add_note(how_to_continue(request))
            raise
        if flow in ("augment", "report"):
            print_summary(folder.parent)
        elif flow == "compare":
            print_comparison(folder.parent)
        elif flow == "curve":
            print_curve(folder.parent)
        elif flow == "loop":
            print_loop(folder.parent)
        else:
            typer.echo(f"Done: {folder}")


if __name__ == "__main__":
    run_program(lambda: typer.run(run))
