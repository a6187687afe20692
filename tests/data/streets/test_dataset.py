"""The embedded data set: determinism, class shares and arguments."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from scenepalette.common.errors import ConfigError
from scenepalette.data.classes import IGNORE_ID
from scenepalette.data.streets.dataset import STREETS, Streets
from scenepalette.data.streets.scene import KINDS

SIZE = (64, 96)
SCENES = 200


@pytest.fixture(scope="module")
def histograms() -> np.ndarray:
    """Label histograms [scene, 256] of some hundred small scenes."""
    streets = Streets("train", SCENES, SIZE, seed=3)
    return np.stack([np.bincount(streets[index].label.ravel(), minlength=256) for index in range(SCENES)])


def _id(name: str) -> int:
    return STREETS.names.index(name)


def test_sample_has_the_promised_form() -> None:
    sample = Streets("train", 20, SIZE, seed=1)[12]
    assert sample.id == "train-00012"
    assert sample.image.shape == (*SIZE, 3)
    assert sample.label.shape == SIZE
    assert sample.image.dtype == np.uint8
    assert sample.label.dtype == np.uint8
    assert sample.image.flags.c_contiguous
    assert sample.label.flags.c_contiguous


def test_sample_depends_on_its_index_alone() -> None:
    first = Streets("train", 5, SIZE, seed=1)
    longer = Streets("train", 50, SIZE, seed=1)
    for index in (4, 0, 2):
        again = longer[index]
        np.testing.assert_array_equal(first[index].image, again.image)
        np.testing.assert_array_equal(first[index].label, again.label)
    np.testing.assert_array_equal(first[-1].image, first[4].image)
    copy = pickle.loads(pickle.dumps(first))
    np.testing.assert_array_equal(copy[3].image, first[3].image)


def test_splits_and_seeds_have_no_scene_in_common() -> None:
    seeds = [
        Streets(split, 300, SIZE, seed=seed).scene(index).seed
        for split in ("train", "val", "test")
        for seed in (0, 1)
        for index in range(150)
    ]
    assert len(set(seeds)) == len(seeds)
    train, val = Streets("train", 1, SIZE)[0], Streets("val", 1, SIZE)[0]
    assert not np.array_equal(train.image, val.image)
    assert val.id == "val-00000"


def test_class_shares_have_a_long_tail(histograms: np.ndarray) -> None:
    assert set(np.flatnonzero(histograms.sum(axis=0))) == {*range(STREETS.num_classes), IGNORE_ID}
    shares = histograms[:, : STREETS.num_classes].sum(axis=0) / histograms.sum()
    for name in ("road", "sky", "building"):
        assert 0.1 < shares[_id(name)] < 0.45, name
    for name in ("pedestrian", "bicyclist", "traffic sign"):
        assert 0.001 < shares[_id(name)] < 0.01, name
    common = shares[[_id(name) for name in ("road", "sky", "building", "vegetation")]]
    assert common.sum() > 0.7
    assert common.min() > max(shares[_id(name)] for name in ("car", "sidewalk", "terrain"))
    assert histograms[:, IGNORE_ID].sum() / histograms.sum() < 0.04


def test_palettes_differ_between_kinds_of_street() -> None:
    streets = Streets("train", 120, SIZE, seed=5)
    shares: dict[str, list[np.ndarray]] = {kind: [] for kind in KINDS}
    for index in range(len(streets)):
        label = streets[index].label
        shares[streets.scene(index).kind].append(np.bincount(label.ravel(), minlength=256) / label.size)
    means = {kind: np.mean(values, axis=0) for kind, values in shares.items()}
    assert means["downtown"][_id("building")] > 3 * means["open"][_id("building")]
    assert means["open"][_id("sky")] > means["downtown"][_id("sky")] + 0.1
    assert means["avenue"][_id("vegetation")] > 1.5 * means["downtown"][_id("vegetation")]


@pytest.mark.parametrize("size", [(16, 16), (33, 57), (48, 160)])
def test_any_size_can_be_drawn(size: tuple[int, int]) -> None:
    sample = Streets("train", 2, size)[1]
    assert sample.image.shape == (*size, 3)
    assert set(np.unique(sample.label)) <= {*range(STREETS.num_classes), IGNORE_ID}


def test_fingerprint_follows_every_argument() -> None:
    base = Streets("train", 4, SIZE, seed=0).fingerprint
    assert base == Streets("train", 4, SIZE, seed=0).fingerprint
    others = [
        Streets("val", 4, SIZE),
        Streets("train", 5, SIZE),
        Streets("train", 4, (64, 128)),
        Streets("train", 4, SIZE, 1),
    ]
    assert len({base, *(other.fingerprint for other in others)}) == 5
    content = Streets("train", 4, SIZE, seed=0).content
    assert content == Streets("train", 4, SIZE, seed=0).content
    assert len({content, *(other.content for other in others)}) == 5


def test_all_wrong_arguments_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Streets("night", 0, (8, 96))
    for field in ("split", "count", "size"):
        assert f"{field}: received" in str(caught.value)


def test_index_beyond_the_end_is_refused() -> None:
    streets = Streets("train", 2, SIZE)
    for index in (2, -3):
        with pytest.raises(IndexError):
            streets[index]
