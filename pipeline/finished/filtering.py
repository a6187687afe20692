"""Selecting rows of finished shards by an expression over their columns and scores, and the best of these."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from scenepalette.common.errors import ConfigError, DataError
from scenepalette.common.progress import NO_PROGRESS, Progress
from scenepalette.common.storage.untrusted import short
from scenepalette.data.exports.selecting import check_empty, read_columns, write_selection
from scenepalette.data.shards.manifest import read_manifest, table_of_manifest
from scenepalette.pipeline.scores import best_rows, scores_beside
from scenepalette.segmenters.settings import SegmenterSettings

BATCH = SegmenterSettings.batch_size
"""Rows that a selection has at least, unless another number is given: a batch of a segmenter's training."""


@dataclass(frozen=True)
class Selection:
    """What was selected.

    Attributes:
        rows: Rows that were written.
        of: Rows of the folder that they come from.
        short: Classes with less than the share that was asked for, each with its share and that asked for.
    """

    rows: int
    of: int
    short: dict[str, tuple[float, float]]


def filter_shards(
    folder: Path,
    out: Path,
    *,
    where: str | None = None,
    select: int | None = None,
    quality: Path | None = None,
    at_least: int | None = None,
    progress: Progress = NO_PROGRESS,
) -> Selection:
    """Write the rows that an expression is true of, or the best of them, as a folder of shards of their own.

    Args:
        folder: A folder of shards.
        out: Where to write; no folder yet, or an empty one.
        where: A DuckDB expression over the columns but image and label, and those of the scores; None for all rows.
        select: How many of these rows to choose by `select_rows`; None for all.
        quality: The file of scores; None for that of the run which the folder lies in, if there is one.
        at_least: Fewer rows to write or choose from are refused; None for as many as are chosen, or else `BATCH`.
        progress: Watches the rows as they are copied.

    Raises:
        ConfigError: Nothing is asked for, DuckDB is missing, `out` is not empty, or the expression cannot be used.
        DataError: Too few rows are left, there are no scores to select by, or a file is damaged.
    """
    if where is None and select is None:
        raise ConfigError("Nothing was asked for. Give an expression with --where, a number with --select, or both.")
    check_empty(out)
    manifest = read_manifest(folder)
    columns = read_columns(folder)
    scores = scores_beside(folder, quality)
    chosen = np.arange(columns.num_rows) if where is None else _matching(columns, scores, where)
    wanted = max(1, select or 0, (select or BATCH) if at_least is None else at_least)
    if len(chosen) < wanted:
        which, remedy = "there are", "Generate"
        if where is not None:
            which, remedy = f"the expression {short(repr(where))} is true of", "Loosen it, generate"
        raise DataError(
            f"{len(chosen)} of the {columns.num_rows} rows are left, at least {wanted} are needed: {which} too few. "
            f"{remedy} more pairs, or give a smaller --at-least or --select."
        )
    lacking = dict[str, tuple[float, float]]()
    if select is not None:
        if scores is None:
            raise DataError(
                f"There are no scores to select by beside {folder}. Name the kind in teachers.kinds and rerun the run, "
                "or give the file with --quality."
            )
        chosen, lacking = best_rows(columns, scores, select, table_of_manifest(manifest).names, chosen)
    ids = columns["id"].take(pa.array(chosen)).to_pylist()
    progress.start("filter", len(ids))
    write_selection(folder, out, ids, {"where": where, "select": select}, progress.advance)
    progress.finish()
    return Selection(len(ids), columns.num_rows, lacking)


def _matching(columns: pa.Table, scores: pa.Table | None, where: str) -> np.ndarray:
    """Return the numbers of the rows that an expression is true of."""
    try:
        import duckdb
    except ImportError as error:
        raise ConfigError("--where needs DuckDB: pip install 'scenepalette[filter]'") from error
    numbered = columns.append_column("__row", pa.array(range(columns.num_rows)))
    with duckdb.connect(":memory:", config={"enable_external_access": "false"}) as connection:
        connection.register("rows_", numbered)
        joined = "rows_"
        if scores is not None:
            connection.register("scores_", scores)
            joined = "rows_ left join scores_ using (id)"
        try:
            connection.execute(f"create view pairs as select * from {joined}")
            found = connection.execute(f"select __row from pairs where (\n{where}\n) order by __row").fetchall()
        except duckdb.Error as error:
            text = " ".join(str(error).split("\n")[0].split()).rstrip(".!")
            known = ", ".join([*columns.column_names, *(scores.column_names[1:] if scores is not None else [])])
            beside = "" if scores is not None else "; no scores lie beside the shards"
            raise ConfigError(
                f"The expression {short(repr(where))} cannot be used: {text}. Columns are {known}{beside}."
            ) from error
    return np.array([row for (row,) in found], dtype=np.int64)
