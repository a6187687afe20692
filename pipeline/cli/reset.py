"""The command `scenepalette reset`: set units of a run aside, after saying which."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from scenepalette.common.errors import ConfigError
from scenepalette.common.wording import counted
from scenepalette.pipeline.cli.options import WaitOption


def reset(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Folder of a run, for example runs/demo.")],
    units: Annotated[
        list[str],
        typer.Argument(metavar="UNIT...", help="Units or stages, such as images/oasis, segmenters/syn or segmenters."),
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first.")] = False,
    wait: WaitOption = 0.0,
) -> None:
    """Set parts of a run aside, with all that was made from them, so that they can be made again.

    What is set aside moves to RUN_DIR/set-aside/; nothing is deleted. For example:

        scenepalette reset runs/demo images/oasis

        scenepalette reset runs/demo segmenters report --yes
    """
    from scenepalette.pipeline.units.records import show_seconds
    from scenepalette.pipeline.units.reset import plan_reset
    from scenepalette.pipeline.units.reset import reset as set_units_aside

    planned = plan_reset(run_dir, units)
    total = show_seconds(sum(unit.seconds for unit in planned))
    typer.echo(f"{counted(len(planned), 'unit')} of {run_dir} to set aside, {total} of work in all:")
    for unit in planned:
        typer.echo(f"  - {unit}")
    if not yes:
        if sys.stdin is None or not sys.stdin.isatty():
            raise ConfigError("Nothing was changed. Add --yes to set them aside.")
        typer.confirm("Set them aside?", abort=True)
    typer.echo(f"Set aside in {set_units_aside(run_dir, planned, wait=60 * wait)}")
