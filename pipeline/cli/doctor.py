"""The command `scenepalette doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scenepalette.pipeline.cli.options import ModelsOption, OutOption, RecipeArgument, SetOption, given_path, request_of

STYLES = {
    "title": "bold",
    "problem": "bold red",
    "warning": "yellow",
    "note": "cyan",
    "ok": "green",
    "detail": "dim",
    "remedy": "bold",
    "verdict": "bold",
}
WIDEST, PIPED = 110, 100


def doctor(
    recipe: RecipeArgument,
    changes: SetOption = None,
    out: OutOption = None,
    models_from: ModelsOption = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write the page as one HTML file.", parser=given_path)
    ] = None,
    as_json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the findings as JSON.", parser=given_path)
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure/--no-measure", help="Time some steps of every training, for up to a minute.")
    ] = True,
    strict: Annotated[bool, typer.Option("--strict", help="Count warnings as problems.")] = False,
) -> None:
    """Say what is wrong, or will be, with a data set, a configuration and this machine, before anything is trained.

    Ends with 0 if nothing has to be fixed, and with 1 if there are problems.

    For example:

        scenepalette doctor camvid-cpu --set data.root=CAMVID --out runs/camvid --html doctor.html
    """
    from rich.console import Console
    from rich.text import Text

    from scenepalette.common.storage.files import write_atomically, write_json
    from scenepalette.pipeline.cli.terminal.progress import shown_progress
    from scenepalette.pipeline.doctor.examine import examine
    from scenepalette.pipeline.doctor.page import lines_of, to_html

    with shown_progress() as progress:
        diagnosis = examine(request_of(recipe, changes, out, models_from), measured=measure, progress=progress)
    console = Console(highlight=False)
    width = min(console.width, WIDEST) if console.is_terminal else PIPED
    for kind, text in lines_of(diagnosis, strict, width):
        console.print(Text(text, STYLES.get(kind, "")), soft_wrap=True)
    if html is not None:
        write_atomically(html, to_html(diagnosis, strict))
    if as_json is not None:
        write_json(as_json, diagnosis.to_dict(strict))
    if diagnosis.failed(strict):
        raise typer.Exit(1)
