"""Opening data sets by name."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from plugins import Plugins
from scenepalette.common.errors import ConfigError, DataError
from scenepalette.data.datasets import DATASETS, open_dataset
from scenepalette.data.decoding.class_files import CAMVID
from scenepalette.data.streets.dataset import Streets

ROOT = Path(__file__).resolve().parents[2]
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
    assert set(DATASETS) == {"streets", *ON_DISK}
    for name in DATASETS:
        assert DATASETS.get(name).name == name and DATASETS.source(name) == "scenepalette"
        assert 0 < len(DATASETS.get(name).description) < 80
    assert [name for name in DATASETS if DATASETS.get(name).takes_class_file] == ["ade-indoor", "folder"]


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


def test_streets_receives_its_arguments() -> None:
    dataset = open_dataset("streets", "val", None, count=3, size=(16, 32), seed=7)
    assert isinstance(dataset, Streets)
    assert (dataset.split, len(dataset), dataset.size, dataset.seed) == ("val", 3, (16, 32), 7)


def test_streets_lists_every_missing_argument(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        open_dataset("streets", "train", tmp_path, count=0)
    assert [problem.split()[0] for problem in caught.value.problems] == ["count", "size", "root"]


STRANGER = """
from scenepalette.data.readers.folder import open_folder
from scenepalette.data.sample import DatasetEntry

received = []

def open_mine(root, split, **others):
    received.append(others)
    return open_folder(root, split)

def open_empty(root, split):
    return object()

MINE = DatasetEntry(name="mine", open=open_mine, description="mine", takes_class_file=True)
EMPTY = DatasetEntry(name="empty", open=open_empty, description="nothing")
NUMBER = 3
CLOSED = DatasetEntry(name="closed", open=None, description="nothing")
"""


def test_a_package_elsewhere_adds_a_data_set(folder_root: Path, tmp_path: Path, plugins: Plugins) -> None:
    plugins.install(DATASETS, {"mine": "{module}:MINE"}, source=STRANGER)
    assert DATASETS.names()[-1] == "mine" and DATASETS.source("mine") == "stranger 1.0"
    assert len(open_dataset("mine", "train", folder_root)) > 0
    open_dataset("mine", "train", folder_root, class_file=tmp_path / "classes.csv")
    assert sys.modules["stranger_module"].received == [{"class_file": None}, {"class_file": tmp_path / "classes.csv"}]


def test_the_documented_package_works(tmp_path: Path, plugins: Plugins) -> None:
    blocks = (ROOT / "docs/extending/adding-a-data-set.md").read_text(encoding="utf-8").split("```python\n")
    assert len(blocks) == 2
    plugins.install(DATASETS, {"allotments": "{module}:DATASET"}, source=blocks[1].partition("```")[0])
    for split in ("train", "val"):
        for folder in ("photos", "masks"):
            (tmp_path / folder / split).mkdir(parents=True)
        Image.new("RGB", (4, 3)).save(tmp_path / "photos" / split / "a.jpg")
        Image.fromarray(np.eye(3, 4, dtype=np.uint8)).save(tmp_path / "masks" / split / "a.png")
    sample = open_dataset("allotments", "val", tmp_path)[0]
    assert sample.id == "a" and sample.label.tolist() == np.eye(3, 4).tolist()
    Image.fromarray(np.full((3, 4), 2, np.uint8)).save(tmp_path / "masks" / "val" / "a.png")
    with pytest.raises(DataError, match=r"masks/val/a\.png: label values 2 in 12 pixels"):
        open_dataset("allotments", "val", tmp_path)


def test_what_a_data_set_of_another_package_lacks_is_told(folder_root: Path, plugins: Plugins) -> None:
    entries = {
        "three": "{module}:NUMBER",
        "yours": "{module}:MINE",
        "closed": "{module}:CLOSED",
        "empty": "{module}:EMPTY",
    }
    plugins.install(DATASETS, entries, source=STRANGER)
    assert [line.partition(" cannot be used: ")[2].partition(". Update")[0] for line in DATASETS.problems()] == [
        "its open is None; a function is required",
        "it is of type int; a scenepalette.data.sample.DatasetEntry is required",
        "it calls itself 'mine'; both names must be equal",
    ]
    with pytest.raises(ConfigError, match=r"its data set 'empty' lacks name, split, table, .*, __getitem__ of"):
        open_dataset("empty", "train", folder_root)


def test_unknown_names_and_splits_are_refused(camvid_root: Path) -> None:
    with pytest.raises(ConfigError, match="no data set 'kitti'; known are streets, camvid"):
        open_dataset("kitti", "train", camvid_root)
    with pytest.raises(ConfigError, match="no split 'night'; known are train, val, test"):
        open_dataset("camvid", "night", camvid_root)  # pyright: ignore[reportArgumentType]
    for name in ("camvid", "ade20k"):
        with pytest.raises(ConfigError, match=f"'{name}' in .* has no published test split"):
            open_dataset(name, "test", camvid_root)


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
