"""The camera and the canvas of the street scenes."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest

from scenepalette.data.streets import canvas as canvas_module
from scenepalette.data.streets.canvas import CAR, SKY, Camera, Canvas, View
from scenepalette.data.streets.dataset import STREETS
from scenepalette.data.streets.light import sample_light


def test_class_ids_are_those_of_the_class_table() -> None:
    for class_id, name in enumerate(STREETS.names):
        assert vars(canvas_module)[name.upper().replace(" ", "_")] == class_id


def test_a_stroke_colours_exactly_the_pixels_it_labels() -> None:
    light = dataclasses.replace(sample_light(random.Random(0)), haze_per_metre=0.0)
    camera = Camera(View(0.8, 0.5, 1.5, 0, 0, 0, 0), 60, 80)
    background = np.zeros((60, 80, 4), np.uint8)
    background[..., 3] = SKY
    canvas = Canvas(camera, light, background)
    canvas.polygon([(10.0, 40.0), (60.0, 45.0), (33.0, 8.0)], (201, 102, 53), CAR)
    canvas.ellipse(60.0, 20.0, 9.0, 6.0, (201, 102, 53), CAR)
    pixels = np.asarray(canvas.image)
    is_car = pixels[..., 3] == CAR
    assert 800 < is_car.sum() < 1400
    assert (pixels[is_car][:, :3] == (201, 102, 53)).all()
    assert (pixels[~is_car] == (0, 0, 0, SKY)).all()


def test_hull_is_the_convex_outline() -> None:
    camera = Camera(View(0.8, 0.5, 1.5, 0, 0, 0, 0), 60, 80)
    canvas = Canvas(camera, sample_light(random.Random(0)), np.zeros((60, 80, 4), np.uint8))
    canvas.hull([(10, 10), (50, 10), (30, 20), (50, 40), (10, 40), (20, 15)], (9, 9, 9), CAR)
    is_car = np.asarray(canvas.image)[..., 3] == CAR
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
