"""A diagnosis as a page: styled lines for terminals, Markdown, and one HTML file that needs nothing beside it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from functools import partial

from scenepalette.pipeline.doctor.findings import SHOWN_IN_PAGE, STATUSES, Diagnosis, Status, shown
from scenepalette.pipeline.report.page import fill_template

MARKS: dict[Status, str] = {"ok": "ok     ", "note": "note   ", "warning": "WARNING", "problem": "PROBLEM"}
_WORST_FIRST: tuple[Status, ...] = tuple(reversed(STATUSES))


def lines_of(diagnosis: Diagnosis, strict: bool = False, width: int = 100) -> Iterator[tuple[str, str]]:
    """Yield the page line by line.

    Args:
        diagnosis: What was found.
        strict: Whether warnings count as problems in the verdict.
        width: Characters that a line may have.

    Yields:
        The kind of the line (a status, "title", "detail", "remedy", "verdict" or "") and its text.
    """
    yield "title", f"scenepalette doctor: {diagnosis.subject}"
    if diagnosis.facts:
        facts = ", ".join(f"{name} {value}" for name, value in diagnosis.facts.items())
        yield from (("", line) for line in textwrap.wrap(facts, width))
    yield "", ""
    for status in _WORST_FIRST:
        for check in diagnosis.of(status):
            first, *others = _wrapped(f"{MARKS[status]}  {check.name}: {check.summary}", width, 0, 9)
            yield status, first
            yield from (("", line) for line in others)
            for detail in shown(check.details, check.examples):
                yield from (("detail", line) for line in _wrapped(f"- {detail}", width, 9, 11))
            if check.remedy:
                yield from (("remedy", line) for line in _wrapped(f"-> {check.remedy}", width, 9, 12))
    yield "", ""
    yield "verdict", diagnosis.verdict(strict)


def _wrapped(text: str, width: int, first: int, others: int) -> list[str]:
    """Return the lines of a text, indented by so many characters."""
    return textwrap.wrap(
        text, width, initial_indent=" " * first, subsequent_indent=" " * others, break_on_hyphens=False
    )


def to_text(diagnosis: Diagnosis, strict: bool = False, width: int = 100) -> str:
    """Return the page as plain text."""
    return "\n".join(text for _, text in lines_of(diagnosis, strict, width)) + "\n"


def to_markdown(diagnosis: Diagnosis, strict: bool = False) -> str:
    """Return the page as Markdown; names of files appear as they are, not as markup."""
    parts = [f"# Doctor: {_plain(diagnosis.subject)}", f"**{_plain(diagnosis.verdict(strict))}**"]
    if diagnosis.facts:
        parts.append(", ".join(f"{name} {_plain(value)}" for name, value in diagnosis.facts.items()))
    for status in _WORST_FIRST:
        checks = diagnosis.of(status)
        if not checks:
            continue
        parts.append(f"## {status.capitalize()}{'' if status == 'ok' else 's'}")
        for check in checks:
            text = f"- **{_plain(check.name)}**: {_plain(check.summary)}"
            text += f" *{_plain(check.remedy)}*" if check.remedy else ""
            parts.append("\n".join([text, *(f"  - {_plain(detail)}" for detail in shown(check.details))]))
    return "\n\n".join(parts) + "\n"


def to_html(diagnosis: Diagnosis, strict: bool = False) -> str:
    """Fill the page; its policy forbids every request."""
    return fill_template(
        "scenepalette.pipeline.doctor",
        "doctor.html.jinja",
        diagnosis=diagnosis,
        verdict=diagnosis.verdict(strict),
        failed=diagnosis.failed(strict),
        statuses=_WORST_FIRST,
        shown=partial(shown, most=SHOWN_IN_PAGE),
    )


def _plain(text: str) -> str:
    """Escape what Markdown would take for markup."""
    return "".join(f"\\{mark}" if mark in r"\`*_{}[]<>#|" else mark for mark in text)
