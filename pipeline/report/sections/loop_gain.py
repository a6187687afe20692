"""What the loop gained: its sentences and the table of its arms, for its own page and for a section of the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scenepalette.common.wording import counted
from scenepalette.pipeline.report.page import Block, Bullets, Heading, Table, Text
from scenepalette.pipeline.report.results import REAL_ARM
from scenepalette.pipeline.report.wording import NO_VALUE, estimated, interval, percent, points

SHOWN_OF_LOOP = ("dataset", "most_rounds", "rounds", "arms", "against_random")
"""Of the loop's document, what the report holds and shows."""


def loop_headline(document: Mapping[str, Any]) -> str:
    """What asking for classes gained over random palettes, in one sentence."""
    found, rounds = document["against_random"], document["rounds"]
    # Named also with one seed: a table of validation images stands beside it.
    scope = f" on {document['dataset']['evaluated_on']} images{'; seed unknown' if len(found['seeds']) < 2 else ''}"
    return (
        f"Asking for lacking classes in {counted(len(rounds), 'round')} changes mIoU by "
        f"{estimated(found['miou'])} points {interval(found['miou'], signed=True)} against as many pairs at "
        f"random palettes{scope}: {found['verdict']}."
    )


def why_it_ended(document: Mapping[str, Any]) -> str:
    """Why there was no further round."""
    last = document["rounds"][-1]
    if last["continue"]:
        return (
            f"The loop ended after {counted(last['round'], 'round')}, as many as loop.rounds allows; the last still "
            "gained enough."
        )
    if last["gain"] >= last["least"]:
        return (
            f"The loop ended after round {last['round']} of at most {document['most_rounds']}: on validation images "
            "nothing is lacking any more that pairs can be asked for."
        )
    why = (
        "the least gain that is worth it (report.smallest_gain; with one seed nothing is known of what can be seen)"
        if last["detectable"] is None
        else "the least gain that these seeds and images can show"
        if last["detectable"] >= last["least"]
        else "the least gain that is worth it (report.smallest_gain)"
    )
    gain, least = gain_and_least(last)
    return (
        f"The loop ended after round {last['round']} of at most {document['most_rounds']}: the round changed mIoU on "
        f"validation images by {gain} points, less than {least}, {why}."
    )


def gain_and_least(found: Mapping[str, Any]) -> tuple[str, str]:
    """Return what a round gained and had to gain, in points, with as many decimals as tell them apart."""
    gain, least = found["gain"], found["least"]
    return points(gain, (least,)), points(least, (gain,)).removeprefix("+")


def loop_blocks(document: Mapping[str, Any]) -> list[Block]:
    """Return the section of the report; nothing where there is no loop."""
    loop = document.get("loop")
    if not loop:
        return []
    return [
        Heading("What asking for lacking classes gains"),
        Bullets([loop_headline(loop), why_it_ended(loop)]),
        arms_of_loop(loop),
        Text("Rounds, classes and samples are on the loop's own page, loop/report/loop.html in the run directory."),
    ]


def arms_of_loop(document: Mapping[str, Any]) -> Table:
    """Return the table of the arms on the reported split."""
    rare = document["dataset"]["rare_classes"]
    head = ["Arm", "mIoU, % [95 %]", *(["Rare classes, % [95 %]"] if rare else []), "Against real, points [95 %]"]
    rows = [
        (
            arm["name"],
            with_interval(arm["miou"]),
            *([with_interval(arm["miou_rare"])] if rare else []),
            NO_VALUE
            if arm["name"] == REAL_ARM
            else f"{estimated(arm['delta_vs_real'])} {interval(arm['delta_vs_real'], signed=True)}",
            str(arm["pairs"]),
            f"{len(arm['seeds'])} x {arm['steps']}",
            arm["description"],
        )
        for arm in document["arms"]
    ]
    return Table(
        [*head, "Generated pairs", "Seeds x steps", "Trained on"], rows, numeric=range(1, len(head) + 2), long=1
    )


def with_interval(estimate: Mapping[str, Any]) -> str:
    """An mIoU in percent with its interval: "43.1 [41.0, 45.2]"."""
    return f"{percent(estimate['mean'])} {interval(estimate)}"
