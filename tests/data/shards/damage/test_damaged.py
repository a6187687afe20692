"""Damaged folders of shards: none is accepted in silence, and none ends in anything but a message."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import struct
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from labelled_folders import png_file
from scenepalette.common.errors import DataError
from scenepalette.common.storage.files import sealed, sha256_of_file
from scenepalette.data.exports.exporting import export_shards
from scenepalette.data.shards.checking import find_problems
from scenepalette.data.shards.pairs import ShardPairs
from scenepalette.data.shards.schema import ROW_GROUP, SCHEMA, Row
from scenepalette.pipeline.cli.main import app

NAMES = [f"train-{number:05d}-of-00003.parquet" for number in range(3)]
COUNTS = (5, 6, 7)
Damage = Callable[[Path], None]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("whole")


@pytest.fixture
def folder(whole: Path, make_shards: Callable[..., list[Row]], tmp_path: Path) -> Path:
    """A copy of three shards of 18 partial rows."""
    if not (whole / "manifest.json").exists():
        make_shards(whole, COUNTS, "partial")
    return Path(shutil.copytree(whole, tmp_path / "shards"))


# Damages to bytes and files


def truncated(name: str, keep: float) -> Damage:
    def damage(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * keep)])

    return damage


def flipped(name: str, seed: int) -> Damage:
    """Flip one bit anywhere in a file."""

    def damage(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        random = np.random.default_rng(seed)
        content[random.integers(len(content))] ^= 1 << int(random.integers(8))
        (folder / name).write_bytes(content)

    return damage


def unreadable_name(folder: Path) -> None:
    """Flip a bit of a column's name, which is no text then."""
    content = bytearray((folder / NAMES[0]).read_bytes())
    for found in re.finditer(b"palette_target", bytes(content)):
        content[found.start()] |= 0x80
    (folder / NAMES[0]).write_bytes(content)


def swapped_files(folder: Path) -> None:
    (folder / NAMES[0]).rename(folder / "kept")
    (folder / NAMES[1]).rename(folder / NAMES[0])
    (folder / "kept").rename(folder / NAMES[1])


def linked_to_another(folder: Path) -> None:
    """Link to a file of the right size with one byte that nobody reads changed."""
    content = bytearray((folder / NAMES[1]).read_bytes())
    content[content.rindex(b"parquet-cpp")] ^= 1
    (folder.parent / "elsewhere.parquet").write_bytes(content)
    (folder / NAMES[1]).unlink()
    (folder / NAMES[1]).symlink_to(folder.parent / "elsewhere.parquet")


def linked_to_nothing(folder: Path) -> None:
    (folder / NAMES[1]).unlink()
    (folder / NAMES[1]).symlink_to(folder.parent / "elsewhere.parquet")


def linked_in_a_circle(folder: Path) -> None:
    (folder / NAMES[1]).unlink()
    (folder / NAMES[1]).symlink_to(NAMES[1])


def replaced(name: str, content: bytes) -> Damage:
    return lambda folder: (folder / name).write_bytes(content) and None


def a_folder(folder: Path) -> None:
    (folder / NAMES[2]).unlink()
    (folder / NAMES[2]).mkdir()


def a_pipe(folder: Path) -> None:
    (folder / NAMES[2]).unlink()
    os.mkfifo(folder / NAMES[2])


FILES: dict[str, Damage] = {
    **{f"truncated-{name[6:11]}-{keep}": truncated(name, keep) for name in NAMES[:2] for keep in (0, 0.3, 0.99)},
    **{f"flipped-{name[6:11]}-{seed}": flipped(name, seed) for name in NAMES[:2] for seed in range(10)},
    "manifest-truncated": truncated("manifest.json", 0.7),
    **{f"manifest-flipped-{seed}": flipped("manifest.json", seed) for seed in range(12)},
    "unreadable-name": unreadable_name,
    "missing": lambda folder: (folder / NAMES[1]).unlink(),
    "no-manifest": lambda folder: (folder / "manifest.json").unlink(),
    "additional": lambda folder: shutil.copy(folder / NAMES[0], folder / "more.parquet") and None,
    "additional-below": lambda folder: shutil.copytree(folder, folder / "more") and None,
    "swapped-files": swapped_files,
    "one-file-twice": lambda folder: shutil.copy(folder / NAMES[0], folder / NAMES[1]) and None,
    "linked-to-another": linked_to_another,
    "linked-to-nothing": linked_to_nothing,
    "linked-in-a-circle": linked_in_a_circle,
    "a-folder": a_folder,
    "a-pipe": a_pipe,
    "no-parquet": replaced(NAMES[0], b"PAR1" + b"\0" * 200 + b"PAR1"),
    "absurd-footer": replaced(NAMES[0], b"PAR1" + b"\xff" * 64 + struct.pack("<I", 2**31 - 1) + b"PAR1"),
}


# Edits of the manifest, as somebody makes them who also mends its hash


def edited(change: Callable[[dict[str, Any]], object]) -> Damage:
    def damage(folder: Path) -> None:
        manifest = json.loads((folder / "manifest.json").read_text())
        change(manifest)
        with contextlib.suppress(ValueError):  # infinity has no canonical form
            manifest = sealed(manifest)
        (folder / "manifest.json").write_text(json.dumps(manifest))

    return damage


def unsealed(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["sha256"]
    manifest["source"]["licence"] = "MIT"
    (folder / "manifest.json").write_text(json.dumps(manifest))


def with_value(path: str, value: Any) -> Damage:
    def change(manifest: dict[str, Any]) -> None:
        target: Any = manifest
        *keys, last = [int(key) if key.isdecimal() else key for key in path.split(".")]
        for key in keys:
            target = target[key]
        target[last] = value

    return edited(change)


MANIFESTS: dict[str, Damage] = {
    "absolute-name": with_value("shards.0.name", "/etc/passwd"),
    "name-above": with_value("shards.0.name", "../train-00000-of-00003.parquet"),
    "name-above-windows": with_value("shards.0.name", "..\\train-00000-of-00003.parquet"),
    "name-twice": with_value("shards.0.name", NAMES[1]),
    "name-of-more-than-there-are": with_value("shards.2.name", "train-00002-of-00004.parquet"),
    "name-of-fewer-than-before": with_value("shards.0.name", "train-00000-of-00009.parquet"),
    "name-of-fewer-than-itself": with_value("shards.2.name", "train-00002-of-00002.parquet"),
    "names-in-another-order": edited(lambda m: m["shards"].reverse()),
    "name-in-other-digits": with_value("shards.0.name", "train-0000\u0660-of-00003.parquet"),
    "name-is-a-number": with_value("shards.0.name", 7),
    "rows-a-text": with_value("rows", "18"),
    "rows-too-many": edited(lambda m: (m.update(rows=19), m["shards"][0].update(rows=6))),
    "rows-moved": edited(lambda m: (m["shards"][0].update(rows=4), m["shards"][1].update(rows=7))),
    "rows-absurd": edited(lambda m: (m.update(rows=10**30), m["shards"][0].update(rows=10**30 - 13))),
    "rows-negative": with_value("shards.0.rows", -5),
    "sum-wrong": with_value("bytes", 1),
    "hash-of-another": edited(lambda m: m["shards"][0].update(sha256=m["shards"][1]["sha256"])),
    "hash-no-hash": with_value("shards.0.sha256", "x"),
    "shards-none": with_value("shards", None),
    "shards-empty": with_value("shards", []),
    "shard-left-out": edited(lambda m: m["shards"].pop()),
    "kind-another": with_value("kind", "semi"),
    "kind-unknown": with_value("kind", ["full"]),
    "schema-future": with_value("schema", 2),
    "classes-one-less": edited(lambda m: m["class_table"]["classes"].pop()),
    "classes-one-more": edited(
        lambda m: m["class_table"]["classes"].append({"name": "new", "color": [1, 1, 1], "evaluated": True})
    ),
    "classes-none": with_value("class_table", {}),
    "class-infinite": with_value("class_table.classes.0.color", [float("inf"), 0, 0]),
    "models-others": with_value("models", {"layout_model": "9" * 64, "image_model": "9" * 64}),
    "models-a-list": with_value("models", []),
    "licence-none": with_value("source", {"name": "corners"}),
    "seed-another": with_value("extra.settings.seed", 4),
    "seal-removed": lambda folder: unsealed(folder),
    "key-unknown": with_value("comment", "hello"),
    "a-list": lambda folder: (folder / "manifest.json").write_text("[1, 2]") and None,
    "a-number": lambda folder: (folder / "manifest.json").write_text("7") and None,
    "deeply-nested": lambda folder: (folder / "manifest.json").write_text("[" * 100_000) and None,
    "no-text": lambda folder: (folder / "manifest.json").write_bytes(b"\xff\xfe\x00{") and None,
}


# Edits of rows, as somebody makes them who also mends all hashes


def rows_edited(change: Callable[[list[dict[str, Any]]], object]) -> Damage:
    def damage(folder: Path) -> None:
        rows = pq.read_table(folder / NAMES[0]).to_pylist()
        change(rows)
        table = pa.Table.from_pylist(rows, schema=SCHEMA)
        pq.write_table(table, folder / NAMES[0], row_group_size=ROW_GROUP)
        rehash(folder)

    return damage


def rehash(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    entry = manifest["shards"][0]
    path = folder / NAMES[0]
    entry["bytes"], entry["sha256"] = path.stat().st_size, sha256_of_file(path)
    manifest["bytes"] = sum(shard["bytes"] for shard in manifest["shards"])
    (folder / "manifest.json").write_text(json.dumps(sealed(manifest)))


def row_edited(**values: Any) -> Damage:
    return rows_edited(lambda rows: rows[2].update(values))


def png(pixels: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def picture(content: bytes | None) -> dict[str, Any]:
    return {"bytes": content, "path": None}


def turned() -> bytes:
    """An image that asks readers to turn it by 180 degrees."""
    content, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(IMAGE).save(content, "JPEG", exif=exif)
    return content.getvalue()


def animated() -> bytes:
    content = io.BytesIO()
    Image.fromarray(IMAGE).save(content, "PNG", save_all=True, append_images=[Image.fromarray(IMAGE + np.uint8(9))])
    return content.getvalue()


def jpeg(pixels: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "JPEG")
    return content.getvalue()


def larger(rows: list[dict[str, Any]]) -> None:
    """A whole row of another size: no batch can hold it beside the others."""
    pixels, shares = np.zeros((20, 28), dtype=np.uint8), [1.0, 0.0, 0.0]
    rows[2].update(
        image=picture(png(np.repeat(pixels[:, :, None], 3, axis=2))),
        label=picture(png(pixels)),
        palette_achieved=shares,
    )


def bomb(side: int) -> bytes:
    """A PNG of some bytes that claims to be a square of millions of pixels."""
    return png_file((side, side), 8, [bytes(98)], colour=True)


def exchanged(column: str) -> Damage:
    def change(rows: list[dict[str, Any]]) -> None:
        rows[1][column], rows[3][column] = rows[3][column], rows[1][column]

    return rows_edited(change)


def rows_in_another_order(rows: list[dict[str, Any]]) -> None:
    rows[1], rows[3] = rows[3], rows[1]


LABEL, IMAGE = np.zeros((10, 14), dtype=np.uint8), np.zeros((10, 14, 3), dtype=np.uint8)
# What a reader that trains needs not, and does not look at, is left to `shards verify`.
BY_VERIFY_ALONE: dict[str, Damage] = {
    "palette-wrong": row_edited(palette_achieved=[0.2, 0.3, 0.5]),
    "palette-target-wrong": row_edited(palette_target=[2.0, 3.0, -4.0]),
    "palette-target-nan": row_edited(palette_target=[float("nan"), 0.5, 0.5]),
    "labels-exchanged": exchanged("label"),
    "ids-exchanged": exchanged("id"),
    "rows-exchanged": rows_edited(rows_in_another_order),
    "id-twice": row_edited(id="partial-44444444-00000001"),
    "index-twice": row_edited(index=1),
    "index-too-large": row_edited(index=18),
    "index-negative": row_edited(index=-1),
    "index-none": row_edited(index=None),
    "id-of-another-shard": row_edited(id="partial-44444444-00000012"),
    "id-above": row_edited(id="../x"),
    "kind-another": row_edited(kind="full", source_id=None, edit_box=None),
    "kind-unknown": row_edited(kind=""),
    "source-none": row_edited(source_id=None),
    "box-outside": row_edited(edit_box=[0, 0, 11, 4]),
    "box-of-three": row_edited(edit_box=[0, 0, 4]),
    "box-with-null": row_edited(edit_box=[0, None, 4, 4]),
    "seed-another": row_edited(seed=4),
    "model-another": row_edited(image_model="9" * 64),
    "path-of-another": row_edited(image={"bytes": png(IMAGE), "path": "partial-44444444-00000001.png"}),
    "image-model-none": row_edited(image_model=None),
    "layout-model-none": row_edited(layout_model=None),
    "models-exchanged": row_edited(image_model="1" * 64, layout_model="2" * 64),
    "id-too-long": row_edited(id="x" * 300),
    "id-unpadded": row_edited(id="partial-2"),
    "id-of-another-run": row_edited(id="partial-12345678-00000002"),
    "id-of-an-older-version": row_edited(id="partial-00000002"),
    "image-turned": row_edited(image=picture(turned())),
    "image-animated": row_edited(image=picture(animated())),
    "larger": rows_edited(larger),
    "path-above": row_edited(image={"bytes": png(IMAGE), "path": "../../x.png"}),
}
BY_BOTH: dict[str, Damage] = {
    "label-out-of-range": row_edited(label=picture(png(LABEL + np.uint8(3)))),
    "label-is-rgb": row_edited(label=picture(png(IMAGE))),
    "label-other-size": row_edited(label=picture(png(LABEL[:9]))),
    "label-a-jpeg": row_edited(label=picture(jpeg(LABEL))),
    "label-none": row_edited(label=None),
    "label-empty": row_edited(label=picture(b"")),
    "image-is-grey": row_edited(image=picture(png(LABEL))),
    "image-other-size": row_edited(image=picture(png(IMAGE[:, :9]))),
    "image-no-bytes": row_edited(image=picture(None)),
    "image-cut-off": row_edited(image=picture(png(IMAGE)[:45])),
    "image-bomb": row_edited(image=picture(bomb(9_000))),
    "image-larger-bomb": row_edited(image=picture(bomb(30_000))),
    "label-bomb": row_edited(label=picture(bomb(30_000))),
    "image-a-gif": row_edited(image=picture(b"GIF89a" + b"\1" * 30)),
    "id-none": row_edited(id=None),
    "palette-none": row_edited(palette_achieved=None),
    "palette-of-two": row_edited(palette_achieved=[0.5, 0.5]),
    "palette-with-null": row_edited(palette_achieved=[0.5, None, 0.5]),
}


def other_columns(folder: Path) -> None:
    pq.write_table(pq.read_table(folder / NAMES[0]).drop_columns(["seed"]), folder / NAMES[0])
    rehash(folder)


def other_type(folder: Path) -> None:
    table = pq.read_table(folder / NAMES[0])
    pq.write_table(table.set_column(8, "seed", table["seed"].cast(pa.int32())), folder / NAMES[0])
    rehash(folder)


def no_features(folder: Path) -> None:
    pq.write_table(pq.read_table(folder / NAMES[0]).replace_schema_metadata({}), folder / NAMES[0])
    rehash(folder)


def unpacks_to_much(folder: Path) -> None:
    """Write an id of 80 MB, some kilobytes in the file."""
    rows = pq.read_table(folder / NAMES[0]).to_pylist()
    rows[2]["id"] = "x" * 80_000_000
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    pq.write_table(table, folder / NAMES[0], row_group_size=ROW_GROUP, compression="zstd", use_dictionary=False)
    assert (folder / NAMES[0]).stat().st_size < 200_000
    rehash(folder)


def row_missing(folder: Path) -> None:
    """Leave out a row and say so in the manifest: the indices have a hole."""
    rows_edited(lambda rows: rows.pop(2))(folder)
    edited(lambda m: (m["shards"][0].update(rows=4), m.update(rows=17)))(folder)


def of_another_schema(folder: Path) -> None:
    table = pq.read_table(folder / NAMES[0])
    metadata = {**(table.schema.metadata or {}), b"scenepalette_schema": b"2"}
    pq.write_table(table.replace_schema_metadata(metadata), folder / NAMES[0], row_group_size=ROW_GROUP)
    rehash(folder)


def no_unicode(folder: Path) -> None:
    """Write an id that is no text, past all that checks texts."""
    table = pq.read_table(folder / NAMES[0])
    names = [b"\xff\xfe" if row == 2 else name.encode() for row, name in enumerate(table["id"].to_pylist())]
    ids = pa.array(names, pa.binary())
    texts = pa.StringArray.from_buffers(len(ids), ids.buffers()[1], ids.buffers()[2])
    pq.write_table(table.set_column(0, SCHEMA.field("id"), texts), folder / NAMES[0])
    rehash(folder)


SCHEMAS: dict[str, Damage] = {"other-columns": other_columns, "other-type": other_type, "no-unicode": no_unicode}
SCHEMAS["unpacks-to-much"] = unpacks_to_much
BY_VERIFY_ALONE |= {"no-features": no_features, "row-missing": row_missing}
BY_VERIFY_ALONE["of-another-schema"] = of_another_schema
ALL = {
    **{f"file-{name}": damage for name, damage in FILES.items()},
    **{f"manifest-{name}": damage for name, damage in MANIFESTS.items()},
    **{f"row-{name}": damage for name, damage in {**BY_VERIFY_ALONE, **BY_BOTH}.items()},
    **{f"schema-{name}": damage for name, damage in SCHEMAS.items()},
}
# Bits that flip inside a shard, and files in each other's places, change what only its hash or its rows tell.
_KNOWN_BY_ROWS = ("file-flipped", "file-one-file-twice", "file-swapped-files", "manifest-hash-of-another")
_BESIDE = ("file-additional", "file-additional-below")
_ABOUT_OTHERS = ("manifest-models-others", "manifest-seed-another", "manifest-kind-another")
UNKNOWN_TO_TRAINING = {
    name
    for name in ALL
    if name.startswith((*_KNOWN_BY_ROWS, *_ABOUT_OTHERS, *_BESIDE)) or name.removeprefix("row-") in BY_VERIFY_ALONE
}


def test_there_are_enough_and_the_whole_folder_is_in_order(folder: Path) -> None:
    assert len(ALL) >= 100
    assert list(find_problems(folder)) == []
    assert len([pair["id"] for pair in iter_pairs(folder)]) == 18


def iter_pairs(folder: Path) -> list[dict[str, Any]]:
    pairs = ShardPairs(folder)
    return [pairs[index] for index in range(len(pairs))]


@pytest.mark.damaged
@pytest.mark.parametrize("name", ALL)
def test_damage_is_told(name: str, folder: Path, tmp_path: Path) -> None:
    ALL[name](folder)
    problems = list(find_problems(folder))
    assert problems
    assert all(problem.problem and "Traceback" not in str(problem) for problem in problems)
    json.dumps([asdict(problem) for problem in problems])
    if name.removeprefix("row-") in {**BY_VERIFY_ALONE, **BY_BOTH} and name != "row-row-missing":
        assert NAMES[0] in {problem.file for problem in problems} or "before in" in str(problems[0])
    try:
        pairs = iter_pairs(folder)
    except DataError as error:
        assert str(error)
    else:
        assert name in UNKNOWN_TO_TRAINING and len(pairs) in (17, 18)
    result = CliRunner().invoke(app, ["shards", "verify", str(folder), "--json"])
    printed = json.loads(result.stdout)
    assert result.exit_code == 1 and isinstance(result.exception, SystemExit)
    assert (printed["ok"], printed["count"], len(printed["problems"])) == (False, len(problems), len(problems))
    # An export reads what training reads, and the hashes: it may take what contradicts the manifest alone.
    try:
        export_shards(folder, "webdataset", tmp_path / "out")
    except DataError as error:
        assert str(error)
    else:
        assert name in UNKNOWN_TO_TRAINING and (name in _BESIDE or not name.startswith("file-"))


def test_all_problems_are_told_at_once_with_their_rows(folder: Path) -> None:
    def change(rows: list[dict[str, Any]]) -> None:
        rows[0]["palette_achieved"] = [0.2, 0.3, 0.5]
        rows[3]["image"] = picture(b"")
        rows[4]["edit_box"] = [0, 0, 99, 99]

    rows_edited(change)(folder)
    flipped(NAMES[1], 1)(folder)
    (folder / NAMES[2]).unlink()
    shutil.copy(folder / NAMES[0], folder / "stray.parquet")
    problems = list(find_problems(folder))
    rows = {(problem.file, problem.row, problem.id) for problem in problems if problem.row is not None}
    assert rows >= {(NAMES[0], row, f"partial-44444444-{row:08d}") for row in (0, 3, 4)}
    texts = "\n".join(map(str, problems))
    assert f"{NAMES[1]} has SHA-256" in texts
    assert f"{NAMES[2]} is missing" in texts and "stray.parquet is in the folder" in texts


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("row-rows-exchanged", "row 2 'partial-44444444-00000002': the index 2 is below that of the row before"),
        ("row-ids-exchanged", "row 1 'partial-44444444-00000003': the id and the index 1 name different rows"),
        ("row-id-twice", f"row 2 'partial-44444444-00000001': the id comes twice, before in {NAMES[0]} row 1"),
        ("row-index-twice", "row 2 'partial-44444444-00000002': the index 1 comes twice"),
        ("row-index-too-large", "1 of the indices 0 to 17 are in no row: 2"),
        ("row-row-missing", "1 of the indices 0 to 16 are in no row: 2"),
        ("row-seed-another", "row 2 'partial-44444444-00000002': seed is 4, the manifest says 3"),
        ("row-image-bomb", "the image claims 9000 x 9000 pixels"),
        ("file-linked-to-another", f"{NAMES[1]} has SHA-256"),
        ("file-linked-to-nothing", f"{NAMES[1]} is missing: it is a link to"),
        ("file-additional-below", f"more/{NAMES[0]} is in the folder but not in the manifest"),
        ("manifest-seed-another", "row 0 'partial-44444444-00000000': seed is 3, the manifest says 4"),
        ("manifest-key-unknown", "manifest.json: comment: Extra inputs are not permitted"),
    ],
)
def test_the_message_says_what_is_wrong(name: str, text: str, folder: Path) -> None:
    ALL[name](folder)
    assert any(text in str(problem) for problem in find_problems(folder)), list(map(str, find_problems(folder)))


def test_a_flip_without_meaning_is_found_by_the_hash(folder: Path) -> None:
    """The writer's name in the footer is read by nobody."""
    path = folder / NAMES[0]
    content = bytearray(path.read_bytes())
    content[content.rindex(b"parquet-cpp")] ^= 1
    path.write_bytes(content)
    (problem,) = find_problems(folder)
    assert problem.file == NAMES[0] and "SHA-256" in problem.problem
    assert len(iter_pairs(folder)) == 18


def test_a_manifest_of_the_time_before_manifests_had_hashes_is_read(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["sha256"], manifest["code"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert list(find_problems(folder)) == []
