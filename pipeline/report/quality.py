"""What a report says of the teachers that judged generated pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scenepalette.pipeline.report.page import Block, Bullets, Heading, Table, Text
from scenepalette.pipeline.report.wording import NO_VALUE, number, percent


def quality_blocks(document: Mapping[str, Any]) -> list[Block]:
    """Return the section on trust; nothing where no pair was judged.

    Args:
        document: The content of report.json.
    """
    quality = document.get("quality")
    if not quality:
        return []
    kinds = quality["kinds"]
    overlaps = quality["teachers"]["iou"]
    rows = [
        (
            kind,
            f"{found['judged']} of {found['rows']}",
            _share(found["trusted"]),
            _share(found["agreement"]),
            number(found["palette_kl"]),
        )
        for kind, found in kinds.items()
    ]
    classes = [
        (
            name,
            *(_share(fold[name]) for fold in overlaps),
            *(_share(found["trusted_per_class"][name]) for found in kinds.values()),
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
        *([Bullets(quality["warnings"])] if quality["warnings"] else []),
    ]


def _share(value: float | None) -> str:
    return NO_VALUE if value is None else percent(value)
