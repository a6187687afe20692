"""The command `scenepalette init`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scenepalette.pipeline.cli.options import given_path


def init(
    root: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="Folder of a labelled data set.", parser=given_path, show_default=False),
    ],
    minutes: Annotated[float, typer.Option("--minutes", metavar="N", help="What a run may take on this machine.")] = 60,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="NAME", help="Data set (see `datasets`).", show_default="told from the folder"),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="data.KEY=VALUE", help="How the folder is read, or data.size. May be given many times."
        ),
    ] = None,
) -> None:
    """Look at a data set and this machine, and write a commented recipe to begin with.

    Nothing is trained, but steps of every training are timed for one to three minutes. The recipe goes to standard
    output, what was found to standard error.

    For example:

        scenepalette init CAMVID --minutes 90 > mine.yaml

        scenepalette init SCANS --data folder --set data.label_encoding=colours > mine.yaml
    """
    from scenepalette.pipeline.cli.terminal.progress import shown_progress
    from scenepalette.pipeline.starting.propose import propose

    with shown_progress() as progress:
        proposal = propose(root, minutes, name=data, changes=changes or (), progress=progress)
    for note in proposal.notes:
        typer.echo(f"Note: {note}", err=True)
    typer.echo(proposal.text, nl=False)
