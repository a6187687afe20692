"""What a tracker is told of a unit of work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from scenepalette.common.urls import masked

TrackerName = Literal["tensorboard", "mlflow", "wandb"]
PROJECT = "scenepalette"
"""Experiment or project, where the tracker's own environment variables name none."""
Status = Literal["finished", "failed", "interrupted"]


@dataclass(frozen=True)
class UnitRun:
    """A unit of work, as trackers see it: a run of its own under that of the whole run directory.

    Attributes:
        name: The unit, such as "images/oasis".
        stage: What sort of work it is, such as "images".
        folder: Where it writes.
        parent: Name of the whole run.
        settings: What identifies the unit's result, flat: "optimizer.rate" -> "0.1".
        parent_settings: The configuration, likewise.
        tags: What else is known of the whole run, such as the version of the code.
        is_new: Whether it begins; else it is continued.
    """

    name: str
    stage: str
    folder: Path
    parent: str
    settings: Mapping[str, str]
    parent_settings: Mapping[str, str]
    tags: Mapping[str, str] = field(default_factory=dict)
    is_new: bool = True


class Tracker(Protocol):
    """Passes on what a unit writes; any exception switches it off for the rest of the process.

    A tracker is made for one unit. `memory` is kept in the run directory from one command to the next.
    """

    def begin(self, unit: UnitRun, memory: dict[str, Any]) -> None:
        """Open the unit's run and, if there is none, that of the whole run."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Pass on the numbers of a line of the metrics log."""

    def show(self, name: str, path: Path, step: int) -> None:
        """Pass on an image that was reached after `step` steps."""

    def publish(self, name: str, folder: Path, summary: Mapping[str, float]) -> None:
        """Pass on a folder with a page, under a name, and numbers of the whole run."""

    def end(self, status: Status) -> None:
        """Close the unit's run."""


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return nested settings by dotted names, as texts without credentials."""
    found: dict[str, str] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            found |= flat(value, f"{name}.")
        else:
            found[name] = masked(str(value))
    return found
