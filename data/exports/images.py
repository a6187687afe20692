"""A folder of images and label maps with a class file, as the reader `folder` takes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from scenepalette.common.files import sync_disks, write_atomically
from scenepalette.data.cards.dataset_card import label_origins_of, title_of
from scenepalette.data.exports.parts import Part, parts_of_shards
from scenepalette.data.exports.rows import ExportedRow, ShardFolder
from scenepalette.data.shards.manifest import licence_of

CLASS_FILE = "classes.yaml"


class ImageFolder:
    """OUT/train/images/ID.(jpg|png), OUT/train/labels/ID.png and OUT/classes.yaml."""

    def __init__(self, out: Path, shards: ShardFolder) -> None:
        """Write into `out`."""
        self.out, self.shards = out, shards
        self.parts: Sequence[Part] = parts_of_shards(shards.manifest)

    def write(self, part: Part, rows: Iterator[ExportedRow]) -> dict[str, Any]:
        """Write the files of some rows."""
        count = 0
        for row in rows:
            folder = self.out / "train"
            write_atomically(folder / "images" / row.image_name, row.image, durable=False)
            write_atomically(folder / "labels" / f"{row.key}.png", row.label, durable=False)
            count += 1
        sync_disks()
        return {"rows": count}

    def finish(self) -> None:
        """Write the class file: YAML, which states licence and lineage as well; a CSV file could not."""
        table, manifest = self.shards.table, self.shards.manifest
        content = {
            "name": table.name,
            "licence": licence_of(manifest),
            # Whoever learns from the folder says in turn that no human drew these labels.
            "data_set": title_of(manifest)[:100],
            "label_origin": label_origins_of(manifest)[:2000],
            "classes": [
                {"name": entry.name}
                | dict(zip(("red", "green", "blue"), entry.color, strict=True))
                | {"evaluated": entry.evaluated}
                for entry in table.classes
            ],
        }
        write_atomically(self.out / CLASS_FILE, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
