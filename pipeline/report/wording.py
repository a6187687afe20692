"""What the numbers of a report mean, in sentences; shared by the Markdown and the HTML form.

Every function reads the document of `scenepalette.pipeline.report.document`, so that a report can be worded again
from report.json.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from scenepalette.pipeline.report.results import LONGER_ARM, REAL_ARM
from scenepalette.pipeline.report.statistics import ROUNDING, UNDECIDED
from scenepalette.training.monitor import COLLAPSES, SAME_IMAGE

NO_VALUE = "\N{EN DASH}"
SMALLEST_P = 0.001
STYLES = {"▲": "gains", "▼": "loses"}
"""How a report's page shows what `direction` returns."""
MINUS = "\N{MINUS SIGN}"
# A class below this IoU is not found in any useful sense, and its changes say little.
NOT_FOUND = 0.05
ONE_SEED = "on these images; seed unknown"
# Generator seeds below which their variation is hardly known.
FEW_GENERATORS = 5
# Blocks of frames below which an interval says little of other images.
FEW_BLOCKS = 10
# Pixels of a class in an image that shows it, below which it is lost where features are coarse: 12 x 12.
SMALL_OBJECT = 144
MEASURES = {
    "layout_diversity": "layouts of different samples differ {:.0%} as much as real ones",
    "layout_noise_diversity": "noise alone changes {:.0%} of what real layouts differ in",
    "image_diversity": "images of different layouts differ {:.0%} as much as real ones",
    "image_noise_difference": "noise alone changes an image by {:.1f} of 255 grey levels",
}


SMALLEST_SHOWN = 0.0005
"""Differences below it are 0.0 points in one decimal."""


def percent(fraction: float | None) -> str:
    """0.4312 -> "43.1"; a dash where undefined."""
    return NO_VALUE if fraction is None else f"{100 * fraction:.1f}"


def points(fraction: float | None, apart_from: Sequence[float] = (), from_zero: bool = True) -> str:
    """A difference in percentage points with its sign and a true minus: 0.0123 -> "+1.2".

    Args:
        fraction: The difference.
        apart_from: Values that it must not seem to equal: it gets as many decimals as that takes, so that no reader
            sees an interval reach what it leaves out.
        from_zero: Whether 0 is one of them.
    """
    if fraction is None:
        return NO_VALUE
    if abs(fraction) < (ROUNDING if from_zero else SMALLEST_SHOWN):
        return "0.0"
    others = [other for other in (0.0, *apart_from) if abs(fraction - other) >= ROUNDING]
    decimals = next(
        digits
        for digits in range(1, 13)
        if all(f"{100 * fraction:+.{digits}f}" not in _both(other, digits) for other in others)
    )
    return f"{100 * fraction:+.{decimals}f}".replace("-", MINUS)


def estimated(estimate: Mapping[str, Any], apart_from: Sequence[float] = ()) -> str:
    """The mean of a difference in points; it may be written as 0.0 where its interval holds 0."""
    low, high = estimate["ci95"]
    holds_zero = low is not None and low <= 0 <= high
    return points(estimate["mean"], apart_from, from_zero=not holds_zero)


def _both(fraction: float, digits: int) -> tuple[str, str]:
    """How a value is written, and the same with the other sign where it is zero."""
    text = f"{100 * fraction:+.{digits}f}"
    return text, text if float(text) else text.translate(str.maketrans("+-", "-+"))


def interval(estimate: Mapping[str, Any], signed: bool = False, apart_from: Sequence[float] = ()) -> str:
    """The 95 % interval in percent: "[41.0, 45.2]"; see `points`."""
    low, high = (points(end, apart_from) if signed else percent(end) for end in estimate["ci95"])
    return f"[{low}, {high}]"


def seeds_of_contrast(count: int) -> str:
    """How many seeds two arms share."""
    return {0: "no seed in common", 1: "one seed"}.get(count, f"{count} paired seeds")


def seeds_of(arm: Mapping[str, Any]) -> list[int]:
    """The segmenter seeds of an arm, each once: it has a value for each with each of its generators."""
    return list(dict.fromkeys(arm["seeds"]))


def generator_seeds_of(arm: Mapping[str, Any]) -> list[int]:
    """The seeds of the generators whose pairs an arm took, each once; reports of earlier versions name none."""
    return [seed for seed in dict.fromkeys(arm.get("generator_seeds", [])) if seed is not None]


def design(arm: Mapping[str, Any]) -> str:
    """The trainings of an arm: "5 x 400", or "2 x 5 x 400" where it has several generators."""
    generators = len(generator_seeds_of(arm))
    return f"{f'{generators} x ' if generators > 1 else ''}{len(seeds_of(arm))} x {arm['steps']}"


def verdict_of(arm: Mapping[str, Any], undecided: str = UNDECIDED) -> str:
    """An arm's verdict with what it holds for: with one seed nobody knows what another training would have shown."""
    text = undecided if arm["verdict"] == UNDECIDED else arm["verdict"]
    return f"{text}, {ONE_SEED}" if len(seeds_of(arm)) == 1 and text != "reference" else text


def number(value: float | None) -> str:
    """Three significant digits; a dash where undefined."""
    if value is None:
        return NO_VALUE
    # What is left of sums that cancel is no figure.
    return f"{0.0 if abs(value) < ROUNDING else value:.3g}"


def p_value(value: float | None) -> str:
    """Three significant digits, from one in a thousand on: a bootstrap tells no smaller ones apart."""
    return "< 0.001" if value is not None and value < SMALLEST_P else number(value)


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
    """Arms that add generated pairs to real labels."""
    return [arm for arm in document["arms"] if arm["pairs"] is not None]


def least_miou(document: Mapping[str, Any]) -> float:
    """The mIoU of predicting the most frequent class everywhere; pixels of classes that do not count are left out."""
    dataset = document["dataset"]
    of_split = dataset.get("split", {}).get("class_shares") or dataset["val_class_shares"]
    shares = [share for name in dataset["eval_classes"] if (share := of_split[name])]
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
        return f"On {name}, real data alone reach mIoU {real}; no arm added generated pairs to them."
    gains = [arm for arm in arms if arm["verdict"] == "gains"]
    loses = sum(arm["verdict"] == "loses" for arm in arms)
    best = max(gains or arms, key=lambda arm: arm["delta_vs_real"]["mean"] or 0.0)
    delta = best["delta_vs_real"]
    single = f" All this {ONE_SEED}." if all(len(seeds_of(arm)) == 1 for arm in arms) else ""
    if len(arms) == 1:
        saying = {"gains": "gains over", "loses": "loses against"}.get(
            best["verdict"], "shows no difference that this evaluation can show from"
        )
        gain = f"{estimated(delta)} points of mIoU {interval(delta, signed=True)}"
        return f"On {name}, {best['name']} {saying} real data alone: {gain}.{single}"
    sentence = (
        f"On {name}, of {len(arms)} arms that add generated pairs to real labels (mIoU of real alone {real}), "
        f"{len(gains)} {'gains' if len(gains) == 1 else 'gain'}, {loses} {'loses' if loses == 1 else 'lose'}, and for "
        f"{len(arms) - len(gains) - loses} this evaluation can show no difference."
    )
    if gains:
        sentence += f" Largest gain: {best['name']}, {estimated(delta)} points {interval(delta, signed=True)}."
    return sentence + single


def findings(document: Mapping[str, Any]) -> list[str]:
    """One sentence per arm, then what the generated data can do by themselves."""
    deltas = [(arm, arm["delta_vs_real"]) for arm in augmentation_arms(document)]
    sentences = [
        f"{arm['name']}: {verdict_of(arm)} ({estimated(delta)} points of mIoU against real, 95 % interval "
        f"{interval(delta, signed=True)}{_adjusted(arm)})."
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
    if difference is not None and difference < SAME_IMAGE:
        sentences.append(
            f"Different noise changes an image by only {number(difference)} of 255 grey levels: one layout gives "
            "nearly one image."
        )
    return sentences


def cautions(document: Mapping[str, Any]) -> list[str]:
    """What to keep in mind before acting on the verdicts."""
    arms, bootstrap, aic = document["arms"], document["bootstrap"], document["palettes"]["aic"]
    real, compared = arm_named(document, REAL_ARM), len(arms) - 1
    primary = document.get("primary")
    # A primary contrast that these images did not choose is in no family; against real, it is one of these comparisons.
    family = compared - bool(primary and primary["control"] == REAL_ARM and primary["chosen_on"] != "these images")
    real_images, real_classes = real["images_per_step"], real["per_class"]
    single = bootstrap["arms_with_one_seed"]
    few = [arm["name"] for arm in arms if 1 < len(seeds_of(arm)) < 5]
    generators = {arm["name"]: generator_seeds_of(arm) for arm in arms if generator_seeds_of(arm)}
    one_generator = [name for name, seeds in generators.items() if len(seeds) == 1]
    few_generators = [name for name, seeds in generators.items() if 1 < len(seeds) < FEW_GENERATORS]
    unequal = [arm["name"] for arm in arms if arm["steps"] != real["steps"] and arm["name"] != LONGER_ARM]
    more = [arm["name"] for arm in arms if (arm["images_per_step"] or 0) > (real_images or math.inf)]
    short = [entry for entry in document.get("convergence", []) if not entry["converged"]]
    iou = {name: real_classes[name]["mean"] for name in document["dataset"]["eval_classes"]}
    lost = [name for name, value in iou.items() if value is not None and value < NOT_FOUND]
    images, split = bootstrap["images"], document["dataset"].get("evaluated_on", "validation")
    blocks = bootstrap.get("blocks", images)
    if blocks == 1:
        of_images = (
            f"All {images} {split} images are frames of one short recording: no interval shows how other images would "
            "have come out."
        )
    elif blocks < images:
        of_images = (
            f"The {images} {split} images are frames of recordings and count as {blocks} blocks of consecutive frames. "
            + ("So few say little of other images. " if blocks < FEW_BLOCKS else "")
            + "Another place or day may differ more than any interval here."
        )
    else:
        of_images = (
            f"The {images} {split} images are resampled as independent of each other. Another place or day may differ "
            "more than any interval here."
        )
    sentences = [
        (
            single,
            f"{_subject(single, arms, 'was', 'were')} trained with one seed: the interval holds the variation over "
            f"{split} images only, not that of another training run, which is often 1 to 2 points of mIoU. Train more "
            "seeds before acting on a small difference.",
        ),
        (
            few,
            f"{_subject(few, arms, 'has', 'have')} fewer than five seeds: the variation between trainings is itself "
            "known only roughly.",
        ),
        (
            one_generator,
            f"{_takers(one_generator, generators)} pairs of generators that were trained once: "
            "no interval holds how generators of another seed would have come out. Run it all again with another seed, "
            "and name that run in report.runs.",
        ),
        (
            few_generators,
            f"{_takers(few_generators, generators)} pairs of generators of "
            f"{max((len(seeds) for seeds in generators.values()), default=0)} seeds: intervals hold that generators "
            "differ, but how much they do is hardly known from so few.",
        ),
        *((True, note) for note in (document.get("pooled") or {}).get("notes", [])),
        (True, of_images),
        (
            compared > 1,
            f"Intervals of arms and classes are each taken alone at 95 %; verdicts are corrected for {family} "
            f"arm{'' if family == 1 else 's'} (Holm), arrows and colours of classes are not: read those as hints.",
        ),
        (
            unequal,
            f"Not the same training budget: {listing(unequal)} trained for other numbers of steps than real "
            f"({real['steps']}).",
        ),
        (
            more,
            f"Steps are equal, images are not: {listing(more)} draw a real and a generated batch per step, more "
            f"images than the {real_images} of real. A part of a gain may come from that alone.",
        ),
        (
            short,
            f"The real arm was still improving when its training ended ({_curves(short)}). A gain over it may be one "
            "that more steps on real images give as well: raise segmenters.steps, or compare with the arm real-long.",
        ),
        (
            lost,
            f"The real arm hardly finds {listing(lost)} (IoU below {percent(NOT_FOUND)}): these classes weigh in mIoU "
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
    for row in document["metrics"]:
        values, key = document[row["of"]], row["key"]
        if key in values:
            value = f"{metric_value(values[key], row['scale'])} {row['unit']}".strip()
            meaning = f"{row['meaning']} {values.get(f'{key}_absent_because') or ''}".strip()
            rows.append((row["title"], "absent" if values[key] is None else value, row["better"], meaning))
    return rows


def training(document: Mapping[str, Any]) -> list[str]:
    """One sentence or more per training of a generator, and one if the real arm was trained long enough."""
    sentences = []
    curves = document.get("convergence", [])
    if curves and all(entry["converged"] for entry in curves):
        sentences.append(f"The real arm had converged ({_curves(curves)}).")
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


def _curves(entries: Sequence[Mapping[str, Any]]) -> str:
    return "; ".join(f"seed {entry['seed']}: {entry['text']}" for entry in entries)


def method(document: Mapping[str, Any]) -> str:
    """How the intervals were made."""
    bootstrap, blocks = document["bootstrap"], document["bootstrap"]["blocks"]
    units = f"{blocks} blocks of consecutive frames" if blocks < bootstrap["images"] else f"{blocks} images"
    count = len(bootstrap.get("generator_seeds", []))
    generators = f" of the {count} generator seeds of arms that take generated pairs," if count > 1 else ""
    return (
        f"mIoU is computed over all pixels of the {document['dataset']['evaluated_on']} split, once per seed; its mean "
        "over seeds is given. "
        f"Brackets are 95 % intervals of a bootstrap with {bootstrap['samples']} resamples of the {units}, the same "
        f"ones for all arms,{generators} and of the seeds, drawn in pairs where arms have the same; "
        "they are widened for how few of these there are. An arm "
        "gains or loses only where the interval of its difference from real leaves out zero and the p-value, adjusted "
        f"for the number of arms by Holm's procedure, is below 0.05.{_of_primary(document)}"
    )


def _of_primary(document: Mapping[str, Any]) -> str:
    """What the correction is for the primary contrast, by what chose its arms; nothing where there is none."""
    primary = document.get("primary")
    if primary is None:
        return ""
    return {
        "nothing": " The primary contrast was named before the run and is not adjusted.",
        "validation": " The arms of the primary contrast were chosen on other images; it is not adjusted.",
        "these images": " The arms of the primary contrast were chosen on these images; its interval on page one is "
        "widened for the choice.",
    }[primary["chosen_on"]]


def _subject(names: Sequence[str], arms: Sequence[Any], one: str, many: str) -> str:
    """Arms as the subject of a sentence: "Every arm was", "syn was", "real and syn were"."""
    if len(names) == len(arms):
        return f"Every arm {one}"
    return f"{listing(names)} {one if len(names) == 1 else many}"


def _takers(names: Sequence[str], all_takers: Collection[str]) -> str:
    """The same of arms that take generated pairs, where others do not."""
    if len(names) == len(all_takers):
        return "Every arm with generated pairs has"
    return f"{listing(names)} {'has' if len(names) == 1 else 'have'}"


def _adjusted(arm: Mapping[str, Any]) -> str:
    """The p-value where it says other than the interval alone."""
    low, high = arm["delta_vs_real"]["ci95"]
    alone = low is not None and (low > 0 or high < 0)
    if not alone or arm["verdict"] in ("gains", "loses"):
        return ""
    return f"; not after Holm's correction, p = {p_value(arm['p_adjusted'])}"


def listing(names: Sequence[str], limit: int = 8) -> str:
    """Names as a part of a sentence: "a, b and c"."""
    shown, others = list(names[:limit]), len(names) - limit
    if others > 0:
        return f"{', '.join(shown)} and {others} more"
    return " and ".join([", ".join(shown[:-1]), *shown[-1:]]) if len(shown) > 1 else "".join(shown)
