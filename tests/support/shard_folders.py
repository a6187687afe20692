"""Small folders of shards, as generation leaves them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from scenepalette.data.cards.croissant import write_croissant
from scenepalette.data.cards.dataset_card import write_card
from scenepalette.data.classes import ClassTable, SemanticClass
from scenepalette.data.shards.manifest import make_manifest, write_manifest
from scenepalette.data.shards.schema import Row, palette_of_label, shard_name
from scenepalette.data.shards.writing import write_shard

TABLE = ClassTable(
    "tiny", tuple(SemanticClass(name, (60 * k, 9, 7)) for k, name in enumerate(["road", "car", "tree", "sky"]))
)
SIZE = (8, 12)


def _row(index: int, kind: str) -> Row:
    """Return full or semi row `index`: noise for an image, ids 0 to 3 and 255 for a label."""
    generator = np.random.default_rng(index)
    label = generator.choice(np.array([0, 1, 2, 3, 255], dtype=np.uint8), SIZE)
    label[0, 0] = 0
    palette = palette_of_label(label, 4)
    image = generator.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    source, layout_model = (None, "a" * 64) if kind == "full" else (f"real/{index}", None)
    name = f"{kind}-{index:06d}"
    return Row(name, image, label, kind, palette, palette, source, None, 7, index, layout_model, "b" * 64)


@pytest.fixture
def write_shards() -> Callable[..., list[Row]]:
    """Return the function that writes a finished folder with so many rows in each shard and returns the rows."""

    def write(folder: Path, counts: Sequence[int], kind: str = "full", **changes) -> list[Row]:
        rows = [_row(index, kind) for index in range(sum(counts))]
        ends = np.cumsum(counts)
        shards = [
            write_shard(
                folder / shard_name(shard, len(counts)), rows[end - count : end], table=TABLE, image_format="png"
            )
            for shard, (count, end) in enumerate(zip(counts, ends, strict=True))
        ]
        about = {
            "kind": kind,
            "table": TABLE,
            "config_hash": "c" * 64,
            "models": {"image_model": "b" * 64} | ({"layout_model": "a" * 64} if kind == "full" else {}),
            "source": {"name": "tiny", "licence": "CC BY-NC-SA 4.0, non-commercial", "split": "train"},
            **changes,
        }
        manifest = make_manifest(shards, **about)
        write_card(folder, manifest)
        write_croissant(folder, manifest)
        write_manifest(folder, manifest)
        return rows

    return write
