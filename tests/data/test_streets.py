"""The embedded street scenes: determinism, geometry, class shares, and agreement of image and label."""

from __future__ import annotations

import dataclasses
import pickle
import random

import numpy as np
import pytest

from scenepalette.common.errors import ConfigError
from scenepalette.common.randomness import derive_seed
from scenepalette.data.classes import IGNORE_ID
from scenepalette.data.streets import STREETS, Streets
from scenepalette.data.streetscene.camera import Camera, View
from scenepalette.data.streetscene.canvas import Canvas
from scenepalette.data.streetscene.ids import CAR, ROAD, SKY
from scenepalette.data.streetscene.light import sample_light
from scenepalette.data.streetscene.render import render
from scenepalette.data.streetscene.scene import KINDS, sample_scene

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
        for split in ("train", "val")
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


def test_larger_picture_shows_the_same_scene() -> None:
    # Twice the size sampled at every second pixel must give nearly the same label, whatever the size's drawing effort.
    agreements = []
    for index in range(6):
        small = Streets("val", 10, (64, 96), seed=2)[index].label
        large = Streets("val", 10, (128, 192), seed=2)[index].label[1::2, 1::2]
        agreements.append(np.mean(small == large))
    assert min(agreements) > 0.9


def test_a_stroke_colours_exactly_the_pixels_it_labels() -> None:
    light = dataclasses.replace(sample_light(random.Random(0)), haze_per_metre=0.0)
    camera = Camera(View(0.8, 0.5, 1.5, 0, 0, 0, 0), 60, 80)
    background = np.zeros((60, 80, 4), np.uint8)
    background[..., 3] = SKY
    canvas = Canvas(camera, light, background)
    canvas.polygon([(10.0, 40.0), (60.0, 45.0), (33.0, 8.0)], (201, 102, 53), CAR)
    canvas.ellipse(60.0, 20.0, 9.0, 6.0, (201, 102, 53), CAR)
    pixels = np.asarray(canvas.picture)
    is_car = pixels[..., 3] == CAR
    assert 800 < is_car.sum() < 1400
    assert (pixels[is_car][:, :3] == (201, 102, 53)).all()
    assert (pixels[~is_car] == (0, 0, 0, SKY)).all()


def test_hull_is_the_convex_outline() -> None:
    camera = Camera(View(0.8, 0.5, 1.5, 0, 0, 0, 0), 60, 80)
    canvas = Canvas(camera, sample_light(random.Random(0)), np.zeros((60, 80, 4), np.uint8))
    canvas.hull([(10, 10), (50, 10), (30, 20), (50, 40), (10, 40), (20, 15)], (9, 9, 9), CAR)
    is_car = np.asarray(canvas.picture)[..., 3] == CAR
    assert is_car[10:41, 10:51].all()
    assert is_car.sum() == 31 * 41


def test_camera_projects_like_a_pinhole() -> None:
    camera = Camera(View(focal=0.5, horizon=0.4, height=1.5, offset=2, slant=0, bend=0, hill=0), 100, 200)
    # Focal length 100 px, horizon in row 40: a point 3 m right, 1.5 m down, 10 m ahead lies 30 px right, 15 px down.
    assert camera.point(5, 0, 10) == pytest.approx((130, 55))
    assert camera.point(2, 1.5, 77) == pytest.approx((100, 40))
    bent = Camera(View(focal=0.5, horizon=0.4, height=1.5, offset=2, slant=0, bend=0.02, hill=0.04), 100, 200)
    # At 10 m the road has drifted 0.5 * 0.02 * 100 = 1 m right and climbed 2 m.
    assert bent.point(5, 0, 10) == pytest.approx((140, 35))


def test_image_and_label_show_the_same_scene() -> None:
    # By day, sky is brighter and, where it is blue, bluer than the road below it; edges of labels are edges of images.
    streets = Streets("train", 60, SIZE, seed=7)
    brighter, contrast = [], []
    for index in range(60):
        if streets.scene(index).light.weather not in ("overcast", "fog", "sunny"):
            continue
        sample = streets[index]
        grey = sample.image.mean(axis=2)
        sky, road = sample.label == SKY, sample.label == ROAD
        if sky.sum() < 50:
            continue
        brighter.append(grey[sky].mean() > grey[road].mean())
        step = np.abs(np.diff(grey, axis=1))
        edge = sample.label[:, 1:] != sample.label[:, :-1]
        contrast.append(step[edge].mean() / step[~edge].mean())
    assert np.mean(brighter) > 0.8
    assert np.median(contrast) > 2
    assert min(contrast) > 1.2


def test_sky_is_above_and_road_below_the_horizon() -> None:
    rows = np.arange(SIZE[0])[:, None] / SIZE[0]
    for index in range(20):
        streets = Streets("val", 20, SIZE, seed=4)
        label = streets[index].label
        horizon = streets.scene(index).view.horizon
        assert not ((label == SKY) & (rows > horizon + 0.12)).any()
        assert not ((label == ROAD) & (rows < horizon - 0.12)).any()


def test_mirrored_scene_is_the_mirror_image() -> None:
    scene = sample_scene(derive_seed("mirror"))
    image, label = render(dataclasses.replace(scene, is_mirrored=False), SIZE)
    mirrored, mirrored_label = render(dataclasses.replace(scene, is_mirrored=True), SIZE)
    np.testing.assert_array_equal(mirrored, image[:, ::-1])
    np.testing.assert_array_equal(mirrored_label, label[:, ::-1])


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
        Streets("test", 0, (8, 96))
    for field in ("split", "count", "size"):
        assert f"{field}: received" in str(caught.value)


def test_index_beyond_the_end_is_refused() -> None:
    streets = Streets("train", 2, SIZE)
    for index in (2, -3):
        with pytest.raises(IndexError):
            streets[index]
