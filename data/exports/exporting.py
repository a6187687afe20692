"""Exporting a folder of shards in any format: written aside, checked, and moved into place once it is whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from scenepalette.common.errors import ConfigError
from scenepalette.common.progress import NO_PROGRESS, Progress
from scenepalette.common.storage.files import (
    sha256_of_json,
    sync_disks,
    write_atomically,
    write_json,
    writing_explained,
)
from scenepalette.common.storage.whole_folders import WholeFolder
from scenepalette.data.cards.dataset_card import lineage_text
from scenepalette.data.exports.verified_shards import ExportedRow, VerifiedShards

FORMATS = {
    "images": "scenepalette.data.exports.images:write_image_folder",
    "coco": "scenepalette.data.exports.coco:write_coco",
    "webdataset": "scenepalette.data.exports.webdataset:write_tars",
    "mmseg": "scenepalette.data.exports.mmseg:write_mmseg",
    "fiftyone": "scenepalette.data.exports.fiftyone:write_fiftyone",
    "yolo-seg": "scenepalette.data.exports.yolo:write_yolo",
    "huggingface": "scenepalette.data.exports.huggingface:write_huggingface",
}
"""What writes the pairs in each form, imported when asked for: pycocotools, scipy and tarfile are for some forms alone.

It may return its parts, where these are others than the shards.
"""
FOLDER = WholeFolder("export", "exporting into", "an export of other shards or in another form")
EXPORT, UNFINISHED, LOCK = FOLDER.record, FOLDER.unfinished, FOLDER.lock
LICENCE = "LICENCE.md"
_ROWS_PER_TAR = 1000
_VERSION = 1


def export_shards(
    folder: Path, to: str, out: Path, *, rows_per_tar: int | None = None, progress: Progress = NO_PROGRESS
) -> Path:
    """Write the pairs of a folder of shards in the form of other tools.

    Images are copied byte for byte, after every shard was hashed and every row checked. Beside them lie LICENCE.md
    and, moved into place last, export.json, which names shards, models, configuration and licence. The same call again
    returns at once if that is there; after an interruption it writes everything again.

    Args:
        folder: A folder of shards.
        to: One of `FORMATS`.
        out: Where to write; empty, or what an interrupted call left.
        rows_per_tar: Pairs per tar of a WebDataset; 1000 by default.
        progress: Watches the rows.

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
    if to == "huggingface" and out.absolute().is_relative_to(folder.absolute()):
        problems.append(f"{out} lies in {folder}, whose readers would take its Parquet files for theirs; name another")
    if problems:
        raise ConfigError("The pairs cannot be exported like this.", problems)
    shards = VerifiedShards(folder)
    options = (
        {"rows_per_tar": min(rows_per_tar or _ROWS_PER_TAR, shards.manifest["rows"])} if to == "webdataset" else {}
    )
    # Of the pairs and what is told of them: documents beside the shards are not exported.
    told = {key: value for key, value in shards.manifest.items() if key not in ("documents", "sha256")}
    identity = {"version": _VERSION, "format": to, **options, "shards": sha256_of_json(told)}
    FOLDER.make(out, identity, lambda unfinished: _write(unfinished, to, shards, options, identity, progress))
    return out


def _write(
    out: Path, to: str, shards: VerifiedShards, options: dict[str, int], identity: dict[str, Any], progress: Progress
) -> None:
    """Write a whole export, export.json last."""
    manifest = shards.manifest
    write_atomically(out / LICENCE, lineage_text(manifest))
    progress.start(f"export {to}", manifest["rows"])
    rows = _watched(shards.rows(), progress)
    parts = [{"rows": shard["rows"]} for shard in manifest["shards"]]
    with writing_explained(out):
        parts = resolve_name(FORMATS[to])(out, shards, rows, **options) or parts
    sync_disks()
    kept = ("kind", "rows", "class_table", "config_hash", "models", "source", "extra")
    write_json(out / EXPORT, {"identity": identity, **{key: manifest[key] for key in kept}, "parts": parts})
    progress.finish()


def _watched(rows: Iterator[ExportedRow], progress: Progress) -> Iterator[ExportedRow]:
    for row in rows:
        progress.advance()
        yield row
