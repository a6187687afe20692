"""How messages are worded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun, in the plural where it has to be.

    Args:
        count: The number.
        noun: The noun, or a few words that begin with it: "label has".
        plural: The same in the plural; by default the noun with an "s".
    """
    return f"{count} {noun if count == 1 else plural or f'{noun}s'}"


def listed(values: Iterable[object], most: int = 4) -> str:
    """Write the first of some values with commas between them, and "..." for the others."""
    first = [str(value) for value in islice(values, most + 1)]
    return ", ".join([*first[:most], *["..." for _ in first[most:]]])


def first_and_more(names: Sequence[str], most: int = 1) -> str:
    """Write the first of some names with commas between them, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
