"""The commands `scenepalette prefect ...`; Prefect itself is not needed for them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scenepalette.pipeline.cli.options import given_path
from scenepalette.pipeline.starting.platforms.deployment_files import (
    IMAGE,
    PoolType,
    next_commands,
    write_platform_files,
)

prefect_app = typer.Typer(no_args_is_help=True, help="Prepare a folder for Prefect.")


@prefect_app.callback()
def _group() -> None:
    """Prepare a folder for Prefect."""


@prefect_app.command("init")
def prefect_init(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="Folder to deploy from; it is made.", parser=given_path, show_default=False),
    ],
    pool: Annotated[PoolType, typer.Option("--pool", help="Kind of work pool.")] = "process",
    image: Annotated[
        str | None,
        typer.Option("--image", metavar="IMAGE", help="Image of flow runs.", show_default=f"{IMAGE}; none for process"),
    ] = None,
    directory: Annotated[
        str | None,
        typer.Option(
            "--worker-directory",
            metavar="PATH",
            help="Folder on the worker's machine that flows run in.",
            show_default="DIR; /app of the image",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files of the same names.")] = False,
) -> None:
    """Write deployments, automations and settings for a work pool into a folder, and print what to type next.

    For example:

        scenepalette prefect init flows

        scenepalette prefect init flows --pool docker --image registry.example.org/scenepalette-worker:1
    """
    changes = write_platform_files(folder, pool, directory=directory, image=image, force=force)
    for name, change in changes.items():
        typer.echo(f"{folder / name}: {change}")
    typer.echo("\nNext, with PREFECT_API_URL set to a server:")
    for command in next_commands(folder, pool):
        typer.echo(f"    {command}")
