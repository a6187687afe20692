from __future__ import annotations

import io
import sys

import pytest
from rich.console import Console

from pipeline.progress import RichProgress, choose_progress
from training.loop import PlainProgress


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
