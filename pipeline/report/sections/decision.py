"""What to do with the result of a comparison: adopt the generated pairs, try more seeds, or do not; and why.

Everything is read from the document of `scenepalette.pipeline.report.document`.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from scenepalette.evaluation.contrasts import seeds_to_detect
from scenepalette.pipeline.report.results import LONGER_ARM, REAL_ARM
from scenepalette.pipeline.report.wording import ONE_SEED, arm_named, direction, points, seeds_of_contrast
from scenepalette.pipeline.request import assignment
from scenepalette.pipeline.run_directory.ownership import CONFIG

LEAST_SEEDS = 5
"""Paired seeds from which a result is acted on."""
MOST_SEEDS = 20
"""Paired seeds beyond which nobody is sent."""

Answer = Literal["adopt", "try more seeds", "do not"]


@dataclass(frozen=True)
class Decision:
    """An answer.

    Attributes:
        answer: What to do.
        reason: Why, in a sentence.
        seeds: How many seeds to train every arm with, where more are worth it.
        steps: How many steps to train with, where the real arm has not converged.
    """

    answer: Answer
    reason: str
    seeds: int | None = None
    steps: int | None = None


def decide(document: Mapping[str, Any]) -> Decision:
    """Return what the primary contrast says to do.

    The first of these that applies: there is no contrast; the real arm has not converged; the interval lies below zero;
    there are fewer than five paired seeds; the interval leaves out every gain that is worth it; it lies above zero, by
    enough or not; more seeds could show the gain, or could not.
    """
    primary, least = document["primary"], document["smallest_gain"]
    if primary is None:
        return Decision("do not", "no arm adds generated pairs to real labels, so nothing was tried.")
    real, longer = arm_named(document, REAL_ARM), further_gain(document)
    if longer is not None and still_gains(document):
        gain = points(longer["mean"], (least,))
        return Decision(
            "do not",
            f"not yet: the real arm has not converged, as twice its steps gain it {gain} points. Whatever is added to "
            "an unfinished training seems to help; train all arms longer first.",
            steps=2 * real["steps"],
        )
    unfinished = [entry["text"] for entry in document.get("convergence", []) if not entry["converged"]]
    if longer is None and unfinished:
        return Decision(
            "do not", f"not yet: the real arm has not converged ({unfinished[0]}).", steps=2 * real["steps"]
        )
    mean, (low, high), seeds = primary["miou"]["mean"], primary["miou"]["ci95"], len(primary["seeds"])
    worth = f"{points(least)} points, the smallest gain that counts (report.smallest_gain)"
    if low is None or mean is None:
        return Decision(
            "try more seeds",
            "one training on frames of one recording shows nothing that an interval could be made of.",
            seeds=LEAST_SEEDS,
        )
    if high < 0:
        one_seed = f", {ONE_SEED}" if seeds == 1 else ""
        return Decision("do not", f"the arm {primary['treatment']} is worse than {primary['control']}{one_seed}.")
    if high < least and seeds >= LEAST_SEEDS:
        return Decision("do not", f"the interval leaves out {worth}.")
    if seeds < LEAST_SEEDS:
        held = "promising" if low > 0 else "open"
        return Decision(
            "try more seeds",
            f"the result is {held} with {seeds_of_contrast(seeds)}; at least {LEAST_SEEDS} paired seeds are needed to "
            "tell a gain from the luck of a training.",
            seeds=LEAST_SEEDS,
        )
    if low > 0 and mean >= least:
        return Decision("adopt", f"the interval lies above zero, and the gain reaches {worth}.")
    if low > 0:
        return Decision("do not", f"the gain is there, but below {worth}.")
    wanted = max(least, mean)
    if primary["detectable"] is not None and primary["detectable"] <= wanted:
        return Decision(
            "do not", f"a gain of {points(wanted, (primary['detectable'],))} points would have shown, and none did."
        )
    needed = seeds_to_detect(
        wanted,
        primary["seed_deviation"] or 0.0,
        primary["other_error"] or 0.0,
        MOST_SEEDS,
        generator_error=primary.get("generator_error") or 0.0,
        generators=len(primary.get("generator_seeds", [])),
    )
    if needed is None or needed <= seeds:
        return Decision(
            "do not",
            f"even {MOST_SEEDS} seeds could not show a gain of {points(wanted)} points on these images; "
            f"{_what_could(primary)}.",
        )
    return Decision(
        "try more seeds",
        f"the result is open; {needed} paired seeds would show a gain of {points(wanted)} points with 80 % "
        "probability.",
        seeds=needed,
    )


def further_gain(document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return what the real arm gains from twice its steps, with the interval, or None where that was not tried."""
    return next((arm["delta_vs_real"] for arm in document["arms"] if arm["name"] == LONGER_ARM), None)


def still_gains(document: Mapping[str, Any]) -> bool:
    """Tell whether twice its steps gain the real arm as much as is worth it, and beyond chance."""
    longer = further_gain(document)
    return longer is not None and (longer["mean"] or 0.0) >= document["smallest_gain"] and direction(longer) == "▲"


def _what_could(primary: Mapping[str, Any]) -> str:
    """What would make an error smaller that more seeds of segmenters do not lower."""
    generators, both = primary.get("generator_error") or 0.0, primary["other_error"] or 0.0
    if 2 * generators**2 > both**2:
        return "runs with further generator seeds (report.runs) could"
    return "more test images, from other recordings, could"


def next_command(document: Mapping[str, Any], decision: Decision) -> str | None:
    """Return the command to type next, or None where the report does not say how it was made.

    Runs that are pooled get a line each before it, as they need the same segmenters.
    """
    command, run_dir = (document["provenance"].get(key) for key in ("command", "run_dir"))
    if command is None or run_dir is None:
        return None
    seeds = [seed for arm in document["arms"] if arm["name"] == REAL_ARM for seed in dict.fromkeys(arm["seeds"])]
    pooled = [other for other in (document.get("pooled") or {}).get("runs", {}) if other != run_dir]
    if decision.seeds is not None:
        free = (seed for seed in range(decision.seeds + len(seeds)) if seed not in seeds)
        wanted = ",".join(map(str, [*seeds, *free][: max(decision.seeds, len(seeds))]))
        change = f"--set {shlex.quote(f'segmenters.seeds=[{wanted}]')}"
        others = [f"{_segmenters_of(other)} {change} --out {shlex.quote(other)}" for other in pooled]
        return "\n".join([*others, f"{command} {change}"])
    if decision.steps is not None:
        # Generators are taken over; segmenters of other steps would be refused in the same folder.
        change = f"--set segmenters.steps={decision.steps} --models-from"
        folders = [f"{other}-longer" for other in pooled]
        lines = [
            f"{_segmenters_of(other)} {change} {shlex.quote(other)} --out {shlex.quote(folder)}"
            for other, folder in zip(pooled, folders, strict=True)
        ]
        runs = f" --set {shlex.quote(assignment('report.runs', folders))}" if pooled else ""
        out = shlex.quote(f"{run_dir}-longer")
        elsewhere = command.removesuffix(f" --out {shlex.quote(run_dir)}")
        return "\n".join([*lines, f"{elsewhere} {change} {shlex.quote(run_dir)}{runs} --out {out}"])
    primary = document["primary"]
    if primary is None:
        return None
    pairs = arm_named(document, primary["treatment"])["pairs"]
    folder = pairs.get("folder") or f"shards/{pairs['kind']}"
    verb = "verify" if decision.answer == "adopt" else "show"
    return f"scenepalette shards {verb} {shlex.quote(f'{run_dir}/{folder}')}"


def _segmenters_of(run_dir: str) -> str:
    return f"scenepalette train-segmenter {shlex.quote(f'{run_dir}/{CONFIG}')}"
