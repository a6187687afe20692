"""What the finished reports of a run say, in a few lines for the terminal."""

from __future__ import annotations

from pathlib import Path

import typer

from scenepalette.pipeline.cli.terminal.tables import print_table
from scenepalette.pipeline.run_directory.study_results import CURVE_RESULT, LOOP_RESULT, read_result


def print_results(run_dir: Path, stage: str) -> None:
    """Print what a stage that was made says, and where it lies."""
    printers = {"report": _print_summary, "comparison": _print_comparison, "curve": print_curve, "loop": _print_loop}
    if stage in printers:
        printers[stage](run_dir)
    else:
        typer.echo(f"Done: {run_dir / stage}")


def _print_place(folder: Path, name: str) -> None:
    typer.echo(f"\n{name.capitalize()}: {folder / name}.html\n{' ' * len(name)}  {folder / name}.md")


def _print_summary(run_dir: Path) -> None:
    from scenepalette.pipeline.report.sections.page_one import decision_headline
    from scenepalette.pipeline.report.wording import estimated, interval, percent

    folder = run_dir / "report"
    document = read_result(folder, "report")
    rows = []
    for arm in document["arms"]:
        delta = arm["delta_vs_real"]
        against = "" if arm["name"] == "real" else f"{estimated(delta)} {interval(delta, signed=True)}"
        rows.append([arm["name"], percent(arm["miou"]["mean"]), interval(arm["miou"]), against])
    print_table(["arm", "mIoU, %", "95 % interval", "against real, points"], rows)
    typer.echo(f"\n{decision_headline(document)}")
    _print_place(folder, "report")


def _print_comparison(run_dir: Path) -> None:
    from scenepalette.evaluation.registry import columns_of_comparison
    from scenepalette.pipeline.report.comparison import show_metric

    folder = run_dir / "comparison" / "report"
    document = read_result(folder, "comparison")
    columns = columns_of_comparison("terminal")
    rows = [[row["name"], *(show_metric(row, column) for column in columns)] for row in document["rows"]]
    print_table(["row", *(column["title"] for column in columns)], rows)
    _print_place(folder, "comparison")


def print_curve(run_dir: Path) -> None:
    """Print what a finished curve of labels and doses says, and where the report that shows it lies."""
    from scenepalette.pipeline.report.sections.curve import curve_sentences

    for sentence in curve_sentences(read_result(run_dir / CURVE_RESULT, "curve")):
        typer.echo(sentence)
    _print_place(run_dir / "report", "report")


def _print_loop(run_dir: Path) -> None:
    from scenepalette.pipeline.report.sections.loop_gain import loop_headline, why_it_ended
    from scenepalette.pipeline.report.wording import interval, percent, points

    folder = run_dir / LOOP_RESULT
    document = read_result(folder, "loop")
    validation, rounds = document["validation"], document["rounds"]
    rows = [["real", "0", percent(validation["real"]["mean"]), "", ""]]
    for each in rounds:
        gain = f"{points(each['gain'])} {interval(each, signed=True)}"
        cells = [str(each["pairs"]), percent(each["miou"]["mean"]), gain, percent(each["least"])]
        rows.append([f"round {each['round']}", *cells])
    rows.append(["random palettes", str(rounds[-1]["pairs"]), percent(validation["random"]["mean"]), "", ""])
    print_table(["validation", "pairs", "mIoU, %", "gain, points", "least gain"], rows)
    typer.echo(f"\n{why_it_ended(document)}\n{loop_headline(document)}")
    _print_place(folder, "loop")
