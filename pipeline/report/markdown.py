"""The report as Markdown, readable as plain text and on a code host."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from scenepalette.pipeline.report import wording
from scenepalette.pipeline.report.results import REAL_ARM
from scenepalette.pipeline.report.wording import interval, percent, points


def render_markdown(document: Mapping[str, Any]) -> str:
    """Word the document as Markdown; figures are linked as figures/*.png beside it.

    Args:
        document: The content of report.json.
    """
    dataset = document["dataset"]
    height, width = dataset["size"]
    lines = [
        f"# Do generated pairs help on {_escape(dataset['name'])}?",
        "",
        f"**{_escape(wording.headline(document))}**",
        "",
        f"{dataset['train']} training and {dataset['val']} validation images, {height}x{width} (height x width), "
        f"{len(dataset['classes'])} classes, {len(dataset['eval_classes'])} of them evaluated. "
        f"Licence of the source: {_escape(str(dataset['licence'] or 'not given'))}.",
        "",
        *_bullets(wording.findings(document)),
        "",
        "## Arms",
        "",
        *_arms(document),
        "",
        wording.method(document),
        "",
        *_figures(document, "arms"),
        "### Before acting on this",
        "",
        *_bullets(wording.cautions(document)),
        "",
        "## Generated pairs by themselves",
        "",
        *_gan_tables(document),
        "",
        *markdown_table(
            ["Metric", "Value", "Better", "What it says"],
            [[each.name, each.value, each.better, each.explanation] for each in wording.measures(document)],
        ),
        "",
        *_figures(document, "generators"),
        *_training(document),
        "## Classes",
        "",
        *_classes(document),
        "",
        r"IoU in percent; ▲ above and ▼ below real by a paired interval that leaves out zero. \* is left out of mIoU.",
        "",
        *_figures(document, "classes"),
        "## Samples",
        "",
        *_figures(document, "samples"),
        "## Provenance",
        "",
        *markdown_table(
            ["Field", "Value"], [[key, show_value(value)] for key, value in document["provenance"].items()]
        ),
        "",
    ]
    if document["durations"]:
        lines += [
            *markdown_table(
                ["Stage", "Time"], [[name, wording.duration(each)] for name, each in document["durations"].items()]
            ),
            "",
        ]
    lines += ["## How to reproduce", "", *_reproduce(document), ""]
    return "\n".join(lines)


def show_value(value: Any) -> str:
    """A value of the provenance on one line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _arms(document: Mapping[str, Any]) -> list[str]:
    both = wording.has_excluded_classes(document)
    rows = []
    for arm in document["arms"]:
        real = arm["name"] == REAL_ARM
        delta = arm["delta_vs_real"]
        rows.append(
            [
                arm["name"],
                arm["description"],
                f"{len(arm['seeds'])} x {arm['steps']}",
                f"{percent(arm['miou']['mean'])} {interval(arm['miou'])}",
                *([percent(arm["miou_all"]["mean"])] if both else []),
                wording.NO_VALUE if real else f"{points(delta['mean'])} {interval(delta, signed=True)}",
                arm["verdict"],
            ]
        )
    head = [
        "Arm",
        "Trained on",
        "Seeds x steps",
        "mIoU, % [95 %]",
        *(["mIoU*, %"] if both else []),
        "Against real, points [95 %]",
        "Verdict",
    ]
    note = ["", _escape("mIoU* averages over all classes, mIoU over the evaluated ones.")] if both else []
    return [*markdown_table(head, rows), *note]


def _gan_tables(document: Mapping[str, Any]) -> list[str]:
    real = document["gan_test_real"]
    rows = []
    for kind in dict.fromkeys([*document["gan_train"], *document["gan_test"]]):
        cells = [kind]
        for group in ("gan_train", "gan_test"):
            estimate = document[group].get(kind)
            cells.append(wording.NO_VALUE if estimate is None else f"{percent(estimate['mean'])} {interval(estimate)}")
        rows.append(cells)
    arm = next(arm for arm in document["arms"] if arm["name"] == REAL_ARM)["miou"]
    rows.append(
        [
            "real data, for reference",
            f"{percent(arm['mean'])} {interval(arm)}",
            f"{percent(real['mean'])} {interval(real)}",
        ]
    )
    return [
        "GAN-train: a segmenter trained on generated pairs alone, tested on real images; higher is better. "
        "GAN-test: the segmenter trained on real images, tested on generated pairs; near its value on real "
        "images is good.",
        "",
        *markdown_table(["Pairs", "GAN-train, mIoU % [95 %]", "GAN-test, mIoU % [95 %]"], rows),
    ]


def _training(document: Mapping[str, Any]) -> list[str]:
    sentences = wording.training(document)
    return ["## Training", "", *_bullets(sentences), ""] if sentences else []


def _classes(document: Mapping[str, Any]) -> list[str]:
    evaluated = set(document["dataset"]["eval_classes"])
    rows = []
    for name in document["dataset"]["classes"]:
        cells = [
            name if name in evaluated else f"{name} *",
            percent(document["dataset"]["val_class_shares"][name]),
        ]
        for arm in document["arms"]:
            estimate = arm["per_class"][name]
            mark = "" if arm["name"] == REAL_ARM else wording.direction(estimate["delta_vs_real"])
            cells.append(f"{percent(estimate['mean'])} {mark}".strip())
        rows.append(cells)
    return markdown_table(["Class", "Pixels, %", *(arm["name"] for arm in document["arms"])], rows)


def _figures(document: Mapping[str, Any], section: str) -> list[str]:
    lines = []
    for figure in document["figures"]:
        if figure["section"] == section:
            lines += [f"![{_escape(figure['title'])}]({figure['file']})", "", f"*{_escape(figure['caption'])}*", ""]
    return lines


def _reproduce(document: Mapping[str, Any]) -> list[str]:
    provenance = document["provenance"]
    command = provenance.get("command")
    lines = ["```", show_value(command), "```", ""] if command else []
    bootstrap = document["bootstrap"]
    lines.append(
        f"The same version, configuration and seed give the same data; the intervals use {bootstrap['samples']} "
        f"resamples with seed {bootstrap['seed']}. All numbers of this page are in report.json."
    )
    return lines


def _bullets(sentences: Sequence[str]) -> list[str]:
    return [f"- {_escape(sentence)}" for sentence in sentences]


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table whose cells are plain text."""
    return [
        f"| {' | '.join(_escape(cell) for cell in head)} |",
        f"|{'|'.join(' --- ' for _ in head)}|",
        *(f"| {' | '.join(_escape(cell) for cell in row)} |" for row in rows),
    ]


def _escape(text: str) -> str:
    """Keep names from being read as markup."""
    for character in ("\\", "|", "*", "_", "<", "`"):
        text = text.replace(character, "\\" + character)
    return text.replace("\n", " ")
