"""Making rows of finished shards again, from the models that made them, and whole shards that were damaged.

A row's randomness depends on its seed and index alone, but the last bits of its pixels also on the rows that went
through the networks with it: convolutions of other batch sizes add in another order. Rows are therefore made again
within the batch that they were first made in, which the configuration and the plan of the shards fix.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scenepalette.common.errors import DataError, ScenepaletteError
from scenepalette.common.progress import NO_PROGRESS, Progress
from scenepalette.common.storage.files import sha256_of_file, write_atomically
from scenepalette.data.shards.kinds import SELECTION
from scenepalette.data.shards.manifest import read_manifest
from scenepalette.data.shards.reading import read_values
from scenepalette.data.shards.schema import collection_of, decode_image, decode_label, encode_row, row_id
from scenepalette.pipeline.config import GenerateConfig
from scenepalette.pipeline.run import Run
from scenepalette.pipeline.run_directory.ownership import MARK, exclusive
from scenepalette.pipeline.stages.generate import PairsUnit, write_rows
from scenepalette.pipeline.stages.shard_files import ShardPlan, plan_shards
from scenepalette.pipeline.units.records import State, fingerprint_of, reasons_of

LAST_BITS = (
    "Another processor, number of threads or precision changes last bits, and so may other versions of torch; other "
    "versions of Pillow or pyarrow change the bytes of files."
)
MORE_THAN_LAST_BITS = (
    "That is more than last bits: the stored row was damaged or altered, or made by other weights or code than the run "
    "has. `scenepalette shards verify` tells whether its file is still the one of the manifest; if not, --shard makes "
    "it again."
)
# Most levels by which a pixel of a JPEG file moves when last bits of the generated image change.
SLIGHT_LEVELS = 2
# The columns that hold files: how they are decoded, and by how many levels their pixels may differ slightly.
IMAGES = {"image": (decode_image, SLIGHT_LEVELS), "label": (decode_label, 0)}


@dataclass(frozen=True)
class RegeneratedRow:
    """A row that was made again.

    Attributes:
        id: Its id.
        index: Its index.
        shard: The file that holds it.
        differences: What differs from the stored row, one text per column; empty if all bytes are equal.
        slight: Whether the stored row could be this one, computed elsewhere: nothing differs but the bytes of image and
            label, and pixels of the image by at most `SLIGHT_LEVELS`.
        files: Image and label that were written, if any were asked for.
    """

    id: str
    index: int
    shard: str
    differences: tuple[str, ...]
    slight: bool
    files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class _Origin:
    """The run that made a folder of shards, checked to be the one: same settings, code versions and weights."""

    folder: Path
    manifest: Mapping[str, Any]
    run: Run
    unit: str

    @property
    def generation(self) -> GenerateConfig:
        return self.run.pairs(self.unit).generation(self.run.config)

    @property
    def plans(self) -> list[ShardPlan]:
        # As they were written: a set that was extended is cut otherwise than one that was made at once.
        shards = [(shard["name"], shard["rows"]) for shard in self.manifest["shards"]]
        return plan_shards(self.manifest["rows"], self.generation.rows_per_shard, shards)


def regenerate_rows(
    folder: Path, rows: Sequence[str], run_dir: Path | None = None, out: Path | None = None
) -> Iterator[RegeneratedRow]:
    """Make rows again and compare them with those that are stored.

    Args:
        folder: A folder of shards; rows of it may be damaged.
        rows: Ids or indices.
        run_dir: The run directory that made it; by default the one that it lies in.
        out: Where to write image and label of each row, in the format of the shards; nowhere by default.

    Yields:
        One result per row, in the order asked for.

    Raises:
        ScenepaletteError: There is no such row, the run directory is not the one that made the folder, or a file cannot
            be written; all problems at once, before anything is made.
    """
    origin = _find_origin(folder, run_dir)
    indices = _indices_of(rows, origin.manifest)
    maker, generation = origin.run.pair_maker(origin.unit), origin.generation
    encoding = {"image_format": generation.image_format, "jpeg_quality": generation.jpeg_quality}
    batch: dict[int, dict[str, Any]] = {}
    for index in indices:
        plan = next(plan for plan in origin.plans if plan.first <= index < plan.first + plan.rows)
        if index not in batch:
            # Rows of one batch are mostly asked for together; those of one batch are all that is held.
            start = index - (index - plan.first) % generation.batch_size
            count = min(generation.batch_size, plan.first + plan.rows - start)
            made = (encode_row(row, **encoding) for row in maker.rows(start, count, generation.batch_size))
            batch = {values["index"]: values for values in made}
        values = batch[index]
        try:
            differences, slight = _compare(read_values(origin.folder / plan.name, index - plan.first), values)
        except DataError as error:
            differences, slight = [f"the stored row cannot be read: {error}"], False
        contents = {} if out is None else {out / values[name]["path"]: values[name]["bytes"] for name in IMAGES}
        for path, content in contents.items():
            write_atomically(path, content)
        yield RegeneratedRow(values["id"], index, plan.name, tuple(differences), slight, tuple(contents))


def regenerate_shards(
    folder: Path, names: Sequence[str], run_dir: Path | None = None, progress: Progress = NO_PROGRESS
) -> list[str]:
    """Make damaged or missing shards again, in their place; a shard appears only if it is the one of the manifest.

    Args:
        folder: A folder of shards.
        names: Files to repair; those that are as the manifest says are left alone.
        run_dir: The run directory that made it; by default the one that it lies in.
        progress: Watches the rows.

    Returns:
        The names of the shards that were made again.

    Raises:
        ScenepaletteError: There is no such shard, the run directory is not the one that made the folder, another
            process works in it, or a shard came out different; the damaged file is then left as it was.
    """
    origin = _find_origin(folder, run_dir)
    shards = {shard["name"]: shard for shard in origin.manifest["shards"]}
    unknown = [f"{name} is not a shard of this folder" for name in names if name not in shards]
    if unknown:
        raise DataError(f"{folder} has {len(shards)} shard(s), {min(shards)} to {max(shards)}.", unknown)
    plans = {plan.name: plan for plan in origin.plans}
    damaged = [name for name in dict.fromkeys(names) if not is_whole(origin.folder / name, shards[name]["sha256"])]
    if not damaged:
        return []
    with exclusive(origin.run.run_dir):
        maker = origin.run.pair_maker(origin.unit)
        progress.start("make shards again", sum(plans[name].rows for name in damaged))
        for name in damaged:
            path, sha256 = origin.folder / name, shards[name]["sha256"]
            try:
                write_rows(path, plans[name], maker, origin.generation, progress, expected_sha256=sha256)
            except DataError as error:
                raise DataError(f"{error} {LAST_BITS}") from error
        progress.finish()
    return damaged


def is_whole(path: Path, sha256: str) -> bool:
    """Tell whether a shard is the file of its manifest; one that is will not be made again."""
    try:
        return sha256_of_file(path) == sha256
    except OSError:
        return False


def run_around(folder: Path) -> Path | None:
    """Return the run directory that a folder lies in, or None."""
    return next((parent for parent in folder.resolve().parents if (parent / MARK).is_file()), None)


def _find_origin(folder: Path, run_dir: Path | None) -> _Origin:
    """Find the run of a folder and check that its settings, code and weights are those of the manifest."""
    manifest = read_manifest(folder)
    place = folder.resolve()
    home = run_dir or run_around(folder)
    if home is None:
        raise DataError(
            f"{folder} does not lie in a run directory of this version ({MARK} is in none of its parents). Name the "
            "one that made it: --run RUN_DIR."
        )
    if SELECTION in manifest["extra"]:
        raise DataError(
            f"{folder} holds rows that were selected from another folder. Make them again there, and select again."
        )
    run = Run.open(home)
    name = _unit_of(run, place, manifest)
    problems = _identity_problems(run, name, manifest)
    if problems:
        raise DataError(
            f"{home} is not as it was when it made {folder}, so that its rows cannot be made again. Restore it, or use "
            "the version of scenepalette and the weights that made them.",
            problems,
        )
    return _Origin(folder, manifest, run, name)


def _unit_of(run: Run, place: Path, manifest: Mapping[str, Any]) -> str:
    """Return the unit that made a folder: the one in its place, or, for a copy elsewhere, one with its fingerprint."""
    home = run.run_dir.resolve()
    pairs = [name for name, unit in run.units.items() if isinstance(unit, PairsUnit)]
    if place.is_relative_to(home) and (name := place.relative_to(home).as_posix()) in pairs:
        return name
    stored = manifest["extra"].get("fingerprint")
    same = [name for name in pairs if fingerprint_of(run.units[name], run.units) == stored]
    by_kind = [name for name in pairs if name == f"shards/{manifest['kind']}"]
    found = [*same, *by_kind]
    if not found:
        raise DataError(
            f"The run in {run.run_dir} makes no {manifest['kind']} pairs; it makes {', '.join(pairs)}. Give the run "
            "directory that made the folder: --run RUN_DIR."
        )
    return found[0]


def _identity_problems(run: Run, name: str, manifest: Mapping[str, Any]) -> list[str]:
    unit, problems = run.units[name], []
    identity = manifest["extra"]
    if identity.get("fingerprint") != fingerprint_of(unit, run.units):
        problems += reasons_of(State("other", manifest), unit, run.units)
    for needed in unit.inputs:
        try:
            state = run.state(needed)
            if state.status == "other":
                reasons = "; ".join(reasons_of(state, run.units[needed], run.units))
                problems.append(f"{needed}: it was made with other settings: {reasons}")
            elif state.status != "finished":
                problems.append(f"{needed} is not finished there")
        except ScenepaletteError as error:
            problems.append(f"{needed}: {error.summary}")
    models = run.pairs(name).models
    weights = {"layout_model": models.layout_weights(run.run_dir), "image_model": models.image_weights(run.run_dir)}
    for role, path in weights.items():
        stated = manifest["models"].get(role)
        if path is None or not path.is_file():
            if stated is not None or path is not None:
                problems.append(f"{role}: the rows were made with {stated}, its weights {path} are not there")
        elif (found := sha256_of_file(path)) != stated:
            problems.append(f"{role}: the rows were made with {stated}, {path} is {found}")
    return problems


def _indices_of(rows: Sequence[str], manifest: Mapping[str, Any]) -> list[int]:
    """Turn ids and indices into indices; ids are those that generation gives."""
    problems, indices = [], []
    kind, collection = manifest["kind"], collection_of(manifest) or ""
    for text in rows:
        match = re.fullmatch(rf"(?:{re.escape(kind)}-{collection}-(?=\d{{8}}))?(\d{{1,18}})", text)
        if match is None or int(match[1]) >= manifest["rows"]:
            problems.append(f"{text!r} is no row of it")
        else:
            indices.append(int(match[1]))
    if problems:
        last = manifest["rows"] - 1
        first_id, last_id = (row_id(kind, collection, index) for index in (0, last))
        raise DataError(f"Rows are named 0 to {last}, or {first_id} to {last_id}.", problems)
    return indices


def _compare(stored: Mapping[str, Any], made: Mapping[str, Any]) -> tuple[list[str], bool]:
    """Compare two encoded rows; return what differs, one text per column, and whether all of it is slight."""
    differences, slight = [], True
    for column, now in made.items():
        before, text, is_slight = stored[column], "", False
        if column in IMAGES:
            text, is_slight = _compare_files(column, before, now)
        elif column.startswith("palette"):
            if before is None or not np.array_equal(np.asarray(before, dtype=np.float32), now):
                text = "other shares are stored"
        elif before != now:
            text = f"{before!r} stored, {now!r} now"
        if text:
            differences.append(f"{column}: {text}")
            slight = slight and is_slight
    return differences, slight


def _compare_files(column: str, stored: Mapping[str, Any] | None, made: Mapping[str, Any]) -> tuple[str, bool]:
    """Say how two files of an image or a label differ, "" if not at all, and whether at most slightly."""
    if stored is None or stored["bytes"] is None:
        return "nothing is stored", False
    if stored["path"] != made["path"]:
        return f"the path {stored['path']!r} is stored, {made['path']!r} now", False
    if stored["bytes"] == made["bytes"]:
        return "", True
    decode, most = IMAGES[column]
    try:
        before, now = decode(stored["bytes"], "stored").astype(int), decode(made["bytes"], "now").astype(int)
    except DataError as error:
        return str(error), False
    if before.shape != now.shape:
        return f"{list(before.shape)} stored, {list(now.shape)} now", False
    distance = np.abs(before - now).reshape(*before.shape[:2], -1).max(axis=2)
    if not distance.any():
        return "the same pixels in other bytes", True
    text = f"{np.count_nonzero(distance)} of {distance.size} pixels differ"
    # Ids of a label are no levels: one is as far from another as any.
    return text + (f", by at most {distance.max()} levels" if most else ""), bool(distance.max() <= most)
