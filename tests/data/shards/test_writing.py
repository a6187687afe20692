from __future__ import annotations

import errno
import io
import itertools
import os
import threading
import time
from collections.abc import Iterator

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from scenepalette.common.errors import ConfigError, DataError, ScenepaletteError
from scenepalette.common.storage.files import sha256_of_file
from scenepalette.data.shards import schema as schema_module
from scenepalette.data.shards import writing as writing_module
from scenepalette.data.shards.schema import ROW_GROUP, Row, shard_name
from scenepalette.data.shards.writing import ROWS_IN_FLIGHT, write_shard
from shard_rows import HEIGHT, WIDTH, make_row


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


def test_jpeg_is_close_and_full_colour(tmp_path):
    row = make_row(0)
    write_shard(tmp_path / shard_name(0, 1), [row])
    values = pq.read_table(tmp_path / shard_name(0, 1)).to_pylist()[0]
    picture = Image.open(io.BytesIO(values["image"]["bytes"]))
    assert picture.format == "JPEG"
    assert [layer[1:3] for layer in getattr(picture, "layer", [])] == [(1, 1)] * 3
    assert np.abs(np.array(picture).astype(int) - row.image).max() <= 3


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
        ({"kind": "Half pair"}, "'Half pair'"),
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
