"""What a finished unit's folder holds, by size and hash: a damaged file is told before anything is made from it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.errors import ScenepaletteError
from data.files import read_json, sha256_of_file, sha256_of_json

MANIFEST = "manifest.json"
UNFINISHED = "unfinished.json"
# Files that nothing is made from once the unit is finished; TensorBoard goes on writing into its own.
_UNREAD = re.compile(r"(?:manifest|unfinished)\.json|checkpoint-.*|events\.out\..*|\..*")
_UNREAD_FOLDERS = frozenset({"samples", "tensorboard"})

# Hashes of this process's earlier checks; a file that is written again has another time or size.
_hashes: dict[tuple[str, int, int], str] = {}


def contents_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Return size and SHA-256 of the files of a finished unit that others are made from, by name in its folder."""
    contents: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        hidden = any(part.startswith(".") or part in _UNREAD_FOLDERS for part in parts[:-1])
        if path.is_file() and not hidden and not _UNREAD.fullmatch(path.name):
            contents["/".join(parts)] = {"bytes": path.stat().st_size, "sha256": _hash(path)}
    return contents


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest with the SHA-256 of its other keys as its last key, as manifests of shards have it."""
    rest = {key: value for key, value in content.items() if key != "sha256"}
    return {**rest, "sha256": sha256_of_json(rest)}


def read_record(path: Path) -> dict[str, Any]:
    """Read a unit's manifest, or its mark of being begun.

    Raises:
        ScenepaletteError: It is not what was written.
    """
    try:
        content = read_json(path)
        if not isinstance(content, dict) or not content:
            raise ValueError("an object with keys is required")
        if "sha256" in content and sealed(content)["sha256"] != content["sha256"]:
            raise ValueError("its checksum differs")
        if not isinstance(content.get("extra", {}), dict) or not isinstance(settings_of(content), dict):
            raise ValueError("its settings are no object")
        float(content.get("extra", content).get("seconds", 0.0))
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ScenepaletteError(
            f"{path} is damaged ({error}). Remove it and give the same command again; what is whole beside it is used."
        ) from error
    return content


def settings_of(content: Mapping[str, Any]) -> Any:
    """Return the settings in a manifest; those of shards keep them among their extra values."""
    return content.get("extra", content).get("settings", {})


def check_contents(folder: Path) -> None:
    """Compare the files of a finished unit with its manifest. Manifests of earlier versions may name none.

    Raises:
        ScenepaletteError: Files are missing or not what was written; all at once.
    """
    manifest = read_record(folder / MANIFEST)
    shards = "shards" in manifest
    entries = {each["name"]: each for each in manifest["shards"]} if shards else manifest.get("files", {})
    problems = [text for name, entry in entries.items() if (text := _problem(folder / name, entry))]
    if not problems:
        return
    if shards:
        remedy = f"`scenepalette shards regenerate {folder} --shard NAME` makes a shard again."
    else:
        remedy = (
            f"Put the file back from a copy, or remove it and {folder / MANIFEST}, and give the same command again to "
            "make it anew."
        )
    raise ScenepaletteError(f"{folder} is damaged. {remedy}", problems)


def _problem(path: Path, entry: Mapping[str, Any]) -> str:
    """Say how a file differs from its entry; nothing if it does not."""
    if path.is_symlink() or not path.is_file():
        return f"{path.name}: it is missing, or no file"
    size = path.stat().st_size
    if size != entry["bytes"]:
        return f"{path.name}: it has {size} bytes, {entry['bytes']} were written"
    found = _hash(path)
    return "" if found == entry["sha256"] else f"{path.name}: it has SHA-256 {found}, {entry['sha256']} was written"


def _hash(path: Path) -> str:
    status = path.stat()
    key = (str(path.absolute()), status.st_size, status.st_mtime_ns)
    if key not in _hashes:
        _hashes[key] = sha256_of_file(path)
    return _hashes[key]
