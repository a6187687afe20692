from __future__ import annotations

from dataclasses import replace

import pytest

from scenepalette.common.errors import DataError
from scenepalette.data.shards import schema as schema_module
from scenepalette.data.shards.schema import SCHEMA, shard_name
from scenepalette.data.shards.writing import write_shard
from shard_rows import HASHES, make_row


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


def test_shard_name():
    assert shard_name(2, 12) == "train-00002-of-00012.parquet"
    with pytest.raises(ValueError, match="index"):
        shard_name(12, 12)


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
