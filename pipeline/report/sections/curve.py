"""What generated pairs are worth in labelled images, and how many of them are enough: numbers, and what a page says."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from scenepalette.evaluation.contrasts import percentile_interval, tail
from scenepalette.evaluation.label_worth import images_worth, open_interval
from scenepalette.pipeline.report import wording
from scenepalette.pipeline.report.page import Block, Bullets, Cell, Heading, Table, Text, figures_of
from scenepalette.pipeline.report.results import ArmRun
from scenepalette.pipeline.report.statistics import MIOU, Scores

SECTION = "curve"
"""Of the figures that belong to it."""

State = Literal["known", "above", "below", "open", "flat", "undefined"]
"""What is known of a worth: its value; that the curve of real pairs alone ends below it, or begins above it; nothing,
as its interval spans all of that curve; as that curve does not rise beyond noise; or as there is no interval or curve.
"""


@dataclass(frozen=True)
class CurvePoint:
    """What the segmenters of one point are trained on, and how they did.

    Attributes:
        labels: Fraction of the real pairs.
        images: Their number.
        dose: Generated pairs as a multiple of those that arms take; 0 for none.
        pairs: Their number.
        runs: A run for each seed; all of one name, which no other point has.
    """

    labels: float
    images: int
    dose: float
    pairs: int
    runs: Sequence[ArmRun]

    @property
    def name(self) -> str:
        """The name of its runs."""
        return self.runs[0].name


def to_percent(fraction: float) -> str:
    """0.25 -> "25"."""
    return f"{100 * fraction:g}"


def curve_document(
    *,
    arm: str,
    kind: str,
    control: str,
    points: Sequence[CurvePoint],
    eval_ids: Sequence[int],
    blocks: np.ndarray | None,
    bootstrap_samples: int,
    seed: int,
    evaluated_on: str,
    seconds: float,
    judged: bool,
) -> dict[str, Any]:
    """Compare the points of a curve; JSON values, with None for what is undefined.

    Args:
        arm: The arm with generated pairs.
        kind: Kind of its pairs.
        control: The arm without generated pairs.
        points: Real pairs alone (dose 0) and with generated pairs (dose 1) for each part of the real pairs, and further
            doses for all of them; every point has runs of the same seeds.
        eval_ids: Class ids of mIoU.
        blocks: Block of consecutive frames of each image; None if images are independent.
        bootstrap_samples: Resamples behind every interval.
        seed: Seed of the resampling.
        evaluated_on: Name of the split that confusions are of.
        seconds: What the trainings and pairs took that the run itself does not have.
        judged: Whether the arm trusts teachers.
    """
    scores = Scores([run for point in points for run in point.runs], eval_ids, (), blocks, bootstrap_samples, seed)
    alone = sorted((point for point in points if not point.dose), key=lambda point: point.images)
    beside = {point.labels: point for point in points if point.dose == 1}
    doses = sorted((point for point in points if point.dose and point.labels == 1), key=lambda point: point.dose)
    everything, smallest = alone[-1], alone[0]
    rise = _difference(scores, everything, smallest)
    low, _ = rise["ci95"]
    rises = low is not None and low > 0
    first = points[0].runs
    return {
        "arm": arm,
        "kind": kind,
        "control": control,
        "judged": judged,
        "evaluated_on": evaluated_on,
        "seeds": [run.seed for run in first],
        "recordings": blocks is not None,
        "steps": first[0].steps,
        "images_per_step": first[0].images_per_step,
        "rise": rise,
        "labels": [
            {
                "fraction": point.labels,
                "images": point.images,
                "pairs": beside[point.labels].pairs,
                "real": _estimate(scores, point),
                "arm": _estimate(scores, beside[point.labels]),
                "delta": _difference(scores, beside[point.labels], point),
                "worth": _worth(scores, alone, point, beside[point.labels], rises),
            }
            for point in alone
        ],
        "doses": [
            {
                "dose": point.dose,
                "pairs": point.pairs,
                "miou": _estimate(scores, point),
                "delta_vs_real": _difference(scores, point, everything),
            }
            for point in doses
        ],
        "dose_range": _difference(scores, doses[-1], doses[0]),
        "seconds": seconds,
    }


def _worth(
    scores: Scores, alone: Sequence[CurvePoint], point: CurvePoint, beside: CurvePoint, rises: bool
) -> dict[str, Any]:
    """Return how many labelled images a point with generated pairs is worth.

    An end of its interval is None where it is open: fewer than the fewest images, or more than all.
    """
    images = [each.images for each in alone]
    curve = np.stack([scores.samples[each.name][:, MIOU] for each in alone], axis=1)  # [R, P]
    reached = scores.samples[beside.name][:, MIOU]
    exact = np.array([[scores.mean(each.name)[MIOU] for each in alone]])
    value = float(images_worth(images, exact, scores.mean(beside.name)[MIOU : MIOU + 1])[0])
    beyond = float(np.atleast_1d(tail(scores.degrees(beside.name, point.name)[MIOU]))[0])
    low, high = open_interval(images_worth(images, curve, reached), beyond)
    state: State = "known"
    if len(alone) == 1 or math.isnan(value) or math.isnan(low):
        state = "undefined"
    elif not rises:
        state = "flat"
    elif low == -math.inf and high == math.inf:
        state = "open"
    elif math.isinf(value):
        state = "above" if value > 0 else "below"
    if state in ("flat", "undefined"):
        low, high = -math.inf, math.inf
    return {
        "state": state,
        "images": value if state == "known" else None,
        "ci95": [_defined(min(low, images[-1])), _defined(max(high, images[0]))],
    }


def _estimate(scores: Scores, point: CurvePoint) -> dict[str, Any]:
    low, high = percentile_interval(scores.samples[point.name], scores.degrees(point.name))
    return {
        "values": [_defined(value) for value in scores.exact[point.name][:, MIOU]],
        "mean": _defined(scores.mean(point.name)[MIOU]),
        "ci95": [_defined(low[MIOU]), _defined(high[MIOU])],
    }


def _difference(scores: Scores, point: CurvePoint, other: CurvePoint) -> dict[str, Any]:
    low, high = scores.interval(point.name, other.name)
    mean = scores.mean(point.name)[MIOU] - scores.mean(other.name)[MIOU]
    return {"mean": _defined(mean), "ci95": [_defined(low[MIOU]), _defined(high[MIOU])]}


def _defined(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def curve_sentences(curve: Mapping[str, Any]) -> list[str]:
    """Return what the result of `curve_document` says of labels, then of doses."""
    one_seed = f" ({wording.ONE_SEED})" if len(curve["seeds"]) == 1 else ""
    first, last = curve["labels"][0], curve["labels"][-1]
    states = {entry["worth"]["state"] for entry in curve["labels"]}
    sentences = []
    if len(curve["labels"]) == 1:
        pass  # there is no curve of real pairs alone
    elif "undefined" in states:
        sentences.append(
            "How many labelled images generated pairs are worth is not known: one seed and one block of images leave "
            "no interval."
        )
    elif "flat" in states:
        rise = curve["rise"]
        sentences.append(
            f"How many labelled images generated pairs are worth is not known: from {first['images']:,} to "
            f"{last['images']:,} real images alone, mIoU changes by {wording.estimated(rise)} points "
            f"{wording.interval(rise, signed=True)}, which is within noise{one_seed}."
        )
    else:
        sentences += [f"{_worth_sentence(entry, curve)}{one_seed}." for entry in curve["labels"]]
    if len(curve["doses"]) > 1:
        few, many, change = curve["doses"][0], curve["doses"][-1], curve["dose_range"]
        mark = wording.direction(change)
        found = {"▲": "more of them help", "▼": "more of them harm"}.get(mark, "no difference that can be shown")
        sentences.append(
            f"From {few['pairs']:,} to {many['pairs']:,} generated pairs with all {last['images']:,} real ones, mIoU "
            f"changes by {wording.estimated(change)} points {wording.interval(change, signed=True)}: "
            f"{found}{one_seed}."
        )
    return sentences


def _worth_sentence(entry: Mapping[str, Any], curve: Mapping[str, Any]) -> str:
    """Say what real images with generated pairs are worth, without a full stop."""
    first, last = curve["labels"][0]["images"], curve["labels"][-1]["images"]
    worth, images = entry["worth"], f"{entry['images']:,}"
    subject = f"{images} real images with {entry['pairs']:,} generated {curve['kind']} pairs"
    shown = bool(wording.direction(entry["delta"]))
    between = _between(worth, first, last, "fewer than ", "more than ", " to ")
    if worth["state"] == "known":
        text = f"{subject} are worth {worth['images']:,.0f} labelled images (95 % interval: {between})"
        return text if shown else f"{text}, which is no difference from {images} that this evaluation can show"
    if worth["state"] == "open":
        return f"how many labelled images {subject} are worth is not known: noise spans the whole curve ({between})"
    side = f"more than all {last:,}" if worth["state"] == "above" else f"less than the fewest, {first:,}"
    return (
        f"{subject} reach {side} real images alone; how many labelled images that is worth lies outside of the curve "
        f"and is not known (95 % interval: {between})"
    )


def curve_blocks(document: Mapping[str, Any]) -> list[Block]:
    """Return the section; nothing where there is no curve."""
    curve = document.get("curve")
    if not curve:
        return []
    labels, arm = curve["labels"], curve["arm"]
    seeds = len(curve["seeds"])
    learners = "generators and the teachers" if curve["judged"] else "generators"
    partial = len(labels) > 1
    parts = "the beginnings of all recordings" if curve["recordings"] else "a random choice"
    blocks: list[Block] = [Heading("What generated pairs are worth"), Bullets(curve_sentences(curve))]
    if partial:
        blocks += [
            Bullets(
                [
                    f"The {learners} saw all {labels[-1]['images']:,} labels. Generators with fewer would be "
                    f"worse: what is said of fewer images flatters generated pairs. A run of its own with --set "
                    f"data.train_part={labels[0]['fraction']:g} trains everything on the same {labels[0]['images']:,} "
                    "images alone, and shows what so many labels really give."
                ],
                title="Before quoting these numbers",
            ),
            Table(
                (
                    "Real images",
                    "Real alone, mIoU % [95 %]",
                    f"{arm}, mIoU % [95 %]",
                    "Difference, points [95 %]",
                    "Generated pairs",
                    "Worth in labelled images [95 %]",
                ),
                [
                    (
                        f"{entry['images']:,} ({to_percent(entry['fraction'])} %)",
                        _cell(entry["real"]),
                        _cell(entry["arm"]),
                        _signed(entry["delta"]),
                        f"{entry['pairs']:,}",
                        _worth_cell(entry["worth"], labels),
                    )
                    for entry in labels
                ],
                numeric=range(1, 6),
            ),
        ]
    if len(curve["doses"]) > 1:
        blocks.append(
            Table(
                ("Generated pairs", "Dose", f"{arm}, mIoU % [95 %]", "Against real alone, points [95 %]"),
                [
                    (f"{each['pairs']:,}", f"{each['dose']:g}", _cell(each["miou"]), _signed(each["delta_vs_real"]))
                    for each in curve["doses"]
                ],
                numeric=range(4),
            )
        )
    blocks += figures_of(document, SECTION)
    blocks.append(
        Text(
            f"Real alone is the arm {curve['control']}. "
            f"Every point takes {curve['steps']:,} steps of {curve['images_per_step']} images, with {seeds} "
            f"{'seed' if seeds == 1 else 'paired seeds'}; a dose changes how many generated pairs there are to draw "
            f"from, not their share of a batch. Parts of the real pairs are {parts}, and each is inside the next. "
            "Worth is interpolated over the logarithm of the number of images. Intervals are not "
            f"corrected for the number of points. All numbers are of {curve['evaluated_on']} images; the curve took "
            f"{wording.duration(curve['seconds'])} beside the run."
        )
    )
    return blocks


def _cell(estimate: Mapping[str, Any]) -> Cell:
    return Cell(wording.percent(estimate["mean"]), wording.interval(estimate))


def _signed(difference: Mapping[str, Any]) -> Cell:
    style = wording.STYLES.get(wording.direction(difference), "same")
    return Cell(wording.estimated(difference), wording.interval(difference, signed=True), style)


def _worth_cell(worth: Mapping[str, Any], labels: Sequence[Mapping[str, Any]]) -> Cell | str:
    first, last = labels[0]["images"], labels[-1]["images"]
    if worth["state"] == "known":
        return Cell(f"{worth['images']:,.0f}", f"[{_between(worth, first, last, '< ', '> ', ', ')}]")
    if worth["state"] in ("above", "below"):
        return Cell("not known", f"[{_between(worth, first, last, '< ', '> ', ', ')}]")
    return "not known" if worth["state"] == "undefined" else "not known: within noise"


def _between(worth: Mapping[str, Any], first: int, last: int, below: str, above: str, to: str) -> str:
    """Return the interval of a worth as text, on a curve from the first to the last number of images."""
    low, high = worth["ci95"]
    if low is not None and low >= last:
        return f"{above}{last:,}"
    if high is not None and high <= first:
        return f"{below}{first:,}"
    lowest = f"{below}{first:,}" if low is None else f"{low:,.0f}"
    return f"{lowest}{to}{f'{above}{last:,}' if high is None else f'{high:,.0f}'}"
