"""The data set card: what the Hub reads, what a human reads, and that its examples run."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from data.cards import card_text, write_card
from data.classes import ClassTable, SemanticClass
from data.errors import DataError
from data.shards.manifest import make_manifest, write_manifest
from data.shards.schema import SCHEMA, Row, shard_name
from data.shards.writing import ShardInfo, write_shard

TABLE = ClassTable("two|bars", (SemanticClass("road", (1, 2, 3)), SemanticClass("void", (0, 0, 0), evaluated=False)))
ABOUT = {
    "kind": "full",
    "table": TABLE,
    "config_hash": "c" * 64,
    "models": {"layout": "a" * 64, "image": None},
    "source": {"name": "CamVid", "licence": "Research use only", "homepage": "https://example.org/camvid"},
}


def manifest_of(rows: int, **changes) -> dict:
    """Return a manifest with `rows` rows."""
    return make_manifest([ShardInfo(shard_name(0, 1), rows, 10, "0" * 64)], **{**ABOUT, **changes})


def front_matter(text: str) -> dict:
    """Return the YAML between the first two lines of dashes."""
    return yaml.safe_load(text.split("---\n")[1])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of five pairs with card and manifest."""
    label = np.zeros((8, 8), dtype=np.uint8)
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    rows = [
        Row(f"r{i}", image, label, "full", [0.5, 0.5], [1.0, 0.0], None, None, 1, i, "a" * 64, None) for i in range(5)
    ]
    shards = [write_shard(tmp_path / "shards" / shard_name(0, 1), rows)]
    manifest = make_manifest(shards, **ABOUT)
    write_card(tmp_path / "shards", manifest)
    write_manifest(tmp_path / "shards", manifest)
    return tmp_path / "shards"


def test_hub_reads_the_front_matter():
    hub = pytest.importorskip("huggingface_hub")
    data = hub.DatasetCard(card_text(manifest_of(5), TABLE)).data
    assert data.license == "other"
    assert data.license_name == "research-use-only"
    assert data.task_categories == ["image-segmentation"]
    assert data.configs[0]["data_files"] == [{"split": "train", "path": "train-*.parquet"}]
    assert "dataset_info" not in data.to_dict()


@pytest.mark.parametrize(
    ("rows", "category"),
    [(999, "n<1K"), (1000, "1K<n<10K"), (99_999, "10K<n<100K"), (100_000, "100K<n<1M"), (10**6, "1M<n<10M")],
)
def test_size_category(rows, category):
    assert front_matter(card_text(manifest_of(rows), TABLE))["size_categories"] == [category]


@pytest.mark.parametrize(("licence", "expected"), [("CC BY-NC-SA 4.0", "cc-by-nc-sa-4.0"), ("MIT", "mit")])
def test_known_licences_use_the_identifier_of_the_hub(licence, expected):
    front = front_matter(card_text(manifest_of(1, source={"name": "x", "licence": licence}), TABLE))
    assert front["license"] == expected
    assert "license_name" not in front


def test_card_explains_columns_classes_and_lineage():
    text = card_text(manifest_of(5), TABLE)
    for name in SCHEMA.names:
        assert f"| `{name}` |" in text
    assert "| 1 | void | 0, 0, 0 | no |" in text
    for needed in ("5 pairs", "**CamVid**", "Research use only", "https://example.org/camvid", "a" * 64, "c" * 64):
        assert needed in text
    assert "None" not in text


def test_card_says_which_labels_of_the_source_are_machine_made():
    origins = {"train": "2 samples, annotated by people", "train_extra": "3 samples: machine-made labels"}
    source = {"name": "cityscapes-25k", "licence": "L", "label_origins": origins}
    lineage = card_text(manifest_of(5, source=source), TABLE).split("## Licence and lineage")[1].split("## ")[0]
    assert "- Source label_origins.train_extra: `3 samples: machine-made labels`" in lineage
    assert "label_origins" not in card_text(manifest_of(5, source={**source, "label_origins": {}}), TABLE)


@pytest.mark.parametrize(
    ("kind", "phrase"),
    [
        ("full", "Nothing in a row is real"),
        ("partial", "`edit_box`"),
        ("semi", "as it was found"),
        ("pseudo", "labels are predicted"),
    ],
)
def test_card_tells_how_rows_of_a_kind_were_made(kind, phrase):
    section = card_text(manifest_of(1, kind=kind), TABLE).split("## How the rows were made")[1].split("##")[0]
    assert phrase in section


def test_card_tells_that_edits_added_to_whole_layouts():
    text = card_text(manifest_of(1, kind="partial", extra={"settings": {"edits": "add"}}), TABLE)
    assert "`edit_box` is null" in text and "Inside `edit_box`" not in text


def test_unlabelled_images_have_terms_of_their_own():
    source = {"name": "CamVid", "licence": "Apache-2.0", "images": "9 unlabelled images of the folder drives"}
    front = front_matter(card_text(manifest_of(1, kind="pseudo", source=source), TABLE))
    assert front["license"] == "other"
    assert front["license_name"] == "apache-2.0-unlabelled-images-under-their-own-terms"
    assert front["tags"] == ["synthetic", "pseudo-labels"]
    assert front_matter(card_text(manifest_of(1), TABLE))["tags"] == ["synthetic"]


def test_a_card_needs_a_licence():
    with pytest.raises(DataError, match=r"source\.licence"):
        manifest_of(1, source={"name": "x"})


def test_datasets_loads_a_folder_with_card_and_manifest(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert {name: split.num_rows for name, split in loaded.items()} == {"train": 5}
    assert (loaded["train"][0]["image"].mode, loaded["train"][0]["label"].mode) == ("RGB", "L")


def test_examples_in_the_card_run(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    examples = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), flags=re.DOTALL)
    assert len(examples) == 3
    for example in examples:
        names: dict = {}
        exec(example.replace("FOLDER", str(folder)), names)
        if "batch" in names:
            assert names["batch"]["label"].shape == (5, 8, 8)
        else:
            assert np.array(names["label"]).shape == (8, 8)
