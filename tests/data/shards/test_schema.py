from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from scenepalette.common.errors import DataError
from scenepalette.data.exports.webdataset import facts_of
from scenepalette.data.shards import schema as schema_module
from scenepalette.data.shards.checking import verify_shards
from scenepalette.data.shards.manifest import read_manifest, sealed
from scenepalette.data.shards.reading import iterate_rows, open_shard
from scenepalette.data.shards.schema import SCHEMA, schema_of, shard_name
from scenepalette.data.shards.writing import write_shard
from shard_rows import HASHES, TABLE, describe, make_folder, make_row


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


def inserted_row(index=0, **changes):
    row = make_row(index, kind="insert", source_id="real/0001", edit_box=(1, 2, 4, 5), layout_model=None)
    row = replace(row, palette_target=row.palette_achieved, inserted_classes=("pole", "car"))
    return replace(row, **{"source_ids": ("real/0001", "real/2#pole@1,2,3,4", "real/3#car@1,2,3,4"), **changes})


def test_rows_with_inserted_objects_are_of_schema_2_which_appends_two_columns(tmp_path):
    assert schema_of(None) == SCHEMA and schema_of(None).equals(SCHEMA, check_metadata=True)
    columns = {field.name: str(field.type) for field in schema_of(TABLE, 2)}
    assert list(columns)[: len(SCHEMA)] == SCHEMA.names
    assert list(columns.items())[len(SCHEMA) :] == [
        ("inserted_classes", "list<item: string>"),
        ("source_ids", "list<item: string>"),
    ]
    models = {"image_model": HASHES["image_model"]}
    shards = [write_shard(tmp_path / shard_name(0, 1), [inserted_row(0), inserted_row(1)], table=TABLE)]
    describe(tmp_path, shards, kind="insert", models=models)
    assert read_manifest(tmp_path)["schema"] == 2 and verify_shards(tmp_path) == []
    with open_shard(tmp_path / shard_name(0, 1)) as file:
        metadata = file.schema_arrow.metadata
        assert metadata[b"scenepalette_schema"] == b"2" and b"inserted_classes" in metadata[b"huggingface"]
    for row, expected in zip(iterate_rows(tmp_path), (inserted_row(0), inserted_row(1)), strict=True):
        assert tuple(row.inserted_classes or ()) == expected.inserted_classes
        assert tuple(row.source_ids or ()) == expected.source_ids
    assert facts_of(inserted_row())["source_ids"][1] == "real/2#pole@1,2,3,4"
    assert "source_ids" not in facts_of(make_row(0))


def test_full_rows_name_the_objects_that_were_added_where_some_can_be(tmp_path):
    objects = {"inserted_classes": ("pole",), "source_ids": ("real/2#pole@1,2,3,4",)}
    rows = [make_row(0, **objects), make_row(1, inserted_classes=(), source_ids=())]
    shards = [write_shard(tmp_path / shard_name(0, 1), rows, table=TABLE)]
    describe(tmp_path, shards, kind="full", extra={"settings": {"hardening": "objects"}})
    assert read_manifest(tmp_path)["schema"] == 2 and verify_shards(tmp_path) == []
    named, without = iterate_rows(tmp_path)
    assert (named.inserted_classes, named.source_ids) == (["pole"], ["real/2#pole@1,2,3,4"])
    assert without.inserted_classes == without.source_ids == []


def test_a_set_of_schema_1_is_read_as_before(tmp_path):
    make_folder(tmp_path, (2,))
    assert read_manifest(tmp_path)["schema"] == 1 and verify_shards(tmp_path) == []
    with open_shard(tmp_path / shard_name(0, 1)) as file:
        assert file.schema_arrow.names == SCHEMA.names
    assert all(row.inserted_classes is None and row.source_ids is None for row in iterate_rows(tmp_path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inserted_classes": None}, "must name the classes of its objects"),
        ({"source_ids": None}, "must begin with the row's source_id"),
        ({"source_ids": ("real/2", "a", "b")}, "must begin with the row's source_id"),
        ({"source_ids": ("real/0001", "a")}, r"2 segment\(s\), it has 2 ids"),
        ({"source_ids": ("real/0001", "a", None)}, "must not hold nulls"),
        ({"edit_box": None}, "must have an edit_box"),
        ({"layout_model": "a" * 64}, "no layout_model"),
        ({"source_id": None}, "insert row must name the real sample"),
        ({"palette_target": np.full(5, 0.2)}, "palettes must be equal"),
        ({"kind": "semi", "edit_box": None}, "nothing is inserted into a semi row"),
        ({"kind": "full", "source_id": None, "edit_box": None}, r"must name 2 segment\(s\), it has 3 ids"),
        ({"kind": "full", "source_id": None, "edit_box": None, "source_ids": None}, r"2 segment\(s\), it has 0 ids"),
    ],
)
def test_what_an_insert_row_says_fits_together(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        write_shard(tmp_path / shard_name(0, 1), [inserted_row(**changes)])
    assert not list(tmp_path.iterdir())


def test_rows_of_two_schemas_do_not_share_a_shard(tmp_path):
    with pytest.raises(DataError, match="has other columns than the first"):
        write_shard(tmp_path / shard_name(0, 1), [inserted_row(0), make_row(1)])
    with pytest.raises(DataError, match="has other columns than the first"):
        write_shard(tmp_path / shard_name(0, 1), [make_row(1), inserted_row(0)])


def test_verify_tells_of_another_schema_and_of_unknown_classes(tmp_path):
    models = {"image_model": HASHES["image_model"]}
    odd = inserted_row(inserted_classes=("pole", "tram"))
    describe(tmp_path, [write_shard(tmp_path / shard_name(0, 1), [odd], table=TABLE)], kind="insert", models=models)
    (problem,) = verify_shards(tmp_path)
    assert problem.endswith("inserted_classes names what is no class: 'tram'")
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(sealed({**read_manifest(tmp_path), "schema": 1})))
    problems = verify_shards(tmp_path)
    assert "manifest.json: schema is 1; insert pairs have 2" in problems
    assert any("is of schema 2, not 1" in problem for problem in problems)
