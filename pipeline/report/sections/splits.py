"""Which images a report is of: its split, validation beside a test split, and extra test sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from scenepalette.data.sequences import sequences_of
from scenepalette.pipeline.report import wording
from scenepalette.pipeline.report.page import Block, Cell, Heading, Table, Text
from scenepalette.pipeline.report.results import ArmRun, EvaluatedSplit, ReportInputs
from scenepalette.pipeline.report.statistics import ArmStatistics, compare

ORIGINS = {
    "published": "the published test split",
    "held out": "held out of the training split: no generator, palette or segmenter has seen it",
    "drawn": "drawn for the test alone",
    "extra": "an extra test set",
}
VALIDATION = "validation"


def describe(split: EvaluatedSplit) -> dict[str, Any]:
    """Return what a document says of a split."""
    blocks = split.blocks
    return {
        "name": split.name,
        "origin": split.origin,
        "images": len(split.ids),
        "recordings": None if blocks is None else len(sequences_of(split.ids)),
        "blocks": None if blocks is None else len(np.unique(blocks)),
        "warnings": split.warnings,
    }


def reported_split(inputs: ReportInputs) -> dict[str, Any]:
    """Return the split that a report's numbers are of; validation of unknown recordings if none is named."""
    if inputs.split is not None:
        return describe(inputs.split)
    return _validation(len(inputs.arms[0].confusion))


def _validation(images: int) -> dict[str, Any]:
    return {"name": VALIDATION, "origin": None, "images": images, "recordings": None, "blocks": None, "warnings": []}


def compare_on_validation(inputs: ReportInputs) -> Mapping[str, ArmStatistics]:
    """Return what every arm reaches on validation, where another split is reported; else nothing."""
    confusions = [run.validation for run in inputs.arms]
    missing = any(one is None for one in confusions)
    return {} if missing else _compare(inputs, confusions, inputs.validation_blocks)


def extra_tests(inputs: ReportInputs) -> dict[str, Any]:
    """Return, for every extra test set by name, what it is and what every arm reaches on it."""
    return {
        name: {
            **describe(split),
            "arms": {
                arm: {"miou": each.miou.to_dict(), "delta_vs_real": each.delta.to_dict()}
                for arm, each in _compare(inputs, [run.extra_tests[name] for run in inputs.arms], split.blocks).items()
            },
        }
        for name, split in inputs.extra_tests.items()
    }


def _compare(
    inputs: ReportInputs, confusions: Sequence[np.ndarray | None], blocks: np.ndarray | None
) -> dict[str, ArmStatistics]:
    runs: list[ArmRun] = [
        replace(run, confusion=confusion)
        for run, confusion in zip(inputs.arms, confusions, strict=True)
        if confusion is not None
    ]
    arms = compare(runs, inputs.table.eval_ids, inputs.bootstrap_samples, inputs.seed, blocks=blocks).arms
    return {arm.name: arm for arm in arms}


def split_of(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the split that a document's numbers are of; one that names none is of validation."""
    dataset = document["dataset"]
    return dataset.get("split") or {**_validation(dataset["val"]), "class_shares": dataset["val_class_shares"]}


def counted(split: Mapping[str, Any]) -> str:
    """Say how many images, recordings and blocks there are: "122 images of 3 recordings, 13 blocks ..."."""
    images = f"{split['images']} images"
    if split["blocks"] is None:
        return images
    recordings, blocks = split["recordings"], split["blocks"]
    return (
        f"{images} of {recordings} recording{'' if recordings == 1 else 's'}, "
        f"{blocks} block{'' if blocks == 1 else 's'} of consecutive frames"
    )


def introduction(document: Mapping[str, Any]) -> str:
    """Say what is learned from and what is reported."""
    dataset, split = document["dataset"], split_of(document)
    if split["name"] == VALIDATION:
        text = f"{dataset['train']} training and {dataset['val']} validation images"
        return text if split["blocks"] is None else f"{text} ({counted(split).partition(' of ')[2]})"
    origin = ORIGINS.get(split["origin"] or "")
    return (
        f"{dataset['train']} training, {dataset['val']} validation and {split['images']} test images; all numbers are "
        f"of the test split unless they say otherwise ({counted(split)}; {origin})"
    )


def resolution(document: Mapping[str, Any]) -> str:
    """Say at which size segmenters work and what they are evaluated by, where that is not the size of everything."""
    found = document["dataset"].get("resolution")
    if not found:
        return ""
    height, width = found["segmenters"]
    evaluated = "labels in the size of their files" if found["evaluation"] == "native" else "labels of that size"
    part = {
        "crop": ", of which the middle is learned from and evaluated (data.fit=crop)",
        "tile": ", which are cut into tiles that are put together again (data.fit=tile)",
    }.get(found["fit"], "")
    return f" Segmenters work at {height}x{width} and are evaluated by {evaluated}{part}."


def validation_cells(document: Mapping[str, Any]) -> list[list[Cell]]:
    """Return a cell for each arm with its mIoU on validation; no cells where validation itself is reported."""
    return [
        [Cell(wording.percent(each["mean"]), wording.interval(each))] if (each := arm.get("validation_miou")) else []
        for arm in document["arms"]
    ]


def extra_blocks(document: Mapping[str, Any]) -> list[Block]:
    """Return the table of extra test sets, and what is to be kept in mind of them; nothing if there are none."""
    tests = document.get("extra_tests") or {}
    if not tests:
        return []
    rows = []
    for arm in document["arms"]:
        cells: list[Cell | str] = [arm["name"]]
        for test in tests.values():
            miou, delta = test["arms"][arm["name"]]["miou"], test["arms"][arm["name"]]["delta_vs_real"]
            mark = wording.direction(delta)
            style = wording.STYLES.get(mark, "")
            cells.append(Cell(f"{wording.percent(miou['mean'])} {mark}".strip(), wording.interval(miou), style))
        rows.append(cells)
    head = ["Arm", *(f"{name}, mIoU % [95 %]" for name in tests)]
    about = "; ".join(f"{name}: {counted(test)}" for name, test in tests.items())
    return [
        Heading("Extra test sets"),
        Table(head, rows, numeric=range(1, len(head))),
        Text(
            f"{about}. Nothing was trained or chosen on them. ▲ above and ▼ below real by a paired interval that "
            "leaves out zero."
        ),
    ]


def warnings(document: Mapping[str, Any]) -> list[str]:
    """Return what was found of the reported split and of extra test sets before anything was trained."""
    extra = (document.get("extra_tests") or {}).values()
    return [text for split in (split_of(document), *extra) for text in split["warnings"]]
