"""What the tests with any bytes and any values share."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

FUZZ = settings(
    max_examples=150, deadline=30_000, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)

Changes = Sequence[tuple[int, int]]
"""Positions in a file and the byte that each is given."""


def changes(last: int, *, least: int = 1, most: int = 6) -> st.SearchStrategy[Changes]:
    """Return a strategy for changed bytes at positions from 0 to `last`."""
    return st.lists(st.tuples(st.integers(0, last), st.integers(0, 255)), min_size=least, max_size=most)


def damaged(content: bytes, made: Changes, kept: int | None = None) -> bytes:
    """Return `content` with bytes changed, at positions counted round its end, and cut off after `kept` bytes."""
    changed = bytearray(content)
    for position, value in made:
        changed[position % len(changed)] = value
    return bytes(changed[:kept])
