"""The run directory as a whole: how it is recognised, held by one process, and kept from harming other files.

`scenepalette-run.json` marks a folder as a run directory. It lists the units that were begun there, the documents that
were written beside them, and where their sources lay. A folder without it that holds anything is somebody else's.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from scenepalette.common.errors import ScenepaletteError
from scenepalette.common.provenance import code_version
from scenepalette.common.storage.files import (
    encoded,
    explain_write_error,
    is_temporary,
    read_json,
    sha256_of_file,
    write_atomically,
)
from scenepalette.common.storage.locks import hold
from scenepalette.common.storage.untrusted import parse_yaml
from scenepalette.common.wording import first_and_more
from scenepalette.data.cards.dataset_card import collection_card
from scenepalette.data.shards.manifest import read_manifest

MARK = "scenepalette-run.json"
LOCK = ".scenepalette.lock"
CONFIG = "config.yaml"
SHARDS_CARD = "shards/README.md"
DOCUMENTS = (CONFIG, SHARDS_CARD)
SET_ASIDE = "set-aside"
FORMAT = 2
# Where this process has set something aside, by the folder `set-aside/`.
_asides: dict[Path, Path] = {}
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
    """Return what a run directory records of itself; of a lost or damaged mark what its folders tell.

    Raises:
        ScenepaletteError: A later version wrote it.
    """
    if not _is_marked(run_dir):
        return Mark()
    try:
        content = read_json(run_dir / MARK)
        kept = {entry.name: content[entry.name] for entry in fields(Mark)}
        if not all(isinstance(value, dict) for value in kept.values()):
            raise TypeError
    except (ScenepaletteError, KeyError, TypeError):
        return _mark_of_folders(run_dir)
    if content.get("format") != FORMAT:
        raise ScenepaletteError(
            f"{run_dir} was written by scenepalette {content.get('scenepalette')}, in a form that this version does "
            "not know. Use that version, or give another --out folder."
        )
    return Mark(**kept)


def _mark_of_folders(run_dir: Path) -> Mark:
    """Return the mark of a run directory whose own was damaged, from the records of its units."""
    mark = Mark()
    for depth in ("*", "*/*", "*/*/*"):
        for name in ("unfinished.json", "manifest.json"):
            for path in run_dir.glob(f"{depth}/{name}"):
                unit = path.parent.relative_to(run_dir).as_posix()
                with contextlib.suppress(ScenepaletteError, AttributeError):
                    record = read_json(path)
                    identity = record.get("extra", record)
                    if identity.get("unit") == unit:
                        mark.units[unit] = str(identity.get("fingerprint"))
    for name in DOCUMENTS:
        if (run_dir / name).is_file():
            mark.documents[name] = sha256_of_file(run_dir / name)
    return mark


def _is_marked(run_dir: Path) -> bool:
    """Tell whether a folder is a run directory of this version, also where its mark was lost."""
    return (run_dir / MARK).is_file() or ((run_dir / LOCK).is_file() and (run_dir / CONFIG).is_file())


def check_path(path: Path) -> None:
    """Refuse a path that is no text: weights cannot be read from it.

    Raises:
        ScenepaletteError: It has bytes that are no UTF-8.
    """
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError:
        raise ScenepaletteError(
            f"{path} is a path with bytes that are no UTF-8, from which weights cannot be read. Move the run to "
            "another folder; nothing in it is damaged."
        ) from None


def check_outside(path: Path) -> None:
    """Refuse to write a file of a user's choice over results of a run.

    Raises:
        ScenepaletteError: The path lies in the folder of a unit.
    """
    place = path.absolute()
    for home in place.parents:
        if _is_marked(home):
            unit = next((name for name in read_mark(home).units if place.is_relative_to(home / name)), None)
            if unit is not None:
                raise ScenepaletteError(
                    f"{path} lies in {home / unit}, which holds results of a run. Name a file elsewhere, for example "
                    f"{home / 'edits' / path.name}."
                )


def check_ownership(run_dir: Path) -> None:
    """Refuse a folder that is no run directory of this version and not empty.

    Raises:
        ScenepaletteError: The folder holds something else; it is not touched.
    """
    if not run_dir.exists() or _is_marked(run_dir):
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
    raise ScenepaletteError(
        f"{run_dir} is no run directory ({MARK} is missing) and not empty: it holds {first_and_more(others, 3)}. "
        "Give a new or an empty --out folder; nothing in this one was changed."
    )


def is_of_first_version(run_dir: Path) -> bool:
    """Tell whether a folder is a run directory of scenepalette 0.1.0, which had no mark."""
    if _is_marked(run_dir) or not any((run_dir / name).is_file() for name in _FIRST_VERSION_FILES):
        return False
    try:
        content = parse_yaml((run_dir / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, Mapping) and content.keys() >= _FIRST_VERSION_KEYS


def check_holds_run(run_dir: Path) -> None:
    """Check that a folder is a run directory of this version, with its configuration.

    Raises:
        ScenepaletteError: It is not.
    """
    if is_of_first_version(run_dir):
        raise ScenepaletteError(
            f"{run_dir} was made by scenepalette 0.1.0, whose models and configuration this version does not use. Use "
            "version 0.1.0, or a run that this version made; the shards in it can be read, verified and exported."
        )
    check_path(run_dir)
    if not run_dir.is_dir():
        raise ScenepaletteError(f"There is no folder {run_dir}. Give the --out folder of a run.")
    for name in (MARK, CONFIG):
        if not (run_dir / name).is_file() and not (name == MARK and _is_marked(run_dir)):
            raise ScenepaletteError(f"{run_dir} holds no run ({name} is missing). Give the --out folder of a run.")


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
    with hold(run_dir, LOCK, "working in", wait=wait, on_wait=on_wait, option="--wait MINUTES; flows: wait_minutes"):
        for folder in (run_dir, (run_dir / SHARDS_CARD).parent):  # of documents; a unit's own go when it is begun again
            remove_leftovers(folder, everywhere=False)
        remember(run_dir, lambda mark: None)
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

    `name` is its path in the run directory. A file there that a user made or changed is moved to `set-aside/` first.
    """
    path, wanted = run_dir / name, hashlib.sha256(encoded(text)).hexdigest()
    if not path.is_file() or sha256_of_file(path) != wanted:
        keep_changed(run_dir, {name: read_mark(run_dir).documents.get(name)})
        write_atomically(path, text)
    remember(run_dir, lambda mark: mark.documents.update({name: wanted}))


def keep_changed(run_dir: Path, recorded: Mapping[str, str | None]) -> None:
    """Move files that are about to be replaced to `set-aside/`, if they are not as they were written.

    Args:
        run_dir: The run directory, which the caller holds.
        recorded: SHA-256 of each file as it was written, by path in the run directory; None for one that was not.
    """
    changed = [
        name
        for name, sha256 in recorded.items()
        if (run_dir / name).is_file() and sha256_of_file(run_dir / name) != sha256
    ]
    if changed:
        target = set_aside(run_dir, changed)
        print(f"{', '.join(changed)} in {run_dir}: changed since written; moved to {target}.", file=sys.stderr)


def write_shards_card(run_dir: Path) -> None:
    """Write the card above all kinds of pairs that are finished, or remove it if there are none."""
    home, units = run_dir / "shards", read_mark(run_dir).units
    manifests = {
        path.parent.name: read_manifest(path.parent)
        for path in sorted(home.glob("*/manifest.json"))
        if f"shards/{path.parent.name}" in units
    }
    if manifests:
        write_document(run_dir, SHARDS_CARD, collection_card(manifests))
    elif (run_dir / SHARDS_CARD).is_file():
        keep_changed(run_dir, {SHARDS_CARD: read_mark(run_dir).documents.get(SHARDS_CARD)})
        (run_dir / SHARDS_CARD).unlink(missing_ok=True)


def set_aside(run_dir: Path, names: list[str]) -> Path:
    """Move paths of a run directory, in order, to this process's folder below `set-aside/`, which is returned.

    Raises:
        ScenepaletteError: They cannot be moved.
    """
    stamp = time.strftime("%Y-%m-%dT%H-%M-%S")
    home = run_dir / SET_ASIDE
    # What one command sets aside lies together.
    target = _asides.get(home.absolute())
    try:
        if target is None or any((target / name).exists() for name in names):
            taken = sum(1 for path in home.glob(f"{stamp}*")) if home.is_dir() else 0
            target = _asides[home.absolute()] = home / (f"{stamp}-{taken + 1}" if taken else stamp)
        for name in names:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (run_dir / name).rename(target / name)
    except OSError as error:
        raise explain_write_error(home, error) from error
    return target


def remember(run_dir: Path, change: Callable[[Mark], Any]) -> None:
    """Apply a change to the mark of a run directory, which the caller holds; it is written if it differs then."""
    mark, path = read_mark(run_dir), run_dir / MARK
    change(mark)
    text = json.dumps({"format": FORMAT, "scenepalette": code_version()["version"], **asdict(mark)}, indent=2) + "\n"
    if not path.is_file() or path.read_bytes() != text.encode():
        write_atomically(path, text)
