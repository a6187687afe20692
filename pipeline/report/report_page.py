"""The report as a page, from the document that report.json holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scenepalette.pipeline.report import wording
from scenepalette.pipeline.report.memorisation import copy_section
from scenepalette.pipeline.report.page import (
    Block,
    Bullets,
    Cell,
    Code,
    Heading,
    Page,
    Table,
    Text,
    figures_of,
    provenance_table,
    show_value,
)
from scenepalette.pipeline.report.results import REAL_ARM
from scenepalette.pipeline.report.sections import splits
from scenepalette.pipeline.report.sections.curve import curve_blocks
from scenepalette.pipeline.report.sections.loop_gain import loop_blocks
from scenepalette.pipeline.report.sections.page_one import decision_headline, first_page
from scenepalette.pipeline.report.sections.quality import quality_blocks
from scenepalette.pipeline.report.sections.shortfall import shortfall_sentences
from scenepalette.pipeline.report.wording import estimated, interval, p_value, percent

STYLES = {"gains": "gains", "loses": "loses", "reference": ""}
NO_DIFFERENCE = "no difference shown"
"""In a table; sentences say it in full."""
NUMERIC = (
    "mIoU, % [95 %]",
    "Rare classes, % [95 %]",
    "p (Holm)",
    "mIoU*, %",
    "Validation mIoU, % [95 %]",
    "Images per step",
    "Images in all",
)
FAILURES = (
    "What went worst: generated pairs of each kind in which the segmenter trained on real pairs sees the least of what "
    "their layouts say, and images on which the chosen arm gains and loses most against real."
)


def report_page(document: Mapping[str, Any]) -> Page:
    """Return the page of what report.json holds."""
    dataset = document["dataset"]
    height, width = dataset["size"]
    both = len(dataset["classes"]) != len(dataset["eval_classes"])
    note = " mIoU* averages over all classes, mIoU over the evaluated ones." if both else ""
    trainings = wording.training(document)
    durations = [(name, wording.duration(seconds)) for name, seconds in document["durations"].items()]
    command = document["provenance"].get("command")
    bootstrap = document["bootstrap"]
    if rare := dataset["rare_classes"]:
        note += f" Rare classes: {wording.listing(rare, limit=len(rare))}."
    blocks: list[Block] = [
        *first_page(document),
        *([Heading("Failures"), Text(FAILURES), *failures] if (failures := figures_of(document, "failures")) else []),
        Heading("All arms in sentences"),
        Bullets(wording.findings(document)),
        Heading("Arms"),
        _arms(document, both),
        Text(wording.method(document) + note),
        Bullets([*splits.warnings(document), *wording.cautions(document)], title="Before acting on this"),
        *figures_of(document, "arms"),
        *splits.extra_blocks(document),
        *curve_blocks(document),
        *loop_blocks(document),
        Heading("Generated pairs by themselves"),
        Text(
            "GAN-train: a segmenter trained on generated pairs alone, tested on real images; higher is better. "
            "GAN-test: the segmenter trained on real images, tested on generated pairs; near its value on real images "
            "is good."
        ),
        _pairs(document),
        Table(("Metric", "Value", "Better", "What it says"), wording.measures(document), long=1),
        *([Bullets(sentences)] if (sentences := shortfall_sentences(document)) else []),
        *([Bullets(document["metric_problems"])] if document["metric_problems"] else []),
        *figures_of(document, "generators"),
        *quality_blocks(document),
        *copy_section(document),
        *([Heading("Training"), Bullets(trainings)] if trainings else []),
        Heading("Classes"),
        _classes(document),
        Text(
            "IoU in percent; ▲ above and ▼ below real by a paired interval that leaves out zero. * is left out of mIoU."
        ),
        *figures_of(document, "classes"),
        Heading("Samples"),
        *figures_of(document, "samples"),
        Heading("Provenance"),
        provenance_table(document),
        *([Table(("Stage", "Time"), durations, numeric=(1,))] if durations else []),
        Heading("How to reproduce"),
        *([Code(show_value(command))] if command else []),
        Text(
            f"The same version, configuration and seed give the same data; the intervals use {bootstrap['samples']} "
            f"resamples with seed {bootstrap['seed']}. All numbers of this page are in report.json."
        ),
    ]
    return Page(
        title=f"Do generated pairs help on {dataset['name']}?",
        headline=decision_headline(document),
        introduction=f"{splits.introduction(document)}, {height}x{width} (height x width), "
        f"{len(dataset['classes'])} classes, {len(dataset['eval_classes'])} of them evaluated. Licence of the "
        f"source: {dataset['licence'] or 'not given'}.{splits.resolution(document)}",
        blocks=blocks,
    )


def _estimate(estimate: Mapping[str, Any] | None) -> Cell:
    return Cell(wording.NO_VALUE) if estimate is None else Cell(percent(estimate["mean"]), interval(estimate))


def _arms(document: Mapping[str, Any], both: bool) -> Table:
    # Arms without real data are often far off and would squeeze the others; they get no axis where it does not reach.
    compared = wording.augmentation_arms(document) or document["arms"]
    ends = [abs(end) for arm in compared for end in arm["delta_vs_real"]["ci95"] if end is not None]
    scale = max([0.01, *ends])
    rare = bool(document["dataset"]["rare_classes"])
    several = any(len(wording.generator_seeds_of(arm)) > 1 for arm in document["arms"])
    rows = []
    beside = splits.validation_cells(document)
    for arm, validation in zip(document["arms"], beside, strict=True):
        delta, style = arm["delta_vs_real"], STYLES.get(arm["verdict"], "same")
        low, high = delta["ci95"]
        against = Cell(wording.NO_VALUE)
        if arm["name"] != REAL_ARM and low is not None:
            reached = max(abs(low), abs(high)) <= scale
            axis = (low / scale, delta["mean"] / scale, high / scale) if reached else None
            against = Cell(estimated(delta), interval(delta, signed=True), style, axis)
        verdict = wording.verdict_of(arm, NO_DIFFERENCE)
        rows.append(
            (
                arm["name"],
                _estimate(arm["miou"]),
                *([_estimate(arm["miou_rare"])] if rare else []),
                against,
                p_value(arm["p_adjusted"]),
                Cell(verdict, style=style),
                *([percent(arm["miou_all"]["mean"])] if both else []),
                *validation,
                wording.design(arm),
                _count(arm["images_per_step"]),
                _count(arm["images_per_step"] and arm["images_per_step"] * arm["steps"]),
                arm["description"],
            )
        )
    head = [
        "Arm",
        "mIoU, % [95 %]",
        *(["Rare classes, % [95 %]"] if rare else []),
        "Against real, points [95 %]",
        "p (Holm)",
        "Verdict",
        *(["mIoU*, %"] if both else []),
        *(["Validation mIoU, % [95 %]"] if any(beside) else []),
        "Generators x seeds x steps" if several else "Seeds x steps",
        "Images per step",
        "Images in all",
        "Trained on",
    ]
    numeric = [head.index(title) for title in head if title in NUMERIC]
    return Table(head, rows, numeric=numeric, long=1)


def _count(value: int | None) -> str:
    return wording.NO_VALUE if value is None else f"{value:,}"


def _pairs(document: Mapping[str, Any]) -> Table:
    train, test = document["gan_train"], document["gan_test"]
    rows = [(kind, _estimate(train.get(kind)), _estimate(test.get(kind))) for kind in {**train, **test}]
    real = wording.arm_named(document, REAL_ARM)["miou"]
    rows.append(("real data, for reference", _estimate(real), _estimate(document["gan_test_real"])))
    return Table(("Pairs", "GAN-train, mIoU % [95 %]", "GAN-test, mIoU % [95 %]"), rows, numeric=(1, 2))


def _classes(document: Mapping[str, Any]) -> Table:
    dataset, arms, shares = document["dataset"], document["arms"], splits.split_of(document)["class_shares"]
    rows = []
    for name in dataset["classes"]:
        cells: list[Cell | str] = [name if name in dataset["eval_classes"] else f"{name} *", percent(shares[name])]
        for arm in arms:
            estimate = arm["per_class"][name]
            mark = "" if arm["name"] == REAL_ARM else wording.direction(estimate["delta_vs_real"])
            style = wording.STYLES.get(mark, "")
            cells.append(Cell(f"{percent(estimate['mean'])} {mark}".strip(), style=style))
        rows.append(cells)
    head = ["Class", "Pixels, %", *(arm["name"] for arm in arms)]
    return Table(head, rows, numeric=range(1, len(head)))
