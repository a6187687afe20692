"""A page of headings, sentences, tables and figures, written once as Markdown and as one HTML file.

The HTML needs nothing beside it and no network: figures are data URIs, styles are inline, and a policy forbids every
other request. Markdown is yielded as groups of lines between which there is an empty one.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, Protocol

from jinja2 import Environment, StrictUndefined

from scenepalette.common.storage.files import write_atomically, write_json

# Columns of a narrow table: Prefect's UI neither wraps the cells of a table nor shows a bar to scroll it.
NARROW = 4

Lines = Iterator[list[str]]


class Block(Protocol):
    """A part of a page."""

    kind: ClassVar[str]
    """What the template of the HTML goes by."""

    def markdown(self, narrow: bool) -> Lines:
        """Yield groups of lines; see `to_markdown`."""
        ...


@dataclass(frozen=True)
class Heading:
    """A heading of level 2."""

    kind: ClassVar[str] = "heading"
    text: str

    def markdown(self, narrow: bool) -> Lines:
        """Yield one line."""
        yield [f"## {_escape(self.text)}"]


@dataclass(frozen=True)
class Text:
    """A paragraph that explains what stands beside it."""

    kind: ClassVar[str] = "text"
    text: str

    def markdown(self, narrow: bool) -> Lines:
        """Yield one line."""
        yield [_escape(self.text)]


@dataclass(frozen=True)
class Bullets:
    """A list of sentences; with a title it is a note that stands out."""

    kind: ClassVar[str] = "bullets"
    sentences: Sequence[str]
    title: str = ""

    def markdown(self, narrow: bool) -> Lines:
        """Yield the title and the points."""
        if self.title:
            yield [f"### {_escape(self.title)}"]
        yield [f"- {_escape(sentence)}" for sentence in self.sentences]


@dataclass(frozen=True)
class Cell:
    """What a cell of a table holds where it is more than text.

    Attributes:
        text: The value.
        aside: What belongs to it, such as an interval.
        style: "gains", "loses" or "same", or nothing.
        axis: Low end, mean and high end of an interval on an axis from -1 to 1 that HTML draws; None for none.
    """

    text: str
    aside: str = ""
    style: str = ""
    axis: tuple[float, float, float] | None = None

    def __str__(self) -> str:
        return f"{self.text} {self.aside}".strip()


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        head: Titles of the columns.
        rows: Cells, as many per row.
        numeric: Columns that HTML aligns on the right.
        long: How many of the last columns hold text to read, not values to compare.
    """

    kind: ClassVar[str] = "table"
    head: Sequence[str]
    rows: Sequence[Sequence[Cell | str]]
    numeric: Sequence[int] = ()
    long: int = 0

    def markdown(self, narrow: bool) -> Lines:
        """Yield the table; or narrow tables that begin with the first column, and its long columns as a list."""
        last = len(self.head) - self.long
        if not narrow:
            yield self._lines(range(len(self.head)))
            return
        for column in range(1, last, NARROW - 1):
            yield self._lines([0, *range(column, min(column + NARROW - 1, last))])
        if self.long == 1 and last > 1:
            yield [f"{_escape(self.head[-1])}:"]
        if self.long:
            yield [f"- **{_escape(str(row[0]))}**: {self._named(row)}" for row in self.rows]

    def _lines(self, columns: Sequence[int]) -> list[str]:
        rows = [self.head, *self.rows]
        lines = [f"| {' | '.join(_escape(str(row[column])) for column in columns)} |" for row in rows]
        return [lines[0], f"|{'|'.join(' --- ' for _ in columns)}|", *lines[1:]]

    def _named(self, row: Sequence[Cell | str]) -> str:
        cells = list(zip(self.head, map(str, row), strict=True))[len(row) - self.long :]
        return _escape("; ".join(f"{title}: {text}" if self.long > 1 else text for title, text in cells))


@dataclass(frozen=True)
class Figure:
    """A PNG, by its path relative to the page."""

    kind: ClassVar[str] = "figure"
    file: str
    title: str
    caption: str

    def markdown(self, narrow: bool) -> Lines:
        """Yield a link to the file, and the caption."""
        yield [f"![{_escape(self.title)}]({self.file})"]
        yield [f"*{_escape(self.caption)}*"]


@dataclass(frozen=True)
class Code:
    """Lines to copy."""

    kind: ClassVar[str] = "code"
    text: str

    def markdown(self, narrow: bool) -> Lines:
        """Yield the lines between fences."""
        yield ["```", self.text, "```"]


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes:
        title: Its heading.
        headline: The result in one sentence, or nothing.
        introduction: What it is about.
        blocks: Its content in order.
    """

    title: str
    headline: str
    introduction: str
    blocks: Sequence[Block]


def to_markdown(page: Page, narrow: bool = False) -> str:
    """Return a page as Markdown, readable as plain text and on a code host; figures are linked.

    Args:
        page: What it holds.
        narrow: Split wide tables: a table shows at most four columns that hold values, the first of which is repeated,
            and columns of text become a list below.
    """
    groups = [[f"# {_escape(page.title)}"], [f"**{_escape(page.headline)}**"] if page.headline else []]
    groups.append([_escape(page.introduction)])
    groups += [lines for block in page.blocks for lines in block.markdown(narrow)]
    return "\n\n".join("\n".join(lines) for lines in groups if lines) + "\n"


def to_html(page: Page, images: Mapping[str, bytes]) -> str:
    """Return a page as one HTML file with the PNG of each of its figures, by their `file`."""
    sources = {name: f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}" for name, png in images.items()}
    return fill_template("scenepalette.pipeline.report", "page.html.jinja", page=page, sources=sources)


def fill_template(package: str, name: str, **values: Any) -> str:
    """Return a template of a package filled with values, all of which are escaped and none of which may lack."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(files(package).joinpath(name).read_text(encoding="utf-8")).render(**values)


def write_page(folder: Path, name: str, page: Page, document: Mapping[str, Any], images: Mapping[str, bytes]) -> None:
    """Write NAME.md, NAME.html and, last, NAME.json, each atomically.

    Args:
        folder: Made if it is not there.
        name: Name of the files.
        page: What the first two hold.
        document: What the last holds.
        images: See `to_html`.
    """
    write_atomically(folder / f"{name}.md", to_markdown(page))
    write_atomically(folder / f"{name}.html", to_html(page, images))
    write_json(folder / f"{name}.json", document)


def figures_of(document: Mapping[str, Any], section: str) -> list[Figure]:
    """Return the figures of a report that belong to a section."""
    figures = [each for each in document["figures"] if each["section"] == section]
    return [Figure(each["file"], each["title"], each["caption"]) for each in figures]


def provenance_table(document: Mapping[str, Any]) -> Table:
    """Return the table of versions, hashes and hardware of a document."""
    rows = [(key, show_value(value)) for key, value in document["provenance"].items()]
    return Table(("Field", "Value"), rows, long=1)


def show_value(value: Any) -> str:
    """Return a value of the provenance on one line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _escape(text: str) -> str:
    """Keep names from being read as markup."""
    for character in ("\\", "|", "*", "_", "<", "`"):
        text = text.replace(character, "\\" + character)
    return text.replace("\n", " ")
