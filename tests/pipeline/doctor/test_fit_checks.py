"""What the doctor says of sizes: labels that a size loses, and tiles instead of images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from labelled_folders import write_pixels
from scenepalette.data.arrays import lost_label
from scenepalette.data.classes import ClassTable
from scenepalette.data.datasets import Split
from scenepalette.data.readers.folder import open_folder
from scenepalette.data.sample import SegmentationDataset
from scenepalette.pipeline.config import RunConfig, load_config
from scenepalette.pipeline.doctor import fit_checks
from scenepalette.pipeline.doctor.data_checks import check_rare_classes
from scenepalette.pipeline.doctor.machine.resources import needs_of
from scenepalette.pipeline.doctor.scan import Scan, scan

SIZE = (48, 64)
Opened = tuple[dict[Split, SegmentationDataset], dict[Split, Scan]]


def write(root: Path, *, height: int = 48, width: int = 64) -> Path:
    """Write pairs; of the first of each split, only the upper left pixel is labelled."""
    (root / "classes.csv").write_text("name\nsky\nroad\n")
    for split in ("train", "val"):
        for index in range(3):
            label = np.full((height, width), 255 if index == 0 else 0, np.uint8)
            label[0, 0] = 1
            write_pixels(root / split / "images" / f"{split}{index}.png", np.zeros((height, width, 3), np.uint8))
            write_pixels(root / split / "labels" / f"{split}{index}.png", label)
    return root


def config_of(root: Path, *changes: str) -> RunConfig:
    assignments = ["data.name=folder", f"data.root={root}", "data.size=[48, 64]", *changes]
    return load_config("demo", assignments)


def opened(root: Path, config: RunConfig) -> Opened:
    datasets: dict[Split, Any] = {split: open_folder(root, split) for split in ("train", "val")}
    return datasets, {split: scan(dataset, config.data.size) for split, dataset in datasets.items()}


def test_labels_are_looked_for_at_every_size_that_is_worked_at(tmp_path: Path) -> None:
    root = write(tmp_path)
    for changes, sizes in (([], []), (["segmenters.size=[96, 128]"], []), (["segmenters.size=[24, 32]"], [(24, 32)])):
        config = config_of(root, *changes)
        check = fit_checks.check_lost_labels(config, *opened(root, config))
        assert check is not None
        assert check.details == tuple(lost_label(f"{split}0", size) for split in ("train", "val") for size in sizes)
        assert check.status == ("problem" if sizes else "ok")
    assert "segmenters.size" in check.remedy


def test_the_size_of_generators_counts_where_it_is_not_the_one_asked_for(tmp_path: Path) -> None:
    root = write(tmp_path, height=135, width=240)
    # Of 135 rows, the nearest to those of 128 leave seven out.
    left_out = min(set(range(135)) - {int((row + 0.5) * 135 / 128) for row in range(128)})
    label = np.full((135, 240), 255, np.uint8)
    label[left_out] = 0
    write_pixels(root / "train/labels/train1.png", label)
    label = np.full((135, 240), 255, np.uint8)
    label[left_out + 1] = 0
    write_pixels(root / "train/labels/train2.png", label)
    config = config_of(root, "data.size=[135, 240]", "segmenters.size=[135, 240]")
    assert config.generator_size == (128, 240)
    check = fit_checks.check_lost_labels(config, *opened(root, config))
    assert check is not None and check.details == (lost_label("train1", (128, 240)),)


def test_a_label_that_its_scan_lost_is_named(tmp_path: Path) -> None:
    root = write(tmp_path)
    config = config_of(root)
    datasets, scans = opened(root, config)
    resized = scans["val"].resized_pixels.copy()
    resized[2, :-1] = 0
    scans["val"] = replace(scans["val"], resized_pixels=resized)
    check = fit_checks.check_lost_labels(config, datasets, scans)
    assert check is not None and check.details == (lost_label("val2", SIZE),)


def test_labels_that_can_no_longer_be_read_are_left_to_another_check(tmp_path: Path) -> None:
    root = write(tmp_path)
    config = config_of(root, "segmenters.size=[24, 32]")
    datasets, scans = opened(root, config)
    for path in root.glob("*/labels/*0.png"):
        path.unlink()
    check = fit_checks.check_lost_labels(config, datasets, scans)
    assert check is not None and check.status == "ok"


def test_tiles_are_left_out_by_the_run(tmp_path: Path) -> None:
    root = write(tmp_path)
    config = config_of(root, "data.fit=tile")
    assert fit_checks.check_lost_labels(config, *opened(root, config)) is None


def test_objects_are_as_large_as_in_tiles_where_images_are_cut(tmp_path: Path) -> None:
    root = write(tmp_path, height=96, width=128)
    label = np.zeros((96, 128), np.uint8)
    label[40:44, 50:58] = 1  # 32 pixels; in the whole image resized to 24 x 32, two
    for path in (root / "train/labels").iterdir():
        write_pixels(path, label)
    told = {}
    for fit in ("stretch", "tile"):
        config = config_of(root, "data.size=[24, 32]", f"data.fit={fit}", *["data.tile_height=24"] * (fit == "tile"))
        datasets, scans = opened(root, config)
        scan = fit_checks.at_scale_of_tiles(config, scans["train"])
        told[fit] = check_rare_classes(datasets["train"].table, scan, config.data.size, tiled=fit == "tile")
    assert told["stretch"].status == "warning" and "show 2 pixels of it or fewer at 24" in told["stretch"].details[0]
    assert told["tile"].status == "note" and "show 32 pixels of it or fewer in tiles of 24" in told["tile"].details[0]


@pytest.mark.parametrize(("changes", "samples"), [([], 3), (["data.fit=crop"], 3), (["data.fit=tile"], 6)])
def test_tiles_are_counted_where_images_are_cut(tmp_path: Path, changes: list[str], samples: int) -> None:
    root = write(tmp_path, height=48, width=128)
    config = config_of(root, *changes)
    _, scans = opened(root, config)
    assert fit_checks.samples_of(config, scans["train"]) == samples


def test_disk_is_counted_in_tiles_and_confusion_in_images(tiny_config: RunConfig) -> None:
    images = {need.name: need.disk for need in needs_of(tiny_config, ClassTable.unnamed(12), 16, 4)}
    tiles = {need.name: need.disk for need in needs_of(tiny_config, ClassTable.unnamed(12), 32, 8, 0, 4)}
    assert tiles["data"] == 2 * images["data"]
    assert tiles["segmenters"] == images["segmenters"]
    assert cast("Any", needs_of(tiny_config, ClassTable.unnamed(12), 32, 8))[-2].disk > images["segmenters"]
