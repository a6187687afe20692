from __future__ import annotations

from dataclasses import replace

import pytest

from scenepalette.common.errors import DataError
from scenepalette.common.storage.files import sha256_of_file
from scenepalette.data.classes import ClassTable
from scenepalette.data.shards.checking import verify_shards
from scenepalette.data.shards.manifest import read_manifest
from scenepalette.data.shards.pairs import ShardPairs
from scenepalette.data.shards.reading import iterate_rows
from scenepalette.data.shards.schema import shard_name
from scenepalette.data.shards.writing import write_shard
from shard_rows import HASHES, TABLE, describe, make_folder, make_row


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


def test_the_folder_of_all_kinds_names_those_in_it(tmp_path):
    for kind in ("full", "semi"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "manifest.json").write_text("{}")
        (tmp_path / kind / shard_name(0, 1)).touch()
    with pytest.raises(DataError, match=rf"Name one of the folders in it: {tmp_path}/full, {tmp_path}/semi\.$"):
        read_manifest(tmp_path)
    (tmp_path / "train-00000-of-00001.parquet").touch()
    with pytest.raises(DataError, match="generation did not finish"):
        read_manifest(tmp_path)


def test_a_run_directory_names_its_folders_of_shards_and_no_other_units(tmp_path):
    for unit in ("data", "shards/full"):
        (tmp_path / unit).mkdir(parents=True)
        (tmp_path / unit / "manifest.json").write_text("{}")
    (tmp_path / "shards/full" / shard_name(0, 1)).touch()
    with pytest.raises(DataError, match=rf"Name one of the folders in it: {tmp_path}/shards/full\.$"):
        read_manifest(tmp_path)


def test_what_is_no_folder_is_not_called_an_unfinished_one(tmp_path):
    write_shard(tmp_path / shard_name(0, 1), [make_row(0)])
    for name, said in (("nowhere", "does not exist"), (shard_name(0, 1), "is no folder")):
        with pytest.raises(DataError, match=rf"{name} {said}\. Give the folder of one kind"):
            ShardPairs(tmp_path / name)


def test_a_folder_without_manifest_is_unfinished(tmp_path):
    write_shard(tmp_path / shard_name(0, 1), [make_row(0)])
    for read in (read_manifest, ShardPairs, lambda folder: list(iterate_rows(folder))):
        with pytest.raises(DataError, match="did not finish"):
            read(tmp_path)
    assert "did not finish" in verify_shards(tmp_path)[0]
