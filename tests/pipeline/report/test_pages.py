"""The Markdown and HTML forms: complete, escaped, and without a network."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from scenepalette.pipeline.report.document import write_report
from scenepalette.pipeline.report.results import ReportInputs

MakeInputs = Callable[..., ReportInputs]
EMPTY_ELEMENTS = {"meta", "img", "br", "hr", "link", "input"}


class _Page(HTMLParser):
    """Collects what a browser would fetch, and checks that elements close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.stack: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in EMPTY_ELEMENTS:
            self.stack.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag


def test_html_is_self_contained_and_escaped(make_inputs: MakeInputs, tmp_path: Path) -> None:
    document = write_report(tmp_path, make_inputs(provenance={"command": "run <x>", "home": "https://example.org/a"}))
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = _Page()
    page.feed(text)
    assert page.stack == []
    assert len(page.addresses) == page.tags.count("img") == len(document["figures"])
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert not re.search(r"url\(|@import", text)
    assert "car_&lt;b&gt;|x" in text and "car_<b>" not in text
    assert "made &lt;up&gt;" in text and "run &lt;x&gt;" in text
    assert 'name="viewport"' in text and "@media print" in text


@pytest.mark.parametrize("form", ["report.md", "report.html"])
def test_both_forms_hold_the_verdicts_and_numbers(make_inputs: MakeInputs, tmp_path: Path, form: str) -> None:
    document = write_report(tmp_path, make_inputs())
    text = (tmp_path / form).read_text(encoding="utf-8")
    for arm in document["arms"]:
        assert arm["name"] in text and arm["verdict"] in text
        assert f"{100 * arm['miou']['mean']:.1f}" in text
    for part in ("GAN-train", "GAN-test", "FSD", "Palette KL, full", "no Inception weights", "scenepalette run demo"):
        assert part in text
    assert "Before acting on this" in text and "mIoU*" in text.replace("\\", "")


@pytest.mark.parametrize("form", ["report.md", "report.html"])
def test_both_forms_have_a_section_on_training(make_inputs: MakeInputs, tmp_path: Path, form: str) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 100, "warnings": ["it <collapses>"]}\n')
    write_report(tmp_path / "with", make_inputs(training_logs={"images/oasis": log}))
    write_report(tmp_path / "without", make_inputs())
    text = (tmp_path / "with" / form).read_text()
    assert (
        "images/oasis: it " in text
        and "(from step 100 to the end)" in text
        and "<collapses>" not in text.replace("\\<", "")
    )
    heading = {"report.md": "## Training", "report.html": "<h2>Training</h2>"}[form]
    assert heading in text and heading not in (tmp_path / "without" / form).read_text()


def test_mean_over_all_classes_is_left_out_where_it_says_nothing_new(make_inputs: MakeInputs, tmp_path: Path) -> None:
    inputs = make_inputs()
    entries = [{**entry, "evaluated": True} for entry in inputs.table.to_dict()["classes"]]
    table = inputs.table.from_dict({"name": "all", "classes": entries})
    write_report(tmp_path, make_inputs(table=table))
    assert "mIoU*" not in (tmp_path / "report.md").read_text(encoding="utf-8").replace("\\", "")
    assert "mIoU*" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_markdown_tables_keep_their_columns_and_link_every_figure(make_inputs: MakeInputs, tmp_path: Path) -> None:
    document = write_report(tmp_path, make_inputs())
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    columns = 0
    for line in text.splitlines():
        bars = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert not (columns and bars) or bars == columns, line
        columns = bars
    linked = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert sorted(linked) == sorted(figure["file"] for figure in document["figures"])
    assert all((tmp_path / name).is_file() for name in linked)
