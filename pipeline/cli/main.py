"""The command line `scenepalette`: each stage is a verb, and every verb takes the same arguments.

Whatever brings torch with it is imported inside the verbs, so that `--help` answers at once.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import threading
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from scenepalette.common.errors import ConfigError, ScenepaletteError
from scenepalette.common.processors import set_waiting_policy
from scenepalette.pipeline.cli.doctor import doctor
from scenepalette.pipeline.cli.edit import edit_app
from scenepalette.pipeline.cli.importing import import_command
from scenepalette.pipeline.cli.init import init
from scenepalette.pipeline.cli.options import (
    ModelsOption,
    OutOption,
    RecipeArgument,
    SetOption,
    WaitOption,
    how_to_continue,
    request_of,
)
from scenepalette.pipeline.cli.platforms import prefect_app
from scenepalette.pipeline.cli.push import push_command
from scenepalette.pipeline.cli.reset import reset
from scenepalette.pipeline.cli.runs import runs_app, status
from scenepalette.pipeline.cli.shards import shards_app
from scenepalette.pipeline.cli.terminal.results import print_results
from scenepalette.pipeline.cli.terminal.streams import FAILED, INTERRUPTED, run_program
from scenepalette.pipeline.cli.terminal.tables import print_table
from scenepalette.pipeline.request import Request, waiting_text
from scenepalette.pipeline.verbs import VERBS, Verb

TERMINATED = 143


class Terminated(KeyboardInterrupt):
    """The process was asked to end (SIGTERM); handled as Ctrl-C is, so that files are closed and locks released."""


@contextlib.contextmanager
def report_errors() -> Iterator[None]:
    """Print a message instead of a traceback for foreseeable errors, and how to resume after an interruption.

    Raises:
        typer.Exit: With 1 for a problem, 130 after Ctrl-C, 143 after SIGTERM.
    """
    with _termination_as_interrupt():
        try:
            yield
        except ScenepaletteError as error:
            typer.echo(f"Error: {error}", err=True)
            raise typer.Exit(FAILED) from None
        except KeyboardInterrupt as interrupt:
            how = "\n".join(getattr(interrupt, "__notes__", ["Rerun the same command to continue."]))
            typer.echo(f"Stopped; finished work is kept. {how}", err=True)
            raise typer.Exit(TERMINATED if isinstance(interrupt, Terminated) else INTERRUPTED) from None


class CommandGroup(TyperGroup):
    """Commands whose foreseeable errors print a message."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        with report_errors():
            return super().invoke(ctx)


@contextlib.contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise Terminated

    # Signals reach the main thread alone, and only there may handlers be set.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
recipes_app = typer.Typer(help="List recipes, or print one as YAML.")
app.command(rich_help_panel="Results")(status)
app.command(rich_help_panel="Results")(reset)
app.command("push", rich_help_panel="Results")(push_command)
app.add_typer(runs_app, name="runs", rich_help_panel="Results")
app.add_typer(edit_app, name="edit", rich_help_panel="Results")
app.add_typer(shards_app, name="shards", rich_help_panel="Results")
app.add_typer(recipes_app, name="recipes", rich_help_panel="What there is")
app.add_typer(prefect_app, name="prefect", rich_help_panel="Elsewhere")


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"scenepalette {version('scenepalette')}")
        raise typer.Exit


@app.callback()
def main_help(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Make labelled training data for semantic segmentation, and measure whether it helps.

    Start with [bold]scenepalette demo[/bold]: the whole path on embedded street scenes, in minutes. Then give your own
    data:

        scenepalette init DIR > mine.yaml

        scenepalette run mine.yaml --out runs/mine

    Rerun the same command to resume; finished work is not repeated.
    """


def _make(request: Request, wait: float, verb: Verb) -> Path:
    """Make a stage and whatever it needs, watched by a progress bar or lines; return the run directory.

    Of processes that `torchrun` started together, those after the first end here.
    """
    from scenepalette.pipeline.run_directory.ownership import check_ownership

    check_ownership(request.run_dir)  # before torch, which takes seconds to import
    import torch

    from scenepalette.common.progress import NO_PROGRESS
    from scenepalette.pipeline.cli.terminal.progress import choose_progress
    from scenepalette.pipeline.config import load_config
    from scenepalette.training.ranks import joined_ranks

    def waiting() -> None:
        typer.echo(waiting_text(request.run_dir, wait), err=True)

    with joined_ranks() as ranks:
        if request.is_dated:  # processes do not start at the very same time
            began = ranks.total(torch.tensor(request.when.timestamp() * ranks.first, dtype=torch.float64))
            request = replace(request, when=datetime.fromtimestamp(float(began), UTC))
        config = load_config(request.recipe, request.overrides, request.run_dir)
        from scenepalette.pipeline.run import Run

        progress = choose_progress() if ranks.first else NO_PROGRESS
        run = Run(config, request.run_dir, progress, command=request.command(verb.name), ranks=ranks)
        try:
            run.make(run.names_of(verb.stage), wait=60 * wait, on_wait=waiting)
        except KeyboardInterrupt as interrupt:
            interrupt.add_note(how_to_continue(request))
            raise
        finally:
            progress.finish()
    if not ranks.first:
        raise typer.Exit
    return request.run_dir


def _add_verb(verb: Verb) -> None:
    """Add the command that makes a stage and prints what was made."""

    def command(
        recipe: RecipeArgument,
        changes: SetOption = None,
        out: OutOption = None,
        models_from: ModelsOption = None,
        wait: WaitOption = 0.0,
    ) -> None:
        print_results(_make(request_of(recipe, changes, out, models_from), wait, verb), verb.stage)

    examples = (f"    scenepalette {example}" for example in verb.examples)
    text = "\n\n".join([verb.summary, "For example:", *examples])
    app.command(verb.name, help=text, rich_help_panel=verb.panel)(command)


def _demo(
    changes: SetOption = None, out: OutOption = None, models_from: ModelsOption = None, wait: WaitOption = 0.0
) -> None:
    """Make everything on embedded street scenes; nothing has to be downloaded. The same as `run demo`.

    For example:

        scenepalette demo --out runs/first
    """
    run = VERBS["run"]
    print_results(_make(request_of("demo", changes, out, models_from), wait, run), run.stage)


for _verb in VERBS.values():
    _add_verb(_verb)
    if _verb.name == "run":
        app.command("demo", rich_help_panel=_verb.panel)(_demo)
        app.command(rich_help_panel=_verb.panel)(init)
        app.command(rich_help_panel=_verb.panel)(doctor)
        app.command("import", rich_help_panel=_verb.panel)(import_command)


@app.command(rich_help_panel="What there is")
def systems(
    classes: Annotated[int, typer.Option(min=2, max=255, help="Number of classes.")] = 12,
    size: Annotated[str, typer.Option(metavar="HxW", help="Height and width in pixels.")] = "128x256",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List what a configuration can name, and where it comes from: this package or another one.

    Generators have their papers, and parameter counts at the papers' settings.

    For example:

        scenepalette systems --classes 19 --size 256x512 --json
    """
    match = re.fullmatch(r"(\d+)x(\d+)", size)
    if match is None:
        raise ConfigError(f"--size is {size!r}; write height and width in pixels as HxW, for example 128x256.")
    from scenepalette.pipeline.systems import other_entries
    from scenepalette.pipeline.systems import systems as all_systems

    entries, others = all_systems(classes, (int(match[1]), int(match[2]))), other_entries()
    if as_json:
        typer.echo(json.dumps([asdict(entry) for entry in (*entries, *others)], indent=2, ensure_ascii=False))
        return
    rows = []
    for entry in entries:
        counts = (entry.generator_parameters, entry.discriminator_parameters)
        rows.append([entry.name, entry.kind, *(f"{count / 1e6:.2f} M" for count in counts), entry.source])
    print_table([f"{classes} classes, {size}", "kind", "generator", "discriminator", "from"], rows)
    for entry in entries:
        typer.echo(f"{entry.name}: {entry.paper}")
    typer.echo()
    print_table(["name", "kind", "what it is", "from"], [[e.name, e.kind, e.description, e.source] for e in others])


@app.command(rich_help_panel="What there is")
def datasets() -> None:
    """List the labelled data sets that can be read, and the packages that read them."""
    from scenepalette.data.datasets import DATASETS

    rows = [[name, DATASETS.source(name), DATASETS.get(name).description] for name in DATASETS]
    print_table(["data.name", "from", "what it is"], rows)


@recipes_app.callback(invoke_without_command=True)
def recipes(context: typer.Context) -> None:
    """List the recipes, each with its command and what to expect of it."""
    if context.invoked_subcommand is None:
        from scenepalette.pipeline.recipes import RECIPES

        for name, recipe in RECIPES.items():
            typer.echo(f"{name:12} {recipe.summary}")


@recipes_app.command("show")
def show_recipe(name: Annotated[str, typer.Argument(metavar="NAME", help="Name of a recipe.")]) -> None:
    """Print a recipe as YAML; saved to a file and changed, it can be given in its place.

    For example:

        scenepalette recipes show demo > mine.yaml
    """
    import yaml

    from scenepalette.pipeline.recipes import RECIPES

    if name not in RECIPES:
        raise ConfigError(f"There is no recipe {name!r}. Recipes are {', '.join(RECIPES)}.")
    typer.echo(yaml.safe_dump(RECIPES[name](), sort_keys=False), nl=False)


def main() -> None:
    """Entry point of the command `scenepalette`."""
    set_waiting_policy()
    run_program(lambda: app(prog_name="scenepalette"))


if __name__ == "__main__":
    main()
