"""Setting finished or begun units aside, with what was made from them, so that they can be made again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from scenepalette.common.errors import ConfigError
from scenepalette.pipeline.run_directory.manifests import identity_in
from scenepalette.pipeline.run_directory.ownership import (
    check_holds_run,
    exclusive,
    remember,
    set_aside,
    write_shards_card,
)
from scenepalette.pipeline.units.records import show_seconds, units_on_disk


@dataclass(frozen=True)
class ResetUnit:
    """A unit that is to be set aside.

    Attributes:
        name: Its folder in the run directory.
        seconds: Time that went into it.
        because: Name of a unit that it was made from and that is set aside too; None if it was asked for itself.
    """

    name: str
    seconds: float
    because: str | None

    def __str__(self) -> str:
        reason = f", made from {self.because}" if self.because else ""
        return f"{self.name} ({show_seconds(self.seconds)}{reason})"


def plan_reset(run_dir: Path, names: Iterable[str]) -> list[ResetUnit]:
    """Return the units that a reset sets aside: those named, and all that were made from them, directly or not.

    A stage, such as "segmenters" or "segmenters/syn", stands for all units below it. Each unit comes before those that
    it was made from.

    Raises:
        ConfigError: There is no such unit; all unknown names at once.
        ScenepaletteError: The folder holds no run, or a record is damaged.
    """
    check_holds_run(run_dir)
    records = units_on_disk(run_dir)
    wanted: dict[str, str | None] = {}
    unknown = []
    for name in (text.strip("/") for text in names):
        found = [unit for unit in records if unit == name or unit.startswith(f"{name}/")]
        wanted |= dict.fromkeys(found)
        if not found:
            unknown.append(f"{name!r}: there is no such unit")
    if unknown:
        have = f"Its units are {', '.join(sorted(records))}." if records else "It has no units."
        raise ConfigError(f"Nothing of {run_dir} was set aside. {have}", unknown)
    inputs = {name: identity_in(record).get("inputs", {}) for name, record in records.items()}
    order = list(wanted)
    for cause in order:  # which grows
        for name, read in inputs.items():
            if cause in read and name not in wanted:
                wanted[name] = cause
                order.append(name)
    seconds = {name: float(identity_in(record).get("seconds", 0.0)) for name, record in records.items()}
    placed: dict[str, ResetUnit] = {}

    def place(name: str) -> None:
        for other in wanted:
            if name in inputs[other] and other not in placed:
                place(other)
        placed.setdefault(name, ResetUnit(name, seconds[name], wanted[name]))

    for name in wanted:
        place(name)
    return list(placed.values())


def reset(run_dir: Path, units: list[ResetUnit], wait: float = 0.0) -> Path:
    """Set units aside, in their order: they move to a new folder below `set-aside/`, and nothing is deleted.

    Args:
        run_dir: The run directory.
        units: Result of `plan_reset`.
        wait: Seconds to wait while another process works in the run directory.

    Returns:
        The new folder, laid out as the run directory is.

    Raises:
        ScenepaletteError: Another process works in the run directory, or a folder cannot be moved.
    """
    names = [unit.name for unit in units]
    with exclusive(run_dir, wait):
        target = set_aside(run_dir, names)
        remember(run_dir, lambda mark: [mark.units.pop(name, None) for name in names])
        write_shards_card(run_dir)
    return target
