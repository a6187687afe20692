"""A selected set: some rows of a folder of shards, copied byte for byte, under a manifest and a card of their own."""

from __future__ import annotations

import contextlib
import itertools
import math
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from scenepalette.common.errors import ConfigError
from scenepalette.data.cards.croissant import write_croissant
from scenepalette.data.cards.dataset_card import write_card
from scenepalette.data.shards.kinds import SELECTION
from scenepalette.data.shards.manifest import make_manifest, table_of_manifest, write_manifest
from scenepalette.data.shards.reading import open_folder, open_shard, tables_of_folder
from scenepalette.data.shards.schema import schema_of, shard_name
from scenepalette.data.shards.writing import write_tables

PIXELS = ("image", "label")


def read_columns(folder: Path) -> pa.Table:
    """Return the columns of all rows of a folder of shards but image and label.

    Raises:
        DataError: The folder is not complete or damaged.
    """
    columns = [name for name in schema_of(None, open_folder(folder)["schema"]).names if name not in PIXELS]
    return pa.concat_tables(tables_of_folder(folder, columns))


def write_selection(
    folder: Path,
    out: Path,
    ids: Collection[str],
    selection: Mapping[str, Any],
    progress: Callable[[int], object] = lambda rows: None,
) -> dict[str, Any]:
    """Write some rows of a folder of shards as a folder of their own, in their order and with as large shards.

    Args:
        folder: The folder.
        out: Where to write: no folder yet, or an empty one.
        ids: Ids of the rows, one at least.
        selection: By what they were selected, as JSON values: "where", an expression or None, and "select", how many
            were to be chosen, or None.
        progress: Called with the number of rows as they are copied.

    Returns:
        The manifest of the new folder.

    Raises:
        ConfigError: `out` holds something.
        DataError: The folder is damaged; nothing is left behind.
        ScenepaletteError: A file cannot be written; nothing is left behind.
    """
    check_empty(out)
    manifest, wanted = open_folder(folder), set(ids)
    per_shard = max(shard["rows"] for shard in manifest["shards"])
    count = math.ceil(len(wanted) / per_shard)
    absent = not out.exists()
    earlier = {"earlier": before} if (before := manifest["extra"].get(SELECTION)) else {}
    try:
        with open_shard(folder / manifest["shards"][0]["name"]) as file:
            schema = file.schema_arrow
        infos = []
        for number, pieces in itertools.groupby(_cut(_selected(folder, wanted), per_shard), key=lambda piece: piece[0]):
            info = write_tables(out / shard_name(number, count), (table for _, table in pieces), schema)
            infos.append(info)
            progress(info.rows)
        written = make_manifest(
            infos,
            kind=manifest["kind"],
            table=table_of_manifest(manifest),
            config_hash=manifest["config_hash"],
            models=manifest["models"],
            source=manifest["source"],
            extra={
                **manifest["extra"],
                SELECTION: {**selection, "rows": manifest["rows"], "manifest": manifest.get("sha256"), **earlier},
            },
        )
        write_card(out, written)
        write_croissant(out, written)
        write_manifest(out, written)
    except BaseException:
        with contextlib.suppress(OSError):  # the first reason is the one to report
            shutil.rmtree(out)
            if not absent:
                out.mkdir()
        raise
    return written


def check_empty(out: Path) -> None:
    """Refuse to write into a folder that holds something.

    Raises:
        ConfigError: It does, or it is no folder.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        what = "is not empty" if out.is_dir() else "is no folder"
        raise ConfigError(f"{out} {what}; the selected rows need a folder of their own. Give another, or remove it.")


def _selected(folder: Path, wanted: Collection[str]) -> Iterator[pa.Table]:
    for table in tables_of_folder(folder):
        chosen = table.filter(pa.array([name in wanted for name in table["id"].to_pylist()]))
        if chosen.num_rows:
            yield chosen


def _cut(tables: Iterator[pa.Table], rows: int) -> Iterator[tuple[int, pa.Table]]:
    """Yield tables cut where a shard is full, each with the number of its shard."""
    done = 0
    for table in tables:
        start = 0
        while start < table.num_rows:
            number, place = divmod(done, rows)
            piece = table.slice(start, rows - place)
            yield number, piece
            start, done = start + piece.num_rows, done + piece.num_rows
