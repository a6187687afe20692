"""The manifest of a folder of shards: written last, so a folder that has one is complete."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from scenepalette.common.errors import ConfigError, DataError, ScenepaletteError
from scenepalette.common.provenance import code_version
from scenepalette.common.storage.files import read_json, sealed, sha256_of_file, write_json
from scenepalette.common.wording import listed
from scenepalette.data.classes import ClassTable
from scenepalette.data.licences import PRETRAINED
from scenepalette.data.shards.kinds import KIND_CARDS, is_known, puts_objects
from scenepalette.data.shards.schema import SCHEMA_VERSIONS
from scenepalette.data.shards.writing import ShardInfo

MANIFEST_NAME = "manifest.json"
CARD_NAME = "README.md"
CROISSANT_NAME = "croissant.json"
DOCUMENTS = (CARD_NAME, CROISSANT_NAME)
UNLABELLED_TERMS = "unlabelled images under their own terms"
MAX_MANIFEST_BYTES = 64 * 2**20
GIVE_ONE_KIND = "Give the folder of one kind of shards, for example runs/demo/shards/full."
_SHARD_NAME = re.compile(r"train-([0-9]{5})-of-([0-9]{5})\.parquet")
_SHOWN_NUMBERS = 20
_VERSIONS = " or ".join(map(str, SCHEMA_VERSIONS))
_MOST = 2**48


class _Shard(BaseModel):
    # Unknown keys are refused, so that a damaged key is not taken for one that is not there.
    model_config = ConfigDict(strict=True, extra="forbid")

    name: str
    rows: int = Field(ge=1, le=_MOST)
    bytes: int = Field(ge=1, le=_MOST)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class _Manifest(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    schema_: int = Field(alias="schema")
    kind: str
    rows: int
    bytes: int
    shards: list[_Shard] = Field(min_length=1)
    class_table: dict[str, Any]
    config_hash: str
    # Manifests of earlier versions do not say which code made the rows.
    code: dict[str, str | None] = Field(default_factory=dict)
    models: dict[str, Any]
    source: dict[str, Any]
    extra: dict[str, Any]
    # SHA-256 of the card and the Croissant file; earlier manifests do not name them.
    documents: dict[str, str] = Field(default_factory=dict)
    # Of all other keys; manifests written before it was introduced have none, nor the key "code".
    sha256: str | None = None


def make_manifest(
    shards: Sequence[ShardInfo],
    *,
    kind: str,
    table: ClassTable,
    config_hash: str,
    models: Mapping[str, Any],
    source: Mapping[str, Any],
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the manifest of shards as JSON values, sealed with its own hash.

    Args:
        shards: What `write_shard` returned, for all shards, in any order.
        kind: "full", "partial", "semi", "pseudo", "insert" or that of another package.
        table: Classes of the labels.
        config_hash: Hash of the config that made the rows.
        models: Content hashes of the models that took part, by role.
        source: Data set that the models learned from: at least "name" and "licence".
        extra: Anything else worth keeping, as JSON values.

    Raises:
        DataError: The shards are not one complete set of one kind, or the source has no name or licence.
    """
    ordered = sorted(shards, key=lambda shard: shard.name)
    manifest = {
        "schema": _schema_of(kind, extra or {}),
        "kind": kind,
        "rows": sum(shard.rows for shard in ordered),
        "bytes": sum(shard.bytes for shard in ordered),
        "shards": [asdict(shard) for shard in ordered],
        "class_table": table.to_dict(),
        "config_hash": config_hash,
        "code": dict(code_version()),
        "models": dict(models),
        "source": dict(source),
        "extra": dict(extra or {}),
    }
    problems = _content_problems(manifest)
    if problems:
        raise DataError("The shards do not make a complete data set.", problems)
    return sealed(manifest)


def write_manifest(folder: Path | str, manifest: Mapping[str, Any]) -> Path:
    """Write the manifest of a folder, the mark that the folder is complete; call it last.

    It also takes in the hashes of the documents beside the shards that state their licence and lineage.

    Args:
        folder: Where the shards are.
        manifest: What `make_manifest` returned.

    Returns:
        The path of the manifest.

    Raises:
        DataError: A shard is missing from the folder or is another one.
        ScenepaletteError: The file cannot be written.
    """
    folder = Path(folder)
    problems = [*shard_problems(folder, manifest), *stray_problems(folder, manifest)]
    if problems:
        raise DataError(f"The shards in {folder} are not those of the manifest.", problems)
    return seal_documents(folder, manifest)


def seal_documents(folder: Path, manifest: Mapping[str, Any]) -> Path:
    """Write a manifest with the hashes of the documents that are in the folder now; return its path.

    Raises:
        ScenepaletteError: The file cannot be written.
    """
    documents = {name: sha256_of_file(folder / name) for name in DOCUMENTS if (folder / name).is_file()}
    write_json(folder / MANIFEST_NAME, sealed({**manifest, "documents": documents}))
    return folder / MANIFEST_NAME


def read_manifest(folder: Path | str) -> dict[str, Any]:
    """Read and check `manifest.json`; `table_of_manifest` gives its classes.

    Raises:
        DataError: It is missing, damaged, of another schema, or names a file outside the folder.
    """
    manifest = load_manifest(folder)
    problems = manifest_problems(manifest)
    if problems:
        raise DataError(f"{Path(folder) / MANIFEST_NAME} is not a valid manifest of schema {_VERSIONS}.", problems)
    return manifest


def absence_of(folder: Path) -> str:
    """Say that there is no such folder and what to give; empty if there is one."""
    if folder.is_dir():
        return ""
    return f"{folder} {'is no folder' if folder.exists() else 'does not exist'}. {GIVE_ONE_KIND}"


def load_manifest(folder: Path | str) -> Any:
    """Return the JSON value in `manifest.json`, whatever it is; `manifest_problems` checks it.

    Raises:
        DataError: There is no such folder; or the manifest is missing, far too large, or no JSON.
    """
    folder = Path(folder)
    path = folder / MANIFEST_NAME
    if absent := absence_of(folder):
        raise DataError(absent)
    if not path.is_file():
        # Those of a run directory are two folders down; other units have manifests as well, but no shards.
        below = [found.parent for depth in ("*", "*/*") for found in sorted(folder.glob(f"{depth}/{MANIFEST_NAME}"))]
        within = [str(each) for each in below if any(each.glob("train-*.parquet"))]
        if within and not any(folder.glob("*.parquet")):
            raise DataError(f"{folder} has no {MANIFEST_NAME}. Name one of the folders in it: {listed(within, 8)}.")
        raise DataError(
            f"{folder} has no {MANIFEST_NAME}: it holds no shards, or generation did not finish. "
            "Give the folder of one kind of shards, or run the generation again; it continues where it stopped."
        )
    size = path.stat().st_size
    if size > MAX_MANIFEST_BYTES:
        raise DataError(f"{path} has {size} bytes; a manifest has at most {MAX_MANIFEST_BYTES}. Copy it again.")
    try:
        return read_json(path)
    except ScenepaletteError as error:
        raise DataError(str(error)) from error


def table_of_manifest(manifest: Mapping[str, Any]) -> ClassTable:
    """Return the class table of a manifest."""
    return ClassTable.from_dict(manifest["class_table"])


def manifest_problems(manifest: Any) -> list[str]:
    """Say everything that is wrong with a manifest in itself."""
    if not isinstance(manifest, dict):
        return [f"it holds a {type(manifest).__name__}; an object with keys is required"]
    return [*_content_problems(manifest), *_seal_problems(manifest)]


def _schema_of(kind: str, extra: Mapping[str, Any]) -> int:
    return 2 if puts_objects(kind, extra) else 1


def _content_problems(manifest: Mapping[str, Any]) -> list[str]:
    try:
        parsed = _Manifest.model_validate(manifest)
    except ValidationError as error:
        return [f"{'.'.join(map(str, item['loc'])) or 'manifest'}: {item['msg']}" for item in error.errors()]
    problems = []
    if parsed.schema_ not in SCHEMA_VERSIONS:
        problems.append(f"schema is {parsed.schema_}; this version reads {_VERSIONS}")
    elif parsed.schema_ != (schema := _schema_of(parsed.kind, parsed.extra)):
        problems.append(f"schema is {parsed.schema_}; {parsed.kind} pairs have {schema}")
    if not is_known(parsed.kind, parsed.extra):
        problems.append(f"kind is {parsed.kind!r}, not one of {', '.join(KIND_CARDS)}")
    problems += _name_problems([shard.name for shard in parsed.shards])
    for total in ("rows", "bytes"):
        summed = sum(getattr(shard, total) for shard in parsed.shards)
        if getattr(parsed, total) != summed:
            problems.append(f"{total} is {getattr(parsed, total)}, but the shards add up to {summed}")
    for key in ("name", "licence"):
        if not isinstance(parsed.source.get(key), str) or not parsed.source[key]:
            problems.append(f"source.{key} is missing; readers of the shards must know where they come from")
    pretrained = parsed.source.get(PRETRAINED, {})
    if not isinstance(pretrained, dict) or not all(isinstance(terms, str) for terms in pretrained.values()):
        problems.append(f"source.{PRETRAINED} does not state terms by the names of weights")
    try:
        ClassTable.from_dict(parsed.class_table)
    except ConfigError as error:
        problems.append(f"class_table cannot be read ({error!r})")
    return problems


def _name_problems(names: Sequence[str]) -> list[str]:
    """Compare the names of shards with each other, in the order in which they are listed.

    Shard i is named train-i-of-n, where n was the number of shards when it was planned. A set that grew keeps its
    shards with their names, so that n may rise from one shard to the next; that of the last one is the number of all.
    """
    matches = [_SHARD_NAME.fullmatch(name) for name in names]
    if None in matches:
        return [
            f"{name!r} is not the name of a shard in this folder (train-00000-of-000NN.parquet)"
            for name, match in zip(names, matches, strict=True)
            if match is None
        ]
    numbers = [(int(match[1]), int(match[2])) for match in matches if match is not None]
    indices, counts = [index for index, _ in numbers], [count for _, count in numbers]
    problems = [
        f"{name} does not belong to a set of {count}"
        for name, (index, count) in zip(names, numbers, strict=True)
        if index >= count
    ]
    if len(set(indices)) < len(indices):
        problems.append("a shard is listed twice")
    elif indices != sorted(indices):
        problems.append("the shards are not listed in the order of their numbers")
    elif counts != sorted(counts):
        problems.append("a shard's name tells of fewer shards than that of one before it")
    missing = sorted(set(range(max(counts))) - set(indices))
    if missing:
        shown = listed(missing, _SHOWN_NUMBERS)
        problems.append(f"{len(missing)} of the {max(counts)} shards that the names tell of are not listed: {shown}")
    return problems


def licence_of(manifest: Mapping[str, Any]) -> str:
    """Return the terms that rows come under: of the labelled source, and of images and pretrained weights beside it."""
    source = manifest["source"]
    beside = [UNLABELLED_TERMS] if "images" in source else []
    return "; ".join([source["licence"], *dict.fromkeys([*beside, *source.get(PRETRAINED, {}).values()])])


def has_form_of_manifest(manifest: Any) -> bool:
    """Tell whether shards can be checked against a manifest, whatever else is wrong with it.

    For that its values have their types, each shard's name is one of a shard in its folder, and its classes are known.
    """
    try:
        parsed = _Manifest.model_validate(manifest)
        ClassTable.from_dict(parsed.class_table)
    except (ValidationError, ConfigError):
        return False
    return all(_SHARD_NAME.fullmatch(shard.name) for shard in parsed.shards)


def _seal_problems(manifest: Mapping[str, Any]) -> list[str]:
    stated = manifest.get("sha256")
    if stated is None:
        return ["its own sha256 is missing: it was altered"] if "code" in manifest else []
    try:
        found = sealed(manifest)["sha256"]
    except ValueError:
        return ["it holds a number that is none (NaN or infinity)"]
    if found == stated:
        return []
    return [f"the manifest's own sha256 is {stated}, but its content has {found}: it was altered"]


def shard_problems(folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    """Say which shards are not there or have another size than their manifest says; none is read."""
    problems = []
    for shard in manifest["shards"]:
        name, path = shard["name"], folder / shard["name"]
        if not path.is_file():
            target = f": it is a link to {os.readlink(path)}, which is no file" if path.is_symlink() else ""
            problems.append(f"{name} is missing{target}")
        elif path.stat().st_size != shard["bytes"]:
            problems.append(f"{name} has {path.stat().st_size} bytes, the manifest says {shard['bytes']}")
    return problems


def require_those_of_manifest(folder: Path | str, problems: Sequence[str]) -> None:
    """Refuse a folder of which `shard_problems` or `link_problems` said something.

    Raises:
        DataError: There are problems; the message names the command that says how to mend them.
    """
    if problems:
        raise DataError(
            f"The shards in {folder} are not those of its manifest. `scenepalette shards verify {folder}` says how to "
            "mend them.",
            problems,
        )


def link_problems(folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    """Say which shards are links to something else than the manifest says.

    Caches of hubs and stores of large files keep content behind links. One is as good as a file if its content has the
    right hash, which is computed here: unlike a file, it may come to lead elsewhere without anybody writing to this
    folder.
    """
    problems = []
    for shard in manifest["shards"]:
        path = folder / shard["name"]
        if not path.is_symlink() or not path.is_file() or path.stat().st_size != shard["bytes"]:
            continue
        try:
            target = path.resolve()
            status = target.stat()
            found = _hash_of_target(target, status.st_ino, status.st_size, status.st_mtime_ns)
        except OSError as error:
            problems.append(f"{path.name} is a link to what cannot be read ({error.strerror or error})")
            continue
        if found != shard["sha256"]:
            problems.append(
                f"{path.name} is a link to other content: SHA-256 {found}, the manifest says {shard['sha256']}"
            )
    return problems


@functools.lru_cache(maxsize=100_000)
def _hash_of_target(target: Path, inode: int, size: int, changed: int) -> str:
    """Hash what a link leads to, once in a process as long as it is the same file."""
    return sha256_of_file(target)


def document_problems(folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    """Say which documents beside the shards are not as they were written. No row depends on them."""
    problems = []
    for name, sha256 in manifest.get("documents", {}).items():
        path = folder / name
        try:
            if not path.is_file():
                problems.append(f"{name} is missing: it stated licence and lineage")
            elif sha256_of_file(path) != sha256:
                problems.append(f"{name} was changed: it may no longer state the licence and lineage that were written")
        except OSError as error:
            problems.append(f"{name} cannot be read ({error.strerror or error}): it stated licence and lineage")
    return problems


def stray_problems(folder: Path, manifest: Mapping[str, Any], own: Iterable[str] = ()) -> list[str]:
    """Say which Parquet files readers of whole folders would take for shards; `own` are to be listed later."""
    listed = {*own, *(shard["name"] for shard in manifest["shards"])}
    strays = sorted(name for name in _parquet_files(folder) if name not in listed)
    return [f"{name} is in the folder but not in the manifest" for name in strays]


def _parquet_files(folder: Path) -> Iterator[str]:
    """Yield the Parquet files below a folder, relative to it, as readers of whole folders find them: no hidden ones."""
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "_"))]
        for name in names:
            if name.lower().endswith(".parquet") and not name.startswith((".", "_")):
                yield Path(parent, name).relative_to(folder).as_posix()
