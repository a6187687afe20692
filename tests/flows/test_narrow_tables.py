from __future__ import annotations

import re
from pathlib import Path

import pytest

from scenepalette.flows import artifacts
from scenepalette.flows.artifacts import publish_report
from scenepalette.flows.narrow_tables import narrow_tables
from scenepalette.pipeline.report.markdown import markdown_table

ARMS = [
    ["real", "real pairs", "3 x 400", "41.2 [40.1, 42.0]", "reference"],
    ["semi", "real pairs and images regenerated on real layouts", "3 x 400", "42.5 [41.0, 43.1]", "no difference"],
]
HEAD = ["Arm", "Trained on", "Seeds x steps", "mIoU, % [95 %]", "Verdict"]


def tables_of(text: str) -> list[list[str]]:
    """The lines of each table of a text."""
    return [block.split("\n") for block in text.split("\n\n") if block.startswith("|")]


def seen_width(table: list[str]) -> int:
    """Pixels of a table as they were measured in the UI: 14-pixel Inter, 12 pixels on both sides of a cell."""
    rows = [line[2:-2].split(" | ") for line in table]
    lengths = [[len(re.sub(r"\\(.)", r"\1", cell)) for cell in row] for row in rows]
    return sum(7 * max(column) + 24 for column in zip(*lengths, strict=True))


def test_the_longest_column_of_a_wide_table_becomes_a_list() -> None:
    text = "\n".join(["# Arms", "", *markdown_table(HEAD, ARMS), "", "after"])
    assert narrow_tables(text, 600).split("\n") == [
        "# Arms",
        "",
        "| Arm | Seeds x steps | mIoU, % [95 %] | Verdict |",
        "| --- | --- | --- | --- |",
        "| real | 3 x 400 | 41.2 [40.1, 42.0] | reference |",
        "| semi | 3 x 400 | 42.5 [41.0, 43.1] | no difference |",
        "",
        "Trained on:",
        "",
        "- **real**: real pairs",
        "- **semi**: real pairs and images regenerated on real layouts",
        "",
        "after",
    ]


def test_several_long_columns_are_named_in_the_list() -> None:
    rows = [["FID", "12.0", "lower, and near that of real data", "How far the images' features are from real ones"]]
    text = "\n".join(markdown_table(["Metric", "Value", "Better", "What it says"], rows))
    assert narrow_tables(text, 200).split("\n") == [
        "| Metric | Value |",
        "| --- | --- |",
        "| FID | 12.0 |",
        "",
        "- **FID**: Better: lower, and near that of real data; "
        "What it says: How far the images' features are from real ones",
    ]


def test_a_table_of_two_columns_becomes_a_list_alone() -> None:
    text = "\n".join(markdown_table(["Field", "Value"], [["config", "a_b | " + "x" * 200], ["seed", "1"]]))
    assert narrow_tables(text) == "- **config**: a\\_b \\| " + "x" * 200 + "\n- **seed**: 1"


def test_a_table_of_many_short_columns_is_continued_below() -> None:
    head = ["Class", *(f"arm {number}" for number in range(20))]
    rows = [[f"class {row}", *(f"{row}.{column}" for column in range(20))] for row in range(3)]
    tables = tables_of(narrow_tables("\n".join(markdown_table(head, rows))))
    assert len(tables) > 1
    assert all(table[2].startswith("| class 0 | ") for table in tables)
    cells = [cell for table in tables for cell in table[0].strip("| ").split(" | ")[1:]]
    assert cells == head[1:], "every column once, in order"


def test_what_fits_and_what_is_no_table_stays() -> None:
    wide = "| " + "x" * 300 + " | y |"
    small = markdown_table(HEAD[:2], [["real", "real pairs"]])
    fenced = ["```", wide, "| --- | --- |", "```"]
    uneven = ["| a | b |", "| --- | --- |", "| " + "x" * 300 + " |"]
    text = "\n".join([*small, "", wide, "not a delimiter", *fenced, "", *uneven])
    assert narrow_tables(text) == text


def test_an_escaped_bar_does_not_end_a_cell() -> None:
    rows = [[r"a|b\|", "x" * 30, "y" * 90]]
    lines = narrow_tables("\n".join(markdown_table(["A", "B", "C"], rows))).split("\n")
    assert lines[2] == r"| a\|b\\\| | " + "x" * 30 + " |"
    assert lines[-1] == r"- **a\|b\\\|**: " + "y" * 90


def test_no_table_of_a_published_report_is_cut_off(finished_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published: dict[str, str] = {}
    monkeypatch.setattr(artifacts, "create_markdown_artifact", lambda text, key, **_: published.update({key: text}))
    monkeypatch.setattr(artifacts, "create_link_artifact", lambda *_, **__: None)
    publish_report(finished_run / "report")
    whole, shown = (finished_run / "report" / "report.md").read_text(encoding="utf-8"), published["report"]
    assert max(map(seen_width, tables_of(whole))) > 718, "the report has wide tables"
    assert max(map(seen_width, tables_of(shown))) <= 718
    for table in tables_of(whole):
        for line in table[2:]:
            assert all(cell in shown for cell in line[2:-2].split(" | "))
