"""What the stage generate writes beside the shards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from torch import nn

from scenepalette.common.progress import NO_PROGRESS
from scenepalette.common.storage.files import sha256_of_file, sha256_of_json
from scenepalette.data.arrays import Pairs
from scenepalette.data.cards.dataset_card import label_origins_of
from scenepalette.data.cards.documents import mend_documents
from scenepalette.data.classes import ClassTable, SemanticClass
from scenepalette.data.shards.checking import verify_shards
from scenepalette.data.shards.kinds import KindCard
from scenepalette.data.shards.manifest import read_manifest
from scenepalette.data.shards.reading import iterate_rows
from scenepalette.data.shards.schema import Row
from scenepalette.evaluation.images.features import CHOSEN_SEGMENTER, SegmenterFeatures
from scenepalette.generators.pairs.base import Layouts, PairKind, PairMaker
from scenepalette.generators.pairs.registry import PAIR_KINDS
from scenepalette.pipeline.config import GenerateConfig, RunConfig, load_config
from scenepalette.pipeline.run import Run
from scenepalette.pipeline.run_directory.manifests import MANIFEST
from scenepalette.pipeline.stages.generate import PairsUnit, features_beside, make_shard, pair_models
from scenepalette.pipeline.stages.images import ImageModel
from scenepalette.pipeline.stages.layouts import LayoutModel
from scenepalette.pipeline.stages.shard_files import finish_shards
from scenepalette.pipeline.stages.studies.compare import row_models
from scenepalette.pipeline.units.records import begin
from scenepalette.training.checkpoint import save_weights
from scenepalette.training.fabric import make_fabric


def test_card_and_manifest_say_where_the_labels_of_the_source_come_from(tmp_path: Path) -> None:
    origins = {"train": "1 sample, annotated by people", "train_extra": "1 sample: machine-made labels"}
    label = np.array([[0, 1]] * 8, dtype=np.uint8).repeat(4, axis=1)
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    train = Pairs(
        images=image[None],
        labels=label[None],
        ids=["train_extra_x"],
        table=ClassTable("two", (SemanticClass("a", (1, 2, 3)), SemanticClass("b", (4, 5, 6)))),
        name="cityscapes-25k",
        licence="for tests",
        label_origins=origins,
    )

    def rows(first: int, count: int, batch_size: int) -> Iterator[Row]:
        for index in range(first, first + count):
            share = np.array([0.5, 0.5], dtype=np.float32)
            yield Row(
                f"semi-{index}", image, label, "semi", share, share, "train_extra_x", None, 0, index, None, "a" * 64
            )

    config, maker = (
        GenerateConfig(pairs=2, kinds=("semi",)),
        SimpleNamespace(rows=rows, train=train, fabric=make_fabric("cpu")),
    )
    finish_shards(
        tmp_path,
        PAIR_KINDS["semi"],
        config,
        train=train,
        unlabelled=None,
        models={"image_model": "a" * 64},
        remake=lambda plan: make_shard(tmp_path, plan, cast(PairMaker, maker), config, NO_PROGRESS),
        identity={"config": {"seed": 4}},
    )
    assert read_manifest(tmp_path)["source"] == {
        "name": "cityscapes-25k",
        "licence": "for tests",
        "split": "train",
        "label_origins": origins,
    }
    assert "- Source label_origins.train_extra: `1 sample: machine-made labels`" in (tmp_path / "README.md").read_text()


def test_a_manifest_says_what_its_rows_were_made_from_and_with(finished_run: Path, tiny_config: RunConfig) -> None:
    """Whoever has the shards alone can tell, and check, settings, data, sampler and packages."""
    manifest = read_manifest(finished_run / "shards/full")
    extra = manifest["extra"]
    assert manifest["config_hash"] == sha256_of_json(extra["config"])
    assert extra["config"]["layouts"]["full"]["max_width"] == tiny_config.layouts.full.max_width
    assert not {"root", "unlabelled", "class_file"} & extra["config"]["data"].keys()
    for name in ("data/images-train.npy", "data/labels-train.npy", "palettes/sampler.json"):
        assert extra["files"][name] == sha256_of_file(finished_run / name)
    assert {"hardware", "threads", "precision", "python", "torch", "numpy", "pillow", "pyarrow"} == extra[
        "environment"
    ].keys()


class Mirrored(PairKind):
    """Real layouts, seen in a mirror."""

    name = "mirrored"
    card = KindCard(making="The layout of a row is that of `source_id` in a mirror.", labels="Labels were mirrored.")
    caption = "Mirrored layouts."

    def layouts(self, maker: PairMaker, indices: list[int], randoms: list[np.random.Generator]) -> Layouts:
        real = maker.real_layouts(indices)
        return real._replace(labels=real.labels.flip(2), painted=real.painted.flip(2))


def test_a_new_kind_is_a_class_and_its_registration(
    copy_of_run: Callable[..., Path], tiny_config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = copy_of_run("report", "segmenters", "shards")
    with monkeypatch.context() as patch:
        patch.setitem(PAIR_KINDS, "mirrored", Mirrored())
        generation = tiny_config.generate.model_copy(update={"kinds": ("mirrored",)})
        segmenters = tiny_config.segmenters.model_copy(update={"arms": ("real",)})
        run = Run(tiny_config.model_copy(update={"generate": generation, "segmenters": segmenters}), run_dir)
        run.make(run.names_of("shards"))
    # Readers know of it what its shards say.
    folder = run_dir / "shards/mirrored"
    assert verify_shards(folder) == []
    train = run.data.train
    rows = list(iterate_rows(folder))
    assert len(rows) == tiny_config.generate.pairs
    for row in rows:
        np.testing.assert_array_equal(row.label, train.labels[train.ids.index(str(row.source_id))][:, ::-1])
    card = (folder / "README.md").read_text()
    assert Mirrored.card.making in card and label_origins_of(read_manifest(folder)) == "Labels were mirrored."
    (folder / "README.md").unlink()
    assert mend_documents(folder) and (folder / "README.md").read_text() == card


def test_no_network_is_loaded_to_write_a_card(
    copy_of_run: Callable[..., Path], tiny_config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = copy_of_run("report", "segmenters")
    (run_dir / "shards/full/manifest.json").unlink()
    for model in (LayoutModel, ImageModel):
        monkeypatch.setattr(model, "load", lambda *arguments: pytest.fail("a network was loaded"))
    run = Run(tiny_config, run_dir)
    run.begin("shards/full")
    run.finish("shards/full")
    assert run.is_finished("shards/full") and verify_shards(run_dir / "shards/full") == []


def test_a_kill_after_the_manifest_leaves_it_as_it_is(copy_of_run: Callable[..., Path], tiny_config: RunConfig) -> None:
    run = Run(tiny_config, copy_of_run())
    name = "shards/semi"
    folder = run.run_dir / name
    written = (folder / MANIFEST).read_bytes()
    # What `finish` does last is to remove the mark of being begun.
    begin(run.run_dir, run.units[name], run.units)
    assert run.state(name).status == "missing"
    run.make([name])
    assert run.is_finished(name) and (folder / MANIFEST).read_bytes() == written


def test_layouts_are_hardened_as_configured_where_a_palette_is_asked_for() -> None:
    def units(*changes: str) -> dict[str, PairsUnit]:
        given = ["generate.kinds=[full, partial, semi]", "generate.hardening=exact", *changes]
        return {unit.name: unit for unit in PairsUnit.of_kinds(load_config("demo", given))}

    exact, largest = units(), units("generate.hardening=argmax")
    assert {name: unit.hardening for name, unit in exact.items()} == {
        "shards/full": "exact",
        "shards/partial": "exact",
        "shards/semi": "argmax",
    }
    # What argmax made before there was a choice is still what it makes.
    assert all("hardening" not in unit.settings for unit in [*largest.values(), exact["shards/semi"]])
    assert exact["shards/full"].settings == {**largest["shards/full"].settings, "hardening": "exact"}
    assert units("layouts.full.system=sb-gan")["shards/full"].hardening == "argmax"
    # Objects are added to whole layouts alone, and which ones identifies the pairs.
    objects = units("generate.hardening=objects", "generate.insert_classes=[pole]")
    assert [unit.hardening for unit in objects.values()] == ["objects", "argmax", "argmax"]
    added = {"hardening": "objects", "insert_classes": ["pole"]}
    assert objects["shards/full"].settings == {**largest["shards/full"].settings, **added}
    assert objects["shards/partial"].settings == largest["shards/partial"].settings


def test_a_comparison_measures_how_systems_keep_to_palettes_by_themselves() -> None:
    config = load_config("demo", ["generate.hardening=exact"])
    models = row_models(config, "semantic-palette")
    assert PairsUnit.of(config, "x/pairs", models, 8, None, stage="comparison").hardening == "argmax"
    assert PairsUnit.of(config, "full", pair_models(config, "full"), 8, None).hardening == "exact"


ENCODER = "encoder mobilenet_v2 with the weights of a.pth"


@pytest.mark.parametrize("named", [ENCODER, SegmenterFeatures.description, CHOSEN_SEGMENTER, None])
def test_a_source_names_networks_from_elsewhere_that_images_were_learned_from(
    named: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(path, nn.Linear(1, 1), {"perceptual_features": named})
    expected = {"perceptual_features": f"{named}, under the terms of these weights"}
    assert features_beside(path) == (expected if named == ENCODER else {})
