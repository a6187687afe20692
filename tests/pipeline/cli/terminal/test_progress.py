from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from scenepalette.common.errors import TrainingError
from scenepalette.common.progress import PlainProgress
from scenepalette.pipeline.cli.main import app
from scenepalette.pipeline.cli.terminal.progress import RichProgress, choose_progress
from scenepalette.pipeline.config import RunConfig
from scenepalette.pipeline.run import Run
from scenepalette.training import trainee


def test_bar_shows_description_count_time_left_and_three_values() -> None:
    screen = io.StringIO()
    progress = RichProgress(Console(file=screen, force_terminal=True, width=160, color_system=None))
    progress.start("train [images]", 40, 10)
    progress.advance(5, real=0.123456, fake=2.0, generator=1e-9, hidden=4.0)
    progress.finish()
    shown = screen.getvalue()
    assert "train [images]" in shown and "15/40" in shown and "left" in shown
    assert "real 0.123 fake 2 generator 1e-09" in shown and "hidden" not in shown


def test_a_second_piece_of_work_takes_the_place_of_an_unfinished_one() -> None:
    screen = io.StringIO()
    progress = RichProgress(Console(file=screen, force_terminal=True, width=160, color_system=None))
    progress.advance()
    progress.start("first", 2)
    progress.start("second", 3)
    progress.advance()
    progress.finish()
    progress.finish()
    assert "0/2" in screen.getvalue() and "1/3" in screen.getvalue()


@pytest.mark.parametrize(("terminal", "kind"), [(True, RichProgress), (False, PlainProgress)])
def test_terminals_get_a_bar_and_pipes_get_lines(monkeypatch: pytest.MonkeyPatch, terminal: bool, kind: type) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    assert type(choose_progress()) is kind


def test_done_is_said_of_finished_work_alone_and_once(capsys: pytest.CaptureFixture[str]) -> None:
    progress = PlainProgress()
    progress.finish()
    for description, done, advanced in (("whole", 0, 3), ("resumed", 1, 2), ("nothing left", 3, 0), ("half", 1, 1)):
        progress.start(description, 3, done)
        progress.advance(advanced)
        progress.finish()
        progress.finish()
    progress.start("first", 2)
    progress.start("second", 2)
    lines = [line for line in capsys.readouterr().err.splitlines() if " of " in line or " in " in line]
    assert [line.rpartition(",")[0] or line for line in lines] == [
        "whole: done in 0 s",
        "resumed: 1 of 3",
        "resumed: done in 0 s",
        "nothing left: 3 of 3",
        "nothing left: done in 0 s",
        "half: 1 of 3",
        "half: stopped after 2 of 3",
        "first: stopped after 0 of 2",
    ]


@pytest.mark.parametrize("trouble", [KeyboardInterrupt, TrainingError("not finite")], ids=["ctrl-c", "error"])
def test_an_interrupted_training_is_not_said_to_be_done(
    trouble: type[BaseException] | BaseException, tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(step: int, **losses: object) -> None:
        if step == 2:
            raise trouble

    monkeypatch.setattr(trainee, "require_finite", stop)
    result = CliRunner().invoke(app, ["train-images", str(tiny_recipe), "--out", str(tmp_path / "run")])
    assert result.exit_code == (130 if trouble is KeyboardInterrupt else 1)
    lines = [line for line in result.stderr.splitlines() if line.startswith("train-images")]
    assert lines[0] == "train-images oasis: 3" and lines[-1].startswith("train-images oasis: stopped after 2 of 3,")
    assert "done in" not in "".join(lines)


@pytest.mark.slow
def test_every_piece_of_a_run_counts_to_its_end(
    tiny_config: RunConfig, copy_of_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = copy_of_run("images", "shards/semi", "segmenters/syn", "report")
    shutil.rmtree(run_dir / "shards")
    run = Run(tiny_config, run_dir, PlainProgress())
    run.make(run.names_of("report"))
    lines = capsys.readouterr().err.splitlines()
    begun = [line.partition(":")[0] for line in lines if "done in" not in line]
    assert begun == [line.partition(":")[0] for line in lines if "done in" in line]
    assert {"train-images oasis", "generate full", "Training the segmenter", "Evaluating the segmenter"} <= set(begun)
