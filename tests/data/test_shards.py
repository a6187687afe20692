"""Shards: schema, writing, manifest, reading, training access and checking."""

from __future__ import annotations

import errno
import io
import itertools
import json
import multiprocessing
import os
import pickle
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from scenepalette.common.errors import ConfigError, DataError, ScenepaletteError
from scenepalette.common.files import sha256_of_file
from scenepalette.data.classes import ClassTable, SemanticClass
from scenepalette.data.shards import pairs as pairs_module
from scenepalette.data.shards import schema as schema_module
from scenepalette.data.shards import writing as writing_module
from scenepalette.data.shards.checking import verify_shards
from scenepalette.data.shards.manifest import make_manifest, read_manifest, sealed, write_manifest
from scenepalette.data.shards.pairs import ShardPairs
from scenepalette.data.shards.reading import contact_sheet, iterate_rows, read_row
from scenepalette.data.shards.schema import ROW_GROUP, SCHEMA, Row, shard_name
from scenepalette.data.shards.writing import ROWS_IN_FLIGHT, ShardInfo, write_shard

TABLE = ClassTable(
    "tiny",
    tuple(
        SemanticClass(name, (40 * k, 255 - 40 * k, 7)) for k, name in enumerate(["road", "car", "tree", "sky", "pole"])
    ),
)
HEIGHT, WIDTH = 12, 16
HASHES = {"layout_model": "a" * 64, "image_model": "b" * 64}


def make_row(index: int, **changes) -> Row:
    """Return row `index`; its label has ids 0..4 and 255, its image is smooth so that JPEG keeps it."""
    generator = np.random.default_rng(index)
    label = generator.choice(np.array([0, 1, 2, 3, 4, 255], dtype=np.uint8), (HEIGHT, WIDTH))
    label[0, 0] = index % 5
    image = np.empty((HEIGHT, WIDTH, 3), dtype=np.uint8)
    image[:] = generator.integers(30, 220, 3)
    counts = np.array([(label == k).sum() for k in range(5)])
    values = {
        "id": f"full-{index:06d}",
        "image": image,
        "label": label,
        "kind": "full",
        "palette_target": np.full(5, 0.2),
        "palette_achieved": counts / counts.sum(),
        "source_id": None,
        "edit_box": None,
        "seed": 7,
        "index": index,
        "layout_model": HASHES["layout_model"],
        "image_model": HASHES["image_model"],
    }
    return Row(**{**values, **changes})


def describe(folder: Path, shards: list[ShardInfo], **changes) -> Path:
    """Write the manifest of a test folder."""
    values = {
        "kind": "full",
        "table": TABLE,
        "config_hash": "c" * 64,
        "models": HASHES,
        "source": {"name": "tiny", "licence": "CC0-1.0"},
        "extra": {"fingerprint": "f"},
    }
    return write_manifest(folder, make_manifest(shards, **{**values, **changes}))


def make_folder(folder: Path, counts: tuple[int, ...], **options) -> list[Row]:
    """Write a complete folder with `counts[i]` rows in shard i and return the rows."""
    numbers = itertools.count()
    rows, shards = [], []
    for shard, count in enumerate(counts):
        part = [make_row(next(numbers)) for _ in range(count)]
        shards.append(write_shard(folder / shard_name(shard, len(counts)), part, **options))
        rows += part
    describe(folder, shards)
    return rows


def rewrite(folder: Path, row_changes: dict[int, dict]) -> None:
    """Replace values of rows of shard 0 past the writer's checks, and hash the file anew in the manifest."""
    name = read_manifest(folder)["shards"][0]["name"]
    values = pq.read_table(folder / name).to_pylist()
    for position, change in row_changes.items():
        values[position].update(change)
    pq.write_table(pa.Table.from_pylist(values, schema=SCHEMA), folder / name, row_group_size=ROW_GROUP)
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    shard = manifest["shards"][0]
    shard["bytes"], shard["sha256"] = (folder / name).stat().st_size, sha256_of_file(folder / name)
    manifest["bytes"] = sum(item["bytes"] for item in manifest["shards"])
    path.write_text(json.dumps(sealed(manifest)))


def png(array: np.ndarray) -> bytes:
    """Return a PNG of an array."""
    content = io.BytesIO()
    Image.fromarray(array).save(content, "PNG")
    return content.getvalue()


# Schema and file layout


def test_columns_are_those_of_schema_1():
    assert {field.name: str(field.type) for field in SCHEMA} == {
        "id": "string",
        "image": "struct<bytes: binary, path: string>",
        "label": "struct<bytes: binary, path: string>",
        "kind": "string",
        "palette_target": "list<item: float>",
        "palette_achieved": "list<item: float>",
        "source_id": "string",
        "edit_box": "list<item: int32>",
        "seed": "int64",
        "index": "int64",
        "layout_model": "string",
        "image_model": "string",
    }


def test_file_has_row_groups_of_64_checksums_and_uncompressed_pictures(tmp_path):
    info = write_shard(tmp_path / shard_name(0, 1), [make_row(i) for i in range(130)])
    metadata = pq.ParquetFile(tmp_path / info.name).metadata
    assert [metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)] == [64, 64, 2]
    columns = [metadata.row_group(0).column(c) for c in range(metadata.num_columns)]
    codecs = {column.path_in_schema: column.compression for column in columns}
    assert len(codecs) == 14
    for name, codec in codecs.items():
        assert codec == ("UNCOMPRESSED" if name.split(".")[0] in ("image", "label") else "ZSTD"), name
    path = tmp_path / info.name
    assert (info.rows, info.bytes, info.sha256) == (130, path.stat().st_size, sha256_of_file(path))


def test_a_flipped_bit_is_caught_by_the_page_checksum(tmp_path):
    path = tmp_path / shard_name(0, 1)
    write_shard(path, [make_row(0)], image_format="png")
    content = bytearray(path.read_bytes())
    position = content.index(b"IDAT") + 12
    content[position] ^= 1
    path.write_bytes(content)
    pq.read_table(path)
    with pytest.raises(OSError, match="CRC"):
        pq.read_table(path, page_checksum_verification=True)


def test_shard_name():
    assert shard_name(2, 12) == "train-00002-of-00012.parquet"
    with pytest.raises(ValueError, match="index"):
        shard_name(12, 12)


# Round trip, read by others


def test_rows_come_back_and_label_ids_survive_exactly(tmp_path):
    rows = make_folder(tmp_path, (70, 5), image_format="png", encoders=2)
    found = list(iterate_rows(tmp_path))
    assert [row.id for row in found] == [row.id for row in rows]
    for row, expected in zip(found, rows, strict=True):
        np.testing.assert_array_equal(row.label, expected.label)
        np.testing.assert_array_equal(row.image, expected.image)
        np.testing.assert_allclose(row.palette_achieved, expected.palette_achieved, atol=1e-7)
        assert (row.kind, row.seed, row.index, row.edit_box, row.source_id) == ("full", 7, expected.index, None, None)
    assert {int(value) for row in found for value in np.unique(row.label)} == {0, 1, 2, 3, 4, 255}


def test_partial_row_keeps_source_and_box(tmp_path):
    row = make_row(0, kind="partial", source_id="real/0001", edit_box=(1, 2, 11, 14))
    describe(tmp_path, [write_shard(tmp_path / shard_name(0, 1), [row])], kind="partial")
    found = read_row(tmp_path, row.id)
    assert (found.source_id, found.edit_box) == ("real/0001", (1, 2, 11, 14))
    assert verify_shards(tmp_path) == []


def test_jpeg_is_close_and_full_colour(tmp_path):
    row = make_row(0)
    write_shard(tmp_path / shard_name(0, 1), [row])
    values = pq.read_table(tmp_path / shard_name(0, 1)).to_pylist()[0]
    picture = Image.open(io.BytesIO(values["image"]["bytes"]))
    assert picture.format == "JPEG"
    assert [layer[1:3] for layer in getattr(picture, "layer", [])] == [(1, 1)] * 3
    assert np.abs(np.array(picture).astype(int) - row.image).max() <= 3


def test_plain_pyarrow_reads_columns(tmp_path):
    rows = make_folder(tmp_path, (3,))
    table = pq.read_table(tmp_path / shard_name(0, 1), columns=["id", "label", "palette_achieved"])
    label = Image.open(io.BytesIO(table["label"][2]["bytes"].as_py()))
    assert label.mode == "L"
    np.testing.assert_array_equal(np.array(label), rows[2].label)
    assert table["palette_achieved"][2].as_py() == pytest.approx(list(rows[2].palette_achieved))


def load_with_datasets(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, **options):
    """Read a folder as a user of `datasets` does, offline and with a cache of its own."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    return datasets.load_dataset(str(folder), cache_dir=str(cache), **options)


@pytest.mark.parametrize("streaming", [False, True])
def test_datasets_shows_pictures_with_no_argument(tmp_path, monkeypatch, streaming):
    rows = make_folder(tmp_path / "shards", (66, 3))
    loaded = load_with_datasets(tmp_path / "shards", tmp_path / "cache", monkeypatch, streaming=streaming)
    assert list(loaded) == ["train"]
    found = list(loaded["train"])
    assert len(found) == 69
    for pair, row in zip(found, rows, strict=True):
        assert (pair["id"], pair["image"].mode, pair["label"].mode) == (row.id, "RGB", "L")
        np.testing.assert_array_equal(np.array(pair["label"]), row.label)
    assert found[5]["edit_box"] is None
    assert found[5]["palette_target"] == pytest.approx([0.2] * 5)


@pytest.mark.parametrize("module", ["polars", "duckdb"])
def test_other_readers(tmp_path, module):
    reader = pytest.importorskip(module)
    rows = make_folder(tmp_path, (3, 2))
    pattern = str(tmp_path / "*.parquet")
    if module == "polars":
        ids = reader.read_parquet(pattern)["id"].to_list()
    else:
        ids = [item[0] for item in reader.sql(f"select id from '{pattern}' order by id").fetchall()]
    assert ids == [row.id for row in rows]


# Writing


def test_bytes_do_not_depend_on_the_number_of_encoders(tmp_path):
    contents = set()
    for encoders in (1, 3, 8):
        path = tmp_path / str(encoders) / shard_name(0, 1)
        write_shard(path, (make_row(i) for i in range(100)), encoders=encoders)
        contents.add(path.read_bytes())
    assert len(contents) == 1


def test_producer_is_never_far_ahead_of_the_encoders(tmp_path, monkeypatch):
    encoded = itertools.count(1)
    done = [0]
    lead = []
    lock = threading.Lock()

    def slow_encode(row, **options):
        time.sleep(0.001)
        values = schema_module.encode_row(row, **options)
        with lock:
            done[0] = next(encoded)
        return values

    def producer() -> Iterator[Row]:
        for index in range(400):
            lead.append(index - done[0])
            yield make_row(index)

    monkeypatch.setattr(writing_module, "encode_row", slow_encode)
    write_shard(tmp_path / shard_name(0, 1), producer(), encoders=2)
    # Reaching the limit shows that the producer was ahead at all, so that encoding ran beside it.
    assert ROWS_IN_FLIGHT // 2 < max(lead) <= ROWS_IN_FLIGHT


def test_row_groups_reach_the_file_while_rows_are_still_made(tmp_path):
    sizes = {}

    def producer() -> Iterator[Row]:
        for index in range(ROWS_IN_FLIGHT + 3 * ROW_GROUP):
            sizes[index] = sum(path.stat().st_size for path in tmp_path.iterdir())
            assert not list(tmp_path.glob("*.parquet"))
            yield make_row(
                index,
                image=np.random.default_rng(index).integers(0, 255, (99, 99, 3), dtype=np.uint8),
                label=np.zeros((99, 99), dtype=np.uint8),
                palette_achieved=[1.0, 0, 0, 0, 0],
            )

    write_shard(tmp_path / shard_name(0, 1), producer(), image_format="png")
    assert max(sizes.values()) > 2 * ROW_GROUP * 99 * 99 * 3 * 0.9


@pytest.mark.parametrize("after", [0, 5, 200])
def test_an_error_of_the_producer_comes_through_and_leaves_nothing(tmp_path, after):
    def producer() -> Iterator[Row]:
        for index in range(after):
            yield make_row(index)
        raise FileNotFoundError(errno.ENOENT, "the producer's own", "weights")

    with pytest.raises(FileNotFoundError, match="the producer's own"):
        write_shard(tmp_path / shard_name(0, 1), producer())
    assert list(tmp_path.iterdir()) == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("encoder")]


@pytest.mark.parametrize("full_after", [0, 2_000, 200_000])
def test_a_full_disk_is_a_clear_error_and_leaves_nothing(tmp_path, monkeypatch, full_after):
    real_fdopen = os.fdopen

    class FullDisk(io.BufferedWriter):
        written = 0

        def write(self, content):
            self.written += len(content)
            if self.written > full_after:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(content)

    monkeypatch.setattr(os, "fdopen", lambda handle, mode: FullDisk(real_fdopen(handle, mode, buffering=0)))
    rows = (
        make_row(i, image=np.random.default_rng(i).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8))
        for i in range(1000)
    )
    with pytest.raises(ScenepaletteError, match="disk is full"):
        write_shard(tmp_path / shard_name(0, 1), rows)
    assert list(tmp_path.iterdir()) == []


def test_a_former_shard_stays_when_writing_fails(tmp_path):
    path = tmp_path / shard_name(0, 1)
    former = write_shard(path, [make_row(0)])
    with pytest.raises(DataError):
        write_shard(path, [make_row(1), make_row(1)])
    assert sha256_of_file(path) == former.sha256


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": np.full((HEIGHT, WIDTH), 9, dtype=np.uint8)}, r"ids \[9\]"),
        ({"label": np.full((HEIGHT, WIDTH), 255, dtype=np.uint8)}, "no pixel"),
        ({"label": np.zeros((HEIGHT, WIDTH), dtype=np.int64)}, "int64"),
        ({"label": np.zeros((HEIGHT, 3), dtype=np.uint8), "palette_achieved": [1, 0, 0, 0, 0]}, "sizes must agree"),
        ({"image": np.zeros((HEIGHT, WIDTH, 3), dtype=np.float32)}, "float32"),
        ({"palette_achieved": [0.2] * 5}, "palette_achieved differs"),
        ({"palette_target": [0.5] * 5}, "palette_target must hold shares"),
        ({"palette_target": [0.25] * 4}, "4 classes"),
        ({"kind": "half"}, "'half'"),
        ({"source_id": "real"}, "full row"),
        ({"kind": "semi"}, "source_id"),
        ({"kind": "partial", "source_id": "real", "edit_box": (0, 0, HEIGHT + 1, 4)}, "edit_box"),
        ({"id": "../outside"}, "leaves its folder"),
    ],
)
def test_a_wrong_row_is_refused_by_name(tmp_path, changes, message):
    row = make_row(0, **changes)
    with pytest.raises(DataError, match=message) as caught:
        write_shard(tmp_path / shard_name(0, 1), [row])
    assert repr(row.id) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_wrong_settings_are_named_together(tmp_path):
    with pytest.raises(ConfigError) as caught:
        write_shard(tmp_path / shard_name(0, 1), [], image_format="webp", jpeg_quality=0, encoders=0)  # type: ignore[arg-type]
    assert all(name in str(caught.value) for name in ("image_format", "jpeg_quality", "encoders"))


def test_a_shard_without_rows_is_refused(tmp_path):
    with pytest.raises(DataError, match="at least one row"):
        write_shard(tmp_path / shard_name(0, 1), [])


# Manifest


def test_manifest_holds_what_it_must(tmp_path):
    make_folder(tmp_path, (4, 2))
    manifest = read_manifest(tmp_path)
    paths = [tmp_path / shard_name(i, 2) for i in range(2)]
    assert manifest["rows"] == 6
    assert manifest["shards"] == [
        {"name": path.name, "rows": rows, "bytes": path.stat().st_size, "sha256": sha256_of_file(path)}
        for path, rows in zip(paths, (4, 2), strict=True)
    ]
    assert manifest["bytes"] == sum(path.stat().st_size for path in paths)
    assert ClassTable.from_dict(manifest["class_table"]) == TABLE
    assert (manifest["kind"], manifest["config_hash"], manifest["models"]) == ("full", "c" * 64, HASHES)
    assert (manifest["source"]["licence"], manifest["extra"]) == ("CC0-1.0", {"fingerprint": "f"})


def test_manifest_refuses_an_incomplete_set(tmp_path):
    shard = write_shard(tmp_path / shard_name(0, 2), [make_row(0)])
    with pytest.raises(DataError, match="complete"):
        describe(tmp_path, [shard])
    with pytest.raises(DataError, match=r"train-00001-of-00002.parquet is missing"):
        describe(tmp_path, [shard, replace(shard, name=shard_name(1, 2))])
    with pytest.raises(DataError, match=r"source\.licence"):
        describe(tmp_path, [shard, replace(shard, name=shard_name(1, 2))], source={"name": "tiny"})
    assert not (tmp_path / "manifest.json").exists()


def test_a_folder_without_manifest_is_unfinished(tmp_path):
    write_shard(tmp_path / shard_name(0, 1), [make_row(0)])
    for read in (read_manifest, ShardPairs, lambda folder: list(iterate_rows(folder))):
        with pytest.raises(DataError, match="did not finish"):
            read(tmp_path)
    assert "did not finish" in verify_shards(tmp_path)[0]


# Reading and training access


def test_read_row_finds_a_row_and_names_a_missing_one(tmp_path):
    rows = make_folder(tmp_path, (70, 70))
    np.testing.assert_array_equal(read_row(tmp_path, rows[133].id).label, rows[133].label)
    with pytest.raises(DataError, match="'nowhere'"):
        read_row(tmp_path, "nowhere")


def test_contact_sheet_shows_image_above_coloured_label(tmp_path):
    rows = make_folder(tmp_path, (3, 4), image_format="png")
    sheet = np.array(contact_sheet(tmp_path, 3, columns=2))
    assert sheet.shape == (2 * (2 * HEIGHT + 4) + 4, 2 * (WIDTH + 4) + 4, 3)
    np.testing.assert_array_equal(sheet[4 : 4 + HEIGHT, 4 : 4 + WIDTH], rows[0].image)
    label = sheet[4 + HEIGHT : 4 + 2 * HEIGHT, 8 + WIDTH : 8 + 2 * WIDTH]
    np.testing.assert_array_equal(label, TABLE.colorize(rows[3].label))


def test_pairs_give_tensors_in_the_order_asked(tmp_path):
    rows = make_folder(tmp_path, (70, 66, 1), image_format="png")
    pairs = ShardPairs(tmp_path)
    assert (len(pairs), pairs.size, pairs.table, pairs.licence) == (137, (HEIGHT, WIDTH), TABLE, "CC0-1.0")
    assert pairs.ids == [row.id for row in rows]
    indices = [136, 0, 69, 70, 63, 64, 135, 0]
    image, label = pairs.batch(indices)
    assert (image.dtype, label.dtype) == (torch.float32, torch.int64)
    assert image.is_contiguous()
    for position, index in enumerate(indices):
        np.testing.assert_array_equal(label[position].numpy(), rows[index].label)
        expected = rows[index].image.astype(np.float64) / 127.5 - 1
        np.testing.assert_allclose(image[position].permute(1, 2, 0).numpy(), expected, atol=1e-6)
    with pytest.raises(IndexError, match="137"):
        pairs.batch([137])


def test_pairs_decode_only_what_is_asked_and_keep_bounded_bytes(tmp_path, monkeypatch):
    make_folder(tmp_path, (256, 256))
    group_bytes = ShardPairs(tmp_path)
    group_bytes.batch([0])
    one_group = group_bytes._cached_bytes
    pairs = ShardPairs(tmp_path, cache_bytes=int(2.5 * one_group))
    calls = []
    real = pairs_module.decode_label
    monkeypatch.setattr(pairs_module, "decode_label", lambda *args: calls.append(1) or real(*args))
    for start in range(0, 512, 50):
        pairs.batch([start, (start + 300) % 512])
        assert pairs._cached_bytes == sum(table.nbytes for table in pairs._groups.values())
        assert pairs._cached_bytes <= 2.5 * one_group
    assert len(pairs._groups) == 2
    assert len(calls) == 2 * len(range(0, 512, 50))


def test_pairs_pickle_without_open_files_or_cache(tmp_path):
    make_folder(tmp_path, (70,))
    pairs = ShardPairs(tmp_path)
    before = pairs.batch([1, 65])
    content = pickle.dumps(pairs)
    assert len(content) < 10_000
    after = pickle.loads(content).batch([1, 65])
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[1], after[1])


def test_pairs_are_safe_to_read_from_threads(tmp_path):
    rows = make_folder(tmp_path, (256,))
    pairs = ShardPairs(tmp_path, cache_bytes=1)
    wrong = []

    def read(start: int) -> None:
        for index in range(start, 256, 8):
            if not np.array_equal(pairs.batch([index])[1][0].numpy(), rows[index].label):
                wrong.append(index)

    threads = [threading.Thread(target=read, args=(start,)) for start in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_pairs_in_a_data_loader_with_spawned_workers(tmp_path):
    rows = make_folder(tmp_path, (70, 10))
    loader = torch.utils.data.DataLoader(
        ShardPairs(tmp_path),
        batch_size=16,
        num_workers=2,
        multiprocessing_context=multiprocessing.get_context("spawn"),
    )
    batches = list(loader)
    assert [name for batch in batches for name in batch["id"]] == [row.id for row in rows]
    labels = torch.cat([batch["label"] for batch in batches]).numpy()
    np.testing.assert_array_equal(labels, np.stack([row.label for row in rows]))
    assert batches[0]["image"].shape == (16, 3, HEIGHT, WIDTH)
    palettes = torch.cat([batch["palette"] for batch in batches]).numpy()
    np.testing.assert_allclose(palettes, np.stack([row.palette_achieved for row in rows]), atol=1e-6)


def test_pairs_work_with_a_plain_data_loader(tmp_path):
    rows = make_folder(tmp_path, (10,))
    batch = next(iter(torch.utils.data.DataLoader(ShardPairs(tmp_path), batch_size=4)))
    np.testing.assert_array_equal(batch["label"].numpy(), np.stack([row.label for row in rows[:4]]))
    assert len(list(iter(ShardPairs(tmp_path)))) == 10


def test_pairs_refuse_a_label_outside_the_table(tmp_path):
    make_folder(tmp_path, (3,))
    rewrite(tmp_path, {1: {"label": {"bytes": png(np.full((HEIGHT, WIDTH), 5, dtype=np.uint8)), "path": "x.png"}}})
    pairs = ShardPairs(tmp_path)
    pairs.batch([0, 2])
    with pytest.raises(DataError, match=r"full-000001.*ids \[5\]"):
        pairs.batch([0, 1])


# Checking


def test_a_good_folder_has_no_problems(tmp_path):
    make_folder(tmp_path, (70, 3))
    assert verify_shards(tmp_path) == []


def test_verify_finds_a_flipped_bit_and_names_rows_and_column(tmp_path):
    make_folder(tmp_path, (70,), image_format="png")
    path = tmp_path / shard_name(0, 1)
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 12] ^= 4
    path.write_bytes(content)
    problems = verify_shards(tmp_path)
    assert len(problems) == 2
    assert "SHA-256" in problems[0]
    assert f"{path.name} rows 0 to 63, column image: damaged" in problems[1]
    with pytest.raises(DataError, match=path.name):
        ShardPairs(tmp_path).batch([0])


def test_verify_finds_any_flipped_bit(tmp_path):
    make_folder(tmp_path, (2,))
    path = tmp_path / shard_name(0, 1)
    good = path.read_bytes()
    for position in range(0, len(good), max(1, len(good) // 40)):
        content = bytearray(good)
        content[position] ^= 16
        path.write_bytes(content)
        assert verify_shards(tmp_path), position


@pytest.mark.parametrize("keep", [0, 4, 0.5, -1])
def test_verify_finds_a_truncated_file(tmp_path, keep):
    make_folder(tmp_path, (5, 5))
    path = tmp_path / shard_name(1, 2)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep) if isinstance(keep, float) else keep])
    problems = verify_shards(tmp_path)
    assert all(path.name in problem for problem in problems)
    assert any("bytes, the manifest says" in problem for problem in problems)
    assert any("cannot be read" in problem for problem in problems)


def test_verify_finds_missing_and_extra_shards(tmp_path):
    make_folder(tmp_path, (2, 2))
    (tmp_path / shard_name(1, 2)).rename(tmp_path / "other.parquet")
    assert verify_shards(tmp_path) == [
        "train-00001-of-00002.parquet is missing",
        "other.parquet is in the folder but not in the manifest",
    ]


def _label(value: int) -> dict:
    return {"label": {"bytes": png(np.full((HEIGHT, WIDTH), value, dtype=np.uint8)), "path": "x.png"}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_label(5), r"ids \[5\]"),
        (_label(2), "palette_achieved differs"),
        (_label(255), "no pixel"),
        ({"label": {"bytes": png(np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)), "path": "x"}}, "mode RGB"),
        ({"label": {"bytes": make_row(0).label.tobytes(), "path": "x"}}, "no whole PNG"),
        ({"image": {"bytes": png(make_row(0).image)[:50], "path": "x"}}, "cannot be decoded"),
        ({"image": {"bytes": png(make_row(0).image)[:-14], "path": "x"}}, "the image is damaged"),
        ({"image": {"bytes": None, "path": "x"}}, "no whole JPEG or PNG"),
        ({"image": {"bytes": png(make_row(0).image), "path": "../../x"}}, "leaves the folder"),
        ({"image": None}, "null in image"),
        ({"id": "full-000000"}, "twice"),
        ({"palette_achieved": [0.5, 0.5]}, "2 classes"),
        ({"palette_target": []}, "palette_target"),
        ({"kind": "semi", "source_id": "real"}, "kind is 'semi'"),
        ({"layout_model": "d" * 64}, "the manifest says"),
    ],
)
def test_verify_names_the_bad_row(tmp_path, change, message):
    make_folder(tmp_path, (4,))
    rewrite(tmp_path, {2: change})
    problems = verify_shards(tmp_path)
    assert problems
    named = repr(change.get("id", "full-000002"))
    assert all(f"{shard_name(0, 1)} row {named}" in problem.split("\n")[0] or named in problem for problem in problems)
    assert any(re.search(message, problem) for problem in problems), problems


def test_verify_finds_other_columns(tmp_path):
    make_folder(tmp_path, (2,))
    path = tmp_path / shard_name(0, 1)
    pq.write_table(pq.read_table(path).drop_columns(["seed"]), path)
    assert any("columns of shard schema 1" in problem for problem in verify_shards(tmp_path))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("rows", 99, "rows is 99"),
        ("schema", 2, "schema is 2"),
        ("kind", "half", "'half'"),
        ("shards", [], "shards"),
        ("class_table", {}, "class_table"),
        ("source", {}, "source.licence"),
    ],
)
def test_verify_finds_a_wrong_manifest(tmp_path, key, value, message):
    make_folder(tmp_path, (2,))
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    assert any(message in problem for problem in verify_shards(tmp_path))


def test_verify_finds_a_row_count_that_the_file_does_not_have(tmp_path):
    make_folder(tmp_path, (2,))
    path = tmp_path / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["rows"] = manifest["shards"][0]["rows"] = 3
    path.write_text(json.dumps(sealed(manifest)))
    assert verify_shards(tmp_path) == [f"{shard_name(0, 1)} has 2 rows, the manifest says 3"]
    with pytest.raises(DataError, match="has 2 rows"):
        ShardPairs(tmp_path).batch([0])


@pytest.mark.parametrize("name", ["../secret.parquet", "/etc/passwd", "train-00000-of-00001.parquet/../x", "a\\..\\b"])
def test_a_path_that_leaves_the_folder_is_never_opened(tmp_path, name):
    make_folder(tmp_path / "shards", (2,))
    path = tmp_path / "shards" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["shards"][0]["name"] = name
    path.write_text(json.dumps(manifest))
    assert any("not the name of a shard in this folder" in problem for problem in verify_shards(tmp_path / "shards"))
    with pytest.raises(DataError, match="not the name of a shard"):
        ShardPairs(tmp_path / "shards")


def test_verify_reports_broken_json(tmp_path):
    make_folder(tmp_path, (2,))
    (tmp_path / "manifest.json").write_text("{")
    assert "not valid JSON" in verify_shards(tmp_path)[0]


def test_a_pseudo_row_names_its_image_and_what_predicted_its_label(tmp_path):
    good = make_row(0, kind="pseudo", source_id="drives/a.jpg")
    good = replace(good, palette_target=good.palette_achieved)
    assert schema_module.row_problems(good) == []
    write_shard(tmp_path / shard_name(0, 1), [good])
    with pytest.raises(DataError, match="pseudo row must name the real sample"):
        write_shard(tmp_path / shard_name(0, 1), [replace(good, source_id=None)])
    for changes in ({"layout_model": None}, {"edit_box": (0, 0, 2, 2)}):
        with pytest.raises(DataError, match="must name what predicted its label in layout_model"):
            write_shard(tmp_path / shard_name(0, 1), [replace(good, **changes)])


@pytest.mark.parametrize("kind", ["semi", "pseudo"])
def test_nothing_is_asked_of_a_layout_that_is_taken_as_it_was_found(tmp_path, kind):
    row = make_row(0, kind=kind, source_id="real/0001")
    row = replace(row, layout_model=None if kind == "semi" else HASHES["layout_model"])
    with pytest.raises(DataError, match="palettes must be equal"):
        write_shard(tmp_path / shard_name(0, 1), [row])
    write_shard(tmp_path / shard_name(0, 1), [replace(row, palette_target=row.palette_achieved)])


def test_a_semi_row_has_no_layout_model(tmp_path):
    row = make_row(0, kind="semi", source_id="real/0001")
    with pytest.raises(DataError, match="edit_box and layout_model must be null"):
        write_shard(tmp_path / shard_name(0, 1), [replace(row, palette_target=row.palette_achieved)])
