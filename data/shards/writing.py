"""Writing one shard: images are encoded in threads while the model makes more rows."""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from scenepalette.common.errors import ConfigError, DataError
from scenepalette.common.storage.files import open_atomically, sha256_of_file, sha256_of_open
from scenepalette.data.classes import ClassTable
from scenepalette.data.shards.schema import IMAGE_FORMATS, INSERTED, ROW_GROUP, ImageFormat, Row, encode_row, schema_of

# Rows taken from the producer and not yet encoded; with one row group of encoded rows, all that a writer ever holds.
ROWS_IN_FLIGHT = ROW_GROUP

_PARQUET_OPTIONS: dict[str, Any] = {
    "use_dictionary": ["kind", "source_id", "seed", "layout_model", "image_model"],
    # Smallest and largest values help a query to skip row groups, except those of images, which cost room.
    "write_statistics": ["id", "kind", "source_id", "seed", "index"],
    "write_page_checksum": True,
}


@dataclass(frozen=True)
class ShardInfo:
    """What the manifest says of one shard.

    Attributes:
        name: File name without folder.
        rows: Number of rows, at least 1.
        bytes: Size of the file.
        sha256: Hex SHA-256 of the file.
    """

    name: str
    rows: int
    bytes: int
    sha256: str


def write_shard(
    path: Path | str,
    rows: Iterable[Row],
    *,
    table: ClassTable | None = None,
    image_format: ImageFormat = "jpeg",
    jpeg_quality: int = 95,
    encoders: int = 1,
    expected_sha256: str | None = None,
) -> ShardInfo:
    """Write rows to one Parquet file that appears under its name only when it is whole.

    Rows are encoded in threads while `rows` continues. The producer is never more than `ROWS_IN_FLIGHT` rows
    ahead of the encoders, so no more than 64 rows and one row group of encoded rows are held (beside the ids, which
    must be unique). The bytes of the file depend on the rows, the table and the format alone, not on `encoders`. It is
    of schema 2 if its rows say what was inserted, else of schema 1.

    Args:
        path: The final name, see `shard_name`.
        rows: Produced lazily, typically while a model generates them.
        table: The classes, whose names `datasets` then shows; None where the file is not to name them.
        image_format: "jpeg" (no chroma subsampling) or "png" (lossless); labels are always PNG.
        jpeg_quality: 1 to 95.
        encoders: Number of encoder threads.
        expected_sha256: What the file must hash to; any other does not take the name.

    Returns:
        Name, rows, bytes and hash of the file.

    Raises:
        DataError: A row breaks the schema or has other columns than the first, an id comes twice, there is no row, or
            the hash is not the expected one.
        ConfigError: A setting is out of range.
        ScenepaletteError: The disk is full or the folder cannot be written.
        Exception: Whatever `rows` raises comes through. No exception leaves a file behind.
    """
    path = Path(path)
    problems = []
    if image_format not in IMAGE_FORMATS:
        problems.append(f"image_format is {image_format!r}, not one of {', '.join(IMAGE_FORMATS)}")
    if not 1 <= jpeg_quality <= 95:
        problems.append(f"jpeg_quality is {jpeg_quality}, not in 1 .. 95")
    if encoders < 1:
        problems.append(f"encoders is {encoders}, not at least 1")
    if problems:
        raise ConfigError(f"Cannot write {path.name} with these settings.", problems)

    count = 0
    try:
        with open_atomically(path) as file:
            with contextlib.closing(_encoded(_shielded(rows), image_format, jpeg_quality, encoders)) as encoded:
                groups = _groups(encoded)
                first = next(groups, None)
                if first is None:
                    raise DataError(f"{path.name} would have no rows. Ask for at least one row per shard.")
                schema = schema_of(table, 2 if INSERTED[0] in first[0] else 1)
                with _parquet_writer(file, schema) as writer:
                    for group in itertools.chain([first], groups):
                        if odd := next((values for values in group if values.keys() != set(schema.names)), None):
                            raise DataError(
                                f"Row {odd['id']!r} has other columns than the first of {path.name}. Write rows with "
                                f"{' and '.join(INSERTED)} into shards of their own."
                            )
                        writer.write_batch(pa.RecordBatch.from_pylist(group, schema=schema), row_group_size=ROW_GROUP)
                        count += len(group)
            if expected_sha256 is not None:
                found = sha256_of_open(file)
                if found != expected_sha256:
                    raise DataError(
                        f"{path.name} came out with SHA-256 {found}, not {expected_sha256}; it was left as it was."
                    )
    except _ProducerError as carrier:
        raise carrier.error from carrier.error.__cause__
    return ShardInfo(name=path.name, rows=count, bytes=path.stat().st_size, sha256=sha256_of_file(path))


def write_tables(path: Path | str, tables: Iterable[pa.Table], schema: pa.Schema) -> ShardInfo:
    """Write rows that are encoded already, as `write_shard` does; row groups are filled up whatever the tables' sizes.

    Args:
        path: The final name, see `shard_name`.
        tables: Rows with the columns of `schema`; one row group of them is held.
        schema: That of the shard which the rows come from.

    Returns:
        Name, rows, bytes and hash of the file.

    Raises:
        ScenepaletteError: The disk is full or the folder cannot be written.
    """
    path, count = Path(path), 0
    with open_atomically(path) as file, _parquet_writer(file, schema) as writer:
        waiting = schema.empty_table()
        for table in tables:
            waiting, count = pa.concat_tables([waiting, table]), count + table.num_rows
            while waiting.num_rows >= ROW_GROUP:
                writer.write_table(waiting.slice(0, ROW_GROUP), row_group_size=ROW_GROUP)
                waiting = waiting.slice(ROW_GROUP)
        if waiting.num_rows:
            writer.write_table(waiting, row_group_size=ROW_GROUP)
    return ShardInfo(name=path.name, rows=count, bytes=path.stat().st_size, sha256=sha256_of_file(path))


@contextlib.contextmanager
def _parquet_writer(file: BinaryIO, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    writer = pq.ParquetWriter(file, schema, **{**_PARQUET_OPTIONS, "compression": _compression(schema)})
    try:
        yield writer
    except BaseException:
        # Closing writes the footer, which may fail for the same reason; the first reason is the one to report.
        with contextlib.suppress(Exception):
            writer.close()
        raise
    writer.close()


def _compression(schema: pa.Schema) -> dict[str, str]:
    """Return the compression of each column by its path; images are compressed already and stored as they are."""
    found = {}
    for field in schema:
        if pa.types.is_struct(field.type):
            found |= {f"{field.name}.{part.name}": "none" for part in field.type}
        else:
            found[f"{field.name}.list.element" if pa.types.is_list(field.type) else field.name] = "zstd"
    return found


def _groups(encoded: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    group: list[dict[str, Any]] = []
    for values in encoded:
        group.append(values)
        if len(group) == ROW_GROUP:
            yield group
            group = []
    if group:
        yield group


class _ProducerError(Exception):
    """Carries an OSError of the producer past the code that takes one for a failed write of the shard."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


def _shielded(rows: Iterable[Row]) -> Iterator[Row]:
    try:
        yield from rows
    except OSError as error:
        raise _ProducerError(error) from error


def _encoded(
    rows: Iterable[Row], image_format: ImageFormat, jpeg_quality: int, encoders: int
) -> Generator[dict[str, Any], None, None]:
    seen: set[str] = set()
    pending: deque[Future[dict[str, Any]]] = deque()
    pool = ThreadPoolExecutor(encoders, thread_name_prefix="encoder")
    try:
        for row in rows:
            if row.id in seen:
                raise DataError(f"Row {row.id!r} comes twice. Ids must be unique.")
            seen.add(row.id)
            pending.append(pool.submit(encode_row, row, image_format=image_format, jpeg_quality=jpeg_quality))
            while pending and (pending[0].done() or len(pending) >= ROWS_IN_FLIGHT):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
