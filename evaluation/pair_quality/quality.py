"""Scores of generated rows, in a Parquet file beside their shards, which stay as they were written."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scenepalette.common.errors import DataError
from scenepalette.common.png import png_of
from scenepalette.common.storage.files import open_atomically
from scenepalette.data.shards.reading import explained_read, groups_of
from scenepalette.data.shards.schema import decode_label
from scenepalette.evaluation.pair_quality.trust import FREEMASK_FACTOR, LEVELS, level_of_factor, shares_of_classes

ROWS_FILE = "rows.parquet"
ROW_GROUP = 64
MAPS = ("levels", "predicted", "confidence")
"""Columns with a map of a row, as the bytes of a greyscale PNG."""
NO_SCORES = (*MAPS, "level_counts")
"""Columns that readers of labels need, and by which no one selects rows."""
_CACHE_BYTES = 256 * 2**20
_PARQUET_OPTIONS: dict[str, Any] = {
    "compression": "zstd",
    "use_dictionary": ["nearest_id"],
    "write_page_checksum": True,
}

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("judged", pa.bool_()),
        ("judges", pa.list_(pa.int32())),
        ("trusted", pa.float64()),
        ("trusted_per_class", pa.list_(pa.float64())),
        ("agreement", pa.float64()),
        ("mean_loss", pa.float64()),
        ("trusted_loss", pa.float64()),
        ("nearest_id", pa.string()),
        ("nearest_distance", pa.float64()),
        ("copy", pa.bool_()),
        ("palette_kl", pa.float64()),
        *((name, pa.binary()) for name in MAPS),
        ("level_counts", pa.list_(pa.int32())),
    ]
)


@dataclass(frozen=True, eq=False)
class QualityRow:
    """What is known of a generated row.

    Attributes:
        id: The row's id in its shards.
        judges: Teachers that judged it; none if each of them saw a sample that the row was made from.
        trusted: Share of the labelled pixels whose loss is at most 1.25 times the mean of their class in real images,
            whatever the thresholds of a run; None if no teacher judged, as the five after it.
        trusted_per_class: The same of each class, K values, None for a class without pixels.
        agreement: Share of the labelled pixels to which the teachers give the class of the label.
        mean_loss: Mean cross-entropy of the teachers against the label.
        trusted_loss: The same over the trusted pixels: how hard the row is where it is right; None if there are none.
        nearest_id: The training image whose features are nearest to those of the row's image; of a row that keeps
            pixels of one, another.
        nearest_distance: The Euclidean distance between both.
        copy: Whether it is less than the distance of any training image to its own nearest neighbour.
        palette_kl: Divergence of the achieved palette from the one asked for, in nats.
        levels: uint8 [H, W], see `levels_of`; None if no teacher judged, as those after it.
        predicted: uint8 [H, W], the teachers' classes.
        confidence: uint8 [H, W], their probability in 200ths.
        level_counts: int [K, 256], pixels of each class at each level.
    """

    id: str
    judges: tuple[int, ...]
    nearest_id: str
    nearest_distance: float
    copy: bool
    palette_kl: float
    trusted: float | None = None
    trusted_per_class: list[float | None] | None = None
    agreement: float | None = None
    mean_loss: float | None = None
    trusted_loss: float | None = None
    levels: np.ndarray | None = None
    predicted: np.ndarray | None = None
    confidence: np.ndarray | None = None
    level_counts: np.ndarray | None = None


def write_quality(path: Path, rows: Iterable[QualityRow]) -> None:
    """Write the scores of rows to a file that appears under its name only when it is whole; 64 rows are held."""
    with open_atomically(path) as file, pq.ParquetWriter(file, SCHEMA, **_PARQUET_OPTIONS) as writer:
        left = map(_encoded, rows)
        while group := list(islice(left, ROW_GROUP)):
            writer.write_batch(pa.RecordBatch.from_pylist(group, schema=SCHEMA), row_group_size=ROW_GROUP)


def _encoded(row: QualityRow) -> dict[str, Any]:
    values: dict[str, Any] = {name: getattr(row, name) for name in SCHEMA.names if name != "judged"}
    values["judged"] = bool(row.judges)
    for name in MAPS:
        values[name] = None if values[name] is None else png_of(values[name])
    if row.level_counts is not None:
        values["level_counts"] = row.level_counts.ravel().tolist()
    return values


class Maps(NamedTuple):
    """What the teachers made of a row, each uint8 [H, W]; see `QualityRow`."""

    levels: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray


class QualityFile:
    """The scores of a folder of shards: columns as a whole, maps row by row in bounded memory."""

    def __init__(self, path: Path) -> None:
        """Open a file that `write_quality` wrote.

        Raises:
            DataError: It is missing, damaged, or has other columns.
        """
        self.path = path
        # A Parquet file that two threads read at once ends the process; Arrow's read-ahead is one more of them.
        self._lock = threading.RLock()
        with explained_read(path):
            source = pa.OSFile(os.fsencode(path))
            self._file = pq.ParquetFile(source, page_checksum_verification=True, pre_buffer=False)
        if not self._file.schema_arrow.equals(SCHEMA):
            raise DataError(f"{path} does not have the columns of scores of rows. Make it again.")
        self._groups = list(groups_of(self._file))
        self._cached: OrderedDict[int, pa.Table] = OrderedDict()

    def __len__(self) -> int:
        return self._file.metadata.num_rows

    def column(self, name: str) -> list[Any]:
        """Return the values of a column, one for each row."""
        with self._lock, explained_read(self.path):
            return self._file.read(columns=[name], use_threads=False)[name].to_pylist()

    def level_counts(self, rows: int | np.ndarray, num_classes: int) -> np.ndarray:
        """Return how many pixels of each class some rows have at each level, int64 [K, 256].

        Args:
            rows: How many rows, from the first, or bool [N]: which.
            num_classes: K.
        """
        chosen = np.arange(len(self)) < rows if isinstance(rows, int) else rows
        counts = np.zeros((num_classes, LEVELS), dtype=np.int64)
        for group, inside in self._groups:
            with self._lock, explained_read(self.path):
                read = self._file.read_row_group(group, columns=["level_counts"], use_threads=False)
            column = read["level_counts"]
            values = column.filter(pa.array(chosen[inside.start : inside.stop])).drop_null()
            if len(values):
                flat = values.combine_chunks().flatten().to_numpy()
                counts += flat.reshape(-1, num_classes, LEVELS).sum(axis=0)
        return counts

    def maps(self, row: int) -> Maps | None:
        """Return the maps of a row; None if no teacher judged it.

        Raises:
            DataError: One is damaged.
        """
        group, inside = next((group, inside) for group, inside in self._groups if row in inside)
        table = self._group(group)
        contents = [table[name][row - inside.start].as_py() for name in MAPS]
        if None in contents:
            return None
        return Maps(
            *(
                decode_label(content, f"{self.path} row {row}, {name}")
                for name, content in zip(MAPS, contents, strict=True)
            )
        )

    def _group(self, group: int) -> pa.Table:
        """Return the maps of a row group, read once as long as memory lasts."""
        with self._lock:
            if group not in self._cached:
                with explained_read(self.path):
                    self._cached[group] = self._file.read_row_group(group, columns=list(MAPS), use_threads=False)
                while sum(table.nbytes for table in self._cached.values()) > _CACHE_BYTES and len(self._cached) > 1:
                    self._cached.popitem(last=False)
            self._cached.move_to_end(group)
            return self._cached[group]


def summary_of(path: Path, rows: int, names: tuple[str, ...]) -> Mapping[str, Any]:
    """Return what a report says of the first rows of a file of scores, as JSON values.

    Returns:
        `rows`, `judged`, and of the judged ones the means `trusted`, `agreement` and `palette_kl`, and
        `trusted_per_class` over all their pixels; None where no row was judged.
    """
    file = QualityFile(path)
    counts = file.level_counts(rows, len(names))
    trusted, of_classes = shares_of_classes(counts, level_of_factor(FREEMASK_FACTOR))
    agreement = [value for value in file.column("agreement")[:rows] if value is not None]
    judged = sum(file.column("judged")[:rows])
    return {
        "rows": min(rows, len(file)),
        "judged": judged,
        "trusted": trusted if judged else None,
        "trusted_per_class": dict(zip(names, of_classes, strict=True)),
        "agreement": float(np.mean(agreement)) if agreement else None,
        "palette_kl": float(np.mean(file.column("palette_kl")[:rows])),
    }
