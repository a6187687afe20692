"""Checking a folder of shards, down to every pixel of every label."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from data.errors import DataError
from data.files import sha256_of_file
from data.shards.manifest import file_problems, read_manifest, table_of_manifest
from data.shards.reading import explained_read, open_shard
from data.shards.schema import ROW_GROUP, SCHEMA, decode_row, is_safe_relative_path, row_problems


def verify_shards(folder: Path | str) -> list[str]:
    """Check a folder of shards against its manifest and every row against the schema.

    Found are: missing, extra, truncated and altered files, other columns, wrong counts, damaged pages and pictures,
    class ids outside the table, palettes that are not those of the label, ids that come twice, and rows that the
    manifest does not describe. One row group is held at a time.

    Args:
        folder: A folder with a manifest.

    Returns:
        One text per problem, naming file and row; empty if all is well.
    """
    folder = Path(folder)
    try:
        manifest = read_manifest(folder)
    except DataError as error:
        return [error.summary, *error.problems]
    problems = file_problems(folder, manifest)
    seen: dict[str, str] = {}
    for shard in manifest["shards"]:
        path = folder / shard["name"]
        if not path.is_file():
            continue
        try:
            found = sha256_of_file(path)
        except OSError as error:
            problems.append(f"{path.name} cannot be read ({error.strerror or error})")
            continue
        if found != shard["sha256"]:
            problems.append(f"{path.name} has SHA-256 {found}, the manifest says {shard['sha256']}: it was altered")
        try:
            for problem in _shard_problems(path, shard["rows"], manifest, seen):
                problems.append(problem)
        except DataError as error:
            problems.append(str(error))
    return problems


def _shard_problems(path: Path, expected_rows: int, manifest: Mapping[str, Any], seen: dict[str, str]) -> Iterator[str]:
    with open_shard(path) as file:
        features = (file.schema_arrow.metadata or {}).get(b"huggingface")
        if features != (SCHEMA.metadata or {})[b"huggingface"]:
            yield f"{path.name} does not carry the Hugging Face features of schema 1"
        if file.metadata.num_rows != expected_rows:
            yield f"{path.name} has {file.metadata.num_rows} rows, the manifest says {expected_rows}"
        first = 0
        for group in range(file.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            if count > ROW_GROUP:
                yield f"{path.name} row group {group} has {count} rows, at most {ROW_GROUP} are allowed"
            rows = f"rows {first} to {first + count - 1}"
            first += count
            try:
                with explained_read(path):
                    table = file.read_row_group(group, use_threads=False)
            except DataError as error:
                yield f"{path.name} {rows}, {_damaged_columns(file, group)}: damaged ({error.__cause__})"
                continue
            yield from _group_problems(table, path, manifest, seen)


def _damaged_columns(file: pq.ParquetFile, group: int) -> str:
    damaged = []
    for name in SCHEMA.names:
        try:
            file.read_row_group(group, columns=[name], use_threads=False)
        except (pa.ArrowException, OSError):
            damaged.append(name)
    return f"column {', '.join(damaged)}" if damaged else "all columns together"


def _group_problems(table: pa.Table, path: Path, manifest: Mapping[str, Any], seen: dict[str, str]) -> Iterator[str]:
    num_classes = table_of_manifest(manifest).num_classes
    models = set(_texts(manifest["models"]))
    for values in table.to_pylist():
        where = f"{path.name} row {values['id']!r}"
        try:
            row = decode_row(values, where)
        except DataError as error:
            yield str(error)
            continue
        yield from _container_problems(values, where)
        if row.id in seen:
            yield f"{where}: the id comes twice, first in {seen[row.id]}"
        seen[row.id] = path.name
        yield from (f"{where}: {problem}" for problem in row_problems(row))
        if len(row.palette_achieved) != num_classes:
            yield f"{where}: the palettes have {len(row.palette_achieved)} classes, the manifest {num_classes}"
        if row.kind != manifest["kind"]:
            yield f"{where}: kind is {row.kind!r}, the manifest says {manifest['kind']!r}"
        for column in ("image", "label"):
            name = values[column]["path"]
            if name is not None and not is_safe_relative_path(name):
                yield f"{where}: {column}.path {name!r} leaves the folder"
        for column in ("layout_model", "image_model"):
            if values[column] is not None and values[column] not in models:
                yield f"{where}: {column} {values[column]!r} is not among the models of the manifest"


def _container_problems(values: Mapping[str, Any], where: str) -> Iterator[str]:
    """Check the checksums and the end of PNG files: decoding stops at the last pixel and may overlook both."""
    for column in ("image", "label"):
        try:
            with Image.open(io.BytesIO(values[column]["bytes"])) as picture:
                picture.verify()
        except (OSError, ValueError, SyntaxError) as error:
            yield f"{where}: the {column} is damaged ({error})"


def _texts(value: Any) -> Iterator[str]:
    """Yield all texts inside nested JSON values."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)
