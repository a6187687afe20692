"""Following a unit of work: what appears in its folder is passed on to trackers by a thread of its own.

A training knows nothing of trackers. It writes its log and sample sheets; the thread reads these. A tracker that is
down, slow or broken is warned of once and left alone, and costs a training nothing.
"""

from __future__ import annotations

import contextlib
import math
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from scenepalette.common.errors import ScenepaletteError
from scenepalette.common.storage.files import read_json, write_json
from scenepalette.common.urls import masked
from scenepalette.training.loop import METRICS_FILE, read_metrics
from scenepalette.training.tracking.base import Status, Tracker, TrackerName, UnitRun
from scenepalette.training.tracking.mlflow import MlflowTracker
from scenepalette.training.tracking.tensorboard import TensorBoardTracker
from scenepalette.training.tracking.wandb import WandbTracker

TRACKERS: Mapping[TrackerName, Callable[[], Tracker]] = {
    "tensorboard": TensorBoardTracker,
    "mlflow": MlflowTracker,
    "wandb": WandbTracker,
}
"""By name, which is that of the extra and of the package to be imported as well."""
MEMORY = ".scenepalette-tracking.json"
"""In the run directory: under which ids trackers know the run and its units, and up to which step they were told."""
POLL_SECONDS = 10.0
END_SECONDS = 60.0
INTERRUPTED_SECONDS = 10.0
_SHOWN_CHARACTERS = 300

# Trackers that failed in this process.
_given_up: set[str] = set()


@contextlib.contextmanager
def followed(
    unit: UnitRun,
    names: Sequence[TrackerName],
    run_dir: Path,
    summary: Callable[[Path], Mapping[str, float]] = lambda folder: {},
) -> Iterator[None]:
    """Pass on what the block writes into a unit's folder, to each tracker by a run of its own.

    Args:
        unit: The unit.
        names: The trackers.
        run_dir: Where ids are kept; the caller holds it.
        summary: Returns the numbers of a folder with a page, which is published once the block has ended well.
    """
    chosen: dict[TrackerName, Tracker] = {
        name: TRACKERS[name]() for name in dict.fromkeys(names) if name not in _given_up
    }
    if not chosen:
        yield
        return
    follower = _Follower(unit, chosen, run_dir / MEMORY, summary)
    status: Status = "failed"
    follower.start()
    try:
        yield
        status = "finished"
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    finally:
        follower.stop(status)


class _Follower(threading.Thread):
    """Reads a unit's folder every few seconds until it is stopped."""

    def __init__(
        self,
        unit: UnitRun,
        trackers: Mapping[TrackerName, Tracker],
        memory: Path,
        summary: Callable[[Path], Mapping[str, float]],
    ) -> None:
        # A tracker that hangs must not keep the process from ending.
        super().__init__(name="trackers", daemon=True)
        self._unit, self._summary = unit, summary
        self._trackers: dict[TrackerName, Tracker] = dict(trackers)
        self._path, self._memory = memory, _remembered(memory)
        sent = self._memory.setdefault("sent", {})
        if unit.is_new:
            sent.pop(unit.name, None)
        self._step: int = sent.get(unit.name, 0)
        self._shown: set[str] = {path.name for path in self._sheets() if self._step_of(path) <= self._step}
        self._ended = threading.Event()
        self._status: Status = "failed"

    def run(self) -> None:
        """Open the unit's runs, pass on what appears, and close them."""
        for name in self._names():
            self._tell(name, lambda tracker, name=name: tracker.begin(self._unit, self._memory.setdefault(name, {})))
        self._remember()
        while not self._ended.wait(POLL_SECONDS):
            self._pass_on()
        self._pass_on()
        status = self._status
        if status == "finished" and any(self._unit.folder.glob("*.html")):
            numbers = self._summary(self._unit.folder)
            self._tell_all(lambda tracker: tracker.publish(self._unit.name, self._unit.folder, numbers))
        self._tell_all(lambda tracker: tracker.end(status))
        self._remember()

    def stop(self, status: Status) -> None:
        """End what is passed on, and wait until it has arrived: a minute at most, less where a user waits."""
        self._status = status
        self._ended.set()
        seconds = INTERRUPTED_SECONDS if status == "interrupted" else END_SECONDS
        self.join(seconds)
        if self.is_alive():
            for name in self._names():
                self._give_up(name, f"it did not answer within {seconds:.0f} s")

    def _pass_on(self) -> None:
        """Pass on new lines and sample sheets in the order of their steps, as some trackers take no earlier ones."""
        lines = [line for line in read_metrics(self._unit.folder / METRICS_FILE) if line["step"] > self._step]
        sheets = [path for path in self._sheets() if path.name not in self._shown]
        events: list[tuple[int, Callable[[Tracker], None]]] = []
        for line in lines:
            values = {key: float(value) for key, value in line.items() if key != "step" and _is_number(value)}
            step = line["step"]
            events.append((step, lambda tracker, step=step, values=values: tracker.log(step, values)))
            self._step = step
        for path in sheets:
            step = self._step_of(path)
            events.append((step, lambda tracker, path=path, step=step: tracker.show("samples", path, step)))
            self._shown.add(path.name)
        for _, event in sorted(events, key=lambda entry: entry[0]):
            self._tell_all(event)
        if events:
            self._memory["sent"][self._unit.name] = self._step
            self._remember()

    def _sheets(self) -> list[Path]:
        return sorted((self._unit.folder / "samples").glob("[!.]*.png"))

    def _step_of(self, path: Path) -> int:
        """Return the step of a sample sheet, `step-000100.png`; of the final one that of the last line."""
        digits = path.stem.removeprefix("step-")
        return int(digits) if digits.isdigit() else self._step

    def _names(self) -> list[TrackerName]:
        """Return the trackers that are still told; some may be given up meanwhile."""
        return list(self._trackers)

    def _tell_all(self, what: Callable[[Tracker], None]) -> None:
        for name in self._names():
            self._tell(name, what)

    def _tell(self, name: TrackerName, what: Callable[[Tracker], None]) -> None:
        try:
            what(self._trackers[name])
        except Exception as error:
            text = masked(" ".join(str(error).split()))
            self._give_up(name, f"{type(error).__name__}: {text[:_SHOWN_CHARACTERS]}")

    def _give_up(self, name: TrackerName, why: str) -> None:
        """Leave a tracker alone, and say so once."""
        self._trackers.pop(name, None)
        if name not in _given_up:
            _given_up.add(name)
            print(
                f"Warning: {name} gets no further data from this run, which continues without it. {why}",
                file=sys.stderr,
                flush=True,
            )

    def _remember(self) -> None:
        with contextlib.suppress(ScenepaletteError):  # whatever keeps it from being written is told by the work itself
            write_json(self._path, self._memory)


def _remembered(path: Path) -> dict[str, Any]:
    """Return what was kept of earlier commands; nothing of a lost or damaged file."""
    try:
        content = read_json(path)
    except ScenepaletteError:
        return {}
    return content if isinstance(content, dict) and all(isinstance(entry, dict) for entry in content.values()) else {}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
