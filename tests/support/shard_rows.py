"""Small folders of shards, made row by row."""

from __future__ import annotations

import io
import itertools
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from scenepalette.common.storage.files import sealed, sha256_of_file
from scenepalette.data.classes import ClassTable, SemanticClass
from scenepalette.data.shards.manifest import make_manifest, read_manifest, write_manifest
from scenepalette.data.shards.schema import ROW_GROUP, SCHEMA, Row, shard_name
from scenepalette.data.shards.writing import ShardInfo, write_shard

TABLE = ClassTable(
    "tiny",
    tuple(
        SemanticClass(name, (40 * k, 255 - 40 * k, 7)) for k, name in enumerate(["road", "car", "tree", "sky", "pole"])
    ),
)
HEIGHT, WIDTH = 12, 16
HASHES = {"layout_model": "a" * 64, "image_model": "b" * 64}


def make_row(index: int, **changes) -> Row:
    """Return row `index`; its label has ids 0..4 and 255, its image is smooth so that JPEG keeps it."""
    generator = np.random.default_rng(index)
    label = generator.choice(np.array([0, 1, 2, 3, 4, 255], dtype=np.uint8), (HEIGHT, WIDTH))
    label[0, 0] = index % 5
    image = np.empty((HEIGHT, WIDTH, 3), dtype=np.uint8)
    image[:] = generator.integers(30, 220, 3)
    counts = np.array([(label == k).sum() for k in range(5)])
    values = {
        "id": f"full-{index:06d}",
        "image": image,
        "label": label,
        "kind": "full",
        "palette_target": np.full(5, 0.2),
        "palette_achieved": counts / counts.sum(),
        "source_id": None,
        "edit_box": None,
        "seed": 7,
        "index": index,
        "layout_model": HASHES["layout_model"],
        "image_model": HASHES["image_model"],
    }
    return Row(**{**values, **changes})


def describe(folder: Path, shards: list[ShardInfo], **changes) -> Path:
    """Write the manifest of a test folder."""
    values = {
        "kind": "full",
        "table": TABLE,
        "config_hash": "c" * 64,
        "models": HASHES,
        "source": {"name": "tiny", "licence": "CC0-1.0"},
        "extra": {"fingerprint": "f"},
    }
    return write_manifest(folder, make_manifest(shards, **{**values, **changes}))


def make_folder(folder: Path, counts: tuple[int, ...], **options) -> list[Row]:
    """Write a complete folder with `counts[i]` rows in shard i and return the rows."""
    numbers = itertools.count()
    rows, shards = [], []
    for shard, count in enumerate(counts):
        part = [make_row(next(numbers)) for _ in range(count)]
        shards.append(write_shard(folder / shard_name(shard, len(counts)), part, **options))
        rows += part
    describe(folder, shards)
    return rows


def rewrite(folder: Path, row_changes: dict[int, dict]) -> None:
    """Replace values of rows of shard 0 past the writer's checks, and hash the file again in the manifest."""
    name = read_manifest(folder)["shards"][0]["name"]
    values = pq.read_table(folder / name).to_pylist()
    for position, change in row_changes.items():
        values[position].update(change)
    pq.write_table(pa.Table.from_pylist(values, schema=SCHEMA), folder / name, row_group_size=ROW_GROUP)
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    shard = manifest["shards"][0]
    shard["bytes"], shard["sha256"] = (folder / name).stat().st_size, sha256_of_file(folder / name)
    manifest["bytes"] = sum(item["bytes"] for item in manifest["shards"])
    path.write_text(json.dumps(sealed(manifest)))


def png(array: np.ndarray) -> bytes:
    """Return a PNG of an array."""
    content = io.BytesIO()
    Image.fromarray(array).save(content, "PNG")
    return content.getvalue()
