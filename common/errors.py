"""Errors that a user can act on; the command line prints their text and exits with 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scenepalette.common.problems import Problem, ProblemKind, printable

SHOWN_PROBLEMS = 20
SHOWN_OF_KIND = 3
"""Problems of one kind that a message shows of many."""


class ScenepaletteError(Exception):
    """A foreseeable problem: what was received, what is required and what to do about it."""

    def __init__(self, summary: str, problems: Sequence[str] = ()) -> None:
        """Create the error.

        Args:
            summary: One sentence or two, complete in themselves.
            problems: All problems found, one text each; the message shows the first 20.
        """
        self.summary = printable(summary)
        self.problems = tuple(map(printable, problems))
        lines = [self.summary, *(f"  - {problem}" for problem in self.problems[:SHOWN_PROBLEMS])]
        if len(self.problems) > SHOWN_PROBLEMS:
            lines.append(f"  ... and {len(self.problems) - SHOWN_PROBLEMS} more")
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with both arguments, so that the error survives a process boundary."""
        return type(self), (self.summary, self.problems)


class DataError(ScenepaletteError):
    """A data set or shard that cannot be used as it is.

    Attributes:
        found: The problems of the data set's files, as far as they were reported as `Problem`s.
        kind: What kind of problem the summary states, for an error about one file.
        notes: What the reader decided from the files or skipped, which may explain the problems.
    """

    def __init__(
        self,
        summary: str,
        problems: Sequence[str | Problem] = (),
        *,
        kind: ProblemKind = ProblemKind.FILE,
        notes: Sequence[str] = (),
        hint: str = "; `scenepalette doctor` lists them",
    ) -> None:
        """Create the error.

        Args:
            summary: As of `ScenepaletteError`.
            problems: All problems found; of those of one kind the message shows examples.
            kind: What kind of problem the summary states.
            notes: What the reader decided or skipped.
            hint: What follows the number of problems that are not shown: where they are listed.
        """
        super().__init__(summary, [str(problem) for problem in problems])
        self.notes = tuple(map(printable, notes))
        self.found = tuple(problem for problem in problems if isinstance(problem, Problem))
        self.kind = kind
        text = str(self)
        if len(self.found) == len(problems) > SHOWN_OF_KIND:
            text = "\n".join([self.summary, *_examples(self.found, hint)])
        self.args = ("\n".join([text, *(f"Note: {note.rstrip('.')}." for note in self.notes)]),)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with all that programs read."""
        return (
            type(self),
            (self.summary, self.problems),
            {"found": self.found, "kind": self.kind, "notes": self.notes, "args": self.args},
        )


class ConfigError(ScenepaletteError):
    """A configuration that cannot be run."""


class CheckpointError(ScenepaletteError):
    """Weights or a checkpoint that do not fit what they are loaded into."""


class DamagedCheckpointError(CheckpointError):
    """Weights or a checkpoint that are missing, cut short, or not what was written."""


class AbsentError(ScenepaletteError):
    """Something optional, such as published weights, that cannot be had; its text says why in one line."""


class TrainingError(ScenepaletteError):
    """A training that must stop, such as one with a loss that is not finite."""


def _examples(found: Sequence[Problem], hint: str) -> list[str]:
    """Return lines that show some problems of each kind and count the others."""
    kinds: dict[ProblemKind, list[Problem]] = {}
    for problem in found:
        kinds.setdefault(problem.kind, []).append(problem)
    lines = []
    for kind, problems in kinds.items():
        # Lines of a class file are corrected by hand, one by one; files by the hundred.
        most = SHOWN_PROBLEMS if kind in (ProblemKind.LAYOUT, ProblemKind.CLASS_FILE) else SHOWN_OF_KIND
        lines += [f"  - {problem}" for problem in problems[:most]]
        if (others := len(problems) - most) > 0:
            lines.append(f"  ... and {others} more of the kind '{kind.title}'{hint}")
    return lines
