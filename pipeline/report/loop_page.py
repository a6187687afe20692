"""The page of a finished loop: what each round asked for and gained, set against as many pairs at random palettes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scenepalette.common.storage.files import write_atomically
from scenepalette.data.classes import ClassTable
from scenepalette.evaluation.contrasts import LEVEL
from scenepalette.pipeline.report.document import to_json_values
from scenepalette.pipeline.report.page import (
    Block,
    Bullets,
    Code,
    Heading,
    Page,
    Table,
    Text,
    provenance_table,
    write_page,
)
from scenepalette.pipeline.report.page import Figure as Shown
from scenepalette.pipeline.report.results import REAL_ARM, ArmRun, EvaluatedSplit, PairSample
from scenepalette.pipeline.report.sections.loop_gain import (
    arms_of_loop,
    gain_and_least,
    loop_headline,
    why_it_ended,
    with_interval,
)
from scenepalette.pipeline.report.sections.splits import resolution
from scenepalette.pipeline.report.statistics import Comparison, compare, verdict
from scenepalette.pipeline.report.wording import (
    NO_VALUE,
    duration,
    estimated,
    interval,
    listing,
    percent,
    seeds_of_contrast,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCHEMA = 1
LOOP, RANDOM = "loop", "random"
DESCRIPTIONS = {
    REAL_ARM: "real pairs",
    LOOP: "real pairs and those that all rounds asked for",
    RANDOM: "real pairs and as many generated ones at random palettes",
}


@dataclass(frozen=True)
class RoundResult:
    """A round of the loop.

    Attributes:
        number: From 1.
        pairs: Generated pairs that its segmenters were trained with, those of earlier rounds included.
        budget: What `BudgetUnit` wrote.
        decision: What `DecisionUnit` wrote.
    """

    number: int
    pairs: int
    budget: Mapping[str, Any]
    decision: Mapping[str, Any]


@dataclass(frozen=True)
class LoopInputs:
    """All results of a loop.

    Attributes:
        dataset: "name", "train", "val", "test" (numbers of images), "size" and "licence".
        table: The classes.
        rounds: The rounds in order, one or more.
        most_rounds: How many there could have been.
        on_validation: Segmenters before the first round (`REAL_ARM`), after each ("round 1" and so on), and of the
            control (`RANDOM`), with confusions of validation images.
        validation_blocks: Block of consecutive frames of each of these; None if they are independent.
        reported: Segmenters of `REAL_ARM`, `LOOP` (after the last round) and `RANDOM` on the reported split.
        split: That split.
        rare_ids: Class ids that the mIoU of rare classes is over.
        shares: Class shares [K] of "real", "asked" and "random" pairs by kind.
        samples: Pairs that were asked for a class, with its name, by kind.
        durations: Unit -> seconds.
        provenance: JSON values.
        bootstrap_samples: Resamples behind every interval.
        seed: Seed of the resampling.
    """

    dataset: Mapping[str, Any]
    table: ClassTable
    rounds: Sequence[RoundResult]
    most_rounds: int
    on_validation: Sequence[ArmRun]
    validation_blocks: np.ndarray | None
    reported: Sequence[ArmRun]
    split: EvaluatedSplit
    rare_ids: Sequence[int]
    shares: Mapping[str, Mapping[str, np.ndarray]]
    samples: Mapping[str, Sequence[tuple[str, PairSample]]]
    durations: Mapping[str, float]
    provenance: Mapping[str, Any]
    bootstrap_samples: int
    seed: int


def write_loop(folder: Path, inputs: LoopInputs) -> dict[str, Any]:
    """Write figures/*.png, loop.md, loop.html and, last, loop.json; return the document that the last holds."""
    from scenepalette.pipeline.report.figures import figure_to_png  # with matplotlib, slow to import

    document, drawings = build_loop_document(inputs)
    images = {file: figure_to_png(figure) for file, figure in drawings.items()}
    for file, image in images.items():
        write_atomically(folder / file, image)
    write_page(folder, "loop", loop_page(document), document, images)
    return document


def build_loop_document(inputs: LoopInputs) -> tuple[dict[str, Any], dict[str, Figure]]:
    """Return the document, schema 1 as JSON values, mIoU as fractions, and its figures by file."""
    from scenepalette.pipeline.report.figures import draw_pairs  # with matplotlib, slow to import
    from scenepalette.pipeline.report.sections.study_figures import draw_rounds

    table, names = inputs.table, inputs.table.names

    def compared(runs: Sequence[ArmRun], blocks: np.ndarray | None, **sides: tuple[str, ...]) -> Comparison:
        return compare(
            runs,
            table.eval_ids,
            inputs.bootstrap_samples,
            inputs.seed,
            blocks=blocks,
            rare_ids=inputs.rare_ids,
            **sides,
        )

    on_validation = {arm.name: arm for arm in compared(inputs.on_validation, inputs.validation_blocks).arms}
    final = compared(inputs.reported, inputs.split.blocks, treatments=(LOOP,), controls=(RANDOM,))
    primary = final.primary
    assert primary is not None
    pairs = [0, *(each.pairs for each in inputs.rounds)]
    found = [on_validation[name].miou for name in (REAL_ARM, *(round_name(each.number) for each in inputs.rounds))]
    drawings = {"figures/rounds.png": draw_rounds(pairs, found, on_validation[RANDOM].miou)}
    figures = [
        {
            "file": "figures/rounds.png",
            "title": "mIoU by generated pairs",
            "caption": "Validation images, with 95 % intervals. 0 pairs: real pairs alone.",
        }
    ]
    for kind, samples in inputs.samples.items():
        file = f"figures/asked-{kind}.png"
        drawings[file] = draw_pairs([sample for _, sample in samples], table)
        counted = ((name, len(list(same))) for name, same in groupby(name for name, _ in samples))
        asked = ", ".join(name if count == 1 else f"{name} ({count} pairs)" for name, count in counted)
        figures.append(
            {
                "file": file,
                "title": f"{kind} pairs that were asked for a class",
                "caption": f"Asked for, from the top: {asked}. Bars: achieved class shares; black lines: the shares "
                "asked for.",
            }
        )
    document = {
        "schema": SCHEMA,
        "dataset": {
            **inputs.dataset,
            "classes": names,
            "eval_classes": [names[index] for index in table.eval_ids],
            "rare_classes": [names[index] for index in inputs.rare_ids],
            "evaluated_on": inputs.split.name,
        },
        "most_rounds": inputs.most_rounds,
        "rounds": [
            {
                "round": each.number,
                "pairs": each.pairs,
                "miou": on_validation[round_name(each.number)].miou.to_dict(),
                **each.budget,
                **each.decision,
            }
            for each in inputs.rounds
        ],
        "validation": {name: arm.miou.to_dict() for name, arm in on_validation.items()},
        "arms": [
            {
                "name": arm.name,
                "description": arm.description,
                "seeds": arm.seeds,
                "steps": arm.steps,
                "pairs": 0 if arm.name == REAL_ARM else inputs.rounds[-1].pairs,
                "miou": arm.miou.to_dict(),
                "miou_rare": arm.miou_rare.to_dict(),
                "per_class": {name: each.mean for name, each in zip(names, arm.per_class, strict=True)},
                "delta_vs_real": arm.delta.to_dict(),
            }
            for arm in final.arms
        ],
        "against_random": {
            "miou": primary.miou.to_dict(),
            "miou_rare": primary.miou_rare.to_dict(),
            "per_class": {name: each.to_dict() for name, each in zip(names, primary.per_class, strict=True)},
            "p_value": primary.p_value,
            "detectable": primary.detectable,
            "seeds": primary.seeds,
            "verdict": verdict(primary.miou, primary.p_value),
        },
        "shares": {
            kind: {what: dict(zip(names, values, strict=True)) for what, values in shares.items()}
            for kind, shares in inputs.shares.items()
        },
        "durations": inputs.durations,
        "bootstrap": {"samples": inputs.bootstrap_samples, "seed": inputs.seed, "level": LEVEL},
        "figures": figures,
        "provenance": inputs.provenance,
    }
    return to_json_values(document), drawings


def round_name(number: int) -> str:
    """Return what the segmenters after a round are called."""
    return f"round {number}"


def loop_page(document: Mapping[str, Any]) -> Page:
    """Return the page of what loop.json holds."""
    dataset, rounds = document["dataset"], document["rounds"]
    rare, on_test = dataset["rare_classes"], dataset["evaluated_on"] != "validation"
    found, bootstrap = document["against_random"], document["bootstrap"]
    cautions = []
    for kind, entries in rounds[0]["left_out"].items():
        for reason in dict.fromkeys(entries.values()):
            names = [name for name, other in entries.items() if other == reason]
            cautions.append(f"{kind} pairs could not be asked for {listing(names, limit=len(names))}: {reason}.")
    if not on_test:
        cautions.append(
            "There is no test split: the images that told the loop what to ask for also judge it, which flatters it "
            "against random palettes. Set data.holdout, or data.test_scenes."
        )
    if len(found["seeds"]) < 2:
        cautions.append("One seed cannot tell a gain from the chance of a training: add segmenters.seeds.")
    command = document["provenance"].get("command")
    blocks: list[Block] = [
        Text(why_it_ended(document)),
        arms_of_loop(document),
        Text(
            f"{dataset['evaluated_on'].capitalize()} images; {LOOP} against {RANDOM}: "
            + seeds_of_contrast(len(found["seeds"]))
            + (
                f", {estimated(found['miou_rare'])} points {interval(found['miou_rare'], signed=True)} over the "
                f"rare classes ({listing(rare, limit=len(rare))})."
                if rare
                else "."
            )
        ),
        *([Bullets(cautions, title="Before acting on this")] if cautions else []),
        Heading("Rounds"),
        _rounds(document),
        Text(
            "Gains are those of a round over the one before it, on validation images. A round that gains less than "
            "the least gain is the last."
        ),
        *(Shown(each["file"], each["title"], each["caption"]) for each in document["figures"][:1]),
        Heading("Classes"),
        _classes(document),
        Text(
            "Lacking: by how much the IoU of the current segmenter falls short of what a network of its stride can "
            "reach, on validation images. Asked: pairs of all rounds that were asked for the class. Shares are of "
            "pixels: in real images, in the pairs of the rounds, and in those at random palettes."
        ),
        Heading("Samples"),
        *(Shown(each["file"], each["title"], each["caption"]) for each in document["figures"][1:]),
        Heading("Provenance"),
        provenance_table(document),
        Table(
            ("Unit", "Time"), [(unit, duration(value)) for unit, value in document["durations"].items()], numeric=(1,)
        ),
        *([Heading("How to reproduce"), Code(command)] if command else []),
        Text(f"The intervals use {bootstrap['samples']} resamples with seed {bootstrap['seed']}."),
    ]
    return Page(
        title=f"Does asking for lacking classes help on {dataset['name']}?",
        headline=loop_headline(document),
        introduction=f"{dataset['train']} training, {dataset['val']} validation and {dataset['test'] or 0} test "
        f"images, {dataset['size'][0]}x{dataset['size'][1]} (height x width), {len(dataset['classes'])} classes."
        f"{resolution(document)}",
        blocks=blocks,
    )


def _rounds(document: Mapping[str, Any]) -> Table:
    validation = document["validation"]
    rows = [("0 (real)", "0", with_interval(validation[REAL_ARM]), NO_VALUE, NO_VALUE, NO_VALUE)]
    for each in document["rounds"]:
        asked = {
            kind: ", ".join(f"{name} {count}" for name, count in sorted(counts.items(), key=lambda item: -item[1]))
            for kind, counts in each["asked"].items()
        }
        gain, least = gain_and_least(each)
        rows.append(
            (
                str(each["round"]),
                str(each["pairs"]),
                with_interval(each["miou"]),
                f"{gain} {interval(each, signed=True)}",
                least,
                "; ".join(f"{kind}: {text or 'nothing'}" for kind, text in asked.items()),
            )
        )
    pairs = str(document["rounds"][-1]["pairs"])
    rows.append(("random palettes", pairs, with_interval(validation[RANDOM]), NO_VALUE, NO_VALUE, NO_VALUE))
    head = ("Round", "Pairs", "mIoU, % [95 %]", "Gain, points [95 %]", "Least gain", "Asked for")
    return Table(head, rows, numeric=range(1, 5), long=1)


def _classes(document: Mapping[str, Any]) -> Table:
    rounds, arms = document["rounds"], {arm["name"]: arm for arm in document["arms"]}
    shares, kinds = document["shares"], list(document["shares"])
    rows = []
    for name in document["dataset"]["eval_classes"]:
        lacking = [each["lacking"][name] for each in rounds]
        rows.append(
            (
                name,
                " -> ".join(percent(value) for value in lacking),
                *(str(sum(each["asked"][kind].get(name, 0) for each in rounds)) for kind in kinds),
                *(
                    " / ".join(f"{100 * shares[kind][what][name]:.2g}" for what in ("real", "asked", "random"))
                    for kind in kinds
                ),
                *(percent(arms[arm]["per_class"][name]) for arm in (REAL_ARM, LOOP, RANDOM)),
            )
        )
    head = [
        "Class",
        "Lacking, %",
        *(f"Asked, {kind}" for kind in kinds),
        *(f"Shares, {kind}: real / asked / random, %" for kind in kinds),
        *(f"{arm}, IoU %" for arm in (REAL_ARM, LOOP, RANDOM)),
    ]
    return Table(head, rows, numeric=range(1, len(head)))
