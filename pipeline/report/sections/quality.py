"""What a report says of the teachers that judged generated pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scenepalette.pipeline.report.page import Block, Bullets, Heading, Table, Text
from scenepalette.pipeline.report.wording import listing, number, percent


def quality_blocks(document: Mapping[str, Any]) -> list[Block]:
    """Return the section on trust; nothing where no pair was judged."""
    quality = document.get("quality")
    if not quality:
        return []
    kinds = quality["kinds"]
    overlaps = quality["teachers"]["iou"]
    rows = [
        (
            kind,
            f"{found['judged']} of {found['rows']}",
            percent(found["trusted"]),
            percent(found["agreement"]),
            number(found["palette_kl"]),
        )
        for kind, found in kinds.items()
    ]
    classes = [
        (
            name,
            *(percent(fold[name]) for fold in overlaps),
            *(percent(found["trusted_per_class"][name]) for found in kinds.values()),
        )
        for name in document["dataset"]["classes"]
    ]
    folds = [f"Teacher {fold}, IoU %" for fold in range(len(overlaps))]
    shares = [f"{kind}, trusted %" for kind in kinds]
    return [
        Heading("Trust in generated labels"),
        Text(
            f"{len(overlaps)} teachers, each trained on the real images of all folds but one, judged labels of images "
            "made from nothing that they saw. A pixel counts as trusted if its loss is at most 1.25 times the mean "
            "of its class in real images, before any floor."
        ),
        *(
            [Table(("Pairs", "Judged", "Trusted, %", "Teachers agree, %", "KL of palettes"), rows, numeric=range(1, 5))]
            if rows
            else []
        ),
        Table(("Class", *folds, *shares), classes, numeric=range(1, 1 + len(folds) + len(shares))),
        *_selection_blocks(quality.get("selected", {})),
        *([Bullets(quality["warnings"])] if quality["warnings"] else []),
    ]


def _selection_blocks(selected: Mapping[str, Any]) -> list[Block]:
    """Return what was chosen of the rows that were made, and what the choice changed."""
    if not selected:
        return []
    shown = {"trusted": percent, "trusted_loss": number, "nearest_distance": number, "copy": percent}
    rows = [
        (
            kind,
            f"{found['rows']} of {found['of']}",
            *(" -> ".join(map(show, found["means"][name])) for name, show in shown.items()),
        )
        for kind, found in selected.items()
    ]
    short = [
        f"No choice of {found['rows']} {kind} pairs was found that holds what the palettes ask for of "
        + listing([f"{name} ({percent(held / asked)} %)" for name, (held, asked) in found["short"].items()], limit=255)
        + "; a larger generate.candidates leaves more to choose from."
        for kind, found in selected.items()
        if found["short"]
    ]
    return [
        Text(
            "Of the rows that were made, arms train on the best: those that are hard, trusted and far from training "
            "images, while every class keeps its share of the pixels (generate.candidates). Means over all rows and "
            "over the chosen ones:"
        ),
        Table(
            ("Pairs", "Chosen", "Trusted, %", "Loss where trusted", "Distance to training images", "Copies, %"),
            rows,
            numeric=range(1, 6),
        ),
        *([Bullets(short)] if short else []),
    ]
