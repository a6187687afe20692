"""Selecting rows of finished shards by an expression over their columns and scores, and the best of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scenepalette.common.errors import ConfigError, DataError
from scenepalette.common.progress import NO_PROGRESS, Progress
from scenepalette.common.untrusted import short
from scenepalette.data.exports.selecting import check_empty, read_columns, write_selection
from scenepalette.data.shards.manifest import read_manifest, table_of_manifest
from scenepalette.data.shards.reading import explained_read
from scenepalette.evaluation.quality import NO_SCORES, ROWS_FILE, SCHEMA
from scenepalette.evaluation.selection import score_rows, select_rows
from scenepalette.pipeline.run_directory.manifests import MANIFEST
from scenepalette.pipeline.trusted import STAGE
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
    at_least: int = BATCH,
    progress: Progress = NO_PROGRESS,
) -> Selection:
    """Write the rows that an expression is true of, or the best of them, as a folder of shards of their own.

    Args:
        folder: A folder of shards.
        out: Where to write; no folder yet, or an empty one.
        where: A DuckDB expression over the columns but image and label, and those of the scores; None for all rows.
        select: How many of these rows to choose by `select_rows`; None for all.
        quality: The file of scores; None for that of the run which the folder lies in, if there is one.
        at_least: Fewer rows are refused.
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
    wanted = max(1, at_least, select or 0)
    if len(chosen) < wanted:
        which = f"the expression {short(repr(where))} is true of" if where is not None else "there are"
        raise DataError(
            f"{len(chosen)} of the {columns.num_rows} rows are left, at least {wanted} are needed: {which} too few. "
            "Loosen it, generate more pairs, or give a smaller --at-least or --select."
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


def best_rows(
    columns: pa.Table, scores: pa.Table, count: int, names: Sequence[str], among: np.ndarray | None = None
) -> tuple[np.ndarray, dict[str, tuple[float, float]]]:
    """Choose the rows that are worth most while every class has the share that the palettes asked for.

    Args:
        columns: Result of `read_columns`.
        scores: Result of `scores_beside`.
        count: How many rows to choose.
        names: Names of the K classes.
        among: Numbers of the rows to choose from, in rising order; None for all.

    Returns:
        Numbers of the chosen rows, in rising order, and the classes that stay below the share that was asked for, each
        with its share and that asked for.

    Raises:
        DataError: There are fewer rows, rows have no scores, or nobody judged any.
    """
    among = np.arange(columns.num_rows) if among is None else among
    quotas = _palettes(columns, "palette_target").mean(axis=0)
    palettes = _palettes(columns, "palette_achieved")[among]
    best = select_rows(_worth(columns, scores)[among], palettes, count, quotas)
    shares = palettes[best].mean(axis=0)
    lacking = {
        name: (float(share), float(quota))
        for name, share, quota in zip(names, shares, quotas, strict=True)
        if share < quota - 1e-6
    }
    return among[best], lacking


def scores_beside(folder: Path, quality: Path | None) -> pa.Table | None:
    """Return the scores of a folder's rows but for their maps; None if there are none.

    Args:
        folder: A folder of shards.
        quality: Their file; None for that of the run which the folder lies in.

    Raises:
        DataError: The file is missing, damaged, or no file of scores.
    """
    if quality is None:
        home = folder.absolute().parent.parent / STAGE / folder.absolute().name
        if not (home / MANIFEST).is_file():
            return None
        quality = home / ROWS_FILE
    names = [name for name in SCHEMA.names if name not in NO_SCORES]
    with explained_read(quality):
        file = pq.ParquetFile(quality, page_checksum_verification=True)
        if not file.schema_arrow.equals(SCHEMA):
            raise DataError(
                f"{quality} does not have the columns of scores of rows. Give a file rows.parquet of a run."
            )
        return file.read(columns=names, use_threads=False)


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
            text = " ".join(str(error).split("\n")[0].split())
            known = ", ".join([*columns.column_names, *(scores.column_names[1:] if scores is not None else [])])
            beside = "" if scores is not None else "; no scores lie beside the shards"
            raise ConfigError(
                f"The expression {short(repr(where))} cannot be used: {text}. Columns are {known}{beside}."
            ) from error
    return np.array([row for (row,) in found], dtype=np.int64)


def _palettes(columns: pa.Table, name: str) -> np.ndarray:
    flat = columns[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(columns.num_rows, -1).astype(np.float64)


def _worth(columns: pa.Table, scores: pa.Table) -> np.ndarray:
    """Return what each row is worth; the scores may be in another order."""
    place = {name: number for number, name in enumerate(scores["id"].to_pylist())}
    try:
        order = pa.array([place[name] for name in columns["id"].to_pylist()])
    except KeyError as error:
        raise DataError(
            f"The row {error.args[0]!r} has no scores. Rerun the run that made the shards, which scores what is new."
        ) from error
    found = scores.take(order)
    hardness, trusted, novelty = (
        found[name].to_numpy().astype(np.float64) for name in ("trusted_loss", "trusted", "nearest_distance")
    )
    return score_rows(hardness, trusted, novelty, found["copy"].to_numpy().astype(bool))
