"""What a run of `benchmarks.gpu` has measured so far, in its output folder: one JSON file per finished case."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from scenepalette.common.storage.files import read_json, write_json

ATTEMPTS = 2
"""How often a case is begun; one that was cut off so often would take the time of all that comes after it."""
LEAST_SECONDS = 1.0
"""With less time than this no case is begun."""

Row = Mapping[str, Any]
Cases = Mapping[str, Callable[[float], Row]]
"""By name: what takes about so many seconds and returns what it measured."""


class Record:
    """The cases of each part: not begun, begun, or finished with a row of its table."""

    def __init__(self, out: Path) -> None:
        """Use a folder; what an earlier call left there is known."""
        self.out = out

    def _path(self, part: str, case: str) -> Path:
        return self.out / "parts" / part / f"{re.sub('[^A-Za-z0-9.-]+', '_', case)}.json"

    def _read(self, part: str, case: str) -> dict[str, Any]:
        path = self._path(part, case)
        return read_json(path) if path.is_file() else {"case": case, "attempts": 0, "row": None}

    def row(self, part: str, case: str) -> Row | None:
        """Return what a case has measured, or None if it is not finished."""
        return self._read(part, case)["row"]

    def is_settled(self, part: str, case: str) -> bool:
        """Tell whether nothing is to be done about a case any more."""
        entry = self._read(part, case)
        return entry["row"] is not None or entry["attempts"] >= ATTEMPTS

    def begin(self, part: str, case: str) -> None:
        """Note that a case is begun."""
        entry = self._read(part, case)
        write_json(self._path(part, case), {**entry, "attempts": entry["attempts"] + 1})

    def finish(self, part: str, case: str, row: Row) -> None:
        """Note what a case has measured."""
        write_json(self._path(part, case), {**self._read(part, case), "row": dict(row)})

    def rows(self, part: str) -> list[Row]:
        """Return the rows of a part in the order in which they were measured; what was cut off says so."""
        paths = sorted((self.out / "parts" / part).glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
        entries = [read_json(path) for path in paths]
        return [{"case": entry["case"], **(entry["row"] or {"note": "not finished in its time"})} for entry in entries]


def measure_cases(record: Record, part: str, cases: Cases, end: float) -> None:
    """Measure the cases that are left, each in its share of the time; one that fails says why, and the next comes.

    The time is over at `end`, in seconds as `time.time` counts.
    """
    left = [name for name in cases if not record.is_settled(part, name)]
    for position, name in enumerate(left):
        seconds = (end - time.time()) / (len(left) - position)
        if seconds < LEAST_SECONDS:
            return
        record.begin(part, name)
        began = time.time()
        try:
            row = dict(cases[name](seconds))
        except torch.OutOfMemoryError:
            row = {"note": "out of memory"}
        except Exception as error:  # one case must not take the others with it
            row = {"note": f"failed: {type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"}
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        record.finish(part, name, {**row, "seconds": round(time.time() - began, 1)})
        print(f"{part}: {name}: {json.dumps(row)}", flush=True)


def table_of(rows: Iterable[Row]) -> tuple[list[str], list[list[object]]]:
    """Return columns and cells of rows that need not have the same entries."""
    rows = list(rows)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return columns, [[_shown(row.get(column, "")) for column in columns] for row in rows]


def _shown(value: object) -> object:
    if not isinstance(value, float):
        return value
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
