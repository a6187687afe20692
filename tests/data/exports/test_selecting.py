"""Sets selected from folders of shards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from scenepalette.common.errors import ConfigError, DataError
from scenepalette.data.exports.selecting import write_selection
from scenepalette.data.shards.checking import verify_shards
from scenepalette.data.shards.kinds import SELECTION
from scenepalette.data.shards.manifest import CARD_NAME, read_manifest
from shard_folders import write_shards  # noqa: F401 (a fixture)


def test_selected_rows_are_copies_byte_for_byte_in_a_set_that_can_be_verified(
    tmp_path: Path,
    write_shards: Callable,  # noqa: F811
) -> None:
    rows = write_shards(tmp_path / "all", [5, 5, 3])
    wanted = [rows[index].id for index in (1, 4, 5, 6, 8, 9, 12)]
    manifest = write_selection(tmp_path / "all", tmp_path / "some", wanted, {"where": "seed = 7", "select": None})
    verify_shards(tmp_path / "some")
    assert [shard["rows"] for shard in manifest["shards"]] == [5, 2]
    before, after = (pq.read_table(sorted((tmp_path / name).glob("*.parquet"))) for name in ("all", "some"))
    assert after.to_pylist() == [row for row in before.to_pylist() if row["id"] in wanted]
    about = read_manifest(tmp_path / "some")["extra"][SELECTION]
    source = read_manifest(tmp_path / "all")
    assert about == {"where": "seed = 7", "select": None, "rows": 13, "manifest": source["sha256"]}
    card = (tmp_path / "some" / CARD_NAME).read_text()
    assert "These 7 rows are a selection of 13 by the expression `seed = 7`" in card
    assert source["sha256"] in card


def test_a_selection_of_a_selection_names_both(tmp_path: Path, write_shards: Callable) -> None:  # noqa: F811
    rows = write_shards(tmp_path / "all", [6])
    write_selection(tmp_path / "all", tmp_path / "some", [row.id for row in rows[2:]], {"where": "a", "select": None})
    write_selection(tmp_path / "some", tmp_path / "few", [row.id for row in rows[4:]], {"where": "b", "select": 2})
    verify_shards(tmp_path / "few")
    about = read_manifest(tmp_path / "few")["extra"][SELECTION]
    assert (about["where"], about["rows"], about["earlier"]["where"], about["earlier"]["rows"]) == ("b", 4, "a", 6)


def test_a_folder_that_holds_something_is_not_written_into(tmp_path: Path, write_shards: Callable) -> None:  # noqa: F811
    rows = write_shards(tmp_path / "all", [2])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty"):
        write_selection(tmp_path / "all", tmp_path / "mine", [rows[0].id], {"where": None, "select": 1})
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_nothing_is_left_of_a_selection_of_damaged_shards(tmp_path: Path, write_shards: Callable) -> None:  # noqa: F811
    rows = write_shards(tmp_path / "all", [2, 2])
    path = sorted((tmp_path / "all").glob("*.parquet"))[1]
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 255
    path.write_bytes(bytes(content))
    (tmp_path / "some").mkdir()
    with pytest.raises(DataError):
        write_selection(tmp_path / "all", tmp_path / "some", [row.id for row in rows], {"where": None, "select": 4})
    assert list((tmp_path / "some").iterdir()) == []
