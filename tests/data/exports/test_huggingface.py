"""The export for the Hugging Face Hub, loaded by `datasets`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from scenepalette.common.storage.files import sealed, sha256_of_file
from scenepalette.data.exports.exporting import export_shards
from scenepalette.data.shards.schema import Row


def test_datasets_loads_images_labels_and_names(
    make_shards: Callable[..., list[Row]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    rows = make_shards(tmp_path / "shards", (3, 4))
    out = export_shards(tmp_path / "shards", "huggingface", tmp_path / "out")
    loaded = datasets.load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))
    assert isinstance(loaded.features["image"], datasets.Image) and isinstance(loaded.features["label"], datasets.Image)
    assert loaded["id"][:] == [row.id for row in rows]
    for pair, row in zip(loaded, rows, strict=True):
        np.testing.assert_array_equal(np.array(pair["image"]), row.image)
        np.testing.assert_array_equal(np.array(pair["label"]), row.label)
    assert json.loads((out / "id2label.json").read_text()) == {"0": "road", "1": "car, parked", "2": "sky"}


def test_the_card_states_licence_columns_and_classes(make_shards: Callable[..., list[Row]], tmp_path: Path) -> None:
    make_shards(tmp_path / "shards", (3, 4))
    out = export_shards(tmp_path / "shards", "huggingface", tmp_path / "out")
    _, head, body = (out / "README.md").read_text().split("---\n", 2)
    front = yaml.safe_load(head)
    assert front["license"] == "cc-by-nc-4.0" and front["task_categories"] == ["image-segmentation"]
    assert front["configs"] == [
        {"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}]}
    ]
    for text in ("# Synthetic pairs (full) after corners", "CC BY-NC 4.0", "| 1 | car, parked |", "palette_achieved"):
        assert text in body
    assert "manifest.json` lists" not in body and "croissant" not in body


def test_shards_of_a_set_that_grew_are_numbered_anew(make_shards: Callable[..., list[Row]], tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    rows = make_shards(folder, (3, 4))
    (folder / "train-00000-of-00002.parquet").rename(folder / "train-00000-of-00001.parquet")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["shards"][0]["name"] = "train-00000-of-00001.parquet"
    (folder / "manifest.json").write_text(json.dumps(sealed(manifest)))
    out = export_shards(folder, "huggingface", tmp_path / "out")
    files = sorted((out / "data").iterdir())
    assert [path.name for path in files] == ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]
    assert [sha256_of_file(path) for path in files] == [shard["sha256"] for shard in manifest["shards"]]
    assert pq.read_table(files)["id"].to_pylist() == [row.id for row in rows]
    parts = json.loads((out / "export.json").read_text())["parts"]
    assert [(part["name"], part["rows"]) for part in parts] == [
        ("data/train-00000-of-00002.parquet", 3),
        ("data/train-00001-of-00002.parquet", 4),
    ]
