"""The comparison of systems: its JSON document, and the page made from it, with a strip of samples per system."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scenepalette.data.arrays import Pairs
from scenepalette.data.shards.reading import iterate_rows
from scenepalette.evaluation.images.features import OWN_FEATURES
from scenepalette.evaluation.registry import METRICS, columns_of_comparison
from scenepalette.pipeline.comparisons import Row
from scenepalette.pipeline.config import RunConfig
from scenepalette.pipeline.report import wording
from scenepalette.pipeline.report.document import to_json_values
from scenepalette.pipeline.report.page import Bullets, Figure, Heading, Page, Table, Text, provenance_table, write_page
from scenepalette.pipeline.report.statistics import estimate_miou
from scenepalette.training.image_grid import tile_images

SCHEMA = 1
SHOWN_PAIRS = 8
PERCEPTUAL = "perceptual_features"
"""Key of a row's metrics, and of weights' metadata: whose features a perceptual loss compared."""


@dataclass(frozen=True)
class RowResult:
    """What was measured for one row.

    Attributes:
        name: Name of the row.
        row: What it is.
        trained: Units in which its models were trained.
        metrics: Values by name.
        gan_train: Confusion matrices [N, K, K] of the segmenter trained on the row's pairs.
        pairs: Folder of its shards.
    """

    name: str
    row: Row
    trained: Sequence[str]
    metrics: Mapping[str, Any]
    gan_train: np.ndarray
    pairs: Path


def write_comparison(
    folder: Path,
    config: RunConfig,
    results: Sequence[RowResult],
    *,
    real_confusion: np.ndarray,
    train: Pairs,
    validation: Pairs,
    durations: Mapping[str, float],
    provenance: Mapping[str, Any],
) -> None:
    """Write figures/*.png, comparison.md, comparison.html and, last, comparison.json.

    The document that comparison.json holds has mIoU as fractions and null for what is undefined.

    Args:
        folder: Output folder.
        config: The run's configuration.
        results: Results in the order of the table.
        real_confusion: Confusion matrices [N, K, K] of the segmenter trained on real pairs.
        train: Real training pairs.
        validation: Real validation pairs.
        durations: Seconds per unit.
        provenance: Versions and hardware.
    """
    table = train.table

    def miou(confusion: np.ndarray, name: str) -> dict[str, Any]:
        estimate = estimate_miou(confusion, table.eval_ids, config.report.bootstrap_samples, config.seed, name)
        return {"mean": estimate.mean, "ci95": [estimate.low, estimate.high]}

    rows = []
    for result in results:
        # The first pairs of a row, each as its layout above its image.
        pairs = itertools.islice(iterate_rows(result.pairs), SHOWN_PAIRS)
        strip = [np.concatenate([table.colorize(pair.label), pair.image]) for pair in pairs]
        tile_images(folder / "figures" / f"{result.name}.png", strip, columns=SHOWN_PAIRS)
        rows.append(
            {
                "name": result.name,
                "description": result.row.description,
                "layouts": result.row.layouts or "real layouts of the training split",
                "images": result.row.images,
                "end_to_end": result.row.end_to_end,
                "changes": dict(result.row.changes),
                "metrics": dict(result.metrics),
                "gan_train": miou(result.gan_train, f"gan_train {result.name}"),
                "training_seconds": {name: durations.get(name) for name in result.trained},
                "figure": f"figures/{result.name}.png",
            }
        )
    full = config.layouts.full
    document = {
        "schema": SCHEMA,
        "dataset": {
            "name": train.name,
            "licence": train.licence,
            "train": len(train.image_ids),
            "val": len(validation.image_ids),
            "size": list(train.size),
            "classes": list(table.names),
        },
        "budget": {
            "layout_steps": sum(full.fade_steps) + sum(full.stable_steps),
            "layout_batch_sizes": list(full.batch_sizes),
            "image_steps": config.images.steps,
            "image_batch_size": config.images.batch_size,
            "fine_tuning_steps": config.finetune.steps,
            "pairs": config.compare.pairs,
            "segmenter_steps": config.compare.segmenter_steps,
            "layouts_for_diversity": config.compare.layouts,
            "images_per_layout": config.compare.draws,
        },
        "real": {"miou": miou(real_confusion, "real"), "steps": config.segmenters.steps},
        "columns": columns_of_comparison(),
        "metric_problems": METRICS.problems(),
        "rows": rows,
        "durations": durations,
        "provenance": provenance,
    }
    values = to_json_values(document)
    images = {row["figure"]: (folder / row["figure"]).read_bytes() for row in values["rows"]}
    write_page(folder, "comparison", comparison_page(values), values, images)


def show_metric(row: Mapping[str, Any], column: Mapping[str, Any]) -> str:
    """A row's value as the table shows it; a dash where it is absent."""
    value = row["metrics"].get(column["key"])
    if value is None:
        return wording.NO_VALUE
    if column["key"] == "gan_train_miou":
        return f"{wording.percent(value)} {wording.interval(row['gan_train'])}"
    return wording.metric_value(value, column["scale"])


def absences(document: Mapping[str, Any]) -> list[str]:
    """Return why values and metrics are absent, each reason once."""
    reasons = [
        *document.get("metric_problems", ()),  # comparisons of earlier versions name none
        *(
            value
            for row in document["rows"]
            for key, value in row["metrics"].items()
            if key.endswith("_absent_because") and value
        ),
    ]
    return list(dict.fromkeys(reasons))


def discriminators(document: Mapping[str, Any]) -> list[str]:
    """Return what discriminators reach as segmenters, in sentences."""
    return [
        f"The discriminator of {row['images']}, used as a segmenter, reaches mIoU "
        f"{wording.percent(row['metrics']['discriminator_miou'])} % on real validation images."
        for row in document["rows"]
        if row["metrics"].get("discriminator_miou") is not None
    ]


def perceptual_notes(document: Mapping[str, Any]) -> str:
    """Say on which features the starred columns and segmenter distances rest, and whom that favours."""
    text = (
        "Columns with a star and the segmenter Fréchet distance compare features of the segmenter trained on the real "
        "pairs; they are comparable within this table only."
    )
    favoured = [row["name"] for row in document["rows"] if row["metrics"].get(PERCEPTUAL) in OWN_FEATURES]
    if favoured:
        text += (
            f" They favour {', '.join(favoured)}, whose perceptual loss compared features of the same segmenter, not "
            "those of VGG-19 (images.perceptual_features)."
        )
    return text


def budget_sentence(document: Mapping[str, Any]) -> str:
    """The budget that all rows share, in words."""
    budget = document["budget"]
    return (
        f"Every layout system is trained for {budget['layout_steps']} steps, every image system for "
        f"{budget['image_steps']} steps of {budget['image_batch_size']} images, end-to-end rows for "
        f"{budget['fine_tuning_steps']} further steps. Each row makes {budget['pairs']} pairs; a segmenter is trained "
        f"on them for {budget['segmenter_steps']} steps (GAN-train). Diversity is measured on "
        f"{budget['layouts_for_diversity']} real layouts with {budget['images_per_layout']} images each. A row without "
        "a layout system paints the real layouts of the training split. Steps are equal, times are not: see the table "
        "of times. One seed; intervals are over validation images alone."
    )


def comparison_page(document: Mapping[str, Any]) -> Page:
    """Return the page of what comparison.json holds."""
    dataset, rows, real = document["dataset"], document["rows"], document["real"]["miou"]
    columns = [
        column for column in document["columns"] if any(row["metrics"].get(column["key"]) is not None for row in rows)
    ]
    arrows = {"lower": " ↓", "higher": " ↑", "": ""}
    head = ["Row", "Layouts", "Images", *(column["title"] + arrows[column["better"]] for column in columns)]
    values = [
        [row["name"], row["layouts"], row["images"], *(show_metric(row, column) for column in columns)] for row in rows
    ]
    times = [
        (row["name"], part, wording.duration(seconds))
        for row in rows
        for part, seconds in row["training_seconds"].items()
    ]
    return Page(
        title=f"Systems compared on {dataset['name']}",
        headline="",
        introduction=f"{dataset['train']} training and {dataset['val']} validation images, {dataset['size'][0]}x"
        f"{dataset['size'][1]} (height x width), {len(dataset['classes'])} classes. The segmenter trained on real "
        f"pairs for {document['real']['steps']} steps reaches mIoU {wording.percent(real['mean'])} "
        f"{wording.interval(real)}.",
        blocks=[
            Text(budget_sentence(document)),
            Table(head, values, numeric=range(3, len(head))),
            Text(perceptual_notes(document)),
            Bullets([*absences(document), *discriminators(document)]),
            Heading("What the columns say"),
            Bullets([f"{column['title']}: {column['meaning']}." for column in columns]),
            Heading("Samples"),
            Text("The first pairs that each row made, layouts above images."),
            *(Figure(row["figure"], row["name"], f"{row['description']}.") for row in rows),
            Heading("Training times"),
            Table(("Row", "Part", "Time"), times, numeric=(2,)),
            Heading("Provenance"),
            provenance_table(document),
        ],
    )
