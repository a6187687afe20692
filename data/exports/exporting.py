"""Exporting a folder of shards: any format, whole files only, going on where an earlier call stopped."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from scenepalette.common.errors import ConfigError
from scenepalette.common.files import (
    explain_write_error,
    is_temporary,
    read_json,
    sha256_of_json,
    write_atomically,
    write_json,
)
from scenepalette.common.locks import hold
from scenepalette.data.cards.dataset_card import lineage_text
from scenepalette.data.exports.images import ImageFolder
from scenepalette.data.exports.parts import Part
from scenepalette.data.exports.rows import ExportedRow, ShardFolder

FORMATS = ("images", "coco", "webdataset")
EXPORT = "export.json"
LICENCE = "LICENCE.md"
UNFINISHED = "unfinished.json"
RECORDS = ".finished"
LOCK = ".export.lock"
_VERSION = 1
# What parts leave in RECORDS.
_RECORD = re.compile(r"train-[\w-]+\.(?:json|(?:images|panoptic|stuff)\.jsonl)")


class Exporter(Protocol):
    """Writes rows in one format."""

    @property
    def parts(self) -> Sequence[Part]:
        """All parts, in order."""
        ...

    def write(self, part: Part, rows: Iterator[ExportedRow]) -> dict[str, Any]:
        """Write all files of a part; return what is recorded of it."""
        ...

    def finish(self) -> None:
        """Write what needs all parts."""
        ...


def export_shards(
    folder: Path,
    to: str,
    out: Path,
    *,
    rows_per_tar: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the pairs of a folder of shards in the form of other tools.

    Pictures are copied byte for byte, after every shard was hashed and every row checked. Beside them lie LICENCE.md
    and, written last, export.json, which names shards, models, configuration and licence. The same call again returns
    at once if that is there, and else goes on with the parts that are not recorded as finished.

    Args:
        folder: A folder of shards.
        to: "images", "coco" or "webdataset".
        out: Where to write; empty, or what the same call left unfinished.
        rows_per_tar: Pairs per tar of a WebDataset; 1000 by default.
        progress: Called with (rows written, rows in all) as the work goes on.

    Returns:
        `out`.

    Raises:
        ConfigError: The format is unknown, an option does not belong to it, or `out` holds something else.
        DataError: The folder is not complete, a shard was altered, or a row is damaged; finished parts stay.
        ScenepaletteError: Another process exports into `out`, or a file cannot be written; finished parts stay.
    """
    problems = [] if to in FORMATS else [f"the format is {to!r}, not one of {', '.join(FORMATS)}"]
    if rows_per_tar is not None and to != "webdataset":
        problems.append("rows per tar are for webdataset alone; leave them out")
    if rows_per_tar is not None and rows_per_tar < 1:
        problems.append(f"rows per tar are {rows_per_tar}, not at least 1")
    if problems:
        raise ConfigError("The pairs cannot be exported like this.", problems)
    shards = ShardFolder(folder)
    exporter = _exporter(to, out, shards, rows_per_tar)
    options = {"rows_per_tar": exporter.parts[0].rows} if to == "webdataset" else {}
    # Of the pairs and what is told of them: documents beside the shards are not exported.
    told = {key: value for key, value in shards.manifest.items() if key not in ("documents", "sha256")}
    identity = {"version": _VERSION, "format": to, **options, "shards": sha256_of_json(told)}
    names = _names_in(out)
    if EXPORT in names and not any(map(_is_leftover, names)) and _is_finished(out, identity):
        # Nothing is written, not even a lock: what is finished may lie on a disk that cannot be written.
        return out
    with hold(out, LOCK, "exporting into"):
        if not _is_finished(out, identity):
            _begin(out, identity, shards)
            _write(out, identity, shards, exporter, progress)
        _clean(out)
    # Whoever took it meanwhile finds a finished export; Windows keeps the file for them.
    with contextlib.suppress(OSError):
        (out / LOCK).unlink(missing_ok=True)
    return out


def _write(
    out: Path,
    identity: dict[str, Any],
    shards: ShardFolder,
    exporter: Exporter,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Write the parts that are not recorded as finished, and then export.json."""
    done, total = 0, shards.manifest["rows"]
    records = []
    for part in exporter.parts:
        record = out / RECORDS / f"{part.name}.json"
        if not record.is_file():
            write_json(record, exporter.write(part, shards.rows(part.first, part.rows)))
        records.append(read_json(record))
        done += part.rows
        if progress is not None:
            progress(done, total)
    exporter.finish()
    manifest = shards.manifest
    kept = ("kind", "rows", "class_table", "config_hash", "models", "source", "extra")
    content = {"identity": identity, **{key: manifest[key] for key in kept}, "parts": records}
    write_json(out / EXPORT, content)


def _exporter(to: str, out: Path, shards: ShardFolder, rows_per_tar: int | None) -> Exporter:
    if to == "images":
        return ImageFolder(out, shards)
    # Imported when asked for: pycocotools and tarfile are for these alone.
    if to == "coco":
        from scenepalette.data.exports.coco import Coco

        return Coco(out, shards, out / RECORDS)
    from scenepalette.data.exports.webdataset import ROWS_PER_TAR, WebDataset

    return WebDataset(out, shards, rows_per_tar or ROWS_PER_TAR)


def _is_leftover(name: str) -> bool:
    """Tell whether a file of this name beside export.json was left by a call that was killed."""
    return name in (UNFINISHED, RECORDS) or _comes_first(name)


def _comes_first(name: str) -> bool:
    """Tell whether a file of this name may be there before unfinished.json is: the lock, or what a write left."""
    return name == LOCK or is_temporary(name)


def _names_in(out: Path) -> set[str]:
    """Return the names in a folder, none if it is not there; raises if they are those of something else."""
    try:
        names = {path.name for path in out.iterdir()}
    except FileNotFoundError:
        return set()
    except NotADirectoryError:
        names = {""}
    except OSError as error:
        raise explain_write_error(out, error) from error
    if EXPORT not in names and UNFINISHED not in names and not all(map(_comes_first, names)):
        raise ConfigError(f"{out} is there and is no export that was begun. Give an empty or a new --out folder.")
    return names


def _is_finished(out: Path, identity: dict[str, Any]) -> bool:
    """Tell whether a folder holds this export, finished; raises if it holds another one."""
    for name, finished in ((EXPORT, True), (UNFINISHED, False)):
        if (out / name).is_file():
            content = read_json(out / name)
            if isinstance(content, dict) and content.get("identity") == identity:
                return finished
            raise ConfigError(
                f"{out} holds an export of other shards or in another form. Give another --out folder, or remove it."
            )
    return False


def _begin(out: Path, identity: dict[str, Any], shards: ShardFolder) -> None:
    try:
        _remove(leftover for leftover in out.rglob(".*") if is_temporary(leftover.name))
    except OSError as error:
        raise explain_write_error(out, error) from error
    write_json(out / UNFINISHED, {"identity": identity})
    write_atomically(out / LICENCE, lineage_text(shards.manifest))


def _remove(paths: Iterable[Path]) -> None:
    for path in list(paths):
        if not path.is_dir() or path.is_symlink():
            path.unlink(missing_ok=True)


def _clean(out: Path) -> None:
    """Remove what only an unfinished export needs; a call that was killed may have left it beside export.json."""
    records = out / RECORDS
    try:
        if records.is_dir() and not records.is_symlink():
            _remove(path for path in records.iterdir() if _RECORD.fullmatch(path.name) or is_temporary(path.name))
            with contextlib.suppress(OSError):  # somebody else's files are in it
                records.rmdir()
        _remove(leftover for leftover in out.glob(".*") if is_temporary(leftover.name))
        (out / UNFINISHED).unlink(missing_ok=True)
    except OSError as error:
        raise explain_write_error(out, error) from error
