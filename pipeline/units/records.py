"""How far units are: when a folder of the run directory is finished, and that it is not made twice.

A unit's manifest is written last and atomically. It holds a fingerprint of the unit's settings, its code version and
its inputs' fingerprints; a rerun recognises it and skips the work. A folder without a manifest is
unfinished; its work is resumed if it was begun with the same fingerprint.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from scenepalette.common.errors import ScenepaletteError
from scenepalette.common.storage.files import explain_write_error, is_temporary, sealed, sha256_of_json, write_json
from scenepalette.common.wording import counted
from scenepalette.pipeline.run_directory.manifests import (
    MANIFEST,
    STAGING,
    UNFINISHED,
    contents_of,
    identity_in,
    partial_results,
    read_record,
)
from scenepalette.pipeline.run_directory.ownership import keep_changed, read_mark, remember, remove_leftovers, set_aside
from scenepalette.pipeline.units.workspace import Unit

# The setting of a unit that is taken from another run: the SHA-256 of its weights, by file.
BORROWED = "borrowed"


@dataclass(frozen=True)
class State:
    """How far a unit is in a run directory.

    Attributes:
        status: "finished"; "missing" (absent, unfinished, to be renewed, extended or replaced); or "other": it has
            results of other settings or inputs.
        record: The manifest or the mark of being begun, if there is one.
        partial: Names of the partial results of an unfinished unit of other settings.
        outgrown: Whether it has results that fewer generated pairs went into, and nothing else differs: these are set
            aside when the unit is begun.
    """

    status: Literal["finished", "missing", "other"]
    record: Mapping[str, Any] | None = None
    partial: tuple[str, ...] = ()
    outgrown: bool = False


def fingerprint_of(unit: Unit, units: Mapping[str, Unit]) -> str:
    """Return the hash of a unit's settings, version and inputs, through all units before it."""
    return _fingerprint(unit, units, {})


def _fingerprint(unit: Unit, units: Mapping[str, Unit], known: dict[str, str]) -> str:
    # Known by name: what many units are made from is looked at once.
    for name in unit.inputs:
        if name not in known:
            known[name] = _fingerprint(units[name], units, known)
    return sha256_of_json(
        {
            "name": unit.name,
            "version": unit.version,
            "settings": unit.settings,
            "inputs": {name: known[name] for name in unit.inputs},
        }
    )


def stored_fingerprint(record: Mapping[str, Any]) -> str | None:
    """Return the fingerprint in a record."""
    return identity_in(record).get("fingerprint")


def state_of(run_dir: Path, unit: Unit, units: Mapping[str, Unit]) -> State:
    """Return how far a unit is.

    Raises:
        ScenepaletteError: A record is damaged, or the unit's folder holds files of somebody else.
    """
    folder, expected = run_dir / unit.name, fingerprint_of(unit, units)
    if (folder / MANIFEST).exists():
        manifest = read_record(folder / MANIFEST)
        if stored_fingerprint(manifest) == expected:
            # What extends a set may have been interrupted after its shards were put in their place.
            extended = unit.rows is not None and (manifest["rows"] < unit.rows or (folder / UNFINISHED).exists())
            return State("missing" if extended else "finished", manifest)
        outgrown = _is_outgrown(manifest, unit, units)
        return State("missing" if unit.renewed or outgrown else "other", manifest, outgrown=outgrown)
    begun = read_record(folder / UNFINISHED) if (folder / UNFINISHED).exists() else None
    holds = partial_results(folder) if folder.is_dir() else []
    known = stored_fingerprint(begun) if begun is not None else read_mark(run_dir).units.get(unit.name)
    if holds and known is None:
        raise ScenepaletteError(
            f"{folder} was not made by this run, and would be written into: it holds {', '.join(holds[:3])}. Move it "
            "elsewhere, or give another --out folder."
        )
    if known != expected and holds and unit.resumable and not _is_resumed(begun or {}, unit, units):
        outgrown = _is_outgrown(begun or {}, unit, units)
        return State("missing" if outgrown else "other", begun or {}, tuple(holds), outgrown)
    return State("missing", begun)


def _is_outgrown(record: Mapping[str, Any], unit: Unit, units: Mapping[str, Unit]) -> bool:
    """Tell whether a record is that of the same unit with fewer pairs."""
    before, now = identity_in(record).get("settings", {}).get("pairs"), unit.settings.get("pairs")
    if unit.renewed or not isinstance(before, int) or not isinstance(now, int) or before >= now:
        return False
    smaller = replace(unit, settings={**unit.settings, "pairs": before})
    return stored_fingerprint(record) == fingerprint_of(smaller, units)


def _is_resumed(record: Mapping[str, Any], unit: Unit, units: Mapping[str, Unit]) -> bool:
    """Tell whether a record is that of the same unit with other settings that its partial results do not depend on."""
    before = identity_in(record).get("settings", {})
    if unit.of_partial(before) != unit.of_partial(as_json(unit.settings)):
        return False
    return stored_fingerprint(record) == fingerprint_of(replace(unit, settings=before), units)


def is_finished(run_dir: Path, unit: Unit, units: Mapping[str, Unit]) -> bool:
    """Tell whether a unit's folder holds its finished result.

    Raises:
        ScenepaletteError: A record is damaged, or the folder holds files of somebody else.
    """
    return state_of(run_dir, unit, units).status == "finished"


class _Reason(NamedTuple):
    """In what a result differs from what its unit is now; `remade`: the input that was made again, if that is it."""

    text: str
    remade: str | None = None


def reasons_of(state: State, unit: Unit, units: Mapping[str, Unit]) -> list[str]:
    """Say in what a result of other settings or inputs differs from what the unit is now, one text each."""
    return [reason.text for reason in _reasons(state, unit, units)]


def _reasons(state: State, unit: Unit, units: Mapping[str, Unit]) -> list[_Reason]:
    identity = identity_in(state.record or {})
    if identity.get("unit", unit.name) != unit.name:
        return [_Reason(f"its {MANIFEST} or {UNFINISHED} is that of {identity['unit']}")]
    before = identity.get("settings", {})
    if BORROWED in before and BORROWED not in unit.settings:
        lender = (state.record or {}).get("lender", {}).get("run")
        return [_Reason(f"it was borrowed, and would be trained here now; to keep it, add --models-from {lender}")]
    if BORROWED in unit.settings and BORROWED not in before:
        return [_Reason("it was trained here, and would be borrowed now; to keep it, leave --models-from out")]
    texts = differences(before, unit.settings)
    if identity.get("version", unit.version) != unit.version:
        texts.append(f"it was made by version {identity['version']} of this stage, which now has {unit.version}")
    read, now = identity.get("inputs", {}), {name: fingerprint_of(units[name], units) for name in unit.inputs}
    remade = [_Reason(f"made from {name}", name) for name in now if name in read and read[name] != now[name]]
    other = [f"{name} was an input" for name in sorted(read.keys() - now.keys())]
    other += [f"{name} is an input now" for name in sorted(now.keys() - read.keys())] if read else []
    reasons = [*map(_Reason, texts), *remade, *map(_Reason, other)]
    return reasons or [_Reason("its record does not say how it was made")]


def misfits(run_dir: Path, names: Sequence[str], units: Mapping[str, Unit]) -> ScenepaletteError:
    """Say of all units that no longer fit, with those that were made from them, what differs and what it cost.

    Args:
        run_dir: The run directory.
        names: Units whose state is "other".
        units: All units of the run.
    """
    affected = dict.fromkeys(names)
    for name, unit in units.items():
        if not unit.renewed and any(other in affected for other in unit.inputs):
            affected[name] = None
    problems, causes, total = [], [], 0.0
    for name in (name for name in units if name in affected):
        state = state_of(run_dir, units[name], units)
        if state.status != "other":
            continue
        reasons, seconds = _reasons(state, units[name], units), seconds_spent(run_dir, units[name])
        total += seconds
        if not all(reason.remade in affected for reason in reasons):
            causes.append(name)
        begun = f"unfinished, {', '.join(state.partial[:2])} there, " if state.partial else ""
        problems.append(f"{name} ({begun}{show_seconds(seconds)}): {'; '.join(reason.text for reason in reasons)}")
    command = shlex.join(["scenepalette", "reset", str(run_dir), *(causes or list(names))])
    return ScenepaletteError(
        f"{counted(len(problems), 'unit')} in {run_dir}: made with other settings or inputs than this command "
        f"has. To make them again, {show_seconds(total)} of work in all, set them aside with `{command}` and rerun "
        "the same command. To keep them, give another --out folder, or the settings that they were made with.",
        problems,
    )


def differences(before: Mapping[str, Any], now: Mapping[str, Any], where: str = "now") -> list[str]:
    """Say which settings differ between a record and a unit, one text each; `where` follows the unit's value."""
    now = as_json(now)
    names = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
    # Of another data set everything else follows.
    names = ["name"] if "name" in names else names
    return [
        "its files are not those that were read"
        if key == "content"
        else f"{key}: {_shown(before, key)} there, {_shown(now, key)} {where}"
        for key in names
    ]


def _shown(values: Mapping[str, Any], key: str) -> str:
    return repr(values[key]) if values.get(key) is not None else "none"


def as_json(value: Any) -> Any:
    """Return settings as a record that was written and read again has them."""
    if isinstance(value, Mapping):
        return {str(key): as_json(entry) for key, entry in value.items()}
    return [as_json(entry) for entry in value] if isinstance(value, list | tuple) else value


def begin(run_dir: Path, unit: Unit, units: Mapping[str, Unit]) -> None:
    """Mark a unit's folder as begun with its fingerprint, unless it is already; the caller holds the run directory.

    Temporary files that a killed process left in it are removed, and results that fewer pairs went into are set aside;
    call this before any work on the unit starts.
    """
    folder, expected = run_dir / unit.name, fingerprint_of(unit, units)
    path = folder / UNFINISHED
    state = state_of(run_dir, unit, units)
    if state.status == "other":
        reasons = reasons_of(state, unit, units)
        raise ScenepaletteError(f"{folder} holds the result of other settings or inputs; it stays as it is.", reasons)
    if state.outgrown:
        print(
            f"{folder} was made with fewer pairs; it was moved to {set_aside(run_dir, [unit.name])}.", file=sys.stderr
        )
    remove_leftovers(folder, everywhere=True)
    remember(run_dir, lambda mark: mark.units.update({unit.name: expected}))
    if unit.renewed:
        _remove_staging(folder)
    if not path.exists() or stored_fingerprint(read_record(path)) != expected:
        begun = read_record(path) if path.exists() else {}
        seconds = begun.get("seconds", 0.0) if _is_resumed(begun, unit, units) else 0.0
        write_json(path, {**_identity(unit, units), "seconds": seconds})


def _remove_staging(folder: Path) -> None:
    try:
        if (folder / STAGING).exists():
            shutil.rmtree(folder / STAGING)
    except OSError as error:
        raise explain_write_error(folder, error) from error


def work_folder(run_dir: Path, unit: Unit) -> Path:
    """Return where a unit's results are written until it is finished: earlier ones of a renewed unit stay till then."""
    return run_dir / unit.name / STAGING if unit.renewed else run_dir / unit.name


@contextlib.contextmanager
def timed(run_dir: Path, unit: Unit) -> Iterator[None]:
    """Add the time that the block takes to the unit's account, also if it is interrupted."""
    began = time.monotonic()
    try:
        yield
    except BaseException:
        # On a full disk this fails as well; the first reason is the one to report.
        with contextlib.suppress(ScenepaletteError):
            account(run_dir, unit, time.monotonic() - began)
        raise
    account(run_dir, unit, time.monotonic() - began)


def account(run_dir: Path, unit: Unit, seconds: float) -> None:
    """Add seconds to the account of a unit that has begun."""
    path = run_dir / unit.name / UNFINISHED
    if path.exists():
        content = read_record(path)
        write_json(path, {**content, "seconds": content.get("seconds", 0.0) + seconds})


def seconds_spent(run_dir: Path, unit: Unit) -> float:
    """Return the seconds that went into a unit so far, or into its finished result."""
    seconds = [
        float(identity_in(read_record(path)).get("seconds", 0.0))
        for file in (UNFINISHED, MANIFEST)
        if (path := run_dir / unit.name / file).exists()
    ]
    # What extends a finished set adds to it; a renewed result takes its place.
    return sum(seconds[:1] if unit.renewed else seconds)


def show_seconds(seconds: float) -> str:
    """Return a duration in the unit that fits it."""
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.1f} {unit}" if seconds < 10 * length else f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _identity(unit: Unit, units: Mapping[str, Unit]) -> dict[str, Any]:
    """Return the fields by which a record is recognised again."""
    return {
        "unit": unit.name,
        "fingerprint": fingerprint_of(unit, units),
        "version": unit.version,
        "settings": as_json(unit.settings),
        "inputs": {name: fingerprint_of(units[name], units) for name in unit.inputs},
    }


def finish(
    run_dir: Path,
    unit: Unit,
    units: Mapping[str, Unit],
    write: Callable[[dict[str, Any]], None] | None = None,
    *,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a unit's manifest, the mark of a finished folder.

    `write` writes the manifest from its identity where it has a form of its own (shards).
    """
    folder = run_dir / unit.name
    content = {**_identity(unit, units), "seconds": round(seconds_spent(run_dir, unit), 1), **(extra or {})}
    if unit.renewed:
        files = _take_over(run_dir, unit.name)
    elif write is None:
        files = contents_of(folder, unit.files)
    else:
        files = {}
    if write is None:
        write_json(folder / MANIFEST, sealed({**content, "files": files}))
    else:
        write(content)
    (folder / UNFINISHED).unlink(missing_ok=True)
    # Before data is read, its content is not part of the fingerprint that `begin` wrote.
    remember(run_dir, lambda mark: mark.units.update({unit.name: content["fingerprint"]}))


def _take_over(run_dir: Path, name: str) -> dict[str, dict[str, Any]]:
    """Put the new results of a unit in the place of earlier ones; return their sizes and hashes.

    Files that neither result has are left alone; those that a user changed are set aside.
    """
    folder = run_dir / name
    staging = folder / STAGING
    files = contents_of(staging, ("**/*",)) if staging.is_dir() else {}
    earlier = read_record(folder / MANIFEST).get("files", {}) if (folder / MANIFEST).exists() else {}
    # What an interrupted call has put in its place already is the new result.
    keep_changed(
        run_dir,
        {
            f"{name}/{file}": earlier.get(file, {}).get("sha256")
            for file in {*files, *earlier}
            if (folder / MANIFEST).exists()
        },
    )
    try:
        # A mixture of both, if this is interrupted, must not count as the earlier result.
        (folder / MANIFEST).unlink(missing_ok=True)
        for file in files:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            os.replace(staging / file, folder / file)
        for file in earlier.keys() - files.keys():
            (folder / file).unlink(missing_ok=True)
    except OSError as error:
        raise explain_write_error(folder, error) from error
    _remove_staging(folder)
    return files


def units_on_disk(run_dir: Path) -> dict[str, dict[str, Any]]:
    """Return the records of all units that a run directory holds, finished or not, by name.

    A unit whose record was lost or damaged has an empty one.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in read_mark(run_dir).units:
        folder = run_dir / name
        path = next((folder / file for file in (MANIFEST, UNFINISHED) if (folder / file).is_file()), None)
        if path is not None:
            try:
                found[name] = read_record(path)
            except ScenepaletteError:
                found[name] = {}
        elif folder.is_dir() and any(not is_temporary(entry.name) for entry in folder.iterdir()):
            found[name] = {}
    return found
