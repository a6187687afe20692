from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from scenepalette.common.errors import DataError
from scenepalette.data.shards.checking import verify_shards
from scenepalette.data.shards.reading import contact_sheet, iterate_rows, read_row
from scenepalette.data.shards.schema import shard_name
from scenepalette.data.shards.writing import write_shard
from shard_rows import HEIGHT, TABLE, WIDTH, describe, make_folder, make_row


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


def test_read_row_finds_a_row_and_names_a_missing_one(tmp_path):
    rows = make_folder(tmp_path, (70, 70))
    np.testing.assert_array_equal(read_row(tmp_path, rows[133].id).label, rows[133].label)
    with pytest.raises(DataError, match="'nowhere'"):
        read_row(tmp_path, "nowhere")


@pytest.mark.parametrize(
    "read", [lambda folder: list(iterate_rows(folder)), lambda folder: read_row(folder, "nowhere"), contact_sheet]
)
def test_a_shard_in_the_place_of_another_is_refused(tmp_path: Path, read: Callable[[Path], object]) -> None:
    make_folder(tmp_path, (3, 3))
    other = shutil.copy(tmp_path / shard_name(1, 2), tmp_path / shard_name(0, 2))
    with open(other, "ab") as file:
        file.write(b"PAR1")
    with pytest.raises(DataError, match="not those of its manifest") as caught:
        read(tmp_path)
    assert caught.value.problems[0].startswith(f"{shard_name(0, 2)} has ")


def test_contact_sheet_shows_image_above_coloured_label(tmp_path):
    rows = make_folder(tmp_path, (3, 4), image_format="png")
    sheet = np.array(contact_sheet(tmp_path, 3, columns=2))
    assert sheet.shape == (2 * (2 * HEIGHT + 4) + 4, 2 * (WIDTH + 4) + 4, 3)
    np.testing.assert_array_equal(sheet[4 : 4 + HEIGHT, 4 : 4 + WIDTH], rows[0].image)
    label = sheet[4 + HEIGHT : 4 + 2 * HEIGHT, 8 + WIDTH : 8 + 2 * WIDTH]
    np.testing.assert_array_equal(label, TABLE.colorize(rows[3].label))
