"""Opening data sets by name."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from scenepalette.common.errors import ConfigError
from scenepalette.data.classes import CAMVID
from scenepalette.data.datasets import DATASET_NAMES, open_dataset

ON_DISK = (
    "camvid",
    "cityscapes",
    "cityscapes-25k",
    "idd",
    "ade20k",
    "ade-indoor",
    "coco-stuff",
    "celebamask-hq",
    "gta5",
    "folder",
)


def test_names_are_the_published_ones() -> None:
    assert set(DATASET_NAMES) == {"streets", *ON_DISK}


@pytest.mark.parametrize("name", ON_DISK)
def test_each_name_opens_its_own_reader(name: str, request: pytest.FixtureRequest) -> None:
    dataset = open_dataset(name, "train", request.getfixturevalue(f"{name.replace('-', '_')}_root"))
    assert dataset.name == name
    assert dataset.split == "train"
    assert dataset.table.name == ("cityscapes" if name in ("cityscapes-25k", "gta5") else name)
    assert dataset.licence
    assert len(dataset) == len(dataset.ids) == len(set(dataset.ids)) > 0
    sample = dataset[0]
    assert sample.id == dataset.ids[0]
    assert sample.image.shape == (*sample.label.shape, 3)
    assert set(sample.label.flatten().tolist()) <= {*range(dataset.table.num_classes), 255}


def test_streets_receives_its_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    received: dict[str, Any] = {}
    module: Any = ModuleType("scenepalette.data.streets.dataset")
    module.Streets = lambda **arguments: received.update(arguments)
    monkeypatch.setitem(sys.modules, "scenepalette.data.streets.dataset", module)
    open_dataset("streets", "val", None, count=3, size=(16, 32), seed=7)
    assert received == {"split": "val", "count": 3, "size": (16, 32), "seed": 7}


def test_streets_lists_every_missing_argument(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("scenepalette.data.streets.dataset")
    module.Streets = None
    monkeypatch.setitem(sys.modules, "scenepalette.data.streets.dataset", module)
    with pytest.raises(ConfigError) as caught:
        open_dataset("streets", "train", tmp_path, count=0)
    assert [problem.split()[0] for problem in caught.value.problems] == ["count", "size", "root"]


def test_unknown_names_and_splits_are_refused(camvid_root: Path) -> None:
    with pytest.raises(ConfigError, match="no data set 'kitti'; known are streets, camvid"):
        open_dataset("kitti", "train", camvid_root)
    with pytest.raises(ConfigError, match="no split 'test'; known are train, val"):
        open_dataset("camvid", "test", camvid_root)  # pyright: ignore[reportArgumentType]


def test_a_root_is_required_and_a_class_file_only_for_folder(camvid_root: Path) -> None:
    with pytest.raises(ConfigError, match=r"no root was given.*data\.root"):
        open_dataset("camvid", "train", None)
    with pytest.raises(ConfigError, match="whose classes are fixed"):
        open_dataset("camvid", "train", camvid_root, class_file=Path("classes.csv"))


def test_a_class_list_may_lie_elsewhere_for_ade_indoor(ade_indoor_root: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.txt"
    (ade_indoor_root / "ade_indoor_classes.txt").rename(elsewhere)
    dataset = open_dataset("ade-indoor", "train", ade_indoor_root, class_file=elsewhere)
    assert dataset.table.num_classes == 95


def test_fingerprint_follows_the_files(camvid_root: Path) -> None:
    dataset = open_dataset("camvid", "train", camvid_root)
    first = dataset.fingerprint
    assert open_dataset("camvid", "train", camvid_root).fingerprint == first
    assert open_dataset("camvid", "val", camvid_root).fingerprint != first
    label = camvid_root / "trainannot" / "a.png"
    content = dataset.content
    label.write_bytes(label.read_bytes())
    assert dataset.fingerprint != first
    assert dataset.content == content != open_dataset("camvid", "val", camvid_root).content
    assert dataset.table == CAMVID
