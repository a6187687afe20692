"""What the numbers of a report mean, in sentences; shared by the Markdown and the HTML form.

Every function reads the document of `scenepalette.pipeline.report.document`, so that a report can be worded again
from report.json.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from scenepalette.evaluation.registry import rows_of_report
from scenepalette.pipeline.report.results import REAL_ARM
from scenepalette.training.monitor import COLLAPSES, SAME_PICTURE

NO_VALUE = "\N{EN DASH}"
ROUNDING = 1e-12  # of double precision, with room
MINUS = "\N{MINUS SIGN}"
# A class below this IoU is not found in any useful sense, and its changes say little.
NOT_FOUND = 0.05
MEASURES = {
    "layout_diversity": "layouts of different samples differ {:.0%} as much as real ones",
    "layout_noise_diversity": "noise alone changes {:.0%} of what real layouts differ in",
    "image_diversity": "images of different layouts differ {:.0%} as much as real ones",
    "image_noise_difference": "noise alone changes an image by {:.1f} of 255 grey levels",
}


def percent(fraction: float | None) -> str:
    """0.4312 -> "43.1"; a dash where undefined."""
    return NO_VALUE if fraction is None else f"{100 * fraction:.1f}"


def points(fraction: float | None) -> str:
    """A difference in percentage points with its sign and a true minus: 0.0123 -> "+1.2"."""
    if fraction is None:
        return NO_VALUE
    text = f"{100 * fraction:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", MINUS)


def interval(estimate: Mapping[str, Any], signed: bool = False) -> str:
    """The 95 % interval in percent: "[41.0, 45.2]"."""
    low, high = estimate["ci95"]
    show = points if signed else percent
    return f"[{show(low)}, {show(high)}]"


def number(value: float | None) -> str:
    """Three significant digits; a dash where undefined."""
    if value is None:
        return NO_VALUE
    # What is left of sums that cancel is no figure.
    return f"{0.0 if abs(value) < ROUNDING else value:.3g}"


def metric_value(value: float | None, scale: float) -> str:
    """A metric as tables show it: fractions in percent, others with three digits."""
    return percent(value) if scale == 100 else number(value)


def duration(seconds: float | None) -> str:
    """4000 -> "1 h 07 min"."""
    if seconds is None:
        return NO_VALUE
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def arm_named(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The entry of an arm."""
    return next(arm for arm in document["arms"] if arm["name"] == name)


def augmentation_arms(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Arms set against real data: all but "real" itself and those of GAN-train, which see no real data."""
    apart = {REAL_ARM, *document["gan_train_arms"].values()}
    return [arm for arm in document["arms"] if arm["name"] not in apart]


def least_miou(document: Mapping[str, Any]) -> float:
    """The mIoU of predicting the most frequent class everywhere; pixels of classes that do not count are left out."""
    dataset = document["dataset"]
    shares = [share for name in dataset["eval_classes"] if (share := dataset["val_class_shares"][name])]
    return max(shares) / sum(shares) / len(shares) if shares else 0.0


def direction(difference: Mapping[str, Any]) -> str:
    """An arrow where the interval lies on one side of zero, else nothing."""
    low, high = difference["ci95"]
    if low is not None and low > 0:
        return "▲"
    return "▼" if high is not None and high < 0 else ""


def headline(document: Mapping[str, Any]) -> str:
    """The result in one sentence or two."""
    arms = augmentation_arms(document)
    name, real = document["dataset"]["name"], percent(arm_named(document, REAL_ARM)["miou"]["mean"])
    if not arms:
        return f"On {name}, real data alone reach mIoU {real}; no other arm was set against them."
    gains = [arm for arm in arms if arm["verdict"] == "gains"]
    loses = sum(arm["verdict"] == "loses" for arm in arms)
    best = max(gains or arms, key=lambda arm: arm["delta_vs_real"]["mean"] or 0.0)
    delta = best["delta_vs_real"]
    if len(arms) == 1:
        saying = {"gains": "gains over", "loses": "loses against"}.get(
            best["verdict"], "shows no difference that this evaluation can show from"
        )
        gain = f"{points(delta['mean'])} points of mIoU {interval(delta, signed=True)}"
        return f"On {name}, {best['name']} {saying} real data alone: {gain}."
    sentence = (
        f"On {name}, of {len(arms)} arms set against real data alone (mIoU {real}), {len(gains)} "
        f"{'gains' if len(gains) == 1 else 'gain'}, {loses} {'loses' if loses == 1 else 'lose'}, and for "
        f"{len(arms) - len(gains) - loses} this evaluation can show no difference."
    )
    if gains:
        sentence += f" Largest gain: {best['name']}, {points(delta['mean'])} points {interval(delta, signed=True)}."
    return sentence


def findings(document: Mapping[str, Any]) -> list[str]:
    """One sentence per arm, then what the generated data can do by themselves."""
    deltas = [(arm, arm["delta_vs_real"]) for arm in augmentation_arms(document)]
    sentences = [
        f"{arm['name']}: {arm['verdict']} ({points(delta['mean'])} points of mIoU, 95 % interval "
        f"{interval(delta, signed=True)})."
        for arm, delta in deltas
    ]
    real, least = arm_named(document, REAL_ARM)["miou"]["mean"], least_miou(document)
    for kind, estimate in document["gan_train"].items():
        if real is None or estimate["mean"] is None:
            continue
        reached = f"A segmenter that sees only {kind} pairs reaches {percent(estimate['mean'])} on real images"
        if real < least + ROUNDING:
            sentences.append(
                f"{reached}. The real arm learned too little for a comparison to mean anything: its {percent(real)} is "
                f"no more than the {percent(least)} of predicting the most frequent class everywhere."
            )
        else:
            share = estimate["mean"] / real
            verdict = ": as much as real data or more" if share >= 1.0 else ""
            if share < 0.5:
                verdict = ": less than half, so these pairs cannot stand in for real data"
            sentences.append(f"{reached}, {100 * share:.0f} % of the real arm's {percent(real)}{verdict}.")
    test_real = document["gan_test_real"]["mean"] or 0.0
    sentences += [
        f"The segmenter trained on real data reaches {percent(estimate['mean'])} on {kind} pairs, less than half of "
        f"its {percent(test_real)} on real images: these images often do not show what their labels say."
        for kind, estimate in document["gan_test"].items()
        if estimate["mean"] is not None and test_real > least + ROUNDING and estimate["mean"] < 0.5 * test_real
    ]
    difference = document["noise"]["mean_absolute_difference"]
    if difference is not None and difference < SAME_PICTURE:
        sentences.append(
            f"Different noise changes an image by only {number(difference)} of 255 grey levels: one layout gives "
            "nearly one image."
        )
    return sentences


def cautions(document: Mapping[str, Any]) -> list[str]:
    """What to keep in mind before acting on the verdicts."""
    arms, bootstrap, aic = document["arms"], document["bootstrap"], document["palettes"]["aic"]
    real, compared = arm_named(document, REAL_ARM), len(augmentation_arms(document))
    real_images, real_classes = real["images_per_step"], real["per_class"]
    single = bootstrap["arms_with_one_seed"]
    few = [arm["name"] for arm in arms if 1 < len(arm["seeds"]) < 5]
    unequal = [arm["name"] for arm in arms if arm["steps"] != real["steps"]]
    more = [arm["name"] for arm in arms if (arm["images_per_step"] or 0) > (real_images or math.inf)]
    iou = {name: real_classes[name]["mean"] for name in document["dataset"]["eval_classes"]}
    lost = [name for name, value in iou.items() if value is not None and value < NOT_FOUND]
    sentences = [
        (
            single,
            f"{_subject(single, arms, 'was', 'were')} trained with one seed: the interval holds the variation over "
            "validation images only, not that of another training run, which is often 1 to 2 points of mIoU. Train "
            "more seeds before acting on a small difference.",
        ),
        (
            few,
            f"{_subject(few, arms, 'has', 'have')} fewer than five seeds: the variation between trainings is itself "
            "known only roughly.",
        ),
        (
            True,
            f"The {bootstrap['images']} validation images are resampled as if independent of each other; where they "
            "are frames of the same drives, the true intervals are wider. Another place or day may differ more than "
            "any interval here.",
        ),
        (
            compared > 1,
            f"Each interval is taken alone at 95 %. Among {compared} comparisons about {0.05 * compared:.1f} would "
            "leave out zero by chance if no arm differed, and the largest of several gains is flattered by being "
            "picked.",
        ),
        (
            unequal,
            f"Not the same training budget: {_listing(unequal)} trained for other numbers of steps than real "
            f"({real['steps']}).",
        ),
        (
            more,
            f"Steps are equal, images are not: {_listing(more)} draw a real and a generated batch per step, more "
            f"images than the {real_images} of real. A part of a gain may come from that alone.",
        ),
        (
            lost,
            f"The real arm hardly finds {_listing(lost)} (IoU below {percent(NOT_FOUND)}): these classes weigh in mIoU "
            "as much as any other.",
        ),
        (
            len(aic) > 1 and document["palettes"]["components"] == len(aic),
            f"The palette mixture has the largest number of components that was tried ({len(aic)}): more might fit "
            "better.",
        ),
    ]
    return [sentence for applies, sentence in sentences if applies]


def measures(document: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """The metrics of palettes, layouts and images: name, value, which values are better, what it says."""
    palettes = document["palettes"]
    rows = [
        (
            "Palette components",
            str(palettes["components"]),
            "",
            "Gaussians in the mixture of scene palettes, chosen by the Akaike criterion.",
        )
    ]
    rows += [
        (
            f"Palette KL, {kind}",
            f"{number(mean)} (95 % of rows below {number(palettes['kl_quantiles'][kind]['95%'])})",
            "lower",
            f"How far the class shares of the layouts are from those asked for; mean of {palettes['rows'][kind]} rows.",
        )
        for kind, mean in palettes["kl"].items()
    ]
    # Reports of earlier versions hold the same metrics without naming them.
    for row in document.get("metrics") or rows_of_report():
        values, key = document[row["of"]], row["key"]
        if key in values:
            value = f"{metric_value(values[key], row['scale'])} {row['unit']}".strip()
            meaning = f"{row['meaning']} {values.get(f'{key}_absent_because') or ''}".strip()
            rows.append((row["title"], "absent" if values[key] is None else value, row["better"], meaning))
    return rows


def training(document: Mapping[str, Any]) -> list[str]:
    """One sentence or more per training of a generator: warnings first, then how much its samples differ."""
    sentences = []
    for name, training in document.get("training", {}).items():  # reports of earlier versions have none
        for warning in training["warnings"]:
            when = f"from step {warning['first']}"
            when += " to the end" if warning["at_end"] else f" to {warning['last']}, not at the end"
            sentences.append(f"{name}: {warning['text']} ({when}).")
        if not training["warnings"]:
            sentences.append(
                f"{name}: no sign of a collapse or of a stalled discriminator in {training['steps']} steps."
            )
        measures = [MEASURES[key].format(training["measures"][key]) for key in COLLAPSES if key in training["measures"]]
        if measures:
            text = "; ".join(measures)
            sentences[-1] += f" When last measured, {text}."
    return sentences


def method(document: Mapping[str, Any]) -> str:
    """How the intervals were made."""
    bootstrap = document["bootstrap"]
    return (
        "mIoU is computed over all pixels of the validation split, once per seed; its mean over seeds is given. "
        f"Brackets are 95 % intervals of a bootstrap with {bootstrap['samples']} resamples of the "
        f"{bootstrap['images']} images, the same ones for all arms, and of the seeds of each arm. An arm gains or "
        "loses only where the interval of its difference from real leaves out zero."
    )


def _subject(names: Sequence[str], arms: Sequence[Any], one: str, many: str) -> str:
    """Arms as the subject of a sentence: "Every arm was", "syn was", "real and syn were"."""
    if len(names) == len(arms):
        return f"Every arm {one}"
    return f"{_listing(names)} {one if len(names) == 1 else many}"


def _listing(names: Sequence[str], limit: int = 8) -> str:
    shown, others = list(names[:limit]), len(names) - limit
    if others > 0:
        return f"{', '.join(shown)} and {others} more"
    return " and ".join([", ".join(shown[:-1]), *shown[-1:]]) if len(shown) > 1 else "".join(shown)
