"""The verbs that make a stage, each declared once for the command line and for its flow."""

from __future__ import annotations

from dataclasses import dataclass

WHOLE = "The whole path"


@dataclass(frozen=True)
class Verb:
    """What makes a stage, with all that it needs.

    Attributes:
        name: Name of the command.
        stage: Stage that it makes.
        summary: What it does.
        examples: Commands, without the name of the program.
        panel: Heading under which the command line lists it.
    """

    name: str
    stage: str
    summary: str
    examples: tuple[str, ...]
    panel: str = "One stage, with all that it needs"


VERBS = {
    verb.name: verb
    for verb in (
        Verb(
            "run",
            "report",
            "Make everything, from the data set to the report.",
            ("run demo", "run camvid-cpu --set data.root=CAMVID --set generate.pairs=2000 --out runs/camvid"),
            WHOLE,
        ),
        Verb(
            "fit-palettes",
            "palettes",
            "Learn which scenes occur: fit the sampler of class shares to the training layouts.",
            ("fit-palettes demo --set palettes.max_components=10",),
        ),
        Verb(
            "train-layouts",
            "layouts",
            "Learn how scenes are arranged: train the generators of layouts.",
            ("train-layouts demo --out runs/demo",),
        ),
        Verb(
            "train-images",
            "images",
            "Learn what scenes look like: train the generator of images for layouts.",
            ("train-images demo --set images.steps=1000 --out runs/longer",),
        ),
        Verb(
            "generate",
            "shards",
            "Write layout-image pairs to Parquet shards.",
            ("generate demo --set generate.pairs=5000 --out runs/more",),
        ),
        Verb(
            "finetune",
            "finetuned",
            "Train a layout and an image generator together, end to end; pairs made afterwards come from the result.",
            ("finetune demo --set 'finetune.kinds=[full]' --set finetune.steps=200",),
        ),
        Verb(
            "train-segmenter",
            "segmenters",
            "Train a segmenter per arm and seed, with and without generated pairs.",
            ("train-segmenter demo --set 'segmenters.seeds=[0, 1, 2]' --out runs/three-seeds",),
        ),
        Verb(
            "report",
            "report",
            "Compare the arms and write the report.",
            ("report demo --out runs/demo", "report demo --set 'report.runs=[runs/second]' --out runs/demo"),
        ),
        Verb(
            "compare",
            "comparison",
            "Train and measure systems under one budget, and write the table that compares them.",
            (
                "compare demo --set 'compare.rows=[sb-gan, semantic-palette]'",
                "compare camvid-cpu --set data.root=CAMVID --out runs/systems",
            ),
            WHOLE,
        ),
        Verb(
            "curve",
            "curve",
            "Train on parts of the real pairs and on fewer or more generated ones: what these are worth in labels.",
            (
                "curve demo --set 'curve.labels=[0.5, 1]' --set 'curve.doses=[1, 2]'",
                "curve camvid-cpu --set data.root=CAMVID --out runs/camvid",
            ),
            WHOLE,
        ),
        Verb(
            "loop",
            "loop",
            "Ask for the classes that the segmenter lacks, add the pairs and retrain, until a round gains too little.",
            (
                "loop demo --set 'segmenters.seeds=[0, 1, 2]' --out runs/loop",
                "loop demo --set loop.rounds=2 --set 'generate.kinds=[full, insert]' --set 'segmenters.arms=[real]'",
            ),
            WHOLE,
        ),
    )
}
"""By name, in the order in which the command line lists them."""


def verb_of(stage: str) -> str:
    """Return the name of the last verb that makes a stage; the stage's own name where none makes it alone."""
    return {verb.stage: verb.name for verb in VERBS.values()}.get(stage, stage)
