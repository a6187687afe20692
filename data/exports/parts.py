"""The parts of an export: each is written, recorded and, when an export goes on, skipped as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Part:
    """Consecutive rows of a folder of shards.

    Attributes:
        name: Names the part's record.
        first: Place of its first row in the folder.
        rows: Number of rows.
    """

    name: str
    first: int
    rows: int


def parts_of_shards(manifest: Mapping[str, Any]) -> list[Part]:
    """Return one part per shard."""
    parts, first = [], 0
    for shard in manifest["shards"]:
        parts.append(Part(shard["name"].removesuffix(".parquet"), first, shard["rows"]))
        first += shard["rows"]
    return parts
