"""A page in its two forms, and in tables for a narrow place."""

from __future__ import annotations

from pathlib import Path

from scenepalette.pipeline.report.page import (
    Bullets,
    Cell,
    Code,
    Figure,
    Heading,
    Page,
    Table,
    Text,
    to_markdown,
    write_page,
)

ARMS = Table(
    ["Arm", "mIoU, %", "Against real", "Verdict", "Seeds x steps", "Trained on"],
    [
        ["real", Cell("41.2", "[40.1, 42.0]"), "\N{EN DASH}", "reference", "3 x 400", "real pairs"],
        ["semi_2", "42.5", Cell("+1.3", "[0.2, 2.1]", "gains", (0.1, 0.5, 0.9)), "gains", "3 x 400", "real | made"],
    ],
    numeric=(1,),
    long=1,
)


def markdown_of(*blocks: Table | Text, narrow: bool) -> str:
    return to_markdown(Page("Title", "", "About.", blocks), narrow)


def test_a_table_is_whole_or_in_narrow_parts() -> None:
    assert markdown_of(ARMS, narrow=False).split("\n")[4:] == [
        "| Arm | mIoU, % | Against real | Verdict | Seeds x steps | Trained on |",
        "| --- | --- | --- | --- | --- | --- |",
        "| real | 41.2 [40.1, 42.0] | \N{EN DASH} | reference | 3 x 400 | real pairs |",
        "| semi\\_2 | 42.5 | +1.3 [0.2, 2.1] | gains | 3 x 400 | real \\| made |",
        "",
    ]
    assert markdown_of(ARMS, Text("after"), narrow=True).split("\n")[4:] == [
        "| Arm | mIoU, % | Against real | Verdict |",
        "| --- | --- | --- | --- |",
        "| real | 41.2 [40.1, 42.0] | \N{EN DASH} | reference |",
        "| semi\\_2 | 42.5 | +1.3 [0.2, 2.1] | gains |",
        "",
        "| Arm | Seeds x steps |",
        "| --- | --- |",
        "| real | 3 x 400 |",
        "| semi\\_2 | 3 x 400 |",
        "",
        "Trained on:",
        "",
        "- **real**: real pairs",
        "- **semi\\_2**: real \\| made",
        "",
        "after",
        "",
    ]


def test_long_columns_alone_are_a_list() -> None:
    table = Table(("Field", "Value"), [("config", "x" * 200), ("seed", "1")], long=1)
    assert markdown_of(table, narrow=True).split("\n")[4:] == ["- **config**: " + "x" * 200, "- **seed**: 1", ""]
    named = Table(("A", "B", "C"), [("a", "b", "c")], long=2)
    assert markdown_of(named, narrow=True).split("\n")[4:] == ["- **a**: B: b; C: c", ""]


def test_every_block_is_in_both_forms(tmp_path: Path) -> None:
    blocks = [
        Heading("Arms <all>"),
        ARMS,
        Bullets(["Few seeds."], title="Before acting"),
        Figure("figures/a.png", "A figure", "How to read it."),
        Code("run <x>"),
    ]
    write_page(
        tmp_path / "new", "page", Page("Title", "It gains.", "About.", blocks), {"a": 1}, {"figures/a.png": b"png"}
    )
    text, html = ((tmp_path / "new" / f"page.{form}").read_text(encoding="utf-8") for form in ("md", "html"))
    for part in (
        "Title",
        "It gains.",
        "About.",
        "semi",
        "[0.2, 2.1]",
        "Few seeds.",
        "Before acting",
        "How to read it.",
    ):
        assert part in text and part in html
    assert "## Arms \\<all>" in text and "<h2>Arms &lt;all&gt;</h2>" in html
    assert "```\nrun <x>\n```" in text and "<pre>run &lt;x&gt;</pre>" in html
    assert "![A figure](figures/a.png)" in text and 'src="data:image/png;base64,cG5n"' in html
    assert "left:54.80%;width:38.40%" in html and "left:74.00%" in html
    assert (tmp_path / "new" / "page.json").read_text(encoding="utf-8").split() == ["{", '"a":', "1", "}"]
