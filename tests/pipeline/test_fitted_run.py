"""Runs at an odd size that no base grid reaches, on images of another aspect ratio, for each way to fit them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from own_data import CLASSES, write_own_data
from PIL import Image
from torch.nn import functional

from scenepalette.common.errors import ConfigError, DataError
from scenepalette.data.arrays import images_from_uint8, resize_image
from scenepalette.data.fitting.geometry import Box, crop_box, tiles_of
from scenepalette.data.shards.pairs import ShardPairs
from scenepalette.data.splits.folds import folds_of
from scenepalette.pipeline.config import RunConfig, make_config, merge, with_following_lists
from scenepalette.pipeline.recipes import RECIPES
from scenepalette.pipeline.run import Run
from scenepalette.pipeline.stages.segment import arm_settings, read_confusion
from scenepalette.segmenters.loading import load_segmenter

NATIVE = (50, 90)
SIZE = (45, 60)
PIXELS = {"stretch": 50 * 90, "crop": 50 * 67, "tile": 50 * 90}
"""Evaluated pixels of an image: 50 rows of 67 columns have the aspect ratio of 45 x 60."""


def config_for(values: dict[str, Any], root: Path, **data: Any) -> RunConfig:
    """Return the tiny run at the odd size on a folder of images."""
    for section in values["layouts"]:
        lists = ("fade_steps", "stable_steps", "batch_sizes")
        kept = {key: value for key, value in values["layouts"][section].items() if key not in lists}
        values["layouts"] = {**values["layouts"], section: {**kept, "steps": 8}}
    values["data"] = {"name": "folder", "root": str(root), "size": list(SIZE), **data}
    values["generate"] = {**values["generate"], "kinds": ["full"], "pairs": 4}
    values["segmenters"] = {**values["segmenters"], "arms": ["real", "real+syn"]}
    return make_config(with_following_lists(merge(RECIPES["demo"](), values), values))


def parts_of(fit: str) -> list[tuple[Box, Box]]:
    """Return the parts of an image that are predicted, and of each the pixels that count."""
    whole = Box(0, 0, *NATIVE)
    if fit == "tile":
        return [(tile.box, tile.own) for tile in tiles_of(NATIVE, SIZE)]
    box = whole if fit == "stretch" else crop_box(NATIVE, SIZE)
    return [(box, box)]


@pytest.mark.slow
@pytest.mark.parametrize("fit", ["stretch", "crop", "tile"])
def test_a_run_is_evaluated_in_the_resolution_of_its_files(
    fit: str, tiny_values: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_own_data(tmp_path / "data", train=12, val=4, size=NATIVE)
    if fit == "tile":  # teachers, whose folds must not divide an image
        tiny_values["teachers"] = {"kinds": ["full"], "steps": 1}
    tiny_values["report"] = {**tiny_values["report"], "extra_test": {"again": str(tmp_path / "more")}}
    write_own_data(tmp_path / "more", train=2, val=3, size=(31, 77))
    config = config_for(tiny_values, root, fit=fit)
    run = Run(config, tmp_path / "run")
    run.make(run.names_of("report"))
    assert "Generators work at 48x64, the nearest to data.size 45x60" in capsys.readouterr().err

    data, seen = run.data, run.segmenter_data
    assert data.train.size == (48, 64) and seen.train.size == SIZE and seen.train.ids == data.train.ids
    parts = parts_of(fit)
    assert len(seen.validation) == 4 * len(parts) and len(seen.validation.image_ids) == 4
    assert ShardPairs(run.run_dir / "shards/full").size == (48, 64)
    confusion = read_confusion(run.run_dir / "segmenters/real/seed0")
    assert confusion.shape == (4, 4, 4) and confusion.sum(axis=(1, 2)).tolist() == [PIXELS[fit]] * 4

    # By the files themselves, whatever is stored.
    segmenter = load_segmenter(
        run.run_dir / "segmenters/real/seed0", arm_settings(config.segmenters, "real"), data.train.table
    )
    for index, name in enumerate(seen.validation.image_ids):
        (path,) = (root / "val/images").glob(f"{name}.*")
        image, label = np.asarray(Image.open(path)), np.asarray(Image.open(root / "val/labels" / path.name))
        expected = np.zeros((4, 4), int)
        for box, own in parts:
            pixels = resize_image(image[box.top : box.bottom, box.left : box.right], SIZE).copy()
            with torch.inference_mode():
                logits = segmenter(images_from_uint8(pixels[None]))
                resized = functional.interpolate(logits, box.size, mode="bilinear")
            predicted = resized[0].argmax(dim=0).numpy()
            predicted = predicted[own.top - box.top : own.bottom - box.top, own.left - box.left : own.right - box.left]
            np.add.at(expected, (label[own.top : own.bottom, own.left : own.right], predicted), 1)
        assert abs(confusion[index] - expected).sum() <= 0.002 * PIXELS[fit], name

    document = json.loads((run.run_dir / "report/report.json").read_text())
    assert document["dataset"]["val"] == 4 and document["dataset"]["train"] == 12
    assert document["dataset"]["resolution"] == {"segmenters": [45, 60], "evaluation": "native", "fit": fit}
    assert document["extra_tests"]["again"]["images"] == 3
    assert "evaluated by labels in the size of their files" in (run.run_dir / "report/report.md").read_text()
    if fit == "tile":
        folds = folds_of(seen.train.ids, 2).reshape(12, 2)
        assert (folds[:, 0] == folds[:, 1]).all() and set(folds[:, 0]) == {0, 1}


def test_pairs_are_resampled_only_for_segmenters(tiny_values: dict[str, Any], tmp_path: Path) -> None:
    root = write_own_data(tmp_path / "data", train=4, val=2, size=NATIVE)
    config = config_for(tiny_values, root)
    run = Run(config, tmp_path / "run")
    run.make(["segmenter-data"])
    assert sorted(path.name for path in (run.run_dir / "segmenter-data").glob("*.npz")) == ["native-labels-val.npz"]
    label = run.segmenter_data.validation.native
    assert label is not None and label[0].shape == NATIVE
    (run.run_dir / "segmenter-data/manifest.json").unlink()
    path = root / "train/labels/train0_0000.png"
    changed = np.asarray(Image.open(path)).copy()
    changed[0, 0] = 1
    Image.fromarray(changed).save(path)
    with pytest.raises(DataError, match=r"not those that .*data was made from"):
        Run(config, tmp_path / "run", look=False).make_one("segmenter-data")


def test_native_evaluation_alone_writes_no_second_arrays(tiny_values: dict[str, Any], tmp_path: Path) -> None:
    root = write_own_data(tmp_path / "data", train=4, val=2, size=(64, 96))
    tiny_values["segmenters"] = {**tiny_values["segmenters"], "evaluation": "native"}
    config = config_for(tiny_values, root, size=[32, 48])
    run = Run(config, tmp_path / "run")
    run.make(["segmenter-data"])
    assert not list((run.run_dir / "segmenter-data").glob("*.npy"))
    assert run.segmenter_data.train.images is run.data.train.images
    assert run.segmenter_data.validation.native is not None and run.data.validation.native is None


def test_an_absent_folder_is_named_before_anything_is_read_again(tiny_values: dict[str, Any], tmp_path: Path) -> None:
    root = write_own_data(tmp_path / "data", train=4, val=2, size=NATIVE)
    config = config_for(tiny_values, root)
    run = Run(config, tmp_path / "run")
    run.make(["data"])
    root.rename(tmp_path / "moved")
    with pytest.raises(ConfigError) as caught:
        Run(config, tmp_path / "run").make(["segmenter-data"])
    assert f"data.root: there is no folder {str(root)!r}"[:30] in caught.value.problems[0]


def test_tiles_of_one_image_stay_in_its_split(tiny_values: dict[str, Any], tmp_path: Path) -> None:
    root = write_own_data(tmp_path / "data", train=24, val=2, size=NATIVE, classes=CLASSES)
    config = config_for(tiny_values, root, fit="tile", holdout=0.2, holdout_gap=0)
    run = Run(config, tmp_path / "run")
    run.make(["data"])
    data = run.data
    assert data.test is not None
    images = [set(pairs.image_ids) for pairs in (data.train, data.validation, data.test)]
    assert all(images) and not images[0] & images[2]
    assert len(data.test) == 2 * len(images[2]) and len(images[0]) + len(images[2]) == 24
