"""Checking a folder of shards, down to every pixel of every label."""

from __future__ import annotations

import hashlib
import io
import os
import re
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from scenepalette.common.errors import DataError
from scenepalette.common.storage.files import sha256_of_file
from scenepalette.common.wording import listed
from scenepalette.data.shards.kinds import SELECTION, settings_of_rows
from scenepalette.data.shards.manifest import (
    document_problems,
    has_form_of_manifest,
    load_manifest,
    manifest_problems,
    shard_problems,
    stray_problems,
    table_of_manifest,
)
from scenepalette.data.shards.reading import explained_read, groups_of, open_shard
from scenepalette.data.shards.schema import (
    ROW_GROUP,
    collection_of,
    decode_row,
    is_safe_relative_path,
    row_id,
    row_problems,
    schema_of,
)

_SHOWN_GAPS = 20
_ORIENTATION = 0x0112  # tag of EXIF


@dataclass(frozen=True)
class Problem:
    """Something that is wrong with a folder of shards.

    Attributes:
        problem: What it is.
        file: Name of the shard, where it is about one.
        row: Number of the row in its file, from 0, where it is about one.
        id: The row's id.
    """

    problem: str
    file: str | None = None
    row: int | None = None
    id: str | None = None

    def __str__(self) -> str:
        """Return it as one line that names file and row."""
        if self.row is None:
            return self.problem if self.file is None else f"{self.file} {self.problem}"
        return f"{self.file} row {self.row} {self.id!r}: {self.problem}"


def verify_shards(folder: Path | str) -> list[str]:
    """Check a folder of shards against its manifest and every row against the schema.

    Args:
        folder: A folder with a manifest.

    Returns:
        One text per problem, naming file and row; empty if all is well. `find_problems` says what is checked.
    """
    return [str(problem) for problem in find_problems(folder)]


def find_problems(folder: Path | str) -> Iterator[Problem]:
    """Check a folder of shards against its manifest and every row against the schema; no problem ends the search.

    Found are: an altered manifest; missing, extra, truncated and altered files, also where links lead to; other
    columns; wrong counts; damaged pages and images; sizes of image and label that differ; class ids outside the
    table; palettes that are not those of the label; kinds, sources, models and edit boxes that contradict each other or
    the manifest; ids that come twice; and indices that are not 0 to N - 1 in order, each once. `find_warnings` looks at
    what no row depends on.

    Memory: one row group, and 20 bytes per row for ids and indices.

    Args:
        folder: A folder with a manifest.

    Yields:
        The problems as they are found.
    """
    folder = Path(folder)
    try:
        manifest = load_manifest(folder)
    except DataError as error:
        yield Problem(str(error))
        return
    problems = manifest_problems(manifest)
    yield from (Problem(f"manifest.json: {problem}") for problem in problems)
    facts = None if problems and not has_form_of_manifest(manifest) else _Facts(manifest)
    if facts is None:
        # What is wrong with it was said; without names and classes no shard can be checked against it.
        return
    yield from map(Problem, [*shard_problems(folder, manifest), *stray_problems(folder, manifest)])
    ledger = _Ledger()
    for name, rows, sha256 in facts.shards:
        ledger.begin(name)
        path = folder / name
        if not path.is_file():
            ledger.whole = False
            continue
        try:
            found = sha256_of_file(path)
            if found != sha256:
                yield Problem(f"has SHA-256 {found}, the manifest says {sha256}: it was altered", name)
            yield from _shard_problems(path, rows, facts, ledger)
        except OSError as error:
            ledger.whole = False
            yield Problem(f"cannot be read ({error.strerror or error})", name)
        except DataError as error:
            ledger.whole = False
            yield Problem(str(error).removeprefix(f"{path} "), name)
    yield from ledger.problems(folder, 0 if facts.selected else facts.rows)


def find_warnings(folder: Path | str) -> list[str]:
    """Say which documents beside the shards, card and Croissant file, are missing or changed; no row depends on them.

    Args:
        folder: A folder of shards; without a manifest that names documents there is nothing to say.
    """
    try:
        manifest = load_manifest(folder)
    except DataError:
        return []
    return document_problems(Path(folder), manifest) if has_form_of_manifest(manifest) else []


class _Facts:
    """What the manifest says of every row.

    Attributes:
        shards: Name, rows and SHA-256 of each.
        rows: Number of rows in all.
        selected: Whether they were selected from a larger set, so that any index may be missing.
        classes: Names of the classes.
        features: What the metadata of a shard may say to `datasets`: with class names, or as 0.1.0 wrote it, without.
        schema: Version of the columns.
        kind: The kind of all rows.
        models: What `models` says by role.
        seed: The seed of all rows; None where the manifest does not have it.
        collection: What the ids of its rows have in common, where a run generated them.
        numbered: Matches the ids that generation gives; the group is the index.
    """

    def __init__(self, manifest: Mapping[str, Any]) -> None:
        extra, table = manifest["extra"], table_of_manifest(manifest)
        self.shards: list[tuple[str, int, str]] = [
            (shard["name"], shard["rows"], shard["sha256"]) for shard in manifest["shards"]
        ]
        self.rows = sum(rows for _, rows, _ in self.shards)
        self.selected = SELECTION in extra
        self.classes = table.names
        self.schema: int = manifest["schema"]
        self.features = [(schema_of(each, self.schema).metadata or {})[b"huggingface"] for each in (table, None)]
        self.kind: str = manifest["kind"]
        self.models: Mapping[str, Any] = manifest["models"]
        seed = settings_of_rows(extra).get("seed")
        self.seed = seed if isinstance(seed, int) else None
        self.collection = collection_of(manifest)
        self.numbered = re.compile(rf"{re.escape(self.kind)}-(?:[0-9a-f]{{8}}-)?([0-9]{{1,18}})")

    def ids_of(self, index: int) -> list[str]:
        """Return the ids that a row may have: that of this version and that of 0.1.0; none if no run made the rows."""
        if self.collection is None:
            return []
        return [row_id(self.kind, self.collection, index), f"{self.kind}-{index:08d}"]


class _Ledger:
    """Ids and indices of the rows seen so far, to find what comes twice and what is missing."""

    def __init__(self) -> None:
        # Whether every row was seen; without that nothing can be said to be missing.
        self.whole = True
        # Height and width of the first row; all rows of a run have one size.
        self.size: tuple[int, ...] | None = None
        # Which of the forms of ids the first row with one has; all rows of a run have the same.
        self.form: int | None = None
        self._shards: list[str] = []
        self._starts: list[int] = []
        self._digests, self._indices, self._rows = array("Q"), array("q"), array("I")
        # With a key that no one knows, no two ids can be made to have the same digest.
        self._key = os.urandom(16)

    def begin(self, shard: str) -> None:
        """Say that rows of another shard follow."""
        self._shards.append(shard)
        self._starts.append(len(self._indices))

    def add(self, row: int, row_id: str, index: int) -> bool:
        """Enter a row; tell whether its index is larger than that of the row before."""
        digest = hashlib.blake2b(row_id.encode(errors="surrogatepass"), digest_size=8, key=self._key).digest()
        rises = not self._indices or index >= self._indices[-1]
        self._digests.append(int.from_bytes(digest, "little"))
        self._indices.append(index)
        self._rows.append(row)
        return rises

    def problems(self, folder: Path, rows: int) -> Iterator[Problem]:
        """Yield what comes twice and, if every row was seen, which indices below `rows` are missing."""
        indices = np.asarray(self._indices)
        for what, values in (("id", np.asarray(self._digests)), ("index", indices)):
            order = np.argsort(values, kind="stable")
            repeated = np.flatnonzero(values[order][1:] == values[order][:-1]) + 1
            for shard, name in enumerate(self._shards):
                end = self._starts[shard + 1] if shard + 1 < len(self._shards) else len(values)
                inside = repeated[(order[repeated] >= self._starts[shard]) & (order[repeated] < end)]
                if not inside.size:
                    continue
                ids = _ids_at(folder / name, {self._rows[int(entry)] for entry in order[inside]})
                for position in inside:
                    entry, before = int(order[position]), int(order[position - 1])
                    row = self._rows[entry]
                    text = f"the {what} comes twice" if what == "id" else f"the index {indices[entry]} comes twice"
                    yield Problem(f"{text}, before in {self._place(before)}", name, row, ids[row])
        present = np.unique(indices[(indices >= 0) & (indices < rows)])
        if self.whole and len(present) < rows:
            bounds = np.concatenate([[-1], present, [rows]])
            gaps = [(int(bounds[i]) + 1, int(bounds[i + 1]) - 1) for i in np.flatnonzero(np.diff(bounds) > 1)]
            shown = listed((str(a) if a == b else f"{a} to {b}" for a, b in gaps), _SHOWN_GAPS)
            yield Problem(f"{rows - len(present)} of the indices 0 to {rows - 1} are in no row: {shown}")

    def _place(self, entry: int) -> str:
        shard = int(np.searchsorted(self._starts, entry, side="right")) - 1
        return f"{self._shards[shard]} row {self._rows[entry]}"


def _ids_at(path: Path, rows: set[int]) -> dict[int, str]:
    """Return the ids of some rows of a shard; id columns are read and one row group is held at a time."""
    found = {}
    with open_shard(path) as file:
        for group, numbers in groups_of(file):
            inside = rows.intersection(numbers)
            if inside:
                with explained_read(path):
                    ids = file.read_row_group(group, columns=["id"], use_threads=False)["id"]
                found |= {row: ids[row - numbers.start].as_py() for row in inside}
    return found


def _shard_problems(path: Path, expected_rows: int, facts: _Facts, ledger: _Ledger) -> Iterator[Problem]:
    with open_shard(path) as file:
        features = (file.schema_arrow.metadata or {}).get(b"huggingface")
        if features not in facts.features:
            yield Problem(f"does not carry the Hugging Face features of schema {facts.schema}", path.name)
        version = (file.schema_arrow.metadata or {}).get(b"scenepalette_schema")
        if version != str(facts.schema).encode():
            stated = (version or b"unknown").decode(errors="replace")
            yield Problem(f"is of schema {stated}, not {facts.schema}", path.name)
        if file.metadata.num_rows != expected_rows:
            ledger.whole = False
            yield Problem(f"has {file.metadata.num_rows} rows, the manifest says {expected_rows}", path.name)
        for group, numbers in groups_of(file):
            if len(numbers) > ROW_GROUP:
                text = f"row group {group} has {len(numbers)} rows, at most {ROW_GROUP} are allowed"
                yield Problem(text, path.name)
            try:
                stored = (values for batch in _batches(path, file, group) for values in batch.to_pylist())
                for row, values in enumerate(stored, start=numbers.start):
                    for text in _row_problems(values, row, facts, ledger):
                        yield Problem(text, path.name, row, values["id"])
            except DataError as error:
                ledger.whole = False
                rows = f"rows {numbers.start} to {numbers.stop - 1}"
                text = f"{rows}, {_damaged_columns(path, file, group)}: damaged ({error.__cause__})"
                yield Problem(text, path.name)


def _batches(
    path: Path, file: pq.ParquetFile, group: int, columns: list[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a row group, in parts of 64 also where it has more."""
    with explained_read(path):
        batches = file.iter_batches(ROW_GROUP, row_groups=[group], columns=columns, use_threads=False)
        for batch in batches:
            # Offsets and texts: what a damaged or foreign file holds would else raise when it becomes Python values.
            batch.validate(full=True)
            yield batch


def _damaged_columns(path: Path, file: pq.ParquetFile, group: int) -> str:
    damaged = []
    for name in file.schema_arrow.names:
        try:
            for _ in _batches(path, file, group, [name]):
                pass
        except DataError:
            damaged.append(name)
    return f"column {', '.join(damaged)}" if damaged else "all columns together"


def _row_problems(values: Mapping[str, Any], number: int, facts: _Facts, ledger: _Ledger) -> Iterator[str]:
    if values["id"] is None or values["index"] is None:
        ledger.whole = False
    else:
        yield from _id_problems(values["id"], values["index"], number, facts, ledger)
    try:
        row = decode_row(values, "this row")
    except DataError as error:
        yield str(error).removeprefix("this row: ")
        return
    yield from _container_problems(values)
    yield from row_problems(row)
    if len(row.palette_achieved) != len(facts.classes):
        yield f"the palettes have {len(row.palette_achieved)} classes, the manifest {len(facts.classes)}"
    if unknown := set(row.inserted_classes or ()) - {*facts.classes, None}:
        yield f"inserted_classes names what is no class: {', '.join(sorted(map(repr, unknown)))}"
    if row.kind != facts.kind:
        yield f"kind is {row.kind!r}, the manifest says {facts.kind!r}"
    if facts.seed is not None and row.seed != facts.seed:
        yield f"seed is {row.seed}, the manifest says {facts.seed}"
    size = row.label.shape
    if ledger.size is None:
        ledger.size = size
    elif size != ledger.size:
        yield f"it has {size[0]} x {size[1]} pixels, the first row {ledger.size[0]} x {ledger.size[1]}"
    yield from _path_problems(values)
    for column in ("layout_model", "image_model"):
        if values[column] != facts.models.get(column):
            yield f"{column} is {values[column]!r}, the manifest says {facts.models.get(column)!r}"


def _id_problems(name: str, index: int, number: int, facts: _Facts, ledger: _Ledger) -> Iterator[str]:
    if not ledger.add(number, name, index):
        yield f"the index {index} is below that of the row before; rows must be in the order of their indices"
    if index < 0 or (index >= facts.rows and not facts.selected):
        yield f"the index {index} is not in 0 to {facts.rows - 1}"
    match, ids = facts.numbered.fullmatch(name), facts.ids_of(index)
    if ledger.form is None and name in ids:
        ledger.form = ids.index(name)
    if match is not None and int(match[1]) != index:
        yield f"the id and the index {index} name different rows"
    elif ids and name != ids[ledger.form or 0]:
        yield f"the id of index {index} must be {ids[ledger.form or 0]}"


def _path_problems(values: Mapping[str, Any]) -> Iterator[str]:
    for column, extensions in (("image", (".jpg", ".png")), ("label", (".label.png",))):
        path, fitting = values[column]["path"], [values["id"] + extension for extension in extensions]
        if path is not None and not is_safe_relative_path(path):
            yield f"{column}.path {path!r} leaves the folder"
        elif path is not None and path not in fitting:
            yield f"{column}.path is {path!r}; it must be {' or '.join(fitting)}"


def _container_problems(values: Mapping[str, Any]) -> Iterator[str]:
    """Check what decoding overlooks: checksums and the end of PNG files, turned images, more than one frame."""
    for column in ("image", "label"):
        try:
            with Image.open(io.BytesIO(values[column]["bytes"])) as image:
                frames, exif = getattr(image, "n_frames", 1), Image.Exif()
                exif.load(image.info.get("exif", b""))
                image.verify()
        except Exception as error:
            yield f"the {column} is damaged ({error})"
            continue
        if frames > 1:
            yield f"the {column} has {frames} frames; one is allowed"
        if exif.get(_ORIENTATION, 1) != 1:
            yield f"the {column} asks to be turned when it is shown (EXIF orientation); some readers would, some not"
