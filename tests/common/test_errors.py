from __future__ import annotations

import pickle

import pytest

from scenepalette.common.errors import CheckpointError, ConfigError, DataError, ScenepaletteError, TrainingError
from scenepalette.common.problems import Problem, ProblemKind


def test_the_text_is_the_summary_and_the_problems() -> None:
    assert str(DataError("Two files are wrong.", ["a.png is cut short", "b.png is missing"])) == (
        "Two files are wrong.\n  - a.png is cut short\n  - b.png is missing"
    )
    assert str(DataError("Alone.")) == "Alone."


@pytest.mark.parametrize(("count", "last"), [(20, "  - p19"), (21, "  ... and 1 more"), (1000, "  ... and 980 more")])
def test_only_the_first_20_problems_are_shown_and_all_are_kept(count: int, last: str) -> None:
    error = ConfigError("Many.", [f"p{index}" for index in range(count)])
    lines = str(error).splitlines()
    assert lines[1:21] == [f"  - p{index}" for index in range(20)]
    assert lines[-1] == last
    assert len(error.problems) == count


@pytest.mark.parametrize("kind", [ScenepaletteError, DataError, ConfigError, CheckpointError, TrainingError])
def test_errors_survive_a_process_boundary(kind: type[ScenepaletteError]) -> None:
    error = pickle.loads(pickle.dumps(kind("Summary.", ["one", "two"])))
    assert type(error) is kind
    assert isinstance(error, ScenepaletteError)
    assert (error.summary, error.problems) == ("Summary.", ("one", "two"))
    assert str(error) == "Summary.\n  - one\n  - two"


def test_a_data_error_keeps_its_problems_for_programs_across_a_process_boundary() -> None:
    found = (Problem(ProblemKind.LIST, "train.txt", "missing", 3), Problem(ProblemKind.LAYOUT, "", "train/"))
    error = pickle.loads(pickle.dumps(DataError("Two.", [*found, "a text"], kind=ProblemKind.SIZE)))
    assert (error.found, error.kind) == (found, ProblemKind.SIZE)
    assert error.problems == ("train.txt, line 3: missing", "train/", "a text")
    assert str(error).splitlines()[1:] == [f"  - {problem}" for problem in error.problems]
