from __future__ import annotations

import pytest

from scenepalette.common import progress as progress_module
from scenepalette.common.progress import NO_PROGRESS, PlainProgress


def test_plain_progress_prints_at_intervals_with_the_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    progress = PlainProgress(interval=10.0)
    progress.start("train", 20, done=4)
    for _ in range(12):
        now[0] += 3.0
        progress.advance(loss=0.12345)
    progress.advance(4)
    progress.finish()
    lines = capsys.readouterr().err.splitlines()
    # 3 s a step: after 4 steps 12 s are over, 12 steps of 3 s are left; then 4 and 4 steps later again.
    assert lines == [
        "train: 4 of 20",
        "train: 8 of 20, 36 s left loss=0.123",
        "train: 12 of 20, 24 s left loss=0.123",
        "train: 16 of 20, 12 s left loss=0.123",
        "train: done in 36 s",
    ]


def test_no_progress_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    NO_PROGRESS.start("work", 3)
    NO_PROGRESS.advance(2, loss=1.0)
    NO_PROGRESS.finish()
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
