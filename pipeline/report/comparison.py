"""The comparison of systems as JSON, Markdown and one self-contained HTML page, with a strip of samples per system."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined

from scenepalette.common.files import write_atomically, write_json
from scenepalette.data.arrays import Pairs
from scenepalette.data.shards.reading import iterate_rows
from scenepalette.pipeline.comparisons import Row
from scenepalette.pipeline.config import RunConfig
from scenepalette.pipeline.report import wording
from scenepalette.pipeline.report.document import to_json_values
from scenepalette.pipeline.report.markdown import markdown_table, show_value
from scenepalette.pipeline.report.statistics import estimate_miou
from scenepalette.pipeline.stages.images import SegmenterFeatures
from scenepalette.training.image_grid import tile_pictures

SCHEMA = 1
SHOWN_PAIRS = 8
TEMPLATE = "comparison.html.jinja"
PERCEPTUAL = "perceptual_features"
"""Key of a row's metrics, and of weights' metadata: whose features a perceptual loss compared."""
OWN_FEATURES = SegmenterFeatures.description


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
        key: Name of the value in a row's metrics.
        title: Heading.
        better: "lower", "higher" or "" where neither is.
        scale: Factor for showing it.
        meaning: What it says.
    """

    key: str
    title: str
    better: str
    scale: float
    meaning: str


COLUMNS = (
    Column("palette_kl", "KL", "lower", 1, "how far layouts are from the palettes asked for; no palette, no value"),
    Column("fsd", "FSD", "lower", 1, "class shares of generated layouts against real training layouts"),
    Column("fid", "FID", "lower", 1, "generated against real validation images, Inception features"),
    Column("segmenter_frechet", "segm. Fréchet", "lower", 1, "the same on features of the segmenter trained on real"),
    Column("gan_test_miou", "GAN-test", "higher", 100, "mIoU of the real segmenter on generated pairs, %"),
    Column("gan_train_miou", "GAN-train", "higher", 100, "mIoU on real images after training on generated pairs, %"),
    Column("ms_ssim", "MS-SSIM", "lower", 1, "likeness of images of one layout; lower is more diverse, 1 is one image"),
    Column("lpips", "LPIPS", "higher", 1, "perceptual distance of images of one layout; higher is more diverse"),
    Column("class_variance", "variance", "higher", 1, "variance of a class's pixels over images of one layout"),
    Column("color_distance", "colour", "lower", 1, "earth mover's distance of LAB histograms per class"),
    Column("texture_distance", "texture", "lower", 1, "chi-square distance of local binary patterns per class"),
    Column("segmenter_precision", "precision*", "higher", 100, "share of generated images near real ones, %"),
    Column("segmenter_recall", "recall*", "higher", 100, "share of real images near generated ones, %"),
)


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


@dataclass(frozen=True)
class ComparisonInputs:
    """Everything that the comparison is written from.

    Attributes:
        config: The run's configuration.
        rows: Results in the order of the table.
        real_confusion: Confusion matrices [N, K, K] of the segmenter trained on real pairs.
        train: Real training pairs.
        validation: Real validation pairs.
        durations: Seconds per unit.
        provenance: Versions and hardware.
    """

    config: RunConfig
    rows: Sequence[RowResult]
    real_confusion: np.ndarray
    train: Pairs
    validation: Pairs
    durations: Mapping[str, float]
    provenance: Mapping[str, Any]


def write_comparison_report(folder: Path, inputs: ComparisonInputs) -> dict[str, Any]:
    """Write figures/*.png, comparison.md, comparison.html and, last, comparison.json.

    Returns:
        The document that comparison.json holds; mIoU as fractions, null for what is undefined.
    """
    for result in inputs.rows:
        tile_pictures(folder / "figures" / f"{result.name}.png", _strip(result, inputs.train), columns=SHOWN_PAIRS)
    document = build_comparison(inputs)
    write_atomically(folder / "comparison.md", render_comparison_markdown(document))
    write_atomically(folder / "comparison.html", _render_html(document, folder))
    write_json(folder / "comparison.json", document)
    return document


def build_comparison(inputs: ComparisonInputs) -> dict[str, Any]:
    """Gather the comparison as plain JSON values."""
    config, table = inputs.config, inputs.train.table
    samples, seed = config.report.bootstrap_samples, config.seed

    def miou(confusion: np.ndarray, name: str) -> dict[str, Any]:
        estimate = estimate_miou(confusion, table.eval_ids, samples, seed, name)
        return {"mean": estimate.mean, "ci95": [estimate.low, estimate.high]}

    rows = []
    for result in inputs.rows:
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
                "training_seconds": {name: inputs.durations.get(name) for name in result.trained},
                "figure": f"figures/{result.name}.png",
            }
        )
    full = config.layouts.full
    document = {
        "schema": SCHEMA,
        "dataset": {
            "name": inputs.train.name,
            "licence": inputs.train.licence,
            "train": len(inputs.train),
            "val": len(inputs.validation),
            "size": list(inputs.train.size),
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
        "real": {"miou": miou(inputs.real_confusion, "real"), "steps": config.segmenters.steps},
        "columns": [asdict(column) for column in COLUMNS],
        "rows": rows,
        "durations": inputs.durations,
        "provenance": inputs.provenance,
    }
    return to_json_values(document)


def _strip(result: RowResult, train: Pairs) -> list[np.ndarray]:
    """Return the first pairs of a row, each as its layout above its image."""
    pairs = itertools.islice(iterate_rows(result.pairs), SHOWN_PAIRS)
    return [np.concatenate([train.table.colorize(pair.label), pair.image]) for pair in pairs]


def show_metric(row: Mapping[str, Any], column: Mapping[str, Any]) -> str:
    """A row's value as the table shows it; a dash where it is absent."""
    value = row["metrics"].get(column["key"])
    if value is None:
        return wording.NO_VALUE
    if column["key"] == "gan_train_miou":
        return f"{wording.percent(value)} {wording.interval(row['gan_train'])}"
    return wording.percent(value) if column["scale"] == 100 else wording.number(value)


def absences(document: Mapping[str, Any]) -> list[str]:
    """Return why values are absent, each reason once."""
    reasons = [
        value
        for row in document["rows"]
        for key, value in row["metrics"].items()
        if key.endswith("_absent_because") and value
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
    favoured = [row["name"] for row in document["rows"] if row["metrics"].get(PERCEPTUAL) == OWN_FEATURES]
    if favoured:
        text += (
            f" They favour {', '.join(favoured)}, whose perceptual loss compared features of the same segmenter "
            "because VGG-19's weights were not available."
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


def render_comparison_markdown(document: Mapping[str, Any]) -> str:
    """Word the comparison as Markdown; strips are linked as figures/*.png beside it."""
    dataset = document["dataset"]
    columns = [column for column in document["columns"] if _shown(document, column)]
    arrows = {"lower": " ↓", "higher": " ↑", "": ""}
    rows = [
        [row["name"], row["layouts"], row["images"], *(show_metric(row, column) for column in columns)]
        for row in document["rows"]
    ]
    real, provenance = document["real"]["miou"], document["provenance"]
    lines = [
        f"# Systems compared on {dataset['name']}",
        "",
        f"{dataset['train']} training and {dataset['val']} validation images, {dataset['size'][0]}x"
        f"{dataset['size'][1]} (height x width), {len(dataset['classes'])} classes. The segmenter trained on real "
        f"pairs for {document['real']['steps']} steps reaches mIoU {wording.percent(real['mean'])} "
        f"{wording.interval(real)}.",
        "",
        budget_sentence(document),
        "",
        *markdown_table(["Row", "Layouts", "Images", *(c["title"] + arrows[c["better"]] for c in columns)], rows),
        "",
        perceptual_notes(document),
        "",
        *(f"- {text}" for text in [*absences(document), *discriminators(document)]),
        "",
        *(f"- {column['title']}: {column['meaning']}." for column in columns),
        "",
        "## Samples",
        "",
        "The first pairs that each row made, layouts above images.",
        "",
    ]
    for row in document["rows"]:
        lines += [f"### {row['name']}: {row['description']}", "", f"![{row['name']}]({row['figure']})", ""]
    lines += [
        "## Training times",
        "",
        *markdown_table(
            ["Row", "Part", "Time"],
            [
                [row["name"], part, wording.duration(seconds)]
                for row in document["rows"]
                for part, seconds in row["training_seconds"].items()
            ],
        ),
        "",
        "## Provenance",
        "",
        *markdown_table(["Field", "Value"], [[key, show_value(v)] for key, v in provenance.items()]),
        "",
    ]
    return "\n".join(lines)


def _shown(document: Mapping[str, Any], column: Mapping[str, Any]) -> bool:
    return any(row["metrics"].get(column["key"]) is not None for row in document["rows"])


def _render_html(document: Mapping[str, Any], folder: Path) -> str:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(percent=wording.percent, interval=wording.interval, duration=wording.duration)
    template = environment.from_string(
        files("scenepalette.pipeline.report").joinpath(TEMPLATE).read_text(encoding="utf-8")
    )
    strips = {
        row["name"]: "data:image/png;base64," + base64.b64encode((folder / row["figure"]).read_bytes()).decode("ascii")
        for row in document["rows"]
    }
    return template.render(
        document=document,
        columns=[column for column in document["columns"] if _shown(document, column)],
        show_metric=show_metric,
        show_value=show_value,
        strips=strips,
        budget=budget_sentence(document),
        notes=[perceptual_notes(document), *absences(document), *discriminators(document)],
    )
