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
from scenepalette.common.files import sha256_of_file, write_atomically
from scenepalette.common.progress import NO_PROGRESS, Progress
from scenepalette.data.shards.manifest import read_manifest
from scenepalette.data.shards.reading import read_values
from scenepalette.data.shards.schema import collection_of, decode_image, decode_label, encode_row, row_id
from scenepalette.data.shards.writing import write_shard
from scenepalette.generators.pairs.base import PairMaker
from scenepalette.pipeline.config import GenerateConfig
from scenepalette.pipeline.run import Run
from scenepalette.pipeline.run_directory.ownership import MARK, exclusive
from scenepalette.pipeline.stages.generate import PairsUnit, ShardPlan, plan_shards
from scenepalette.pipeline.units import State, fingerprint_of, reasons_of
from scenepalette.training.checkpoint import weights_hash

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


@dataclass(frozen=True)
class MadeAgain:
    """A row that was made again.

    Attributes:
        id: Its id.
        index: Its index.
        shard: The file that holds it.
        differences: What differs from the stored row, one text per column; empty if all bytes are equal.
        files: Image and label that were written, if any were asked for.
        slight: Whether the stored row could be this one, computed elsewhere: nothing differs but the bytes of pictures,
            and pixels of the image by at most `SLIGHT_LEVELS`.
    """

    id: str
    index: int
    shard: str
    differences: tuple[str, ...]
    files: tuple[Path, ...] = ()
    slight: bool = True


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
) -> Iterator[MadeAgain]:
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
    maker = origin.run.pair_maker(origin.unit)
    made: dict[int, dict[str, Any]] = {}
    for index in indices:
        plan = next(plan for plan in origin.plans if plan.first <= index < plan.first + plan.rows)
        if index not in made:
            # Rows of one batch are mostly asked for together; those of one batch are all that is held.
            made = {values["index"]: values for values in _batch_of(index, plan, maker, origin.generation)}
        values = made[index]
        try:
            stored = read_values(origin.folder / plan.name, index - plan.first)
            found = tuple(_row_differences(stored, values))
            slight = _is_slight(stored, values)
        except DataError as error:
            found, slight = (f"the stored row cannot be read: {error}",), False
        files = _write_row(values, out) if out is not None else ()
        yield MadeAgain(values["id"], index, plan.name, found, files, slight)


def regenerate_shards(
    folder: Path, names: Sequence[str], run_dir: Path | None = None, progress: Progress = NO_PROGRESS
) -> list[str]:
    """Make damaged or missing shards again, in their place; a shard appears only if it is the one of the manifest.

    Args:
        folder: A folder of shards.
        names: Files to mend; those that are as the manifest says are left alone.
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
    generation = origin.generation
    with exclusive(origin.run.run_dir):
        maker = origin.run.pair_maker(origin.unit)
        progress.start("make shards again", sum(plans[name].rows for name in damaged))
        for name in damaged:
            plan = plans[name]

            def counted(plan: ShardPlan = plan) -> Iterator[Any]:
                for row in maker.rows(plan.first, plan.rows, generation.batch_size):
                    yield row
                    progress.advance()

            try:
                write_shard(
                    origin.folder / name,
                    counted(),
                    table=maker.train.table,
                    image_format=generation.image_format,
                    jpeg_quality=generation.jpeg_quality,
                    expected_sha256=shards[name]["sha256"],
                )
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
        elif (found := weights_hash(path)) != stated:
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


def _batch_of(index: int, plan: ShardPlan, maker: PairMaker, generation: GenerateConfig) -> Iterator[dict[str, Any]]:
    """Yield the encoded rows of the batch that a row was first made in."""
    size = generation.batch_size
    start = index - (index - plan.first) % size
    for row in maker.rows(start, min(size, plan.first + plan.rows - start), size):
        yield encode_row(row, image_format=generation.image_format, jpeg_quality=generation.jpeg_quality)


def _row_differences(stored: Mapping[str, Any], made: Mapping[str, Any]) -> Iterator[str]:
    """Compare two encoded rows column by column."""
    for column, value in made.items():
        before = stored[column]
        if column in ("image", "label"):
            content = None if before is None else before["bytes"]
            if content != value["bytes"]:
                yield f"{column}: {_picture_difference(column, content, value['bytes'])}"
            elif before is not None and before["path"] != value["path"]:
                yield f"{column}.path: {before['path']!r} stored, {value['path']!r} now"
        elif column.startswith("palette"):
            if before is None or not np.array_equal(np.asarray(before, dtype=np.float32), value):
                yield f"{column}: other shares are stored"
        elif before != value:
            yield f"{column}: {before!r} stored, {value!r} now"


def _is_slight(stored: Mapping[str, Any], made: Mapping[str, Any]) -> bool:
    """Tell whether two encoded rows differ in nothing but the bytes of pictures and a few levels of the image."""
    pictures = {column: value["bytes"] for column, value in made.items() if column in ("image", "label")}
    others = {**made, **{column: {**made[column], "bytes": (stored[column] or {}).get("bytes")} for column in pictures}}
    if any(_row_differences(stored, others)):
        return False
    try:
        image, label = (
            np.abs(decode(stored[column]["bytes"], "stored").astype(int) - decode(pictures[column], "now")).max()
            for column, decode in (("image", decode_image), ("label", decode_label))
        )
    except (DataError, TypeError, ValueError):
        # A picture that is not there, cannot be decoded or has another size.
        return False
    return bool(image <= SLIGHT_LEVELS and label == 0)


def _picture_difference(column: str, stored: bytes | None, made: bytes) -> str:
    decode = decode_image if column == "image" else decode_label
    if stored is None:
        return "nothing is stored"
    try:
        before = decode(stored, "stored").astype(int)
    except DataError as error:
        return str(error)
    now = decode(made, "now").astype(int)
    if before.shape != now.shape:
        return f"{list(before.shape)} stored, {list(now.shape)} now"
    changed = before != now
    if not changed.any():
        return f"the same pixels in other bytes ({len(stored)} stored, {len(made)} now)"
    pixels = changed.any(axis=2) if changed.ndim == 3 else changed
    largest = f", by at most {np.abs(before - now).max()} levels" if column == "image" else ""
    return f"{pixels.sum()} of {pixels.size} pixels differ{largest}"


def _write_row(values: Mapping[str, Any], out: Path) -> tuple[Path, ...]:
    files = tuple(out / values[column]["path"] for column in ("image", "label"))
    for column, path in zip(("image", "label"), files, strict=True):
        write_atomically(path, values[column]["bytes"])
    return files
