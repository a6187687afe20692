"""WebDataset tars: consecutive files with the same name up to its first dot are one sample."""

from __future__ import annotations

import io
import itertools
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scenepalette.common.storage.files import open_atomically, sha256_of_open
from scenepalette.data.exports.verified_shards import ExportedRow, VerifiedShards
from scenepalette.data.shards.schema import INSERTED, PLAIN, Row, schema_version_of


def write_tars(
    out: Path, shards: VerifiedShards, rows: Iterator[ExportedRow], rows_per_tar: int
) -> list[dict[str, Any]]:
    """Write OUT/train-000000.tar and so on, each sample ID.(jpg|png), ID.json and ID.label.png.

    Equal rows give equal bytes.

    Args:
        out: Where to write.
        shards: The shards.
        rows: Their rows.
        rows_per_tar: Samples in each tar.

    Returns:
        Name, rows, bytes and SHA-256 of each tar.
    """
    tars, count = [], shards.manifest["rows"]
    for number, first in enumerate(range(0, count, rows_per_tar)):
        path, samples = out / f"train-{number:06d}.tar", min(rows_per_tar, count - first)
        with open_atomically(path) as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
                for row in itertools.islice(rows, samples):
                    _add(tar, row.image_name, row.image)
                    _add(tar, f"{row.key}.json", json.dumps(facts_of(row.row), sort_keys=True).encode())
                    _add(tar, f"{row.key}.label.png", row.label)
            size = file.tell()
            tars.append({"name": path.name, "rows": samples, "bytes": size, "sha256": sha256_of_open(file)})
    return tars


def facts_of(row: Row) -> dict[str, Any]:
    """Return all columns of a row but its images, as JSON values."""
    return {
        **{name: getattr(row, name) for name in PLAIN},
        "palette_target": [float(share) for share in row.palette_target],
        "palette_achieved": [float(share) for share in row.palette_achieved],
        "source_id": row.source_id,
        "edit_box": None if row.edit_box is None else list(row.edit_box),
        **({name: getattr(row, name) for name in INSERTED} if schema_version_of(row) > 1 else {}),
    }


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a file whose header says nothing of when, where and by whom it was written."""
    header = tarfile.TarInfo(name)
    header.size, header.mode = len(content), 0o644
    tar.addfile(header, io.BytesIO(content))
