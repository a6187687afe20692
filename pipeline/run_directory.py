"""The run directory as a whole: how it is recognised, held by one process, and kept from harming other files.

`scenepalette-run.json` marks a folder as a run directory. It lists the units that were begun there, the documents that
were written beside them, and where their sources lay. A folder without it that holds anything is somebody else's.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from data.errors import ScenepaletteError
from data.files import (
    encoded,
    explain_write_error,
    is_temporary,
    read_json,
    sha256_of_file,
    write_atomically,
    write_json,
)
from data.locks import hold
from data.provenance import code_version
from data.untrusted import parse_yaml

MARK = "scenepalette-run.json"
LOCK = ".scenepalette.lock"
CONFIG = "config.yaml"
SET_ASIDE = "set-aside"
FORMAT = 2
# What file systems and file managers put into empty folders.
_NOBODYS = frozenset({"lost+found", ".DS_Store", "Thumbs.db", "desktop.ini"})
_FIRST_VERSION_FILES = (".lock", "data/manifest.json", "data/unfinished.json")
_FIRST_VERSION_KEYS = frozenset({"recipe", "data", "layouts", "images", "generate", "segmenters"})


@dataclass
class Mark:
    """What a run directory records of itself, beside the manifests of its units.

    Attributes:
        units: Fingerprint of each unit that was begun here, by name: its folder is the run's own.
        documents: SHA-256 of files that were written outside the units' folders, by path in the run directory.
        sources: Absolute paths that a unit's data was read from, by unit.
    """

    units: dict[str, str] = field(default_factory=dict)
    documents: dict[str, str] = field(default_factory=dict)
    sources: dict[str, dict[str, str]] = field(default_factory=dict)


def read_mark(run_dir: Path) -> Mark:
    """Return what a run directory records of itself; nothing if its mark is missing or damaged."""
    try:
        content = read_json(run_dir / MARK)
    except ScenepaletteError:
        return Mark()
    values = {entry.name: content.get(entry.name) for entry in fields(Mark)} if isinstance(content, dict) else {}
    return Mark(**{name: value for name, value in values.items() if isinstance(value, dict)})


def write_mark(run_dir: Path, mark: Mark) -> None:
    """Write the mark of a run directory, which the caller holds."""
    write_json(run_dir / MARK, {"format": FORMAT, "scenepalette": code_version()["version"], **asdict(mark)})


def check_ownership(run_dir: Path) -> None:
    """Refuse a folder that is no run directory of this version and not empty.

    Raises:
        ScenepaletteError: The folder holds something else; it is not touched.
    """
    if not run_dir.exists() or (run_dir / MARK).is_file():
        return
    if not run_dir.is_dir():
        raise ScenepaletteError(f"{run_dir} is a file; a folder is required. Give another --out folder.")
    try:
        names = sorted(path.name for path in run_dir.iterdir())
    except OSError as error:
        raise explain_write_error(run_dir, error) from error
    others = [name for name in names if name != LOCK and name not in _NOBODYS and not is_temporary(name)]
    if not others:
        return
    if is_of_first_version(run_dir):
        raise ScenepaletteError(
            f"{run_dir} was made by scenepalette 0.1.0, whose run directories this version does not continue. Give "
            "another --out folder, or use version 0.1.0 to continue this one. Nothing in it was changed; its report "
            "stays, and its shards can be read, verified and exported."
        )
    shown = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
    raise ScenepaletteError(
        f"{run_dir} is no run directory ({MARK} is missing) and not empty: it holds {shown}. Give a new or an empty "
        "--out folder; nothing in this one was changed."
    )


def is_of_first_version(run_dir: Path) -> bool:
    """Tell whether a folder is a run directory of scenepalette 0.1.0, which had no mark."""
    if (run_dir / MARK).exists() or not any((run_dir / name).is_file() for name in _FIRST_VERSION_FILES):
        return False
    try:
        content = parse_yaml((run_dir / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, Mapping) and content.keys() >= _FIRST_VERSION_KEYS


def check_holds_run(run_dir: Path) -> None:
    """Check that a folder is a run directory whose configuration can be read.

    Raises:
        ScenepaletteError: It is not, or one of another version.
    """
    if run_dir.is_dir():
        check_ownership(run_dir)
    if not (run_dir / CONFIG).is_file():
        raise ScenepaletteError(f"{run_dir} holds no run ({CONFIG} is missing). Give the --out folder of a run.")


@contextlib.contextmanager
def exclusive(run_dir: Path, wait: float = 0.0, on_wait: Callable[[], object] | None = None) -> Iterator[None]:
    """Hold the run directory, so that two runs never write into it at once; mark a new one as a run directory.

    The operating system lets go of it when its process ends, however it ends; what a killed process left half-written
    beside the units' folders is removed.

    Args:
        run_dir: The run directory, which is made.
        wait: Seconds to wait for another process that holds it.
        on_wait: Called once if there is something to wait for.

    Raises:
        ScenepaletteError: It is a folder of something else, another process holds it still, or it cannot be written.
    """
    check_ownership(run_dir)
    with hold(run_dir, LOCK, "working in", wait=wait, on_wait=on_wait, option="--wait MINUTES"):
        remove_leftovers(run_dir, everywhere=False)
        if not (run_dir / MARK).is_file():
            write_mark(run_dir, Mark())
        yield


def remove_leftovers(folder: Path, *, everywhere: bool) -> None:
    """Remove temporary files that a killed process left in a folder, and below it if `everywhere`."""
    try:
        for path in folder.rglob(".*") if everywhere else folder.glob(".*"):
            if is_temporary(path.name):
                path.unlink(missing_ok=True)
    except OSError as error:
        raise explain_write_error(folder, error) from error


def write_document(run_dir: Path, name: str, text: str) -> None:
    """Write a file that belongs to no unit, such as config.yaml; the caller holds the run directory.

    A file of this name that a user made or changed is moved to `set-aside/` first.

    Args:
        run_dir: The run directory.
        name: Path in it.
        text: Content.
    """
    path, wanted = run_dir / name, hashlib.sha256(encoded(text)).hexdigest()
    found = sha256_of_file(path) if path.is_file() else None
    if found != wanted:
        if path.exists() and found != read_mark(run_dir).documents.get(name):
            print(f"{path} is not as it was written; it was moved to {set_aside(run_dir, [name])}.", flush=True)
        write_atomically(path, text)
    remember(run_dir, lambda mark: mark.documents.update({name: wanted}))


def set_aside(run_dir: Path, names: list[str]) -> Path:
    """Move files or folders of a run directory to a new folder below `set-aside/`, which is returned.

    Args:
        run_dir: The run directory.
        names: Paths in it, moved in this order.

    Raises:
        ScenepaletteError: They cannot be moved.
    """
    stamp = time.strftime("%Y-%m-%dT%H-%M-%S")
    home = run_dir / SET_ASIDE
    try:
        taken = sum(1 for path in home.glob(f"{stamp}*")) if home.is_dir() else 0
        target = home / (f"{stamp}-{taken + 1}" if taken else stamp)
        for name in names:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (run_dir / name).rename(target / name)
    except OSError as error:
        raise explain_write_error(home, error) from error
    return target


def remember(run_dir: Path, change: Callable[[Mark], Any]) -> None:
    """Apply a change to the mark of a run directory, which the caller holds; it is written if it differs then."""
    mark = read_mark(run_dir)
    before = asdict(mark)
    change(mark)
    if asdict(mark) != before or not (run_dir / MARK).is_file():
        write_mark(run_dir, mark)
