"""The Croissant file: valid, complete about lineage, and good for reading the records."""

from __future__ import annotations

import json
from pathlib import Path

import mlcroissant
import numpy as np
import pytest

from scenepalette.common.provenance import code_version
from scenepalette.data.cards.croissant import croissant_document, write_croissant
from scenepalette.data.classes import ClassTable, SemanticClass
from scenepalette.data.shards.manifest import make_manifest, write_manifest
from scenepalette.data.shards.schema import SCHEMA, Row, palette_of_label, shard_name
from scenepalette.data.shards.writing import ShardInfo, write_shard

TABLE = ClassTable("two", (SemanticClass("road", (1, 2, 3)), SemanticClass("void", (0, 0, 0), evaluated=False)))
ABOUT = {
    "kind": "partial",
    "table": TABLE,
    "config_hash": "c" * 64,
    "models": {"layout_model": "a" * 64, "image_model": {"oasis": "b" * 64}, "absent": None},
    "source": {
        "name": "Somewhere",
        "licence": "CC BY-NC-SA 4.0: non-commercial use only",
        "label_origins": {"train": "annotated by people", "extra": "machine-made labels"},
    },
}


def rows() -> list[Row]:
    """Return five pairs, the last without an edited box."""
    found = []
    for index in range(5):
        label = np.random.default_rng(index).choice(np.array([0, 1, 255], np.uint8), (8, 8))
        image = np.full((8, 8, 3), index, dtype=np.uint8)
        palette = palette_of_label(label, 2)
        box = None if index == 4 else (0, 1, 2, 3)
        found.append(
            Row(f"r{index}", image, label, "partial", palette, palette, "s", box, 1, index, "a" * 64, "b" * 64)
        )
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished folder of five pairs in two shards."""
    folder = tmp_path / "shards"
    parts = (rows()[:3], rows()[3:])
    shards = [write_shard(folder / shard_name(index, 2), part, image_format="png") for index, part in enumerate(parts)]
    manifest = make_manifest(shards, **ABOUT)
    write_croissant(folder, manifest)
    write_manifest(folder, manifest)
    return folder


def test_mlcroissant_validates_the_file_and_reads_the_records(folder):
    dataset = mlcroissant.Dataset(str(folder / "croissant.json"))
    assert dataset.metadata.ctx.issues.errors == set()
    assert {record_set.id for record_set in dataset.metadata.record_sets} == {"pairs", "classes"}

    found = list(dataset.records("pairs"))
    assert [record["pairs/id"] for record in found] == [b"r0", b"r1", b"r2", b"r3", b"r4"]
    for record, row in zip(found, rows(), strict=True):
        assert {name.removeprefix("pairs/") for name in record} == set(SCHEMA.names)
        np.testing.assert_array_equal(np.array(record["pairs/image"]), row.image)
        np.testing.assert_array_equal(np.array(record["pairs/label"]), row.label)
        assert record["pairs/palette_achieved"] == pytest.approx(list(row.palette_achieved))
    assert (found[0]["pairs/edit_box"], found[4]["pairs/edit_box"]) == ([0, 1, 2, 3], None)

    classes = list(dataset.records("classes"))
    assert [item["classes/name"] for item in classes] == ["road", "void"]


def test_every_shard_has_its_hash(folder):
    document = json.loads((folder / "croissant.json").read_text())
    manifest = json.loads((folder / "manifest.json").read_text())
    hashes = {item["name"]: item["sha256"] for item in document["distribution"] if "sha256" in item}
    assert hashes == {shard["name"]: shard["sha256"] for shard in manifest["shards"]}


def test_lineage_stays_visible(folder):
    document = json.loads((folder / "croissant.json").read_text())
    assert document["license"] == ABOUT["source"]["licence"]
    assert document["prov:wasDerivedFrom"]["name"] == "Somewhere"
    assert "extra: machine-made labels" in document["rai:dataAnnotationProtocol"]
    activity = document["prov:wasGeneratedBy"]
    assert {item["name"]: item["sha256"] for item in activity["prov:used"]} == {
        "layout_model": "a" * 64,
        "image_model.oasis": "b" * 64,
    }
    assert "c" * 64 in activity["description"]
    assert activity["prov:wasAssociatedWith"]["version"] == code_version()["version"]


def test_predicted_labels_are_said_to_be_predicted():
    manifest = make_manifest([ShardInfo(shard_name(0, 1), 1, 10, "0" * 64)], **{**ABOUT, "kind": "pseudo"})
    document = croissant_document(manifest, TABLE)
    assert "predicted" in document["rai:dataAnnotationProtocol"]
    assert "predicted" in document["description"]


def test_unlabelled_images_have_terms_of_their_own():
    source = {**ABOUT["source"], "images": "9 unlabelled images of the folder drives"}
    manifest = make_manifest([ShardInfo(shard_name(0, 1), 1, 10, "0" * 64)], **{**ABOUT, "source": source})
    licence = croissant_document(manifest, TABLE)["license"]
    assert licence == f"{ABOUT['source']['licence']}; unlabelled images under their own terms"
