"""Markdown tables made narrow: Prefect's UI neither wraps the cells of a table nor shows a bar to scroll it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

# Of the page of an artifact in a window of 1280 pixels, beside the artifact's details; cells are set in 14 pixels.
TABLE_PIXELS = 710
CELL_PADDING = 25
CHARACTER_PIXELS = 7.3
# A column with a longer cell is text to read, not a value to compare.
LONG_CELL = 24
_CELL = re.compile(r"(?:\\.|[^\\|])+")
_DELIMITER = re.compile(r"\|(?: *:?-+:? *\|)+")

Row = Sequence[str]


def narrow_tables(markdown: str, pixels: float = TABLE_PIXELS) -> str:
    """Return a text whose tables fit into a page without wrapping.

    Of a table that is too wide, the columns with the longest cells become a list below it. What is then still too wide
    is shown as several tables, each of which begins with the first column.

    Args:
        markdown: Text with tables of the form `| a | b |`; other lines stay as they are.
        pixels: Width of the page.
    """
    return "\n".join(_narrowed(markdown.split("\n"), pixels))


def _narrowed(lines: Sequence[str], pixels: float) -> Iterator[str]:
    place, fenced = 0, False
    while place < len(lines):
        fenced ^= lines[place].startswith("```")
        if fenced or not _begins_table(*lines[place : place + 2]):
            yield lines[place]
            place += 1
            continue
        end = place
        while end < len(lines) and lines[end].startswith("|"):
            end += 1
        head, _, *rows = (_cells(line) for line in lines[place:end])
        even = all(len(row) == len(head) for row in rows)
        if not even or _width([head, *rows], range(len(head))) <= pixels:
            yield from lines[place:end]
        else:
            yield from _split(head, rows, pixels)
        place = end


def _begins_table(line: str, following: str = "") -> bool:
    return line.startswith("|") and _DELIMITER.fullmatch(following) is not None


def _split(head: Row, rows: Sequence[Row], pixels: float) -> Iterator[str]:
    """Yield the lines of a table that is too wide as narrower tables and a list."""
    kept = list(range(len(head)))
    listed: list[int] = []
    while _width([head, *rows], kept) > pixels:
        longest = max(kept[1:], key=lambda column: _longest(rows, column), default=0)
        if not longest or _longest(rows, longest) <= LONG_CELL:
            break
        kept.remove(longest)
        listed.append(longest)
    blocks = [[*_table(head, rows, columns)] for columns in _groups([head, *rows], kept, pixels)]
    if listed:
        blocks.append([*_list(head, rows, sorted(listed))])
    for number, block in enumerate(blocks):
        yield from ["", *block] if number else block


def _groups(rows: Sequence[Row], columns: Sequence[int], pixels: float) -> list[list[int]]:
    """Return the columns of each table; none if only the first is left, which the list has too."""
    first, *others = columns
    groups: list[list[int]] = []
    for column in others:
        if not groups or _width(rows, [*groups[-1], column]) > pixels:
            groups.append([first])
        groups[-1].append(column)
    return groups


def _table(head: Row, rows: Sequence[Row], columns: Sequence[int]) -> Iterator[str]:
    for row in (head, ["---"] * len(head), *rows):
        yield f"| {' | '.join(row[column] for column in columns)} |"


def _list(head: Row, rows: Sequence[Row], columns: Sequence[int]) -> Iterator[str]:
    """Yield a list with a point per row; a column's title is there if it cannot be guessed."""
    if len(columns) == 1 and len(head) > 2:
        yield from (f"{head[columns[0]]}:", "")
    for row in rows:
        named = len(columns) > 1
        texts = [f"{head[column]}: {row[column]}" if named else row[column] for column in columns if row[column]]
        if texts:
            yield f"- **{row[0]}**: {'; '.join(texts)}"


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in _CELL.findall(line)]


def _longest(rows: Sequence[Row], column: int) -> int:
    return max((_length(row[column]) for row in rows), default=0)


def _width(rows: Sequence[Row], columns: Sequence[int]) -> float:
    longest = [max(_length(row[column]) for row in rows) for column in columns]
    return CHARACTER_PIXELS * sum(longest) + CELL_PADDING * len(longest)


def _length(cell: str) -> int:
    """Count the characters that are seen of a cell."""
    return len(re.sub(r"\\(.)", r"\1", cell))
