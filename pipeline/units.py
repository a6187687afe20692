"""Units of work: what makes a folder of the run directory, when it is finished, and that it is not made twice.

A unit's manifest is written last and atomically. It holds a fingerprint of the unit's settings, its code version and
its inputs' fingerprints; the same command again recognises it and skips the work. A folder without a manifest is
unfinished and its work goes on, if it was begun with the same fingerprint.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.errors import ScenepaletteError
from data.files import explain_write_error, sha256_of_json, write_json
from data.locks import hold
from pipeline.contents import MANIFEST, UNFINISHED, contents_of, read_record, sealed, settings_of


@dataclass(frozen=True)
class Unit:
    """One folder of the run directory and the work that fills it.

    Attributes:
        name: Path of the folder within the run directory, for example "layouts/semantic-palette".
        version: Raised when a change of the code changes the unit's results.
        settings: JSON values that identify the result.
        inputs: Names of the units whose results are read.
    """

    name: str
    version: int
    settings: Mapping[str, Any]
    inputs: tuple[str, ...] = ()


def fingerprint_of(unit: Unit, units: Mapping[str, Unit]) -> str:
    """Return the hash of a unit's settings, version and inputs, through all units before it."""
    return sha256_of_json(
        {
            "name": unit.name,
            "version": unit.version,
            "settings": unit.settings,
            "inputs": {name: fingerprint_of(units[name], units) for name in unit.inputs},
        }
    )


def stored_fingerprint(manifest: Mapping[str, Any]) -> str | None:
    """Return the fingerprint in a manifest; shard manifests keep it among their extra values."""
    return manifest.get("fingerprint") or manifest.get("extra", {}).get("fingerprint")


def is_finished(run_dir: Path, unit: Unit, units: Mapping[str, Unit]) -> bool:
    """Tell whether a unit's folder holds its finished result.

    Raises:
        ScenepaletteError: The folder holds, or was begun as, the result of other settings.
    """
    folder = run_dir / unit.name
    expected = fingerprint_of(unit, units)
    for file, finished in ((MANIFEST, True), (UNFINISHED, False)):
        path = folder / file
        if path.exists():
            content = read_record(path)
            if stored_fingerprint(content) == expected:
                return finished
            raise ScenepaletteError(
                f"{folder} was made with other settings or from other inputs than this command has. Give another "
                "--out folder, or remove that folder (and those made from it) to make it anew.",
                differences(settings_of(content), unit.settings),
            )
    return False


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say which settings differ between a manifest and a unit, one text each."""
    now = _as_json(now)
    return [
        f"{key}: {before.get(key)!r} there, {now.get(key)!r} now"
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key)
    ]


def _as_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _as_json(entry) for key, entry in value.items()}
    return [_as_json(entry) for entry in value] if isinstance(value, list | tuple) else value


def begin(run_dir: Path, unit: Unit, units: Mapping[str, Unit]) -> None:
    """Mark a unit's folder as begun with its fingerprint, unless it is already.

    Temporary files that a killed process left in it are removed; call this before any work on the unit starts.
    """
    path = run_dir / unit.name / UNFINISHED
    _remove_leftovers(path.parent.rglob(".*.tmp"))
    if not path.exists():
        write_json(
            path, {"fingerprint": fingerprint_of(unit, units), "settings": _as_json(unit.settings), "seconds": 0.0}
        )


def _remove_leftovers(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def timed(run_dir: Path, unit: Unit) -> Iterator[None]:
    """Add the time that the block takes to the unit's account, also if it is interrupted."""
    path, began = run_dir / unit.name / UNFINISHED, time.monotonic()

    def account() -> None:
        if path.exists():
            content = read_record(path)
            write_json(path, {**content, "seconds": content.get("seconds", 0.0) + time.monotonic() - began})

    try:
        yield
    except BaseException:
        # On a full disk this fails as well; the first reason is the one to report.
        with contextlib.suppress(ScenepaletteError):
            account()
        raise
    account()


def seconds_spent(run_dir: Path, unit_name: str) -> float:
    """Return the seconds that went into a unit so far, or into its finished result."""
    folder = run_dir / unit_name
    for file in (MANIFEST, UNFINISHED):
        if (folder / file).exists():
            content = read_record(folder / file)
            return float(content.get("extra", content).get("seconds", 0.0))
    return 0.0


def identity(run_dir: Path, unit: Unit, units: Mapping[str, Unit]) -> dict[str, Any]:
    """Return the fields by which a manifest is recognised again."""
    return {
        "fingerprint": fingerprint_of(unit, units),
        "version": unit.version,
        "settings": _as_json(unit.settings),
        "inputs": {name: fingerprint_of(units[name], units) for name in unit.inputs},
        "seconds": round(seconds_spent(run_dir, unit.name), 1),
    }


def finish(
    run_dir: Path, unit: Unit, units: Mapping[str, Unit], write: Callable[[dict[str, Any]], None] | None = None
) -> None:
    """Write a unit's manifest, the mark of a finished folder.

    Args:
        run_dir: The run directory.
        unit: The unit.
        units: All units of the run.
        write: Writes the manifest from its identity where it has a form of its own (shards).
    """
    content = identity(run_dir, unit, units)
    if write is None:
        files = contents_of(run_dir / unit.name)
        write_json(run_dir / unit.name / MANIFEST, sealed({"unit": unit.name, **content, "files": files}))
    else:
        write(content)
    (run_dir / unit.name / UNFINISHED).unlink(missing_ok=True)


@contextlib.contextmanager
def exclusive(run_dir: Path, wait: float = 0.0, on_wait: Callable[[], object] | None = None) -> Iterator[None]:
    """Hold the run directory, so that two runs never write into it at once.

    The operating system lets go of it when its process ends, however it ends; what a killed process left half-written
    beside the units' folders is removed.

    Args:
        run_dir: The run directory, which is made.
        wait: Seconds to wait for another process that holds it.
        on_wait: Called once if there is something to wait for.

    Raises:
        ScenepaletteError: Another process holds it still, or it cannot be written.
    """
    with hold(run_dir, ".lock", "working in", wait=wait, on_wait=on_wait):
        try:
            _remove_leftovers(run_dir.glob(".*.tmp"))
        except OSError as error:
            raise explain_write_error(run_dir, error) from error
        yield
