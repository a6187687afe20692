"""How far a run is: the state of each unit, and what is being made."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from scenepalette.common.errors import ScenepaletteError
from scenepalette.pipeline.run import Run
from scenepalette.pipeline.run_directory.activity import Activity, read_activity, read_beside
from scenepalette.pipeline.run_directory.manifests import identity_in
from scenepalette.pipeline.stages.studies.compare import STAGE as COMPARISON
from scenepalette.pipeline.stages.studies.curve import STAGE as CURVE
from scenepalette.pipeline.stages.studies.loop_rounds import STAGE as LOOP
from scenepalette.pipeline.units.records import reasons_of, seconds_spent, units_on_disk
from scenepalette.pipeline.units.workspace import Unit

StateName = Literal["finished", "running", "begun", "missing", "outdated", "damaged", "unused"]
MEANINGS: Mapping[StateName, str] = {
    "finished": "made, whole",
    "running": "being made",
    "begun": "not finished; the same command resumes it",
    "missing": "still to make",
    "outdated": "made with other settings, inputs or fewer pairs",
    "damaged": "its record cannot be read",
    "unused": "no part of config.yaml any more",
}


@dataclass(frozen=True)
class UnitStatus:
    """How far a unit is.

    Attributes:
        name: The unit.
        state: One of `MEANINGS`.
        seconds: What went into it so far.
        detail: What else there is to say; empty for nothing.
    """

    name: str
    state: StateName
    seconds: float
    detail: str = ""


@dataclass(frozen=True)
class RunStatus:
    """How far a run is.

    Attributes:
        run_dir: Its directory.
        units: The units of its configuration's report, and of what else was begun, each after those that it reads.
        activity: What a process is making there, or None.
        beside: What each of the processes makes that it has started, if it trains several units at once.
        now: When this was found out, as seconds since 1970.
    """

    run_dir: Path
    units: tuple[UnitStatus, ...]
    activity: Activity | None
    beside: tuple[Activity, ...]
    now: float

    def count(self, *states: StateName) -> int:
        """Return the number of units in any of these states."""
        return sum(unit.state in states for unit in self.units)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        running = None
        if self.activity is not None:
            running = self._told(self.activity)
            if self.beside:
                running["beside"] = [self._told(activity) for activity in self.beside]
        return {
            "run": str(self.run_dir),
            "finished": self.count("finished"),
            "units": [vars(unit) for unit in self.units],
            "of": len(self.units) - self.count("unused"),
            "running": running,
        }

    def _told(self, activity: Activity) -> dict[str, Any]:
        return {
            "unit": activity.unit,
            "process": activity.process,
            "host": activity.host,
            "alive": True if activity.is_here else None,
            "seconds": self.now - activity.began,
            "silent_seconds": self.now - activity.told,
            "work": activity.work or None,
            "done": activity.done,
            "total": activity.total,
            "seconds_left": activity.seconds_left(self.now),
        }


def status_of(run_dir: Path) -> RunStatus:
    """Return how far a run is; nothing is changed, and a run that works there is not disturbed.

    Raises:
        ScenepaletteError: It is none.
    """
    run, activity = Run.open(run_dir), read_activity(run_dir)
    beside = read_beside(run_dir) if activity is not None else []
    making = {told.unit: told for told in [*([activity] if activity is not None else []), *beside]}
    units, on_disk = run.units, units_on_disk(run_dir)
    wanted = {*run.planned.run, *on_disk, *making}
    # Curves, loops and comparisons are looked at once they were asked for.
    for stage, group in ((COMPARISON, run.planned.comparison), (CURVE, run.planned.curve), (LOOP, run.planned.loop)):
        if any(name.startswith(f"{stage}/") for name in on_disk):
            wanted.update(group)
    found = [_status(run, units[name], making.get(name)) for name in units if name in wanted]
    found += [
        UnitStatus(name, "unused", float(identity_in(record).get("seconds", 0.0)))
        for name, record in on_disk.items()
        if name not in units
    ]
    return RunStatus(run_dir, tuple(found), activity, tuple(beside), time.time())


def _status(run: Run, unit: Unit, activity: Activity | None) -> UnitStatus:
    try:
        seconds, state = seconds_spent(run.run_dir, unit), run.state(unit.name)
    except ScenepaletteError as error:
        return UnitStatus(unit.name, "damaged" if activity is None else "running", 0.0, str(error) * (activity is None))
    if activity is not None:
        return UnitStatus(unit.name, "running", seconds + time.time() - activity.began)
    if state.status == "finished":
        return UnitStatus(unit.name, "finished", seconds)
    if state.status == "other" or state.outgrown or (unit.renewed and "files" in (state.record or {})):
        return UnitStatus(unit.name, "outdated", seconds, "; ".join(reasons_of(state, unit, run.units)))
    record = state.record or {}
    if unit.rows is not None and record.get("rows"):
        return UnitStatus(unit.name, "begun", seconds, f"{record['rows']} of {unit.rows} pairs")
    return UnitStatus(unit.name, "begun" if state.record is not None else "missing", seconds)
