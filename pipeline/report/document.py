"""The report as one JSON document, and the folder that holds it in every form."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scenepalette.common.files import write_atomically
from scenepalette.data.classes import ClassTable
from scenepalette.evaluation.registry import METRICS, PARTS, keys_of_metric, rows_of_report
from scenepalette.pipeline.report.figures import draw_figures, figure_to_png
from scenepalette.pipeline.report.memorisation import copy_document
from scenepalette.pipeline.report.page import write_page
from scenepalette.pipeline.report.report_page import report_page
from scenepalette.pipeline.report.results import ReportInputs
from scenepalette.pipeline.report.statistics import (
    LEVEL,
    ArmStatistics,
    Difference,
    Estimate,
    compare_arms,
    estimate_miou,
)
from scenepalette.training.loop import read_metrics
from scenepalette.training.monitor import summary_of_log

SCHEMA = 1


def write_report(folder: Path, inputs: ReportInputs) -> dict[str, Any]:
    """Write figures/*.png, report.md, report.html and, last, report.json into a folder.

    Every file is written atomically; figures of an earlier report that this one does not have are removed.

    Args:
        folder: Made if it is not there.
        inputs: The results of a run.

    Returns:
        The document that report.json holds: schema 1, mIoU as fractions, null for what is undefined.
    """
    arms = compare_arms(inputs.arms, inputs.table.eval_ids, inputs.bootstrap_samples, inputs.seed)
    figures: list[dict[str, str]] = []
    images: dict[str, bytes] = {}
    for drawing in draw_figures(inputs, arms):
        file = f"figures/{drawing.file}"
        images[file] = figure_to_png(drawing.figure)
        write_atomically(folder / file, images[file])
        figures.append({"file": file, "section": drawing.section, "title": drawing.title, "caption": drawing.caption})
    for path in (folder / "figures").glob("*.png"):
        if f"figures/{path.name}" not in images:
            path.unlink()
    document = build_document(inputs, arms, figures)
    write_page(folder, "report", report_page(document), document, images)
    return document


def build_document(
    inputs: ReportInputs, arms: list[ArmStatistics], figures: Sequence[Mapping[str, str]]
) -> dict[str, Any]:
    """Gather schema 1 (and more) from the results; plain JSON values, nan and infinities as None."""
    table = inputs.table
    by_name = {arm.name: arm for arm in arms}

    def miou(confusion: np.ndarray, name: str) -> dict[str, Any]:
        return _estimate(estimate_miou(confusion, table.eval_ids, inputs.bootstrap_samples, inputs.seed, name))

    document = {
        "schema": SCHEMA,
        "dataset": {
            "name": inputs.dataset["name"],
            "classes": table.names,
            "eval_classes": [table.names[index] for index in table.eval_ids],
            "train": inputs.dataset["train"],
            "val": inputs.dataset["val"],
            "size": inputs.dataset["size"],
            "licence": inputs.dataset.get("licence"),
            "val_class_shares": dict(zip(table.names, _truth_shares(inputs.arms[0].confusion), strict=True)),
        },
        "arms": [_arm(arm, table.names) for arm in arms],
        "gan_train": {kind: _estimate(by_name[name].miou) for kind, name in inputs.gan_train.items()},
        "gan_train_arms": inputs.gan_train,
        "gan_test": {kind: miou(confusion, f"gan_test {kind}") for kind, confusion in inputs.gan_test.items()},
        "gan_test_real": miou(inputs.gan_test_real, "gan_test_real"),
        "palettes": {
            "components": inputs.palette_components,
            "aic": inputs.aic,
            "kl": {kind: np.mean(values) for kind, values in inputs.palette_kl.items()},
            "kl_quantiles": {
                kind: dict(zip(("50%", "95%", "100%"), np.quantile(values, [0.5, 0.95, 1.0]), strict=True))
                for kind, values in inputs.palette_kl.items()
            },
            "rows": {kind: len(values) for kind, values in inputs.palette_kl.items()},
        },
        **{part: _measured(inputs.metrics, part, table) for part in PARTS},
        "metrics": rows_of_report(),
        "metric_problems": METRICS.problems(),
        "class_shares": {
            name: dict(zip(table.names, shares, strict=True)) for name, shares in inputs.class_shares.items()
        },
        "memorisation": {kind: copy_document(check) for kind, check in inputs.copy_checks.items()},
        "training": {name: summary_of_log(read_metrics(path)) for name, path in inputs.training_logs.items()},
        "durations": inputs.durations,
        "bootstrap": {
            "samples": inputs.bootstrap_samples,
            "seed": inputs.seed,
            "level": LEVEL,
            "images": len(inputs.arms[0].confusion),
            "seeds_resampled": all(len(arm.seeds) > 1 for arm in arms),
            "arms_with_one_seed": [arm.name for arm in arms if len(arm.seeds) == 1],
        },
        "figures": figures,
        "provenance": inputs.provenance,
    }
    return to_json_values(document)


def to_json_values(value: Any) -> Any:
    """Turn numpy values, tuples, mappings and paths into plain JSON values; nan and infinities into None."""
    if isinstance(value, dict) or hasattr(value, "items"):
        return {str(key): to_json_values(each) for key, each in value.items()}
    if isinstance(value, np.ndarray):
        return to_json_values(value.tolist())
    if isinstance(value, list | tuple):
        return [to_json_values(each) for each in value]
    if isinstance(value, np.generic):
        return to_json_values(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)


def _arm(arm: ArmStatistics, class_names: tuple[str, ...]) -> dict[str, Any]:
    return {
        "name": arm.name,
        "description": arm.description,
        "seeds": arm.seeds,
        "steps": arm.steps,
        "images_per_step": arm.images_per_step,
        "miou": _estimate(arm.miou),
        "miou_all": _estimate(arm.miou_all),
        "per_class": {
            name: {**_estimate(estimate), "delta_vs_real": _difference(delta)}
            for name, estimate, delta in zip(class_names, arm.per_class, arm.per_class_delta, strict=True)
        },
        "delta_vs_real": _difference(arm.delta),
        "delta_all_vs_real": _difference(arm.delta_all),
        "verdict": arm.verdict,
    }


def _measured(metrics: Mapping[str, Any], part: str, table: ClassTable) -> dict[str, Any]:
    """The values of one part with everything measured of them, as `fid`, `fid_absent_because`, `color_distance/car`."""
    names = [name for name in METRICS if METRICS.get(name).of == part]
    values = {key: metrics[key] for name in names for key in keys_of_metric(name, table.names) if key in metrics}
    return {"fid_absent_because": None, **values} if "fid" in values else values


def _estimate(estimate: Estimate) -> dict[str, Any]:
    return {"values": estimate.values, "mean": estimate.mean, "ci95": [estimate.low, estimate.high]}


def _difference(difference: Difference) -> dict[str, Any]:
    return {"mean": difference.mean, "ci95": [difference.low, difference.high]}


def _truth_shares(confusion: np.ndarray) -> np.ndarray:
    truth = confusion.sum(axis=(0, 2))
    return truth / max(1, truth.sum())
