from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

import pytest

from scenepalette.common.errors import ScenepaletteError
from scenepalette.common.storage.files import (
    open_atomically,
    read_json,
    sha256_of_file,
    sha256_of_json,
    temporary_folder,
    write_atomically,
    write_json,
    writing_explained,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_text_and_bytes_are_written_in_new_folders(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a" / "b" / "text", "Straße\n")
    write_atomically(str(tmp_path / "bytes"), b"\0\1")
    assert (tmp_path / "a" / "b" / "text").read_bytes() == "Straße\n".encode()
    assert (tmp_path / "bytes").read_bytes() == b"\0\1"
    assert names(tmp_path) == ["a", "bytes"]


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with open_atomically(path) as file:
        file.write(b"new and longer")
        file.flush()
        assert path.read_text() == "old"
        assert len(names(tmp_path)) == 2
    assert path.read_text() == "new and longer"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("existed", [True, False])
def test_an_exception_leaves_everything_as_it_was(existed: bool, tmp_path: Path) -> None:
    path = tmp_path / "file"
    if existed:
        path.write_text("old")
    with pytest.raises(ZeroDivisionError), open_atomically(path) as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert names(tmp_path) == (["file"] if existed else [])
    assert not existed or path.read_text() == "old"


def test_content_is_on_disk_before_the_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (calls.append("fsync"), fsync(handle))[1])
    monkeypatch.setattr(os, "replace", lambda *paths: (calls.append("replace"), replace(*paths))[1])
    write_atomically(tmp_path / "file", "text")
    assert calls == ["fsync", "replace", "fsync"]  # the file, then its name, then the folder


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_files_can_be_read_as_far_as_the_umask_allows(umask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "file", "text")
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


def test_other_threads_never_see_another_umask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes: list[int] = []
    monkeypatch.setattr(os, "umask", changes.append)
    write_atomically(tmp_path / "file", "text")
    assert changes == []


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full. Free some space"),
        (errno.EDQUOT, "the disk is full"),
        (errno.EACCES, "the folder cannot be written. Give a writable --out folder"),
        (errno.EROFS, "the folder cannot be written"),
        (errno.EIO, "Input/output error. Fix this"),
    ],
)
def test_a_failed_write_says_what_to_do(
    number: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise OSError(number, os.strerror(number))

    (tmp_path / "file").write_text("old")
    monkeypatch.setattr("scenepalette.common.storage.files.os.replace", fail)
    with pytest.raises(ScenepaletteError, match=words) as raised:
        write_atomically(tmp_path / "file", "new")
    assert str(tmp_path / "file") in str(raised.value)
    assert (tmp_path / "file").read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_a_folder_that_is_a_file_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ScenepaletteError, match="Could not write"):
        write_atomically(tmp_path / "file" / "inner", "text")


def test_json_round_trip_keeps_the_order_of_keys(tmp_path: Path) -> None:
    value = {"b": [1, 2.5, None], "a": {"ü": True}}
    write_json(tmp_path / "file.json", value)
    assert read_json(tmp_path / "file.json") == value
    text = (tmp_path / "file.json").read_text(encoding="utf-8")
    assert text.index('"b"') < text.index('"a"')
    assert text.endswith("}\n")


def test_nan_is_no_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "file.json", {"loss": float("nan")})
    assert names(tmp_path) == []
    with pytest.raises(ValueError, match="JSON compliant"):
        sha256_of_json({"loss": float("inf")})


def test_json_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScenepaletteError, match=r"Could not read .*file\.json: No such file"):
        read_json(tmp_path / "file.json")
    for content in (b'{"a": 1', b"\xff\xfe\x00", b""):
        (tmp_path / "file.json").write_bytes(content)
        with pytest.raises(ScenepaletteError, match=r"file\.json is not valid JSON"):
            read_json(tmp_path / "file.json")


def test_hashes_of_files(tmp_path: Path) -> None:
    content = os.urandom(300_000)
    (tmp_path / "file").write_bytes(content)
    assert sha256_of_file(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_hashes_of_json_depend_on_the_value_alone() -> None:
    assert sha256_of_json({"a": 1, "b": [2]}) == sha256_of_json(json.loads('{ "b": [2], "a": 1 }'))
    assert sha256_of_json({"a": 1}) == hashlib.sha256(b'{"a":1}').hexdigest()
    different = [{"a": 1}, {"a": 1.5}, {"a": "1"}, {"b": 1}, [1, 2], [2, 1]]
    assert len({sha256_of_json(value) for value in different}) == len(different)


@pytest.mark.parametrize(
    ("code", "words"),
    [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "cannot be written"), (errno.EACCES, "cannot")],
)
def test_failed_removals_are_explained_too(code: int, words: str, tmp_path: Path) -> None:
    with (
        pytest.raises(ScenepaletteError, match=f"Could not write {tmp_path / 'x'}: .*{words}"),
        writing_explained(tmp_path),
    ):
        raise OSError(code, "no", str(tmp_path / "x"))


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "no", "/elsewhere"), OSError(errno.EIO, "no"), ValueError()])
def test_what_has_nothing_to_do_with_writing_comes_through(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(type(error)) as raised, writing_explained(tmp_path):
        raise error
    assert raised.value is error


def test_without_a_place_for_temporary_files_or_space_there_the_remedy_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with temporary_folder("test") as folder:
        (folder / "x").touch()
    assert names(tmp_path) == []
    with pytest.raises(ScenepaletteError, match=f"Could not write {tmp_path}/.*full"), temporary_folder("test"):
        raise OSError(errno.ENOSPC, "full")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(ScenepaletteError, match=r"can be made \(No such file.*set TMPDIR"), temporary_folder("test"):
        pass
