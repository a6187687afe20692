"""A folder of shards as an export takes it: hashed and checked, with images as the bytes that are stored."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from scenepalette.common.errors import DataError
from scenepalette.common.storage.files import sha256_of_file
from scenepalette.data.shards.manifest import (
    read_manifest,
    require_those_of_manifest,
    shard_problems,
    table_of_manifest,
)
from scenepalette.data.shards.reading import tables_of
from scenepalette.data.shards.schema import Row, decode_row, row_problems


@dataclass(frozen=True)
class ExportedRow:
    """One row.

    Attributes:
        number: Its place in the folder, from 0.
        row: The decoded row.
        image: JPEG or PNG bytes, as stored.
        label: PNG bytes, as stored.
    """

    number: int
    row: Row
    image: bytes = field(repr=False)
    label: bytes = field(repr=False)

    @property
    def key(self) -> str:
        """Its id as a file name without extension: one part, no dot; different for different ids."""
        return quote(self.row.id, safe="").replace(".", "%2E")

    @property
    def image_name(self) -> str:
        """File name of the image, with the extension of its format."""
        return f"{self.key}.{'png' if self.image.startswith(bytes([0x89]) + b'PNG') else 'jpg'}"


class VerifiedShards:
    """A folder of shards whose files are hashed before their rows are given out."""

    def __init__(self, folder: Path) -> None:
        """Open a folder.

        Raises:
            DataError: It is not complete, or an id comes twice.
        """
        self.folder = folder
        self.manifest: Mapping[str, Any] = read_manifest(folder)
        require_those_of_manifest(folder, shard_problems(folder, self.manifest))
        self.table = table_of_manifest(self.manifest)
        self._check_ids()

    def _check_ids(self) -> None:
        """Files are named after ids: one that comes twice would lose a row. Eight bytes per row are held."""
        digests = array("Q")
        for shard in self.manifest["shards"]:
            for table in tables_of(self.folder / shard["name"], columns=["id"]):
                for row_id in table["id"].to_pylist():
                    digest = hashlib.blake2b(str(row_id).encode(), digest_size=8).digest()
                    digests.append(int.from_bytes(digest, "little"))
        if len(np.unique(np.asarray(digests))) < len(digests):
            raise DataError(f"Ids in {self.folder} come twice. `scenepalette shards verify` names the rows.")

    def rows(self) -> Iterator[ExportedRow]:
        """Yield all rows in order; one row group is held at a time.

        Raises:
            DataError: A file is not as the manifest says, or a row is damaged.
        """
        number = 0
        for shard in self.manifest["shards"]:
            path, first = self.folder / shard["name"], number
            if sha256_of_file(path) != shard["sha256"]:
                raise DataError(f"{path} was altered since it was written: its SHA-256 is not that of the manifest.")
            for table in tables_of(path, shard["rows"]):
                for row in table.to_batches(max_chunksize=1):  # as Python objects, a row at a time
                    (values,) = row.to_pylist()
                    yield self._checked(number, values, f"{self.folder} {shard['name']} row {number - first}")
                    number += 1

    def _checked(self, number: int, values: Mapping[str, Any], where: str) -> ExportedRow:
        row = decode_row(values, where)
        problems = row_problems(row)
        if len(row.palette_achieved) != self.table.num_classes:
            problems.append(
                f"its palettes have {len(row.palette_achieved)} classes, the manifest {self.table.num_classes}"
            )
        if problems:
            raise DataError(f"{where} ({row.id!r}) cannot be exported.", problems)
        return ExportedRow(number, row, values["image"]["bytes"], values["label"]["bytes"])
