"""Exporting a folder of shards in any format: written aside, checked, and moved into place once it is whole."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from scenepalette.common.errors import ConfigError, ScenepaletteError
from scenepalette.common.files import (
    explain_write_error,
    read_json,
    sha256_of_json,
    sync_disks,
    write_atomically,
    write_json,
    writing_explained,
)
from scenepalette.common.locks import hold
from scenepalette.data.cards.dataset_card import lineage_text
from scenepalette.data.exports.images import write_image_folder
from scenepalette.data.exports.verified_shards import ExportedRow, VerifiedShards

FORMATS = ("images", "coco", "webdataset")
EXPORT = "export.json"
LICENCE = "LICENCE.md"
# Within the folder, which may be a disk of its own: nothing can be renamed into it from outside.
UNFINISHED = ".unfinished.scenepalette-export"
LOCK = ".export.lock"
_ROWS_PER_TAR = 1000
_VERSION = 1


def export_shards(
    folder: Path,
    to: str,
    out: Path,
    *,
    rows_per_tar: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the pairs of a folder of shards in the form of other tools.

    Images are copied byte for byte, after every shard was hashed and every row checked. Beside them lie LICENCE.md
    and, moved into place last, export.json, which names shards, models, configuration and licence. The same call again
    returns at once if that is there; after an interruption it writes everything again.

    Args:
        folder: A folder of shards.
        to: "images", "coco" or "webdataset".
        out: Where to write; empty, or what an interrupted call left.
        rows_per_tar: Pairs per tar of a WebDataset; 1000 by default.
        progress: Called with (number of the row that is written, rows in all) as work proceeds.

    Returns:
        `out`.

    Raises:
        ConfigError: The format is unknown, an option does not belong to it, or `out` holds something else.
        DataError: The folder is not complete, a shard was altered, or a row is damaged; nothing is left behind.
        ScenepaletteError: Another process exports into `out`, or a file cannot be written; nothing is left behind.
    """
    problems = [] if to in FORMATS else [f"the format is {to!r}, not one of {', '.join(FORMATS)}"]
    if rows_per_tar is not None and to != "webdataset":
        problems.append("rows per tar are for webdataset alone; leave them out")
    if rows_per_tar is not None and rows_per_tar < 1:
        problems.append(f"rows per tar are {rows_per_tar}, not at least 1")
    if problems:
        raise ConfigError("The pairs cannot be exported like this.", problems)
    shards = VerifiedShards(folder)
    per_tar = min(rows_per_tar or _ROWS_PER_TAR, shards.manifest["rows"])
    options = {"rows_per_tar": per_tar} if to == "webdataset" else {}
    # Of the pairs and what is told of them: documents beside the shards are not exported.
    told = {key: value for key, value in shards.manifest.items() if key not in ("documents", "sha256")}
    identity = {"version": _VERSION, "format": to, **options, "shards": sha256_of_json(told)}
    names = _names_in(out)
    if not names & {UNFINISHED, LOCK} and _is_finished(out, identity):
        # Nothing is written, not even a lock: what is finished may lie on a disk that cannot be written.
        return out
    with hold(out, LOCK, "exporting into"):
        unfinished = out / UNFINISHED
        if not _is_finished(out, identity):
            if not _is_finished(unfinished, identity):
                _remove(unfinished)
                try:
                    _write(unfinished, to, shards, per_tar, identity, progress)
                except BaseException:
                    with contextlib.suppress(OSError):  # the first reason is the one to report
                        shutil.rmtree(unfinished)
                    raise
            _publish(unfinished, out)
        _remove(unfinished)
    # Whoever took it meanwhile finds a finished export; Windows keeps the file for them.
    with contextlib.suppress(OSError):
        (out / LOCK).unlink(missing_ok=True)
    return out


def _write(
    out: Path,
    to: str,
    shards: VerifiedShards,
    rows_per_tar: int,
    identity: dict[str, Any],
    progress: Callable[[int, int], None] | None,
) -> None:
    """Write a whole export, export.json last."""
    manifest = shards.manifest
    write_atomically(out / LICENCE, lineage_text(manifest))
    rows = _watched(shards.rows(), manifest["rows"], progress)
    parts = [{"rows": shard["rows"]} for shard in manifest["shards"]]
    with writing_explained(out):
        if to == "images":
            write_image_folder(out, shards, rows)
        # Imported when asked for: pycocotools and tarfile are for these alone.
        elif to == "coco":
            from scenepalette.data.exports.coco import write_coco

            write_coco(out, shards, rows)
        else:
            from scenepalette.data.exports.webdataset import write_tars

            parts = write_tars(out, rows, manifest["rows"], rows_per_tar)
    sync_disks()
    kept = ("kind", "rows", "class_table", "config_hash", "models", "source", "extra")
    write_json(out / EXPORT, {"identity": identity, **{key: manifest[key] for key in kept}, "parts": parts})


def _watched(
    rows: Iterator[ExportedRow], total: int, progress: Callable[[int, int], None] | None
) -> Iterator[ExportedRow]:
    for number, row in enumerate(rows, start=1):
        if progress is not None:
            progress(number, total)
        yield row


def _publish(unfinished: Path, out: Path) -> None:
    """Move a whole export into place, export.json last; a call that was killed meanwhile is continued by the next."""
    names = sorted((path.name for path in unfinished.iterdir()), key=EXPORT.__eq__)
    if in_the_way := [str(out / name) for name in names if (out / name).exists()]:
        raise ScenepaletteError(
            f"Files in {out} are in the way of the export. Move them elsewhere and rerun the same command.", in_the_way
        )
    try:
        for name in names:
            if name == EXPORT:
                sync_disks()
            (unfinished / name).rename(out / name)
    except OSError as error:
        raise explain_write_error(out, error) from error


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
    if not names & {EXPORT, UNFINISHED} and names - {LOCK}:
        raise ConfigError(f"{out} exists and is no export. Give an empty or a new --out folder.")
    return names


def _is_finished(folder: Path, identity: dict[str, Any]) -> bool:
    """Tell whether a folder holds this export, whole; raises if it holds another one."""
    if not (folder / EXPORT).is_file():
        return False
    content = read_json(folder / EXPORT)
    if isinstance(content, dict) and content.get("identity") == identity:
        return True
    raise ConfigError(
        f"{folder} holds an export of other shards or in another form. Give another --out folder, or remove it."
    )


def _remove(unfinished: Path) -> None:
    try:
        if unfinished.exists():
            shutil.rmtree(unfinished)
    except OSError as error:
        raise explain_write_error(unfinished, error) from error
