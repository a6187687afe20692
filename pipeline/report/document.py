"""The report as one JSON document, and the folder that holds it in every form."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from scenepalette.common.storage.files import write_atomically
from scenepalette.data.classes import ClassTable
from scenepalette.evaluation.contrasts import LEVEL
from scenepalette.evaluation.convergence import converged, validation_curve
from scenepalette.evaluation.registry import METRICS, PARTS, keys_of_metric, rows_of_report
from scenepalette.pipeline.report.memorisation import copy_document
from scenepalette.pipeline.report.page import write_page
from scenepalette.pipeline.report.report_page import report_page
from scenepalette.pipeline.report.results import REAL_ARM, ArmCost, ReportInputs
from scenepalette.pipeline.report.sections.loop_gain import SHOWN_OF_LOOP
from scenepalette.pipeline.report.sections.shortfall import reached_by_class
from scenepalette.pipeline.report.sections.splits import compare_on_validation, extra_tests, reported_split
from scenepalette.pipeline.report.statistics import ArmStatistics, Comparison, PrimaryContrast, compare, estimate_miou
from scenepalette.training.loop import read_metrics
from scenepalette.training.monitor import summary_of_log

SCHEMA = 2
"""In 2 verdicts are corrected for the number of arms, and intervals are over blocks of frames and paired seeds."""


def write_report(folder: Path, inputs: ReportInputs) -> dict[str, Any]:
    """Write figures/*.png, report.md, report.html and, last, report.json into a folder.

    Every file is written atomically; figures of an earlier report that this one does not have are removed.

    Args:
        folder: Made if it is not there.
        inputs: The results of a run.

    Returns:
        The document that report.json holds: schema 2, mIoU as fractions, null for what is undefined.
    """
    from scenepalette.pipeline.report.figures import draw_figures, figure_to_png  # with matplotlib, slow to import
    from scenepalette.pipeline.report.sections.study_figures import draw_curve

    comparison = compare_inputs(inputs)
    arms = comparison.arms
    figures: list[dict[str, str]] = []
    images: dict[str, bytes] = {}
    for drawing in (*draw_figures(inputs, arms), *draw_curve(inputs.curve)):
        file = f"figures/{drawing.file}"
        images[file] = figure_to_png(drawing.figure)
        write_atomically(folder / file, images[file])
        figures.append({"file": file, "section": drawing.section, "title": drawing.title, "caption": drawing.caption})
    for path in (folder / "figures").glob("*.png"):
        if f"figures/{path.name}" not in images:
            path.unlink()
    document = build_document(inputs, comparison, figures)
    write_page(folder, "report", report_page(document), document, images)
    return document


def compare_inputs(inputs: ReportInputs) -> Comparison:
    """Compare the arms of a report."""
    return compare(
        inputs.arms,
        inputs.table.eval_ids,
        inputs.bootstrap_samples,
        inputs.seed,
        blocks=inputs.blocks,
        rare_ids=inputs.rare_ids,
        treatments=inputs.treatments,
        controls=inputs.controls,
    )


def build_document(
    inputs: ReportInputs, comparison: Comparison, figures: Sequence[Mapping[str, str]]
) -> dict[str, Any]:
    """Gather schema 2 from the results; plain JSON values, nan and infinities as None."""
    table, arms = inputs.table, comparison.arms
    images = len(inputs.arms[0].confusion)
    by_name = {arm.name: arm for arm in arms}
    on_validation = compare_on_validation(inputs)
    validation = inputs.arms[0].validation
    shares = [
        dict(zip(table.names, _truth_shares(confusion), strict=True))
        for confusion in (inputs.arms[0].confusion, inputs.arms[0].confusion if validation is None else validation)
    ]

    def miou(confusion: np.ndarray, name: str) -> dict[str, Any]:
        return estimate_miou(confusion, table.eval_ids, inputs.bootstrap_samples, inputs.seed, name).to_dict()

    document = {
        "schema": SCHEMA,
        "dataset": {
            "name": inputs.dataset["name"],
            "classes": table.names,
            "eval_classes": [table.names[index] for index in table.eval_ids],
            "train": inputs.dataset["train"],
            "val": inputs.dataset["val"],
            "test": inputs.dataset.get("test"),
            "size": inputs.dataset["size"],
            **({"resolution": inputs.dataset["resolution"]} if "resolution" in inputs.dataset else {}),
            "licence": inputs.dataset.get("licence"),
            "evaluated_on": inputs.evaluated_on,
            "val_class_shares": shares[1],
            "split": {**reported_split(inputs), "class_shares": shares[0]},
            "rare_classes": [table.names[index] for index in inputs.rare_ids],
            **_pixels(inputs),
        },
        "primary": None if comparison.primary is None else _primary(comparison.primary, table.names),
        "smallest_gain": inputs.smallest_gain,
        "hourly_price": inputs.hourly_price,
        "costs": {name: _cost(cost, inputs.hourly_price) for name, cost in inputs.costs.items()},
        "arms": [
            {
                **_arm(arm, table.names, inputs),
                "validation_miou": on_validation[arm.name].miou.to_dict() if on_validation else None,
            }
            for arm in arms
        ],
        "extra_tests": extra_tests(inputs),
        "gan_train": {kind: by_name[name].miou.to_dict() for kind, name in inputs.gan_train.items()},
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
            "reached": {kind: reached_by_class(values, table) for kind, values in inputs.palette_reached.items()},
        },
        **{part: _measured(inputs.metrics, part, table) for part in PARTS},
        "metrics": rows_of_report(),
        "metric_problems": METRICS.problems(),
        "class_shares": {
            name: dict(zip(table.names, shares, strict=True)) for name, shares in inputs.class_shares.items()
        },
        **({"quality": inputs.quality} if inputs.quality else {}),
        **({"curve": inputs.curve} if inputs.curve else {}),
        **({"loop": {key: inputs.loop[key] for key in SHOWN_OF_LOOP}} if inputs.loop else {}),
        "memorisation": {kind: copy_document(check) for kind, check in inputs.copy_checks.items()},
        "training": {name: summary_of_log(read_metrics(path)) for name, path in inputs.training_logs.items()},
        "convergence": _convergence(inputs),
        "durations": inputs.durations,
        "bootstrap": {
            "samples": inputs.bootstrap_samples,
            "seed": inputs.seed,
            "level": LEVEL,
            "images": images,
            "blocks": images if inputs.blocks is None else len(np.unique(inputs.blocks)),
            "seeds_resampled": all(len(set(arm.seeds)) > 1 for arm in arms),
            "arms_with_one_seed": [arm.name for arm in arms if len(set(arm.seeds)) == 1],
            "generator_seeds": sorted({seed for arm in arms for seed in arm.generator_seeds if seed is not None}),
        },
        "pooled": {"runs": inputs.pooled_runs, "notes": inputs.pooling_notes} if inputs.pooled_runs else None,
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


def _arm(arm: ArmStatistics, class_names: tuple[str, ...], inputs: ReportInputs) -> dict[str, Any]:
    kind = next(run.kind for run in inputs.arms if run.name == arm.name)
    return {
        "name": arm.name,
        "description": arm.description,
        "seeds": arm.seeds,
        "generator_seeds": arm.generator_seeds,
        "steps": arm.steps,
        "images_per_step": arm.images_per_step,
        "images": None if arm.images_per_step is None else arm.steps * arm.images_per_step,
        "pairs": None if kind is None else _pairs(inputs, kind),
        "miou": arm.miou.to_dict(),
        "miou_all": arm.miou_all.to_dict(),
        "miou_rare": arm.miou_rare.to_dict(),
        "per_class": {
            name: {**estimate.to_dict(), "delta_vs_real": delta.to_dict()}
            for name, estimate, delta in zip(class_names, arm.per_class, arm.per_class_delta, strict=True)
        },
        "delta_vs_real": arm.delta.to_dict(),
        "delta_all_vs_real": arm.delta_all.to_dict(),
        "delta_rare_vs_real": arm.delta_rare.to_dict(),
        "p_value": arm.p_value,
        "p_adjusted": arm.p_adjusted,
        "verdict": arm.verdict,
    }


def _pairs(inputs: ReportInputs, kind: str) -> dict[str, Any]:
    count, chosen = inputs.pairs.get(kind), inputs.candidates > 1
    selected = {"candidates": inputs.candidates, "folder": f"selected/{kind}"} if chosen else {}
    return {"kind": kind, "count": count, **selected}


def _primary(primary: PrimaryContrast, class_names: tuple[str, ...]) -> dict[str, Any]:
    values = {field.name: getattr(primary, field.name) for field in fields(primary)}
    return {
        **values,
        "miou": primary.miou.to_dict(),
        "miou_rare": primary.miou_rare.to_dict(),
        "per_class": {name: each.to_dict() for name, each in zip(class_names, primary.per_class, strict=True)},
    }


def _cost(cost: ArmCost, hourly_price: float | None) -> dict[str, Any]:
    parts = asdict(cost)
    seconds = sum(value for value in parts.values() if not math.isnan(value))
    return {**parts, "seconds": seconds, "price": None if hourly_price is None else seconds / 3600 * hourly_price}


def _pixels(inputs: ReportInputs) -> dict[str, Any]:
    """What is known of the pixels of each class, in training and in the reported images."""
    names, train = inputs.table.names, inputs.train_pixels
    real = np.stack([run.confusion.sum(axis=0) for run in inputs.arms if run.name == REAL_ARM])  # [S, K, K]
    truth = inputs.arms[0].confusion.sum(axis=2)  # [N, K]
    shown = (truth > 0).sum(axis=0)
    return {
        "train_pixels": None if train is None else dict(zip(names, train, strict=True)),
        "train_class_shares": None if train is None else dict(zip(names, train / max(1, train.sum()), strict=True)),
        # In the reported images that show the class; null where none does.
        "pixels_per_image": {
            name: total / count if count else None
            for name, total, count in zip(names, truth.sum(axis=0), shown, strict=True)
        },
        "never_predicted": dict(zip(names, real.sum(axis=(0, 1)) == 0, strict=True)),
    }


def _convergence(inputs: ReportInputs) -> list[dict[str, Any]]:
    """Whether the arm "real" was trained long enough, for each seed whose log has a validation curve."""
    logs = [(run.seed, run.metrics_path) for run in inputs.arms if run.name == REAL_ARM and run.metrics_path]
    curves = [(seed, validation_curve(read_metrics(path))) for seed, path in logs]
    judged = [(seed, *converged(curve)) for seed, curve in curves if curve]
    return [{"seed": seed, "converged": enough, "text": text} for seed, enough, text in judged]


def _measured(metrics: Mapping[str, Any], part: str, table: ClassTable) -> dict[str, Any]:
    """The values of one part with everything measured of them, as `fid`, `fid_absent_because`, `color_distance/car`."""
    names = [name for name in METRICS if METRICS.get(name).of == part]
    values = {key: metrics[key] for name in names for key in keys_of_metric(name, table.names) if key in metrics}
    return {"fid_absent_because": None, **values} if "fid" in values else values


def _truth_shares(confusion: np.ndarray) -> np.ndarray:
    truth = confusion.sum(axis=(0, 2))
    return truth / max(1, truth.sum())
