"""Reading shards row by row, in bounded memory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from scenepalette.common.errors import DataError
from scenepalette.data.shards.manifest import link_problems, read_manifest, require_those_of_manifest, table_of_manifest
from scenepalette.data.shards.places import ShardPlace
from scenepalette.data.shards.schema import SCHEMA_VERSIONS, Row, decode_row, schema_of

# Of a row group, unpacked: some kilobytes compressed can claim gigabytes, while images hardly compress any further.
MAX_GROUP_BYTES = 2 * 2**30
MAX_UNPACKING = 8
FREE_GROUP_BYTES = 64 * 2**20
_SCHEMAS = [schema_of(None, version) for version in SCHEMA_VERSIONS]


@contextlib.contextmanager
def explained_read(path: Path, part: str = "") -> Iterator[None]:
    """Turn what pyarrow raises for a damaged file into a `DataError` that names the file."""
    try:
        yield
    except (pa.ArrowException, OSError, EOFError, UnicodeError) as error:  # the last from names of columns
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise DataError(
            f"{path}{part} cannot be read ({reason}). The file is missing or damaged; `scenepalette shards verify` "
            "names the rows. Copy or generate it again."
        ) from error


class _ShardFile(pq.ParquetFile):
    """A Parquet file that closes the file that it was opened on."""

    def close(self, force: bool = True) -> None:
        super().close(force=force)


def open_folder(folder: Path | str) -> dict[str, Any]:
    """Return the manifest of a folder of shards, once what its links lead to was checked.

    Raises:
        DataError: As for `read_manifest`, or a link leads to other content than the manifest says.
    """
    manifest = read_manifest(folder)
    require_those_of_manifest(folder, link_problems(Path(folder), manifest))
    return manifest


def open_shard(path: Path, rows: int | None = None) -> pq.ParquetFile:
    """Open a shard so that every page is checked against its checksum when it is read.

    Args:
        path: The file.
        rows: How many rows its manifest says it has; None to take any number.

    Raises:
        DataError: It is missing, truncated, no Parquet file, has other columns than a schema or another number of
            rows, or would unpack to an absurd size.
    """
    with explained_read(path):
        # By the bytes of its path, which need not be text.
        source = pa.OSFile(os.fsencode(path))
        file = _ShardFile(source, page_checksum_verification=True, pre_buffer=False)
    if not any(file.schema_arrow.equals(schema) for schema in _SCHEMAS):
        file.close()
        raise DataError(f"{path} does not have the columns of shard schema 1 or 2. Generate it again.")
    if rows is not None and file.metadata.num_rows != rows:
        file.close()
        raise DataError(
            f"{path} has {file.metadata.num_rows} rows, its manifest says {rows}. Copy or generate it again."
        )
    most = min(MAX_GROUP_BYTES, FREE_GROUP_BYTES + MAX_UNPACKING * path.stat().st_size)
    for group in range(file.num_row_groups):
        # Not of each column: asked for the metadata of one, pyarrow ends the whole process where these are damaged.
        size = file.metadata.row_group(group).total_byte_size
        if not 0 <= size <= most:
            file.close()
            raise DataError(
                f"{path} row group {group} unpacks to {size} bytes; at most {most} are read of a file of this size. It "
                "is damaged or made to do harm: copy it again, or ask its maker."
            )
    return file


def groups_of(file: pq.ParquetFile) -> Iterator[tuple[int, range]]:
    """Yield the row groups of an open shard, each with the numbers of its rows."""
    end = 0
    for group in range(file.num_row_groups):
        start, end = end, end + file.metadata.row_group(group).num_rows
        yield group, range(start, end)


def read_group(file: pq.ParquetFile, path: Path, group: int, columns: list[str] | None = None) -> pa.Table:
    """Read a row group of an open shard, checked down to its texts.

    Raises:
        DataError: It is damaged.
    """
    with explained_read(path, f" row group {group}"):
        table = file.read_row_group(group, columns=columns, use_threads=False)
        # Offsets and texts: what a foreign file holds without checksums would else raise as it becomes Python values.
        table.validate(full=True)
        return table


def tables_of(path: Path, rows: int | None = None, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """Yield the row groups of a shard in order; one is held at a time. Arguments and errors are those of `open_shard`.

    Args:
        path: The file.
        rows: How many rows its manifest says it has; None to take any number.
        columns: Those that are read; None for all.
    """
    with open_shard(path, rows) as file:
        for group in range(file.num_row_groups):
            yield read_group(file, path, group, columns)


def tables_of_folder(folder: Path, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """Yield all columns, or some, of all row groups of a folder of shards, in order; no image is decoded.

    Raises:
        DataError: The folder is not complete, or a shard is damaged or not that of the manifest.
    """
    place = ShardPlace(folder)
    for shard in open_folder(place.folder)["shards"]:
        yield from tables_of(place.path(shard), shard["rows"], columns)


def iterate_rows(folder: Path | str) -> Iterator[Row]:
    """Yield the rows of all shards in order; one row group is held at a time.

    Args:
        folder: A folder with a manifest, or the URL of one, whose shards are copied one by one.

    Raises:
        DataError: The folder is not complete or a row cannot be read.
    """
    place = ShardPlace(folder)
    for shard in open_folder(place.folder)["shards"]:
        path = place.path(shard)
        for table in tables_of(path, shard["rows"]):
            for position in range(table.num_rows):
                yield _row_of(table, position, path)


def read_row(folder: Path | str, row_id: str) -> Row:
    """Find one row by its id; only id columns and one row group are read.

    Args:
        folder: A folder with a manifest, or the URL of one, whose shards are copied one by one.
        row_id: The id.

    Raises:
        DataError: No row has this id, or it cannot be read.
    """
    place = ShardPlace(folder)
    for shard in open_folder(place.folder)["shards"]:
        path = place.path(shard)
        with open_shard(path) as file:
            for group in range(file.num_row_groups):
                ids = read_group(file, path, group, ["id"])["id"].to_pylist()
                if row_id in ids:
                    return _row_of(read_group(file, path, group), ids.index(row_id), path)
    raise DataError(f"No row in {folder} has the id {row_id!r}. `scenepalette shards show` lists some ids.")


def read_values(path: Path, position: int) -> dict[str, Any]:
    """Return the stored values of the row at a position of a shard, images as the bytes that they are.

    Raises:
        DataError: The file has no such row, or it cannot be read.
    """
    for table, inside in _groups_at(path, [position]):
        return table.slice(inside, 1).to_pylist()[0]
    raise DataError(f"{path} has no row {position}.")


def contact_sheet(folder: Path | str, count: int = 16, columns: int = 4) -> Image.Image:
    """Return an RGB image of evenly spaced pairs: each image with its coloured label map beneath.

    Args:
        folder: A folder with a manifest, or the URL of one, of whose shards those are copied that are shown.
        count: Most pairs to show, at least 1.
        columns: Pairs side by side, at least 1.

    Raises:
        DataError: The folder is not complete, a row cannot be read, or a number is below 1.
    """
    if count < 1 or columns < 1:
        raise DataError(f"A contact sheet of {count} pairs in {columns} columns is empty. Give numbers of at least 1.")
    place = ShardPlace(folder)
    manifest = open_folder(place.folder)
    table = table_of_manifest(manifest)
    wanted = np.unique(np.linspace(0, manifest["rows"] - 1, min(count, manifest["rows"])).astype(int))
    tiles = []
    first = 0
    for shard in manifest["shards"]:
        inside = wanted[(wanted >= first) & (wanted < first + shard["rows"])] - first
        first += shard["rows"]
        if inside.size:
            path = place.path(shard)
            rows = [_row_of(group, position, path) for group, position in _groups_at(path, inside.tolist())]
            tiles += [np.concatenate([row.image, table.colorize(row.label)]) for row in rows]
    height = max(tile.shape[0] for tile in tiles)
    width = max(tile.shape[1] for tile in tiles)
    columns = min(columns, len(tiles))
    gap = 4
    lines = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (columns * (width + gap) + gap, lines * (height + gap) + gap), "white")
    for position, tile in enumerate(tiles):
        line, column = divmod(position, columns)
        sheet.paste(Image.fromarray(tile), (gap + column * (width + gap), gap + line * (height + gap)))
    return sheet


def _groups_at(path: Path, positions: list[int]) -> Iterator[tuple[pa.Table, int]]:
    """Yield row group and place in it of ascending positions of one shard; other row groups are not read."""
    with open_shard(path) as file:
        for group, rows in groups_of(file):
            inside = [position - rows.start for position in positions if position in rows]
            if inside:
                table = read_group(file, path, group)
                for position in inside:
                    yield table, position


def _row_of(table: pa.Table, position: int, path: Path) -> Row:
    values = table.slice(position, 1).to_pylist()[0]
    return decode_row(values, f"{path} row {values['id']!r}")
