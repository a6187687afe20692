"""Street scenes as images and labels: both show the same, whatever the size."""

from __future__ import annotations

import dataclasses

import numpy as np

from scenepalette.common.randomness import derive_seed
from scenepalette.data.streets.canvas import ROAD, SKY
from scenepalette.data.streets.dataset import Streets
from scenepalette.data.streets.render import render
from scenepalette.data.streets.scene import sample_scene

SIZE = (64, 96)


def test_mirrored_scene_is_the_mirror_image() -> None:
    scene = sample_scene(derive_seed("mirror"))
    image, label = render(dataclasses.replace(scene, is_mirrored=False), SIZE)
    mirrored, mirrored_label = render(dataclasses.replace(scene, is_mirrored=True), SIZE)
    np.testing.assert_array_equal(mirrored, image[:, ::-1])
    np.testing.assert_array_equal(mirrored_label, label[:, ::-1])


def test_sky_is_above_and_road_below_the_horizon() -> None:
    rows = np.arange(SIZE[0])[:, None] / SIZE[0]
    for index in range(20):
        streets = Streets("val", 20, SIZE, seed=4)
        label = streets[index].label
        horizon = streets.scene(index).view.horizon
        assert not ((label == SKY) & (rows > horizon + 0.12)).any()
        assert not ((label == ROAD) & (rows < horizon - 0.12)).any()


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


def test_larger_image_shows_the_same_scene() -> None:
    # Twice the size sampled at every second pixel must give nearly the same label, whatever the size's drawing effort.
    agreements = []
    for index in range(6):
        small = Streets("val", 10, (64, 96), seed=2)[index].label
        large = Streets("val", 10, (128, 192), seed=2)[index].label[1::2, 1::2]
        agreements.append(np.mean(small == large))
    assert min(agreements) > 0.9
