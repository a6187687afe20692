"""The manifest of a folder of shards: written last, so a folder that has one is complete."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from data.classes import ClassTable
from data.errors import DataError, ScenepaletteError
from data.files import read_json, sha256_of_file, sha256_of_json, write_json
from data.provenance import code_version
from data.shards.schema import KINDS, SCHEMA_VERSION, shard_name
from data.shards.writing import ShardInfo

MANIFEST_NAME = "manifest.json"
CARD_NAME = "README.md"
CROISSANT_NAME = "croissant.json"
DOCUMENTS = (CARD_NAME, CROISSANT_NAME)
UNLABELLED_TERMS = "unlabelled images under their own terms"
MAX_MANIFEST_BYTES = 64 * 2**20
_SHARD_NAME = re.compile(r"train-\d{5}-of-\d{5}\.parquet")
_MOST = 2**48
# What reading a class table raises if its JSON has another form.
_NO_TABLE = (ScenepaletteError, KeyError, TypeError, ValueError, AttributeError, OverflowError)


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
        kind: "full", "partial", "semi" or "pseudo".
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
        "schema": SCHEMA_VERSION,
        "kind": kind,
        "rows": sum(shard.rows for shard in ordered),
        "bytes": sum(shard.bytes for shard in ordered),
        "shards": [shard.to_dict() for shard in ordered],
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


def sealed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest with the SHA-256 of its other keys' canonical JSON as its last key."""
    content = {key: value for key, value in manifest.items() if key != "sha256"}
    return {**content, "sha256": sha256_of_json(content)}


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
    problems = file_problems(folder, manifest)
    if problems:
        raise DataError(f"The shards in {folder} are not those of the manifest.", problems)
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
        raise DataError(f"{Path(folder) / MANIFEST_NAME} is not a valid manifest of schema {SCHEMA_VERSION}.", problems)
    return manifest


def load_manifest(folder: Path | str) -> Any:
    """Return the JSON value in `manifest.json`, whatever it is; `manifest_problems` checks it.

    Raises:
        DataError: It is missing, a link, far too large, or no JSON.
    """
    path = Path(folder) / MANIFEST_NAME
    if not path.is_file():
        raise DataError(
            f"{folder} has no {MANIFEST_NAME}: it holds no shards, or generation did not finish. "
            "Give the folder of one kind of shards, or run the generation again; it continues where it stopped."
        )
    if path.is_symlink():
        raise DataError(f"{path} is a link, not a file of this folder. Put a copy in its place.")
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


def _content_problems(manifest: Mapping[str, Any]) -> list[str]:
    try:
        parsed = _Manifest.model_validate(manifest)
    except ValidationError as error:
        return [f"{'.'.join(map(str, item['loc'])) or 'manifest'}: {item['msg']}" for item in error.errors()]
    problems = []
    if parsed.schema_ != SCHEMA_VERSION:
        problems.append(f"schema is {parsed.schema_}; this version reads {SCHEMA_VERSION}")
    if parsed.kind not in KINDS:
        problems.append(f"kind is {parsed.kind!r}, not one of {', '.join(KINDS)}")
    for shard in parsed.shards:
        if not _SHARD_NAME.fullmatch(shard.name):
            problems.append(f"{shard.name!r} is not the name of a shard in this folder (train-00000-of-000NN.parquet)")
    names = [shard.name for shard in parsed.shards]
    expected = [shard_name(index, len(names)) for index in range(len(names))]
    problems += [f"{name} is not listed" for name in expected if name not in names]
    problems += [f"{name} does not belong to a set of {len(names)}" for name in names if name not in expected]
    if len(set(names)) < len(names):
        problems.append("a shard is listed twice")
    for total in ("rows", "bytes"):
        summed = sum(getattr(shard, total) for shard in parsed.shards)
        if getattr(parsed, total) != summed:
            problems.append(f"{total} is {getattr(parsed, total)}, but the shards add up to {summed}")
    for key in ("name", "licence"):
        if not isinstance(parsed.source.get(key), str) or not parsed.source[key]:
            problems.append(f"source.{key} is missing; readers of the shards must know where they come from")
    try:
        ClassTable.from_dict(parsed.class_table)
    except _NO_TABLE as error:
        problems.append(f"class_table cannot be read ({error!r})")
    return problems


def licence_of(manifest: Mapping[str, Any]) -> str:
    """Return the terms that rows come under: of the labelled source and, in pseudo rows, of the images beside it."""
    source = manifest["source"]
    return f"{source['licence']}; {UNLABELLED_TERMS}" if "images" in source else source["licence"]


def has_form_of_manifest(manifest: Any) -> bool:
    """Tell whether shards can be checked against a manifest, whatever else is wrong with it.

    For that its values have their types, each shard's name is one of a shard in its folder, and its classes are known.
    """
    try:
        parsed = _Manifest.model_validate(manifest)
        ClassTable.from_dict(parsed.class_table)
    except (ValidationError, *_NO_TABLE):
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


def file_problems(folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    """Compare a folder with its manifest: names and sizes of shards, without reading them, and the documents."""
    problems = []
    listed = {shard["name"]: shard["bytes"] for shard in manifest["shards"]}
    for name, size in listed.items():
        path = folder / name
        if path.is_symlink():
            problems.append(f"{name} is a link, not a file of this folder; put a copy in its place")
        elif not path.is_file():
            problems.append(f"{name} is missing")
        elif path.stat().st_size != size:
            problems.append(f"{name} has {path.stat().st_size} bytes, the manifest says {size}")
    for name, sha256 in manifest.get("documents", {}).items():
        path = folder / name
        if path.is_symlink() or not path.is_file():
            problems.append(f"{name} is missing, or no file: it states licence and lineage")
        elif sha256_of_file(path) != sha256:
            problems.append(f"{name} was altered: it no longer states the licence and lineage that were written")
    strays = sorted(name for name in _parquet_files(folder) if name not in listed)
    problems += [f"{name} is in the folder but not in the manifest" for name in strays]
    return problems


def _parquet_files(folder: Path) -> Iterator[str]:
    """Yield the Parquet files below a folder, relative to it, as readers of whole folders find them: no hidden ones."""
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "_"))]
        for name in names:
            if name.lower().endswith(".parquet") and not name.startswith((".", "_")):
                yield Path(parent, name).relative_to(folder).as_posix()
