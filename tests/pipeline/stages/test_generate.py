"""What the stage generate writes beside the shards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np

from scenepalette.common.files import sha256_of_file, sha256_of_json
from scenepalette.common.progress import NO_PROGRESS
from scenepalette.data.arrays import Pairs
from scenepalette.data.classes import ClassTable, SemanticClass
from scenepalette.data.shards.manifest import read_manifest
from scenepalette.data.shards.schema import Row
from scenepalette.generators.pairs.base import PairMaker
from scenepalette.generators.pairs.registry import PAIR_KINDS
from scenepalette.pipeline.config import GenerateConfig, RunConfig
from scenepalette.pipeline.stages.generate import finish_shards, make_shard


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

    config, maker = GenerateConfig(pairs=2, kinds=("semi",)), SimpleNamespace(rows=rows, train=train)
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
    assert {"hardware", "precision", "python", "torch", "numpy", "pillow", "pyarrow"} == extra["environment"].keys()
