"""Copies of folders at URLs: fetched once, fetched again when changed, never half."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from buckets import MEMORY
from scenepalette.common.errors import ConfigError, ScenepaletteError
from scenepalette.common.remote.mirror import Mirror, local_copy
from scenepalette.common.remote.store import Store, StoreError

FILES = {f"sub/{number}.bin": bytes([number]) * (number + 1) for number in range(20)}


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCENEPALETTE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are fetched."""
    names, fetch = list[str](), Store.fetch

    def noted(self: Store, name: str, path: Path) -> None:
        names.append(name)
        fetch(self, name, path)

    monkeypatch.setattr(Store, "fetch", noted)
    return names


def _fill(memory: Any) -> None:
    for name, content in FILES.items():
        memory.pipe_file(f"/scenepalette-tests/{name}", content)


def _read(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files_are_fetched_once(memory: Any, fetched: list[str]) -> None:
    _fill(memory)
    folder = local_copy(MEMORY)
    assert folder.name == "scenepalette-tests" and _read(folder) == FILES
    assert sorted(fetched) == sorted(FILES)
    fetched.clear()
    assert local_copy(f"{MEMORY}/") == folder and fetched == []


def test_what_changed_or_went_is_followed(memory: Any, fetched: list[str]) -> None:
    _fill(memory)
    folder = local_copy(MEMORY)
    fetched.clear()
    memory.pipe_file("/scenepalette-tests/sub/3.bin", b"\1" * 4)  # as long as before
    memory.rm("/scenepalette-tests/sub/4.bin")
    (folder / "sub/5.bin").unlink()
    (folder / "sub/6.bin").write_bytes(b"\0" * 7)  # as long as before
    local_copy(MEMORY)
    assert sorted(fetched) == ["sub/3.bin", "sub/5.bin", "sub/6.bin"]
    wanted = {**FILES, "sub/3.bin": b"\1" * 4}
    del wanted["sub/4.bin"]
    assert _read(folder) == wanted


def test_a_bucket_is_followed_by_size_and_etag(bucket: str, fetched: list[str], tmp_path: Path) -> None:
    store, path = Store.open(f"{bucket}/data"), tmp_path / "a"
    for name, content in FILES.items():
        path.write_bytes(content)
        store.put(path, name)
    folder = local_copy(store.url)
    assert _read(folder) == FILES
    fetched.clear()
    store.write("sub/3.bin", FILES["sub/3.bin"])  # written again, but the same: its etag is
    store.write("sub/7.bin", b"\1" * 8)
    local_copy(store.url)
    assert fetched == ["sub/7.bin"] and _read(folder)["sub/7.bin"] == b"\1" * 8


def test_an_interrupted_download_counts_for_nothing_and_the_others_are_kept(
    memory: Any, fetched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _fill(memory)
    fetch = Store.fetch

    def cut_off(self: Store, name: str, path: Path) -> None:
        fetch(self, name, path)
        if name == "sub/12.bin":
            path.write_bytes(b"half")
            raise StoreError("cut off")

    with monkeypatch.context() as patched:
        patched.setattr(Store, "fetch", cut_off)
        with pytest.raises(StoreError, match="cut off"):
            local_copy(MEMORY)
    before = set(fetched) - {"sub/12.bin"}
    fetched.clear()
    folder = local_copy(MEMORY)
    assert "sub/12.bin" in fetched and not before & set(fetched)
    assert _read(folder) == FILES


def test_a_download_that_comes_short_is_told(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _fill(memory)
    monkeypatch.setattr(Store, "fetch", lambda self, name, path: path.write_bytes(b""))
    with pytest.raises(StoreError, match=r"came with 0 bytes, \d+ were announced.*Rerun the same command"):
        local_copy(MEMORY)


def test_a_killed_process_leaves_nothing_that_counts_as_whole(tmp_path: Path, fetched: list[str]) -> None:
    source = tmp_path / "source"
    for name, content in FILES.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(content)
    program = f"""
import os
from scenepalette.common.remote import mirror
from scenepalette.common.remote.store import Store
fetch = Store.fetch
def cut_off(self, name, path):
    if name == "sub/12.bin":
        path.write_bytes(b"half")
        os._exit(9)
    fetch(self, name, path)
Store.fetch = cut_off
mirror.local_copy("file://{source}")
"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == 9
    home = next((tmp_path / "cache/remote").iterdir())
    assert list(home.glob(".fetch*"))
    with (home / "index.jsonl").open("a") as index:
        index.write('{"name": "sub/1')  # a line that was cut off
    assert _read(local_copy(f"file://{source}")) == FILES
    assert "sub/12.bin" in fetched and not list(home.glob(".fetch*"))
    fetched.clear()
    local_copy(f"file://{source}")
    assert fetched == []


def test_some_files_are_fetched_with_their_hashes_compared(memory: Any, fetched: list[str]) -> None:
    _fill(memory)
    mirror = Mirror(MEMORY)
    with pytest.raises(StoreError, match="its manifest says ffff"):
        mirror.fetch(["sub/1.bin"], {"sub/1.bin": "f" * 64})
    assert not (mirror.folder / "sub/1.bin").exists()
    mirror.fetch(["sub/2.bin"])
    assert fetched == ["sub/1.bin", "sub/2.bin"] and [*_read(mirror.folder)] == ["sub/2.bin"]
    with pytest.raises(StoreError, match="is not whole"):
        mirror.fetch(["absent"])


def test_an_empty_place_and_a_missing_cache_folder_are_told(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreError, match="There are no files at memory://scenepalette-tests"):
        local_copy(MEMORY)
    monkeypatch.setenv("SCENEPALETTE_CACHE", "")
    with pytest.raises(ConfigError, match="SCENEPALETTE_CACHE"):
        local_copy(MEMORY)


def test_a_cache_folder_that_cannot_be_written_is_told(
    memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fill(memory)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SCENEPALETTE_CACHE", str(tmp_path / "file"))
    with pytest.raises(ScenepaletteError, match="SCENEPALETTE_CACHE"):
        local_copy(MEMORY)
