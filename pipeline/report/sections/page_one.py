"""The first page of a report: what to do, with which arm, at what cost, and what each class has of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scenepalette.evaluation.registry import name_and_reason
from scenepalette.pipeline.report.page import Block, Bullets, Cell, Code, Heading, Table, Text
from scenepalette.pipeline.report.results import LONGER_ARM, REAL_ARM
from scenepalette.pipeline.report.sections.decision import decide, further_gain, next_command, still_gains
from scenepalette.pipeline.report.sections.shortfall import ENOUGH
from scenepalette.pipeline.report.wording import (
    FEW_BLOCKS,
    NO_VALUE,
    NOT_FOUND,
    ONE_SEED,
    SMALL_OBJECT,
    STYLES,
    arm_named,
    direction,
    duration,
    estimated,
    headline,
    interval,
    listing,
    number,
    percent,
    seeds_of_contrast,
)

ANSWERS = {"adopt": "Adopt", "try more seeds": "Try more seeds", "do not": "Do not adopt"}
FLATTERED = (
    "there is no separate test split: the same images chose and judge the arm, so the gain is flattered; its interval "
    "is widened to hold for every pair of arms that could have been chosen"
)
# Share of a class in generated layouts, relative to its real share, below which it is called short.
SHORT = 0.5


def decision_headline(document: Mapping[str, Any]) -> str:
    """The answer in one sentence, and what it rests on."""
    primary, decision = document["primary"], decide(document)
    answer = ANSWERS[decision.answer]
    if primary is None:
        return f"{answer}: {decision.reason}"
    delta, least = primary["miou"], document["smallest_gain"]
    figures = f"{estimated(delta, (least,))} points of mIoU {interval(delta, signed=True, apart_from=(least,))}"
    scope = f", {ONE_SEED}" if len(primary["seeds"]) < 2 else f" on {document['dataset']['evaluated_on']} images"
    return f"{answer}: {primary['treatment']} against {primary['control']}, {figures}{scope}."


def first_page(document: Mapping[str, Any]) -> list[Block]:
    """Return the blocks of the first page."""
    decision = decide(document)
    command = next_command(document, decision)
    blocks: list[Block] = [
        Table(("Question", "Answer"), _answers(document, decision.reason), long=1),
        *([Text("The next command:"), Code(command)] if command else []),
        Text(headline(document)),
    ]
    if missing := missing_metrics(document):
        blocks.append(Text(missing))
    blocks += [Heading("What each class gains"), _classes(document), Text(_legend(document))]
    if advice := class_advice(document):
        blocks.append(Bullets(advice, title="What to change for single classes"))
    return blocks


def _answers(document: Mapping[str, Any], reason: str) -> list[tuple[str, str]]:
    primary, dataset = document["primary"], document["dataset"]
    rows = [("Why", reason[:1].upper() + reason[1:])]
    if primary is None:
        return rows
    arm, control = (arm_named(document, primary[side]) for side in ("treatment", "control"))
    rare, least = primary["miou_rare"], document["smallest_gain"]
    split = dataset["evaluated_on"]
    real = arm_named(document, REAL_ARM)
    reached = f"{arm['name']} {percent(arm['miou']['mean'])}, {control['name']} {percent(control['miou']['mean'])}"
    if control["name"] != REAL_ARM:
        reached += f", {REAL_ARM} {percent(real['miou']['mean'])}"
    pairs = arm["pairs"]
    rows += [
        ("Which arm", f"{arm['name']}: {arm['description']}"),
        ("How many pairs", _pairs(pairs)),
        (
            "What it gains",
            f"{estimated(primary['miou'], (least,))} points of mIoU "
            f"{interval(primary['miou'], signed=True, apart_from=(least,))} over {control['name']} ({reached}; "
            f"{split} images; {seeds_of_contrast(len(primary['seeds']))}{_generators(primary)}).",
        ),
    ]
    if dataset["rare_classes"] and rare["mean"] is not None:
        rows.append(
            (
                "Rare classes",
                f"{estimated(rare)} points of mIoU {interval(rare, signed=True)} over "
                f"{listing(dataset['rare_classes'])}.",
            )
        )
    rows += [
        ("What it costs", cost_sentence(document, arm["name"])),
        ("What could be seen", _detectable(document)),
        ("How it was chosen", _choice(primary)),
        ("Was real data trained enough", _convergence(document)),
    ]
    copying = [kind for kind, check in (document.get("memorisation") or {}).items() if check["copies"]]
    if copying:
        rows.append(
            (
                "Does the generator copy",
                f"Yes: {listing(copying)} pairs repeat training images. See the section on copies before sharing any.",
            )
        )
    return rows


def _generators(primary: Mapping[str, Any]) -> str:
    """How many generators the pairs come from, where it is known."""
    count = len(primary.get("generator_seeds", []))
    return f", {count} generator seed{'' if count == 1 else 's'}" if count else ""


def _pairs(pairs: Mapping[str, Any]) -> str:
    count = "an unknown number of" if pairs["count"] is None else pairs["count"]
    text = f"{count} generated pairs of the kind {pairs['kind']}"
    if "candidates" in pairs and pairs["count"] is not None:
        text += f", the best of {pairs['count'] * pairs['candidates']} that were made"
    return text


def cost_sentence(document: Mapping[str, Any], arm: str) -> str:
    """What an arm costs beside the training on real pairs: hours of this machine, and their price if it is known."""
    cost = document["costs"].get(arm)
    if cost is None:
        return "Not recorded."
    parts = {"generators": "training of the generators", "pairs": "the pairs", "training": "extra training"}
    named = [f"{text} {duration(cost[key])}" for key, text in parts.items() if cost[key] is not None]
    text = f"{duration(cost['seconds'])} of this machine ({', '.join(named)})."
    if cost["generators"] is None:
        text += " The training of the generators is not counted: they come from elsewhere."
    if cost["price"] is not None:
        text += f" At {number(document['hourly_price'])} an hour: {cost['price']:.2f}."
    return text


def _detectable(document: Mapping[str, Any]) -> str:
    primary, bootstrap = document["primary"], document["bootstrap"]
    if primary["detectable"] is None:
        return (
            "Not known: the smallest gain that a run can show depends on how much trainings differ, which one seed "
            "cannot tell."
        )
    text = (
        f"A true gain of {percent(primary['detectable'])} points or more, with 80 % probability "
        f"({percent(primary['detectable_by_seeds'])} if only trainings of segmenters differed by chance, not "
        f"{'generators or ' if primary.get('generator_error') is not None else ''}images)."
    )
    if bootstrap["blocks"] < FEW_BLOCKS:
        text += f" The images count as no more than {bootstrap['blocks']} blocks of frames."
    return text


def _choice(primary: Mapping[str, Any]) -> str:
    treatments, controls = primary["treatments"], primary["controls"]
    if primary["chosen_on"] == "nothing":
        return "Both arms were named before the run."
    sides = [
        f"{primary[side]} is the best of {listing(names)}"
        for side, names in (("treatment", treatments), ("control", controls))
        if len(names) > 1
    ]
    if primary["chosen_on"] == "validation":
        return f"By mIoU on validation images, which are not those reported: {'; '.join(sides)}."
    return f"By mIoU on these images: {'; '.join(sides)}. Mind that {FLATTERED}."


def _convergence(document: Mapping[str, Any]) -> str:
    longer, curves = further_gain(document), document.get("convergence", [])
    if longer is None and curves:
        seen = "; ".join(dict.fromkeys(entry["text"] for entry in curves))
        if not all(entry["converged"] for entry in curves):
            return f"No, by its own curve: {seen}."
        # Learning rates fall to 0 at the end of every training, also of one that is far too short.
        return f"Not known: its curve is flat at the end ({seen}), as that of a short training is; add {LONGER_ARM}."
    if longer is None or longer["mean"] is None:
        return f"Not known: add the arm {LONGER_ARM}, which trains on real pairs for twice the steps."
    answer = "Not known" if longer["ci95"][0] is None else "No" if still_gains(document) else "Yes"
    gain = f"{estimated(longer, (document['smallest_gain'],))} points {interval(longer, signed=True)}"
    return f"{answer}: twice the steps ({LONGER_ARM}) change its mIoU by {gain}."


def missing_metrics(document: Mapping[str, Any]) -> str:
    """One sentence on the metrics that could not be measured; empty if there are all."""
    reasons: dict[str, list[str]] = {}
    for part in ("layouts", "images"):
        for key, value in document[part].items():
            reason = document[part].get(f"{key}_absent_because")
            if value is None and reason:
                name, why = name_and_reason(reason)
                reasons.setdefault(why.rstrip(". "), []).append(name or key)
    if not reasons:
        return ""
    return f"Not measured: {'; '.join(f'{listing(names)} ({why})' for why, names in reasons.items())}."


def _compared(document: Mapping[str, Any]) -> tuple[list[str], dict[str, Mapping[str, Any]]]:
    """The arms that classes are shown of, and each class's difference."""
    primary = document["primary"]
    if primary is None:
        return [REAL_ARM], {}
    return list(dict.fromkeys([REAL_ARM, primary["control"], primary["treatment"]])), primary["per_class"]


def _classes(document: Mapping[str, Any]) -> Table:
    dataset = document["dataset"]
    names, deltas = _compared(document)
    arms = [arm_named(document, name) for name in names]
    rows = []
    for name in dataset["classes"]:
        mark = " *" if name not in dataset["eval_classes"] else " (rare)" if name in dataset["rare_classes"] else ""
        pixels = (dataset["train_pixels"] or {}).get(name)
        share = (dataset["train_class_shares"] or {}).get(name)
        cells: list[Cell | str] = [
            f"{name}{mark}",
            NO_VALUE if pixels is None else f"{pixels:,}",
            NO_VALUE if share is None else _share(share),
            *(percent(arm["per_class"][name]["mean"]) for arm in arms),
        ]
        if deltas:
            delta = deltas[name]
            style = STYLES.get(direction(delta), "")
            shown = delta["mean"] is not None
            cells.append(Cell(estimated(delta), interval(delta, signed=True) if shown else "", style))
        rows.append(cells)
    head = ["Class", "Training pixels", "Share, %", *(f"{name}, IoU %" for name in names)]
    if deltas:
        head.append(f"{names[-1]} against {document['primary']['control']}, points [95 %]")
    return Table(head, rows, numeric=range(1, len(head)))


def _share(fraction: float) -> str:
    """Of a training split: 0.0034 -> "0.34"."""
    return f"{100 * fraction:.2g}" if fraction < 0.1 else f"{100 * fraction:.0f}"


def _legend(document: Mapping[str, Any]) -> str:
    dataset = document["dataset"]
    excluded = " * is left out of mIoU." if len(dataset["classes"]) != len(dataset["eval_classes"]) else ""
    return f"Pixels and shares are those of labelled training pixels; intervals of classes are not corrected.{excluded}"


def class_advice(document: Mapping[str, Any]) -> list[str]:
    """What to change for classes that the arms miss, from what is known of them; one sentence per cause."""
    dataset = document["dataset"]
    train, real = dataset["train_pixels"] or {}, arm_named(document, REAL_ARM)["per_class"]
    shares = document["class_shares"]
    generated = next((kind for kind in shares if kind != "real"), None)
    _, deltas = _compared(document)
    causes: dict[str, list[str]] = {}

    def add(cause: str, name: str) -> None:
        causes.setdefault(cause, []).append(name)

    for name in dataset["eval_classes"]:
        iou, size = real[name]["mean"], dataset["pixels_per_image"].get(name)
        if train.get(name) == 0:
            add(
                "the training split has no pixel of {}, so that no arm can learn {it}: add labelled images that show "
                "{it}.",
                name,
            )
            continue
        if size is None:
            add(
                f"the {dataset['evaluated_on']} images have no pixel of {{}}, so nothing can be said of {{it}}: add "
                "images that show {it}.",
                name,
            )
            continue
        if iou is not None and iou < NOT_FOUND:
            never = dataset["never_predicted"].get(name)
            how = "never predicts" if never else "hardly ever finds"
            remedy = (
                f"an image that shows {{one}} has fewer than {SMALL_OBJECT} of its pixels, too few for coarse "
                "features: raise data.size, or take a segmenter with a smaller decoder stride."
                if size < SMALL_OBJECT
                else "images show enough of {it}, so that size is not the cause: train longer, or weight the classes."
            )
            add(f"the real arm {how} {{}}; {remedy}", name)
        if generated is not None and shares[generated][name] < SHORT * shares["real"][name]:
            reached = document["palettes"].get("reached", {}).get(generated, {}).get(name)
            remedy = (
                f"less than was asked for. Train the layout generator longer, try layouts.{generated}.balance, or set "
                "generate.hardening=exact."
                if reached is not None and reached < ENOUGH
                else "as was asked for. Ask for more with generate.minimum or generate.bias."
            )
            add(
                f"generated layouts ({generated}) hold less than {100 * SHORT:.0f} % of the real share of {{}}, "
                f"{remedy}",
                name,
            )
        if name in deltas and direction(deltas[name]) == "▼":
            arm = document["primary"]["treatment"]
            add(f"the arm {arm} loses {{}}: look at {{it}} among the failures below.", name)
    sentences = [_said_of(names, cause) for cause, names in causes.items()]
    return [sentence[:1].upper() + sentence[1:] for sentence in sentences]


def _said_of(names: Sequence[str], cause: str) -> str:
    """Return a sentence with the classes that it is about in place of {}, and pronouns that go with their number."""
    it, one = ("it", "it") if len(names) == 1 else ("them", "one of them")
    # Names last: one may hold braces itself.
    return cause.replace("{it}", it).replace("{one}", one).replace("{}", listing(names, limit=len(names)), 1)
