"""The command `scenepalette push`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scenepalette.common.errors import ConfigError
from scenepalette.common.wording import counted
from scenepalette.pipeline.cli.options import given_path


def push_command(
    folder: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run directory, or a folder of shards.", parser=given_path)
    ],
    url: Annotated[str, typer.Argument(metavar="URL", help="Where to: s3://BUCKET/FOLDER, hf://ORG/NAME ...")],
    what: Annotated[
        list[str] | None,
        typer.Option(
            "--what",
            metavar="PART",
            help="shards, selected, report or weights. May be given many times.",
            show_default="shards and report",
        ),
    ] = None,
    select: Annotated[
        list[str] | None,
        typer.Option(
            "--select",
            metavar="KIND",
            help="Kind of pairs, such as full. May be given many times.",
            show_default="all that are finished",
        ),
    ] = None,
    i_may: Annotated[
        bool, typer.Option("--i-may", help="Pass on what the terms of the data do not allow everyone to.")
    ] = False,
) -> None:
    """Copy finished shards, the report and, if asked for, weights to a bucket or a hub.

    The manifest of each folder goes last: who finds one finds the whole folder. Rerun the same command after an
    interruption; sizes and hashes decide what is there already. Credentials are those of the environment.

    For example:

        scenepalette push runs/demo s3://my-bucket/streets

        scenepalette push runs/demo hf://my-org/streets --what shards --select full
    """
    from scenepalette.pipeline.cli.terminal.progress import shown_progress
    from scenepalette.pipeline.finished.pushing import WHATS, push

    unknown = [name for name in what or () if name not in WHATS]
    if unknown:
        raise ConfigError(f"--what is {', '.join(map(repr, unknown))}; what can be pushed is {', '.join(WHATS)}.")
    with shown_progress() as progress:
        pushed = push(
            folder,
            url,
            whats=[name for name in WHATS if name in (what or ())],
            kinds=select or (),
            allowed=i_may,
            progress=progress,
            note=lambda text: typer.echo(f"Note: {text}", err=True),
        )
    for part in pushed:
        where = f"{url.rstrip('/')}/{part.place}" if part.place else url
        typer.echo(f"{where}: {counted(part.files, 'file')}, {part.copied or 'none'} of them copied now")
