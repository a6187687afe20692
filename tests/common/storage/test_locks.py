from __future__ import annotations

import errno
import threading
from pathlib import Path

import pytest

from scenepalette.common.errors import ScenepaletteError
from scenepalette.common.storage.locks import hold


def test_a_held_folder_is_refused_and_free_afterwards(tmp_path: Path) -> None:
    held, release = threading.Event(), threading.Event()

    def keep() -> None:
        with hold(tmp_path / "out", ".lock", "writing to"):
            held.set()
            release.wait(30)

    holder = threading.Thread(target=keep)
    holder.start()
    try:
        assert held.wait(30)
        with (
            pytest.raises(ScenepaletteError, match=r"Another process is writing to .*out\. Wait until it ends"),
            hold(tmp_path / "out", ".lock", "writing to"),
        ):
            pass
    finally:
        release.set()
        holder.join()
    with hold(tmp_path / "out", ".lock", "writing to"):
        pass


def test_a_held_folder_is_waited_for(tmp_path: Path) -> None:
    release, waited = threading.Event(), []

    def keep(held: threading.Event) -> None:
        with hold(tmp_path / "out", ".lock", "writing to"):
            held.set()
            release.wait(30)

    held = threading.Event()
    holder = threading.Thread(target=keep, args=(held,))
    holder.start()
    try:
        assert held.wait(30)
        with (
            pytest.raises(ScenepaletteError, match="Another process is writing to"),
            hold(tmp_path / "out", ".lock", "writing to", wait=0.1),
        ):
            pass

        def let_go() -> None:
            waited.append(True)
            release.set()

        with hold(tmp_path / "out", ".lock", "writing to", wait=30, on_wait=let_go):
            assert waited == [True]
    finally:
        release.set()
        holder.join()
    with hold(tmp_path / "out", ".lock", "writing to", wait=30, on_wait=let_go):
        assert waited == [True], "there was nothing to wait for"


def test_a_folder_that_is_a_file_is_explained(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with (
        pytest.raises(ScenepaletteError, match=r"out cannot be used: File exists\. Give a writable --out"),
        hold(tmp_path / "out", ".lock", "writing to"),
    ):
        pass


def test_a_folder_that_cannot_be_written_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, **options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with (
        pytest.raises(
            ScenepaletteError, match=r"Could not write .*\.lock: the folder cannot be written\. Give a writable"
        ),
        hold(tmp_path / "out", ".lock", "writing to"),
    ):
        pass
