"""Run a flow in this process: `python -m flows.local augment demo --out runs/demo`.

Without a configured server, Prefect starts one for the time of the flow. `make demo` comes through here.
"""

from __future__ import annotations

import os
from typing import Annotated, Literal

import typer

from pipeline.command_line import OutOption, RecipeArgument, SetOption, print_summary, problems_in_words
from pipeline.request import Request

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
]


def run(
    flow: Annotated[FlowName, typer.Argument(help="Name of the flow.")],
    recipe: RecipeArgument,
    changes: SetOption = None,
    out: OutOption = None,
) -> None:
    """Run a flow on Prefect's embedded server, or on the server that PREFECT_API_URL names."""
    with problems_in_words():
        request = Request(recipe, tuple(changes or ()), out)
        # Problems are told before a server is started.
        request.config()
        # Read when Prefect is imported: the embedded server tells nobody that it runs.
        os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        os.environ.setdefault("DO_NOT_TRACK", "1")
        from flows import stages
        from flows.augment import augment

        chosen = augment if flow == "augment" else getattr(stages, flow.replace("-", "_"))
        folder = chosen(recipe=recipe, out=str(request.run_dir), overrides=list(request.overrides))
        if flow in ("augment", "report"):
            print_summary(request.run_dir)
        else:
            typer.echo(f"Done: {folder}")


if __name__ == "__main__":
    typer.run(run)
