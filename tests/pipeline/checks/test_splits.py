"""What is said of a test split before anything is trained."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from scenepalette.data.arrays import Pairs
from scenepalette.data.classes import ClassTable
from scenepalette.pipeline.checks.splits import class_difference, examine_arrays, examine_classes, examine_size
from small_pairs import TABLE


def frames(count: int, name: str = "drive") -> list[str]:
    return [f"{name}_{number:04d}" for number in range(count)]


def test_one_image_is_no_test_split() -> None:
    problems, warnings = examine_size(["a"], "data.root", "published", True)
    assert warnings == [] and len(problems) == 1
    assert problems[0] == "data.root: the test split has 1 image, at least 2 are required. Add images."


def test_one_block_of_frames_is_a_problem_where_it_can_be_chosen_otherwise() -> None:
    (problem,), warnings = examine_size(frames(10), "data.holdout", "held out", True)
    assert "10 images are 1 block of consecutive frames" in problem and "Raise data.holdout." in problem
    assert warnings == []
    problems, (warning,) = examine_size(frames(10), "data.root", "published", True)
    assert problems == [] and "1 block" in warning


@pytest.mark.parametrize(
    ("ids", "recordings"), [(frames(11), True), (frames(2), False), ([*frames(1), *frames(1, "b")], True)]
)
def test_two_observations_are_enough(ids: list[str], recordings: bool) -> None:
    assert examine_size(ids, "data.holdout", "held out", recordings) == ([], [])


def test_evaluated_classes_that_one_side_lacks_are_named() -> None:
    table = ClassTable.unnamed(4)
    names = table.names
    in_train, in_test = np.array([True, True, False, False]), np.array([True, False, True, False])
    problems, warnings = examine_classes(table, in_train, in_test, "data.holdout")
    assert problems == []
    assert [names[1] in warnings[0], names[2] in warnings[1], len(warnings)] == [True, True, 2]
    assert "cannot be measured" in warnings[0] and "cannot be learned" in warnings[1]
    assert "Test on other images" in warnings[0] and "Add training images" in warnings[1]
    assert "how well it is found" in warnings[0] and "it cannot be learned" in warnings[1]
    some, others = np.array([True, True, True, False, False]), np.array([True, False, False, True, True])
    _, warnings = examine_classes(ClassTable.unnamed(5), some, others, "data.holdout")
    assert "how well they are found" in warnings[0] and "they cannot be learned" in warnings[1]
    assert "leave them out" in warnings[1]
    (problem,), warnings = examine_classes(table, in_train, ~in_train, "data.holdout")
    assert "no evaluated class is in training labels and in test labels" in problem and warnings == []


def test_classes_that_are_not_evaluated_do_not_count() -> None:
    sky = TABLE.names.index("sky")
    with_it = np.ones(3, bool)
    without = with_it.copy()
    without[sky] = False
    assert examine_classes(TABLE, with_it, without, "x") == ([], [])


def textured(count: int, seed: int) -> np.ndarray:
    """Images of coarse noise that thumbnails keep, uint8 [count, 32, 48, 3]."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 4, 6, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


def pairs_of(images: np.ndarray, name: str) -> Pairs:
    """Pairs whose labels show two evaluated classes."""
    labels = np.zeros(images.shape[:3], np.uint8)
    labels[:, 16:] = 1
    return Pairs(images, labels, [f"{name}{chr(97 + i)}" for i in range(len(images))], TABLE, "noise", "CC0-1.0")


def test_images_that_are_also_in_training_are_refused_by_name() -> None:
    train, test = (pairs_of(textured(4, seed), name) for seed, name in ((0, "t"), (1, "e")))
    assert examine_arrays(train, test, "data.root", "published", True) == ([], [])
    copied = test.images.copy()
    copied[2] = train.images[1]
    (problem,), _ = examine_arrays(train, replace(test, images=copied), "data.root", "published", True)
    assert "1 test image is also in training (ec is tb)" in problem
    assert "Remove them from one of both" in problem


def test_images_that_nearly_are_in_training_are_a_warning() -> None:
    train, test = (pairs_of(textured(4, seed), name) for seed, name in ((0, "t"), (1, "e")))
    near = test.images.copy()
    near[0] = np.asarray(Image.fromarray(train.images[3]).point(lambda value: value * 0.9))
    problems, (warning,) = examine_arrays(train, replace(test, images=near), "data.holdout", "held out", True)
    assert problems == [] and "1 test image is nearly identical" in warning
    assert "ea" in warning and "td" in warning and "data.holdout_gap" in warning


def test_other_classes_are_told_by_the_first_that_differs() -> None:
    table = ClassTable.unnamed(3)
    assert class_difference(table, table) == ""
    assert f"class 3 is {table.names[0][:-1]}" in class_difference(table, ClassTable.unnamed(4)).replace("'", "")
    assert "class 2 is missing" in class_difference(table, ClassTable.unnamed(2))
