from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from scenepalette.common.errors import DataError
from scenepalette.data.classes import IGNORE_ID, ClassTable
from scenepalette.data.fitting.dataset import CroppedDataset, TiledDataset, fit_dataset, own_label
from scenepalette.data.sample import Sample
from scenepalette.data.sequences import blocks_of, sources_of
from scenepalette.data.splits.folds import folds_of
from scenepalette.data.splits.parts import order_of_parts


class Counting:
    """Samples of given sizes whose pixels are their places, which counts how often each is read."""

    name, licence, fingerprint, content = "counting", "none", "f", "c"
    label_origins: dict[str, str] = {}  # noqa: RUF012
    table = ClassTable.unnamed(250)

    def __init__(self, sizes: Sequence[tuple[int, int]], split: str = "val", labels: Any = None) -> None:
        self.sizes, self.split, self.ids, self.labels = sizes, split, [f"a_{i:03}" for i in range(len(sizes))], labels
        self.read = [0] * len(sizes)

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> Sample:
        self.read[index] += 1
        height, width = self.sizes[index]
        places = (np.arange(height * width) % 250).astype(np.uint8).reshape(height, width)
        label = places if self.labels is None else self.labels[index]
        return Sample(self.ids[index], np.repeat(places[..., None], 3, axis=2), label)


def test_crops_are_the_middle_of_image_and_label() -> None:
    dataset = Counting([(6, 16), (45, 60)])
    cropped = CroppedDataset(dataset, (3, 4))
    sample = cropped[0]
    assert sample.label.shape == (6, 8) and np.array_equal(sample.label, dataset[0].label[:, 4:12])
    assert np.array_equal(sample.image[..., 1], sample.label)
    assert cropped[1].label.shape == (45, 60) and cropped.ids == dataset.ids and cropped.content == "c"


def test_tiles_are_parts_of_their_image_each_decoded_few_times() -> None:
    dataset = Counting([(6, 14), (6, 8)])
    tiles = TiledDataset(dataset, (3, 4))
    assert tiles.ids == ["a_000#tile0", "a_000#tile1", "a_001#tile0"] and len(tiles) == 3
    whole = dataset[0].label
    assert np.array_equal(tiles[0].label, whole[:, :8]) and np.array_equal(tiles[1].label, whole[:, 6:])
    assert np.array_equal(tiles[1].image[..., 2], whole[:, 6:]) and tiles[1].id == "a_000#tile1"
    before = dataset.read[0]
    for _ in range(5):
        _ = tiles[0], tiles[1]
    assert dataset.read[0] == before


def test_labels_that_tiles_own_give_the_whole_label() -> None:
    dataset = Counting([(9, 23)])
    tiles = TiledDataset(dataset, (3, 4), height=6)
    whole, found = dataset[0].label, np.full((9, 23), -1)
    for index in range(len(tiles)):
        (_, tile), label = tiles._places[index], own_label(tiles, index)
        inside = label != IGNORE_ID
        part = found[tile.box.top : tile.box.bottom, tile.box.left : tile.box.right]
        assert (part[inside] == -1).all()
        part[inside] = label[inside]
    assert np.array_equal(found, whole)


def test_tiles_without_labels_are_left_out_and_those_with_few_in_training() -> None:
    empty, few = np.full((6, 16), IGNORE_ID, np.uint8), np.full((60, 160), IGNORE_ID, np.uint8)
    empty[:, :8] = 1
    few[:, :80] = 1
    few[0, 100] = 2  # one of 4800 pixels
    for split, kept in (("train", 2), ("val", 3)):
        tiles = TiledDataset(Counting([(6, 16), (60, 160)], split, [empty, few]), (3, 4))
        assert (len(tiles), tiles.left_out) == (kept, 4 - kept)


def test_images_too_narrow_are_named_with_the_remedy() -> None:
    dataset = Counting([(6, 8), (2, 90), (90, 2)])
    with pytest.raises(DataError, match=r"2 images are too narrow.*choose a data\.size") as caught:
        TiledDataset(dataset, (3, 4))
    assert [text.split("'")[1] for text in caught.value.problems] == ["a_001", "a_002"]
    with pytest.raises(DataError, match=r"'a_001' of 2 x 90 pixels would be cropped to 2 x 3"):
        _ = CroppedDataset(dataset, (3, 4))[1]


def test_stretching_changes_nothing() -> None:
    dataset = Counting([(6, 8)])
    assert fit_dataset(dataset, "stretch", (3, 4)) is dataset


def test_tiles_of_an_image_are_never_divided() -> None:
    images = [f"a_{i:03}" for i in range(7)] + [f"b_{i:03}" for i in range(4)]
    ids = [f"{name}#tile{number}" for name in images for number in range(3)]
    found, places = sources_of(ids)
    assert found == images and places.tolist() == [i for i in range(11) for _ in range(3)]
    for values in (folds_of(ids, 2), blocks_of(ids)):
        assert (values.reshape(11, 3) == values.reshape(11, 3)[:, :1]).all()
    assert np.array_equal(folds_of(ids, 2)[::3], folds_of(images, 2))
    assert np.array_equal(blocks_of(ids, 3)[::3], blocks_of(images, 3))
    order = order_of_parts(ids, 0, recordings=True)
    assert np.array_equal(order[::3] // 3, order_of_parts(images, 0, recordings=True))
    assert sorted(order.tolist()) == list(range(33)) and (order.reshape(11, 3) // 3 == order[::3, None] // 3).all()
