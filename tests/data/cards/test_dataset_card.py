"""The data set card: what the Hub reads, what a human reads, and that its examples run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from scenepalette.common.errors import DataError
from scenepalette.data.cards.dataset_card import card_text, collection_card, write_card
from scenepalette.data.classes import ClassTable, SemanticClass
from scenepalette.data.shards.manifest import make_manifest, read_manifest, write_manifest
from scenepalette.data.shards.schema import SCHEMA, Row, shard_name
from scenepalette.data.shards.writing import ShardInfo, write_shard

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
    shards = [write_shard(tmp_path / "shards" / shard_name(0, 1), rows, table=TABLE)]
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
        ("insert", "All other pixels of the row are the real image's own"),
    ],
)
def test_card_tells_how_rows_of_a_kind_were_made(kind, phrase):
    section = card_text(manifest_of(1, kind=kind), TABLE).split("## How the rows were made")[1].split("##")[0]
    assert phrase in section


def test_card_tells_that_edits_added_to_whole_layouts():
    text = card_text(manifest_of(1, kind="partial", extra={"settings": {"edits": "add"}}), TABLE)
    assert "`edit_box` is null" in text and "Inside `edit_box`" not in text


def test_card_tells_that_layouts_got_shapes_of_real_objects():
    text = card_text(manifest_of(1, kind="full", extra={"settings": {"hardening": "objects"}}), TABLE)
    assert "added in the shapes of real objects" in text and "Nothing in a row is real" not in text


def test_card_tells_that_edits_were_painted_into_real_images():
    text = card_text(manifest_of(1, kind="partial", extra={"settings": {"composite": "box"}}), TABLE)
    assert "an image model painted them" in text and "no pixel of it is real" not in text
    assert "no pixel of it is real" in card_text(manifest_of(1, kind="partial"), TABLE)


def test_card_has_the_columns_of_inserted_objects_where_rows_have_them():
    assert "| `source_ids` | list<string> |" in card_text(manifest_of(1, kind="insert"), TABLE)
    assert "inserted_classes" not in card_text(manifest_of(1), TABLE)


def test_card_of_folders_with_different_columns_reads_those_of_the_first():
    mixed = collection_card({"full": manifest_of(1), "insert": manifest_of(1, kind="insert")})
    assert 'missing_columns="insert", extra_columns="ignore").collect()' in mixed
    assert 'rows = pl.read_parquet("FOLDER/*/train-*.parquet")' in collection_card({"full": manifest_of(1)})


def test_unlabelled_images_have_terms_of_their_own():
    source = {"name": "CamVid", "licence": "Apache-2.0", "images": "9 unlabelled images of the folder drives"}
    front = front_matter(card_text(manifest_of(1, kind="pseudo", source=source), TABLE))
    assert front["license"] == "other"
    assert front["license_name"] == "apache-2.0-unlabelled-images-under-their-own-terms"
    assert front["tags"] == ["synthetic", "pseudo-labels"]
    assert front_matter(card_text(manifest_of(1), TABLE))["tags"] == ["synthetic"]


def test_terms_of_pretrained_weights_are_stated_beside_those_of_the_data():
    weights = {"base": "creativeml-openrail-m", "control": "MIT"}
    text = card_text(manifest_of(1, source={"name": "CamVid", "licence": "CC BY 4.0", "pretrained": weights}), TABLE)
    front = front_matter(text)
    assert (front["license"], front["license_name"]) == ("other", "cc-by-4.0-creativeml-openrail-m-mit")
    assert "whose licence is: CC BY 4.0." in text
    assert "terms apply beside it: **base** under creativeml-openrail-m, **control** under MIT." in text
    assert "attachment A" in text and "No safety checker" in text
    free = manifest_of(1, source={"name": "CamVid", "licence": "MIT", "pretrained": {"base": "MIT"}})
    assert "attachment A" not in card_text(free, TABLE)
    with pytest.raises(DataError, match=r"source\.pretrained does not state terms"):
        manifest_of(1, source={"name": "CamVid", "licence": "MIT", "pretrained": ["MIT"]})


def test_a_card_needs_a_licence():
    with pytest.raises(DataError, match=r"source\.licence"):
        manifest_of(1, source={"name": "x"})


def test_datasets_loads_a_folder_with_card_and_manifest(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert {name: split.num_rows for name, split in loaded.items()} == {"train": 5}
    assert (loaded["train"][0]["image"].mode, loaded["train"][0]["label"].mode) == ("RGB", "L")


def examples_of(text: str) -> list[str]:
    """Return the Python examples of a card."""
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


def run(example: str, folder: Path) -> dict[str, Any]:
    """Run an example of a card on a folder; return its names."""
    names: dict[str, Any] = {}
    exec(example.replace("FOLDER", str(folder)), names)
    return names


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the cache of `datasets` out of the home folder."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def test_the_card_has_an_example_for_each_reader():
    text = card_text(manifest_of(5), TABLE)
    told = ("load_dataset", "id", "with_format", "pd.", "pl.", "pq.", "ds.", "duckdb.", "ray.", "ShardPairs")
    for example, needed in zip(examples_of(text), told, strict=True):
        assert needed in example


@pytest.mark.parametrize("number", [number for number in range(10) if number != 8])
def test_examples_in_the_card_run(number, folder, cache):
    names = run(examples_of((folder / "README.md").read_text())[number], folder)
    if "rows" in names:
        ids = names["rows"].fetchall() if hasattr(names["rows"], "fetchall") else names["rows"]["id"]
        found = [row[0] if isinstance(row, tuple) else getattr(row, "as_py", lambda row=row: row)() for row in ids]
        assert found == [f"r{i}" for i in range(5)]
    if "classes" in names:
        assert (names["classes"], names["ignored"]) == (["road", "void"], 255)
    if "batch" in names:
        assert tuple(names["batch"]["label"].shape) in [(4, 1, 8, 8), (5, 8, 8)]
        assert set(names["batch"]["id"]) <= {f"r{i}" for i in range(5)}
    if "label" in names:
        assert np.array(names["label"]).shape == (8, 8)
    assert {"rows", "classes", "batch", "label"} & names.keys()


@pytest.mark.slow
def test_the_example_of_ray_data_in_the_card_runs(folder, monkeypatch):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    try:
        ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)
        names = run(examples_of((folder / "README.md").read_text())[8], folder)
        assert sorted(row["id"] for row in names["rows"].take_all()) == [f"r{i}" for i in range(5)]
    finally:
        ray.shutdown()


def test_whole_folders_cannot_be_opened_without_these_lines(folder):
    """If one of them could, the card would be longer than it need be."""
    import pandas
    import polars
    import pyarrow
    import pyarrow.dataset
    import pyarrow.parquet

    opened = [
        pandas.read_parquet,
        pyarrow.parquet.read_table,
        pyarrow.dataset.dataset,
        polars.read_parquet,
        lambda path: polars.scan_parquet(path).collect(),
    ]
    for read in opened:
        with pytest.raises((pyarrow.ArrowInvalid, polars.exceptions.InvalidOperationError)):
            read(folder)


# The card of several kinds


@pytest.fixture
def collection(make_shards, tmp_path: Path) -> Path:
    """Two kinds beside each other, with their cards and one for both."""
    manifests = {}
    for kind, counts in (("full", (3, 2)), ("semi", (4,))):
        make_shards(tmp_path / "shards" / kind, counts, kind)
        manifests[kind] = read_manifest(tmp_path / "shards" / kind)
        write_card(tmp_path / "shards" / kind, manifests[kind])
    (tmp_path / "shards/README.md").write_text(collection_card(manifests))
    return tmp_path / "shards"


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(("kind", "rows"), [("full", 5), ("semi", 4)])
def test_datasets_loads_a_kind_by_its_name(kind, rows, streaming, collection, cache):
    import datasets

    loaded = datasets.load_dataset(str(collection), kind, split="train", streaming=streaming)
    assert [row["id"] for row in loaded] == [f"{kind}-44444444-{index:08d}" for index in range(rows)]
    assert json.loads(loaded.features["label"].id)["classes"] == ["road", "car, parked", "sky"]
    assert datasets.get_dataset_config_names(str(collection)) == ["full", "semi"]


def test_the_card_of_several_kinds_states_licence_and_links_to_their_cards(collection):
    hub = pytest.importorskip("huggingface_hub")
    text = (collection / "README.md").read_text()
    data = hub.DatasetCard(text).data
    assert (data.license, data.size_categories) == ("cc-by-nc-4.0", ["n<1K"])
    assert "9 pairs" in text and text.count("whose licence is: CC BY-NC 4.0") == 1
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links == ["full/README.md", "semi/README.md"] and all((collection / link).is_file() for link in links)


def test_the_card_of_several_kinds_states_all_licences():
    manifests = {
        "full": manifest_of(2, source={"name": "CamVid", "licence": "Research use only"}),
        "pseudo": manifest_of(3, kind="pseudo", source={"name": "CamVid", "licence": "MIT", "images": "9 of drives"}),
    }
    text = collection_card(manifests)
    front = front_matter(text)
    assert front["license_name"] == "research-use-only-mit-unlabelled-images-under-their-own-terms"
    assert front["tags"] == ["synthetic", "pseudo-labels"]
    assert "whose licence is: Research use only." in text and "whose licence is: MIT; unlabelled" in text


@pytest.mark.parametrize("number", range(3))
def test_examples_in_the_card_of_several_kinds_run(number, collection, cache):
    names = run(examples_of((collection / "README.md").read_text())[number], collection)
    if "rows" in names:
        assert names["rows"]["id"].n_unique() == 9
    elif "batch" in names:
        assert len(names["mixed"]) == 9 and set(names["batch"]["kind"]) <= {"full", "semi"}
    else:
        assert np.array(names["label"]).shape == (10, 14)
