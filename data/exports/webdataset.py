"""WebDataset tars: consecutive files with the same name up to its first dot are one sample."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from scenepalette.common.files import open_atomically, sha256_of_open
from scenepalette.data.exports.parts import Part
from scenepalette.data.exports.rows import ExportedRow, ShardFolder
from scenepalette.data.shards.schema import Row

ROWS_PER_TAR = 1000


class WebDataset:
    """OUT/train-000000.tar and so on, each sample ID.(jpg|png), ID.json and ID.label.png; equal rows, equal bytes."""

    def __init__(self, out: Path, shards: ShardFolder, rows_per_tar: int) -> None:
        """Write into `out`, `rows_per_tar` samples into each tar."""
        self.out, rows = out, shards.manifest["rows"]
        self.parts: Sequence[Part] = [
            Part(f"train-{number:06d}", first, min(rows_per_tar, rows - first))
            for number, first in enumerate(range(0, rows, rows_per_tar))
        ]

    def write(self, part: Part, rows: Iterator[ExportedRow]) -> dict[str, Any]:
        """Write one tar; return its name, rows, bytes and SHA-256."""
        count, path = 0, self.out / f"{part.name}.tar"
        with open_atomically(path) as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
                for row in rows:
                    _add(tar, row.image_name, row.image)
                    _add(tar, f"{row.key}.json", json.dumps(facts_of(row.row), sort_keys=True).encode())
                    _add(tar, f"{row.key}.label.png", row.label)
                    count += 1
            size = file.tell()
            digest = sha256_of_open(file)
        return {"name": path.name, "rows": count, "bytes": size, "sha256": digest}

    def finish(self) -> None:
        """Do nothing: the tars are all there is."""


def facts_of(row: Row) -> dict[str, Any]:
    """Return all columns of a row but its pictures, as JSON values."""
    return {
        "id": row.id,
        "kind": row.kind,
        "palette_target": [float(share) for share in row.palette_target],
        "palette_achieved": [float(share) for share in row.palette_achieved],
        "source_id": row.source_id,
        "edit_box": None if row.edit_box is None else list(row.edit_box),
        "seed": row.seed,
        "index": row.index,
        "layout_model": row.layout_model,
        "image_model": row.image_model,
    }


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a file whose header says nothing of when, where and by whom it was written."""
    header = tarfile.TarInfo(name)
    header.size, header.mode = len(content), 0o644
    tar.addfile(header, io.BytesIO(content))
