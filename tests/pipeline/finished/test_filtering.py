"""Rows selected by expressions over their columns and scores."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from scenepalette.common.errors import ConfigError, DataError
from scenepalette.data.shards.checking import verify_shards
from scenepalette.evaluation.pair_quality.quality import QualityRow, write_quality
from scenepalette.pipeline.finished.filtering import filter_shards
from shard_folders import SIZE

ROWS = 20


@pytest.fixture
def scored(tmp_path: Path, write_shards: Callable) -> Path:
    """A run's folder of shards: row i has the trusted share i / 20, row 19 is a copy, row 0 was not judged."""
    folder = tmp_path / "run" / "shards" / "full"
    rows = write_shards(folder, [12, 8])
    zeros = np.zeros(SIZE, np.uint8)
    found: list[QualityRow] = []
    for index, row in enumerate(rows):
        judged: dict[str, Any] = {
            "trusted": index / ROWS,
            "trusted_per_class": [index / ROWS, None, 1.0, 1.0],
            "agreement": 0.5,
            "mean_loss": 1.0,
            "trusted_loss": 1.0,
            "levels": zeros,
            "predicted": zeros,
            "confidence": zeros,
            "level_counts": np.zeros((4, 256), np.int64),
        }
        common = (row.id, (0,) if index else (), "real", 1.0, index == 19, 0.0)
        found.append(QualityRow(*common, **(judged if index else {})))
    home = tmp_path / "run" / "quality" / "full"
    write_quality(home / "rows.parquet", found)
    (home / "manifest.json").write_text(json.dumps({}))
    return folder


def _indices(folder: Path) -> list[int]:
    return pq.read_table(sorted(folder.glob("*.parquet")), columns=["index"])["index"].to_pylist()


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("trusted >= 0.8 and not copy", [16, 17, 18]),
        ("not judged or index = 3", [0, 3]),
        ("trusted_per_class[1] > 0.9", [19]),
        ("index in (2, 5) -- a comment", [2, 5]),
        ("palette_achieved[1] = (select max(palette_achieved[1]) from pairs)", None),
    ],
)
def test_rows_of_which_an_expression_is_true_are_written(
    scored: Path, tmp_path: Path, where: str, expected: list[int] | None
) -> None:
    found = filter_shards(scored, tmp_path / "out", where=where, at_least=1)
    verify_shards(tmp_path / "out")
    if expected is None:
        shares = [row[0] for row in pq.read_table(sorted(scored.glob("*.parquet")))["palette_achieved"].to_pylist()]
        expected = [index for index, share in enumerate(shares) if share == max(shares)]
    assert _indices(tmp_path / "out") == expected
    assert (found.rows, found.of) == (len(expected), ROWS)


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ("trsted > 0.5", "trsted.* not found.*Columns are id, kind.*, trusted, .*palette_kl"),
        ("trusted >", "syntax error"),
        ("id in (select content from read_text('/etc/hostname'))", "cannot be used"),
        ("levels is null", "levels.* not found"),
        ("image is null", "image.* not found"),
    ],
)
def test_an_expression_that_cannot_be_used_is_refused_in_one_line(
    scored: Path, tmp_path: Path, where: str, text: str
) -> None:
    with pytest.raises(ConfigError, match=text) as caught:
        filter_shards(scored, tmp_path / "out", where=where)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_fewer_rows_than_a_batch_are_refused(scored: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="3 of the 20 rows are left, at least 16 are needed"):
        filter_shards(scored, tmp_path / "out", where="trusted >= 0.8 and not copy")
    with pytest.raises(DataError, match="0 of the 20 rows are left, at least 1 are needed"):
        filter_shards(scored, tmp_path / "out", where="false", at_least=1)
    assert not (tmp_path / "out").exists()


def test_the_best_rows_are_selected_and_classes_below_their_share_are_told(scored: Path, tmp_path: Path) -> None:
    found = filter_shards(scored, tmp_path / "out", select=10, at_least=1)
    verify_shards(tmp_path / "out")
    indices = _indices(tmp_path / "out")
    assert len(indices) == 10
    assert 19 not in indices or found.short  # a copy only for a class that is short
    palettes = np.array(pq.read_table(sorted(scored.glob("*.parquet")))["palette_achieved"].to_pylist())
    shares = palettes[indices].mean(axis=0)
    asked = palettes.mean(axis=0)  # these shards ask for what they have
    assert set(found.short) == {
        name for name, a, b in zip(["road", "car", "tree", "sky"], shares, asked, strict=True) if a < b - 1e-6
    }


def test_a_few_rows_are_selected_of_few(scored: Path, tmp_path: Path) -> None:
    """A batch is the least of what an expression leaves, not of what a number asks for."""
    few = tmp_path / "run" / "shards" / "few"
    filter_shards(scored, few, where="index < 10", at_least=1)
    scores = tmp_path / "run" / "quality" / "full" / "rows.parquet"
    assert filter_shards(few, tmp_path / "out", select=3, quality=scores).rows == 3
    with pytest.raises(DataError, match=r"at least 12 are needed: there are too few\. Generate more pairs"):
        filter_shards(few, tmp_path / "more", select=12, quality=scores)


def test_without_scores_there_is_nothing_to_select_by(tmp_path: Path, write_shards: Callable) -> None:
    write_shards(tmp_path / "plain", [20])
    with pytest.raises(DataError, match="no scores to select by"):
        filter_shards(tmp_path / "plain", tmp_path / "out", select=5, at_least=1)
    with pytest.raises(ConfigError, match="no scores lie beside the shards"):
        filter_shards(tmp_path / "plain", tmp_path / "out", where="trusted > 0.5")
    filter_shards(tmp_path / "plain", tmp_path / "out", where="index < 4", at_least=1)
    assert _indices(tmp_path / "out") == [0, 1, 2, 3]


def test_nothing_asked_for_and_a_full_folder_are_refused(scored: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Nothing was asked for"):
        filter_shards(scored, tmp_path / "out")
    with pytest.raises(ConfigError, match="is not empty"):
        filter_shards(scored, scored, where="true")


def test_without_duckdb_the_extra_is_named(scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "duckdb", None)
    with pytest.raises(ConfigError, match=r"pip install 'scenepalette\[filter\]'"):
        filter_shards(scored, tmp_path / "out", where="true")
