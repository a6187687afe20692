"""Scores of generated rows as teachers gave them, and the choice of the best rows by them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scenepalette.common.errors import DataError
from scenepalette.data.shards.reading import explained_read
from scenepalette.evaluation.pair_quality.quality import NO_SCORES, ROWS_FILE, SCHEMA
from scenepalette.evaluation.pair_quality.selection import score_rows, select_rows
from scenepalette.pipeline.run_directory.manifests import MANIFEST
from scenepalette.pipeline.trusted import STAGE


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
        DataError: There are fewer rows, rows have no scores, or no teacher judged any.
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
        file = pq.ParquetFile(quality, page_checksum_verification=True, pre_buffer=False)
        if not file.schema_arrow.equals(SCHEMA):
            raise DataError(
                f"{quality} does not have the columns of scores of rows. Give a file rows.parquet of a run."
            )
        return file.read(columns=names, use_threads=False)


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
