from __future__ import annotations

import json
import re

import numpy as np
import pyarrow.parquet as pq
import pytest

from scenepalette.common.errors import DataError
from scenepalette.common.storage.files import sealed
from scenepalette.data.shards.checking import verify_shards
from scenepalette.data.shards.pairs import ShardPairs
from scenepalette.data.shards.schema import shard_name
from shard_rows import HEIGHT, WIDTH, make_folder, make_row, png, rewrite


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
