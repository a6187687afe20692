"""What the finished reports of a run say, in a few lines for the terminal."""

from __future__ import annotations

from pathlib import Path

import typer

from scenepalette.common.storage.files import read_json
from scenepalette.pipeline.cli.terminal.tables import print_table


def print_summary(run_dir: Path) -> None:
    """Print the arms of a finished run, and where its report lies."""
    from scenepalette.pipeline.report.sections.page_one import decision_headline
    from scenepalette.pipeline.report.wording import interval, percent, points
    from scenepalette.pipeline.run_directory.manifests import check_contents

    folder = run_dir / "report"
    check_contents(folder)
    document = read_json(folder / "report.json")
    rows = []
    for arm in document["arms"]:
        delta = arm["delta_vs_real"]
        against = "" if arm["name"] == "real" else f"{points(delta['mean'])} {interval(delta, signed=True)}"
        rows.append([arm["name"], percent(arm["miou"]["mean"]), interval(arm["miou"]), against])
    print_table(["arm", "mIoU, %", "95 % interval", "against real, points"], rows)
    if document["schema"] > 1:
        typer.echo(f"\n{decision_headline(document)}")
    typer.echo(f"\nReport: {folder / 'report.html'}\n        {folder / 'report.md'}")


def print_comparison(run_dir: Path) -> None:
    """Print the table of a finished comparison of systems, and where it lies."""
    from scenepalette.evaluation.registry import columns_of_comparison
    from scenepalette.pipeline.report.comparison import show_metric
    from scenepalette.pipeline.run_directory.manifests import check_contents

    folder = run_dir / "comparison" / "report"
    check_contents(folder)
    document = read_json(folder / "comparison.json")
    columns = columns_of_comparison("terminal")
    rows = [[row["name"], *(show_metric(row, column) for column in columns)] for row in document["rows"]]
    print_table(["row", *(column["title"] for column in columns)], rows)
    typer.echo(f"\nComparison: {folder / 'comparison.html'}\n            {folder / 'comparison.md'}")


def print_curve(run_dir: Path) -> None:
    """Print what a finished curve of labels and doses says, and where the report that shows it lies."""
    from scenepalette.pipeline.report.sections.curve import curve_sentences
    from scenepalette.pipeline.run_directory.curve_result import read_curve

    for sentence in curve_sentences(read_curve(run_dir)):
        typer.echo(sentence)
    folder = run_dir / "report"
    typer.echo(f"\nReport: {folder / 'report.html'}\n        {folder / 'report.md'}")


def print_loop(run_dir: Path) -> None:
    """Print the rounds of a finished loop, what they gained against random palettes, and where the page lies."""
    from scenepalette.pipeline.report.loop import loop_headline, why_it_ended
    from scenepalette.pipeline.report.wording import interval, percent, points
    from scenepalette.pipeline.run_directory.manifests import check_contents

    folder = run_dir / "loop" / "report"
    check_contents(folder)
    document = read_json(folder / "loop.json")
    validation, rounds = document["validation"], document["rounds"]
    rows = [["real", "0", percent(validation["real"]["mean"]), "", ""]]
    for each in rounds:
        gain = f"{points(each['gain'])} {interval(each, signed=True)}"
        cells = [str(each["pairs"]), percent(each["miou"]["mean"]), gain, percent(each["least"])]
        rows.append([f"round {each['round']}", *cells])
    rows.append(["random palettes", str(rounds[-1]["pairs"]), percent(validation["random"]["mean"]), "", ""])
    print_table(["validation", "pairs", "mIoU, %", "gain, points", "least gain"], rows)
    typer.echo(f"\n{why_it_ended(document)}\n{loop_headline(document)}")
    typer.echo(f"\nLoop: {folder / 'loop.html'}\n      {folder / 'loop.md'}")
