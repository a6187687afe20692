"""A disk that fills up, or becomes read-only, in the middle of each stage."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from scenepalette.common.errors import ScenepaletteError
from scenepalette.common.progress import NoProgress
from scenepalette.pipeline.config import FinetuneConfig, RunConfig
from scenepalette.pipeline.run import Run

UNITS = [
    "data",
    "palettes",
    "layouts/semantic-palette",
    "layouts/semantic-palette-partial",
    "images/oasis",
    "finetuned/full",
    "shards/full",
    "segmenters/real/seed0",
    "report",
]


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


class FullFile(io.FileIO):
    """A file on a disk with room for so many more bytes."""

    room = 0

    def write(self, content: Any) -> int:
        FullFile.room -= memoryview(content).nbytes
        if FullFile.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(content)


@contextmanager
def full_disk(room: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let writes fail once `room` bytes were written, as write(2) does on a full disk."""

    def open_handle(handle: int, mode: str = "r", *arguments: Any, **options: Any) -> io.BufferedRandom:
        assert mode == "w+b"
        return io.BufferedRandom(FullFile(handle, mode))

    original = Path.open

    def open_path(path: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if "a" not in mode:
            return original(path, mode, *arguments, **options)
        return io.TextIOWrapper(io.BufferedWriter(FullFile(path, "ab")), encoding="utf-8")

    FullFile.room = room
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdopen", open_handle)
        patch.setattr(Path, "open", open_path)
        yield


@contextmanager
def read_only(folder: Path, files: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let nothing in a folder be made, replaced or removed any more once `files` files were begun in it."""
    left = [files]

    def refusing(original: Callable[..., Any], path_of: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            path = path_of(*arguments, **options)
            if path is not None and Path(path).is_relative_to(folder):
                if original is make_file:
                    left[0] -= 1
                if left[0] < 0:
                    raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
            return original(*arguments, **options)

        return call

    make_file = os.open
    with monkeypatch.context() as patch:
        patch.setattr(
            os, "open", refusing(make_file, lambda path, flags, *_, **__: path if flags & os.O_CREAT else None)
        )
        patch.setattr(os, "replace", refusing(os.replace, lambda source, target: target))
        patch.setattr(Path, "unlink", refusing(Path.unlink, lambda path, **options: path if path.exists() else None))
        patch.setattr(
            Path, "open", refusing(Path.open, lambda path, mode="r", **options: path if "a" in mode else None)
        )
        yield


@pytest.mark.slow
@pytest.mark.parametrize("unit", UNITS)
def test_a_disk_that_fails_in_the_middle_of_a_stage_loses_nothing(
    unit: str,
    finished_run: Path,
    copy_of_run: Callable[..., Path],
    tiny_config: RunConfig,
    monkeypatch: pytest.MonkeyPatch,
    results_of: Callable[[Path], dict[str, Any]],
) -> None:
    config, before = tiny_config, results_of(finished_run)
    if unit.startswith("finetuned"):
        tuning = FinetuneConfig(kinds=("full",), steps=2, batch_size=2, width=4, checkpoint_every=1)
        config = config.model_copy(update={"finetune": tuning})
        run_dir = copy_of_run("shards/full", "segmenters", "report")
        Run(config, run_dir).make([unit])
        before = results_of(run_dir)
        room, files = size_of(run_dir / unit) // 2, 4
        for path in sorted((run_dir / unit).rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
    else:
        run_dir = copy_of_run(unit)
        room, files = size_of(finished_run / unit) // 2, 3
    others = {
        path: path.stat().st_mtime_ns
        for path in run_dir.rglob("*")
        if path.is_file()
        and not path.is_relative_to(run_dir / unit)
        and path.name not in (".scenepalette.lock", "scenepalette-run.json", "config.yaml")
        and path != run_dir / "shards/README.md"
    }

    with full_disk(room, monkeypatch), pytest.raises(ScenepaletteError) as full:
        Run(config, run_dir, NoProgress()).make([unit])
    with read_only(run_dir / unit, files, monkeypatch), pytest.raises(ScenepaletteError) as refused:
        Run(config, run_dir, NoProgress()).make([unit])
    for error, remedy in ((full, "the disk is full. Free some space"), (refused, "the folder cannot be written.")):
        assert str(error.value).startswith(f"Could not write {run_dir / unit}/") and "\n" not in str(error.value)
        assert remedy in str(error.value)

    assert not (run_dir / unit / "manifest.json").exists()
    assert {path: path.stat().st_mtime_ns for path in others} == others
    Run(config, run_dir).make([unit])
    assert results_of(run_dir) == before
    assert not list(run_dir.rglob(".*.scenepalette-tmp"))
