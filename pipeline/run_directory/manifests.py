"""What a unit's folder holds: its records, and the size and hash of each file that others are made from."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from scenepalette.common.errors import ScenepaletteError
from scenepalette.common.storage.files import content_hash, is_temporary, read_json, sealed
from scenepalette.data.shards.kinds import SELECTION

MANIFEST = "manifest.json"
UNFINISHED = "unfinished.json"
# Results of units that are made again as a whole are gathered here before they take the place of earlier ones.
STAGING = ".scenepalette-new"
# Of a training that kept no checkpoint, these say how far it was; nothing can be resumed from them.
_LOGS = frozenset({"metrics.jsonl", "samples", "tensorboard"})


def contents_of(folder: Path, patterns: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return size and SHA-256 of the files of a finished unit that match glob patterns, by name in its folder."""
    paths = sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
    return {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": content_hash(path)}
        for path in paths
    }


def partial_results(folder: Path) -> list[str]:
    """Return the names of what an unfinished unit's folder holds and could be resumed from."""
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.name not in (MANIFEST, UNFINISHED, STAGING)
        and path.name not in _LOGS
        and not is_temporary(path.name)
        and not (path.is_dir() and not any(path.iterdir()))
    )


def read_record(path: Path) -> dict[str, Any]:
    """Read a unit's manifest, or its mark of being begun.

    Raises:
        ScenepaletteError: It is not what was written.
    """
    try:
        content = _read(path)
        if not isinstance(content, dict) or not content:
            raise ValueError("an object with keys is required")
        if "sha256" in content and sealed(content)["sha256"] != content["sha256"]:
            raise ValueError("its checksum differs")
        identity = identity_in(content)
        if not all(isinstance(identity.get(key, {}), dict) for key in ("settings", "inputs")):
            raise ValueError("its settings or inputs are no object")
        float(identity.get("seconds", 0.0))
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ScenepaletteError(
            f"{path} is damaged ({error}). Remove it and rerun the command that made it; what is whole beside it is "
            "used."
        ) from error
    return content


def _read(path: Path) -> Any:
    try:
        return read_json(path)
    except ScenepaletteError as error:
        raise ValueError(str(error).removeprefix(f"{path} ").rstrip(".")) from error


def identity_in(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the fields by which a record is recognised; manifests of shards keep them among their extra values."""
    identity = content.get("extra", content)
    if not isinstance(identity, Mapping):
        raise ValueError("its extra values are no object")
    return identity


def check_contents(folder: Path, unread: Collection[str] = ()) -> None:
    """Compare the files of a finished unit with its manifest.

    Args:
        folder: The unit's folder.
        unread: Names of files that may be absent, or differ.

    Raises:
        ScenepaletteError: Files are missing or not what was written; all at once.
    """
    manifest = read_record(folder / MANIFEST)
    shards = "shards" in manifest
    entries = {each["name"]: each for each in manifest["shards"]} if shards else manifest.get("files", {})
    problems = [
        f"{name}: {text}"
        for name, entry in entries.items()
        if name not in unread and (text := _problem(folder / name, entry))
    ]
    if not problems:
        return
    if shards and SELECTION in identity_in(manifest):
        remedy = f"Its rows are copies: remove {folder}, and rerun the same command to select them again."
    elif shards:
        remedy = f"`scenepalette shards regenerate {folder} --shard NAME` makes a shard again."
    else:
        remedy = (
            f"Put the file back from a copy, or remove it and {folder / MANIFEST}, and rerun the same command to make "
            "it again."
        )
    raise ScenepaletteError(f"{folder} is damaged. {remedy}", problems)


def _problem(path: Path, entry: Mapping[str, Any]) -> str:
    """Say how a file differs from its entry; nothing if it does not. Links are followed: content is what counts."""
    if not path.is_file():
        return "it is missing, or no file"
    size = path.stat().st_size
    if size != entry["bytes"]:
        return f"it has {size} bytes, {entry['bytes']} were written"
    found = content_hash(path)
    return "" if found == entry["sha256"] else f"it has SHA-256 {found}, {entry['sha256']} was written"
