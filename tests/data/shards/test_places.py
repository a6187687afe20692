"""Shards at a URL are read like those in a folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from buckets import MEMORY
from scenepalette.common.errors import DataError, ScenepaletteError
from scenepalette.common.remote.store import Store, StoreError
from scenepalette.data.shards.pairs import ShardPairs
from scenepalette.data.shards.places import local_shards
from scenepalette.data.shards.reading import contact_sheet, iterate_rows, read_row
from scenepalette.data.shards.training.mixed import MixedPairs
from scenepalette.data.shards.training.stream import ShardStream

COUNTS = [3, 2, 4]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCENEPALETTE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def local(tmp_path: Path, write_shards: Callable) -> Path:
    write_shards(tmp_path / "full", COUNTS)
    return tmp_path / "full"


@pytest.fixture
def url(local: Path, memory: Any) -> str:
    """A copy of the folder in memory."""
    for path in local.iterdir():
        memory.pipe_file(f"/scenepalette-tests/full/{path.name}", path.read_bytes())
    return f"{MEMORY}/full"


def _here() -> list[str]:
    """Return the names of the shards that were copied."""
    from scenepalette.common.storage.cache import cache_folder

    folder = cache_folder()
    assert folder is not None
    return sorted(path.name for path in folder.rglob("*.parquet"))


def test_rows_are_those_of_the_folder_and_shards_come_one_by_one(local: Path, url: str) -> None:
    expected = list(iterate_rows(local))
    rows = iterate_rows(url)
    assert next(rows).id == expected[0].id and len(_here()) == 1
    found = [expected[0], *rows]
    assert [row.id for row in found] == [row.id for row in expected] and len(_here()) == 3
    assert all(np.array_equal(a.image, b.image) for a, b in zip(found, expected, strict=True))


def test_a_row_and_a_sheet_need_the_shards_that_they_are_in(local: Path, url: str) -> None:
    assert np.array_equal(read_row(url, "full-000004").image, read_row(local, "full-000004").image)
    assert _here() == ["train-00000-of-00003.parquet", "train-00001-of-00003.parquet"]
    assert contact_sheet(url).tobytes() == contact_sheet(local).tobytes()


def test_training_reads_a_url_like_a_folder(local: Path, url: str) -> None:
    indices = [0, 4, 8]
    ours, theirs = ShardPairs(url).batch(indices), ShardPairs(local).batch(indices)
    assert all(bool((a == b).all()) for a, b in zip(ours, theirs, strict=True))
    assert [batch["id"] for batch in ShardStream(url, 4)] == [batch["id"] for batch in ShardStream(local, 4)]
    assert MixedPairs({url: 1.0, str(local): 1.0}).table == ShardPairs(local).table


def test_a_bucket_is_read(local: Path, bucket: str) -> None:
    store = Store.open(f"{bucket}/full")
    for path in local.iterdir():
        store.put(path, path.name)
    assert ShardPairs(store.url).ids == ShardPairs(local).ids


def test_what_is_half_written_or_damaged_is_told(url: str, memory: Any) -> None:
    home = "/scenepalette-tests/full"
    first = memory.cat_file(f"{home}/train-00000-of-00003.parquet")
    memory.pipe_file(f"{home}/train-00000-of-00003.parquet", first[:-1] + b"?")
    with pytest.raises(StoreError, match="its manifest says"):
        local_shards(url)
    memory.rm(f"{home}/train-00000-of-00003.parquet")
    with pytest.raises(StoreError, match="files are missing") as missing:
        local_shards(url)
    assert missing.value.problems == ("train-00000-of-00003.parquet",)
    manifest = memory.cat_file(f"{home}/manifest.json")
    memory.rm(f"{home}/manifest.json")
    with pytest.raises(DataError, match=r"written last\. It is unfinished"):
        local_shards(url)
    with pytest.raises(DataError, match="Name one of the folders in it: full"):
        local_shards(MEMORY)
    memory.pipe_file(f"{home}/manifest.json", manifest[:-9])
    with pytest.raises(ScenepaletteError, match="is not valid JSON"):
        local_shards(url)


def test_a_set_that_grew_is_followed(url: str, tmp_path: Path, write_shards: Callable, memory: Any) -> None:
    assert len(ShardPairs(url)) == 9
    write_shards(tmp_path / "more", [5])
    for path in (tmp_path / "more").iterdir():
        memory.pipe_file(f"/scenepalette-tests/full/{path.name}", path.read_bytes())
    assert json.loads(memory.cat_file("/scenepalette-tests/full/manifest.json"))["rows"] == 5
    assert len(ShardPairs(url)) == 5


def test_a_file_url_is_the_folder_itself(local: Path) -> None:
    assert local_shards(f"file://{local}") == local
