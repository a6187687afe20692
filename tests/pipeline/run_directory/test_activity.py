"""What a process tells of itself in a run directory, and what others make of it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from scenepalette.common.progress import NO_PROGRESS, NoProgress
from scenepalette.pipeline.run_directory import activity as activity_module
from scenepalette.pipeline.run_directory.activity import ACTIVITY, read_activity, told


class Heard(NoProgress):
    """Progress that is written down."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def start(self, description: str, total: int, done: int = 0) -> None:
        self.calls.append(("start", description, total, done))

    def advance(self, count: int = 1, **values: float) -> None:
        self.calls.append(("advance", count, values))

    def finish(self) -> None:
        self.calls.append(("finish",))


def test_a_unit_is_told_while_it_is_made_and_progress_is_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity_module, "TELL_SECONDS", 0.0)
    heard = Heard()
    assert read_activity(tmp_path) is None
    with told(tmp_path, "images/oasis", heard) as progress:
        found = read_activity(tmp_path)
        assert found is not None and (found.unit, found.work, found.seconds_left(found.told)) == (
            "images/oasis",
            "",
            None,
        )
        progress.start("train images", 100, 20)
        progress.advance(30, loss=0.5)
        found = read_activity(tmp_path)
        assert found is not None and (found.work, found.done, found.total) == ("train images", 50, 100)
        progress.finish()
    assert heard.calls == [("start", "train images", 100, 20), ("advance", 30, {"loss": 0.5}), ("finish",)]
    assert read_activity(tmp_path) is None and not (tmp_path / ACTIVITY).exists()


def test_time_left_follows_the_speed_since_the_work_began(tmp_path: Path) -> None:
    with told(tmp_path, "images/oasis", NO_PROGRESS) as progress:
        progress.start("train images", 100, 40)
        content = json.loads((tmp_path / ACTIVITY).read_text())
        content |= {"done": 60, "work_began": 1000.0, "told": 1010.0}
        (tmp_path / ACTIVITY).write_text(json.dumps(content))
        found = read_activity(tmp_path)
    # 20 steps in 10 s: 40 more take 20 s, of which 5 have gone by.
    assert found is not None and found.seconds_left(1015.0) == pytest.approx(15.0)
    assert found.seconds_left(5000.0) == 0.0


def test_what_a_killed_process_left_is_not_taken_for_a_living_one(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from scenepalette.common.progress import NO_PROGRESS; "
        "from scenepalette.pipeline.run_directory.activity import told; "
        "held = told(Path(sys.argv[1]), 'images/oasis', NO_PROGRESS); held.__enter__(); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert (tmp_path / ACTIVITY).is_file() and read_activity(tmp_path) is None


@pytest.mark.skipif(not psutil.LINUX, reason="the system keeps when a process began by the clock")
def test_a_clock_that_is_set_hides_no_living_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began, now = psutil.boot_time(), time.time
    with told(tmp_path, "images/oasis", NO_PROGRESS) as progress:
        progress.start("train", 10)
        monkeypatch.setattr("psutil._pslinux.boot_time", lambda: began - 3600)
        monkeypatch.setattr(time, "time", lambda: now() - 3600)
        progress.advance(3)
        found = read_activity(tmp_path)
    assert found is not None and found.done == 3


def test_a_process_of_another_machine_is_told_as_what_it_was(tmp_path: Path) -> None:
    with told(tmp_path, "images/oasis", NO_PROGRESS):
        content = json.loads((tmp_path / ACTIVITY).read_text())
        (tmp_path / ACTIVITY).write_text(json.dumps(content | {"host": "elsewhere", "process": 2**22}))
        found = read_activity(tmp_path)
    assert found is not None and not found.is_here and time.time() - found.told < 60


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"unit": 1}', "null"])
def test_a_damaged_file_tells_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / ACTIVITY).write_text(text)
    assert read_activity(tmp_path) is None


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    with told(tmp_path / "gone", "images/oasis", NO_PROGRESS) as progress:
        progress.start("train images", 10)
        progress.advance()
        progress.finish()
    assert not (tmp_path / "gone").exists()
