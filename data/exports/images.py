"""A folder of images and label maps with a class file, as the reader `folder` takes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml

from scenepalette.common.storage.files import write_atomically
from scenepalette.data.cards.dataset_card import label_origins_of, title_of
from scenepalette.data.exports.verified_shards import ExportedRow, VerifiedShards
from scenepalette.data.shards.manifest import licence_of

CLASS_FILE = "classes.yaml"


def write_image_folder(out: Path, shards: VerifiedShards, rows: Iterator[ExportedRow]) -> None:
    """Write OUT/train/images/ID.(jpg|png), OUT/train/labels/ID.png and OUT/classes.yaml."""
    for row in rows:
        write_atomically(out / "train/images" / row.image_name, row.image, durable=False)
        write_atomically(out / "train/labels" / f"{row.key}.png", row.label, durable=False)
    manifest = shards.manifest
    # YAML, which states licence and lineage as well; a CSV file could not.
    content = {
        "name": shards.table.name,
        "licence": licence_of(manifest),
        # Whoever learns from the folder says in turn that no human drew these labels.
        "data_set": title_of(manifest)[:100],
        "label_origin": label_origins_of(manifest)[:2000],
        "classes": [
            {"name": entry.name}
            | dict(zip(("red", "green", "blue"), entry.color, strict=True))
            | {"evaluated": entry.evaluated}
            for entry in shards.table.classes
        ],
    }
    write_atomically(out / CLASS_FILE, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
