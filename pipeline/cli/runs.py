"""The commands `scenepalette status` and `scenepalette runs ...`: how far a run is, and how two differ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from scenepalette.common.wording import first_and_more
from scenepalette.pipeline.cli.terminal.tables import print_table

SHOWN_CHARACTERS = 30

runs_app = typer.Typer(no_args_is_help=True, help="Compare finished runs.")


def status(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Folder of a run, for example runs/demo.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say which parts of a run are finished, which is being made, by which process, and how long that takes still.

    Nothing is changed, and a run that works there is not disturbed. For example:

        scenepalette status runs/demo

        watch -n 60 scenepalette status runs/demo
    """
    from scenepalette.pipeline.inspection.status import MEANINGS, status_of
    from scenepalette.pipeline.units.records import show_seconds

    found = status_of(run_dir)
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=2, ensure_ascii=False))
        return
    rows = [[unit.name, unit.state, show_seconds(unit.seconds) if unit.seconds else ""] for unit in found.units]
    print_table(["unit", "state", "took"], rows)
    details = [f"{unit.name}: {unit.detail}" for unit in found.units if unit.detail]
    for line in ["", *details] if details else []:
        typer.echo(line)
    shown = {unit.state for unit in found.units} - {"finished", "running", "missing"}
    for state, meaning in MEANINGS.items():
        if state in shown:
            typer.echo(f"{state}: {meaning}")
    typer.echo(f"\n{found.count('finished')} of {len(found.units) - found.count('unused')} units are finished.")
    activity = found.activity
    if activity is None:
        typer.echo("No process works here.")
        return
    what = f"{activity.unit}, for {show_seconds(found.now - activity.began)}"
    typer.echo(f"Process {activity.process} on {activity.host} makes {what}.")
    if not activity.is_here:
        silent = show_seconds(found.now - activity.told)
        typer.echo(f"It last told of itself {silent} ago; whether it still runs is seen on that machine alone.")
    for work in (activity, *found.beside):
        if work.work:
            left = work.seconds_left(found.now)
            time_left = f", {show_seconds(left)} left" if left is not None else ""
            unit = "" if work is activity else f"{work.unit}: "
            typer.echo(f"{unit}{work.work}: {work.done} of {work.total}{time_left}")


@runs_app.callback()
def _group() -> None:
    """Keep `compare` a command of a group, of which it is the only one."""


@runs_app.command()
def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="Folder of a run with a report.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Folder of another one.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the reports of two runs side by side: settings and data that differ, scores, and what each arm gained.

    Warnings say what keeps the scores from being compared. For example:

        scenepalette runs compare runs/demo runs/longer
    """
    from scenepalette.pipeline.inspection.comparing import compare_runs
    from scenepalette.pipeline.report.wording import estimated, interval, percent, points

    found = compare_runs(first, second)
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=2, ensure_ascii=False))
        return
    typer.echo(f"A: {found.a}\nB: {found.b}\n")
    for warning in found.warnings:
        typer.echo(f"Warning: {warning}")
    nouns = {"train": "training", "val": "validation", "test": "test"}
    states = [f"{nouns[split]} pairs {'equal' if equal else 'DIFFERENT'}" for split, equal in found.data.items()]
    typer.echo(f"Data: {', '.join(states)}\n")
    rows = [[each.name, _shown(each.a), _shown(each.b), first_and_more(each.units)] for each in found.settings]
    if rows:
        print_table(["setting", "A", "B", "of"], rows)
    else:
        typer.echo("No setting differs.")
    rows = []
    for arm in found.arms:
        scores, gains = [], []
        for entry in (arm["a"], arm["b"]):
            scores.append("" if entry is None else f"{percent(entry['miou']['mean'])} {interval(entry['miou'])}")
            delta = None if entry is None or arm["name"] == "real" else entry["delta_vs_real"]
            gains.append("" if delta is None else f"{estimated(delta)} {interval(delta, signed=True)}")
        rows.append([arm["name"], *scores, points(arm["difference"]), *gains])
    typer.echo()
    print_table(["arm", "A: mIoU, %", "B: mIoU, %", "B - A", "A: gain, points", "B: gain, points"], rows)
    typer.echo(
        "\nBrackets are 95 % intervals; a gain is against the arm real of the same run. B - A has none: for runs that "
        "differ in seed alone, report.runs gives one."
    )


def _shown(value: object) -> str:
    text = "" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 3]}..."
