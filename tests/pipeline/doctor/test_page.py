from __future__ import annotations

import re

import pytest

from scenepalette.pipeline.doctor.findings import SHOWN_DETAILS, Check, Diagnosis
from scenepalette.pipeline.doctor.page import to_html, to_markdown, to_text

CHECKS = (
    Check("files", "ok", "Every file decodes."),
    Check("classes", "note", "One is rare."),
    Check("leakage", "warning", "Two *pairs* <b>.", "Remove them.", tuple(f"pair {i}" for i in range(30))),
    Check("pairing", "problem", "A label is missing.", "Add it.", ("train/a.png: no label",)),
)


def diagnosis(*statuses: str) -> Diagnosis:
    return Diagnosis(
        "demo on streets", "scenepalette doctor demo", tuple(c for c in CHECKS if c.status in statuses), {}
    )


@pytest.mark.parametrize(
    ("statuses", "failed", "strict", "verdict"),
    [
        (("ok",), False, False, "Nothing has to be fixed."),
        (("ok", "note"), False, False, "Nothing has to be fixed: 1 note."),
        (("ok", "warning"), False, True, "Nothing has to be fixed: 1 warning."),
        (("ok", "note", "warning", "problem"), True, True, "To be fixed before a run: 1 problem, 1 warning, 1 note."),
    ],
)
def test_problems_fail_and_warnings_if_strict(
    statuses: tuple[str, ...], failed: bool, strict: bool, verdict: str
) -> None:
    found = diagnosis(*statuses)
    assert (found.failed(), found.failed(strict=True), found.verdict()) == (failed, strict, verdict)
    document = found.to_dict(strict=True)
    assert document["failed"] is strict and document["schema"] == 1
    assert [check["status"] for check in document["checks"]] == list(statuses)


def test_the_page_is_worst_first_and_shows_a_bounded_number_of_details() -> None:
    found = diagnosis("ok", "note", "warning", "problem")
    text = to_text(found)
    places = [
        text.index(word) for word in ("PROBLEM  pairing", "WARNING  leakage", "note     classes", "ok       files")
    ]
    assert places == sorted(places)
    assert "-> Remove them." in text and f"... and {30 - SHOWN_DETAILS} more" in text
    assert max(map(len, text.splitlines())) <= 100


def test_markdown_and_html_take_texts_as_they_are() -> None:
    found = diagnosis("warning")
    assert r"Two \*pairs\* \<b\>." in to_markdown(found)
    page = to_html(found)
    assert "Two *pairs* &lt;b&gt;." in page and "Remove them." in page
    assert not re.search(r"(src|href)=|https?://|@import|url\(", page)
    assert "default-src 'none'" in page
