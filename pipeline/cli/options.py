"""Arguments and options that verbs share, and what they are turned into."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from scenepalette.common.errors import ConfigError
from scenepalette.common.urls import is_url, masked, scheme_of, without_file_scheme
from scenepalette.pipeline.request import Request, assignment, resolve_out

RecipeArgument = Annotated[
    str, typer.Argument(metavar="RECIPE_OR_YAML", help="Name of a recipe (see `recipes`), or a YAML file.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change a value, for example generate.pairs=500. May be given many times."
    ),
]


def _out(text: str) -> str:
    """Take a run directory whose name can be resolved; an empty one, as of an unset variable, is not."""
    try:
        resolve_out(text)
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from None
    return text


def _given(text: str) -> str:
    """Take a text that is not empty, as that of an unset variable would be."""
    if not text.strip():
        raise typer.BadParameter("it is empty; name a folder or file, or leave the option out.")
    return text


def given_path(text: str) -> Path:
    """Take a path that is not empty, which would be the current folder, and no URL."""
    if is_url(text) and scheme_of(text) != "file":
        raise typer.BadParameter(f"{masked(text)} is a URL; give a folder or file of this machine.")
    return Path(without_file_scheme(_given(text)))


def folder_or_url(text: str) -> Path | str:
    """Take a folder as `given_path` does, or the URL of one, which is a text."""
    return text.strip() if is_url(text) and scheme_of(text) != "file" else given_path(text)


OutOption = Annotated[
    str | None,
    typer.Option(
        "--out",
        metavar="RUN_DIR",
        help="Run directory. {date} and {time} are replaced by the current UTC date and time.",
        show_default="runs/RECIPE",
        parser=_out,
    ),
]
ModelsOption = Annotated[
    str | None,
    typer.Option(
        "--models-from",
        metavar="RUN",
        help="Folder of another run whose trained models are used. The same as --set models_from=RUN.",
        parser=_given,
    ),
]
WaitOption = Annotated[
    float,
    typer.Option(
        "--wait",
        metavar="MINUTES",
        min=0,
        max=7 * 24 * 60,
        help="How long to wait while another run works in the run directory.",
        show_default="not at all",
    ),
]


def request_of(recipe: str, changes: list[str] | None, out: str | None, models_from: str | None = None) -> Request:
    """Return what the arguments of a verb ask for."""
    models = [assignment("models_from", models_from)] if models_from is not None else []
    return Request(recipe, (*(changes or ()), *models), out)


def how_to_continue(request: Request) -> str:
    """Return the sentence that tells how interrupted work is taken up; `{time}` would begin another run."""
    with_out = f" with --out {shlex.quote(str(request.run_dir))}" if request.is_dated else ""
    return f"Rerun the same command{with_out} to continue."
