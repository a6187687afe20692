"""The best that a segmenter of a stride can do, against cases by hand and the published data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scenepalette.data.arrays import resize_sample
from scenepalette.data.datasets import open_dataset
from scenepalette.evaluation.miou import intersection_over_union, mean_iou, overlaps
from scenepalette.evaluation.oracle import oracle_confusion


@pytest.mark.parametrize("size", [(8, 8), (7, 9)])
def test_scores_as_fine_as_the_image_find_every_pixel(size: tuple[int, int]) -> None:
    label = np.random.default_rng(0).integers(0, 5, size).astype(np.uint8)
    confusion = oracle_confusion([label], 5, 1)
    assert np.array_equal(confusion, np.diag(np.bincount(label.ravel(), minlength=5)))


def test_a_pole_of_one_pixel_is_lost_and_a_wall_of_whole_squares_is_kept() -> None:
    label = np.zeros((8, 16), np.uint8)
    label[:, 2] = 1  # a pole: a quarter of its squares
    label[:, 8:] = 2  # a wall
    confusion = oracle_confusion([label], 3, 4)
    assert confusion.tolist() == [[56, 0, 0], [8, 0, 0], [0, 0, 64]]


def test_between_two_squares_the_nearer_one_wins() -> None:
    # Squares of 4 pixels, half of the second one of class 1: shares of class 1 are 0, 0.5, 1 at 1.5, 5.5 and 9.5.
    # Linear between them, class 1 has the most beyond 5.5, where both are equal and the first class wins.
    label = np.array([[0] * 6 + [1] * 6] * 4, np.uint8)
    confusion = oracle_confusion([label], 2, 4)
    assert confusion.tolist() == [[24, 0], [0, 24]]


def test_ignored_pixels_are_in_no_cell_and_of_no_class() -> None:
    label = np.full((4, 4), 255, np.uint8)
    label[0, 0] = 1
    confusion = oracle_confusion([label, label], 2, 4)
    assert confusion.tolist() == [[0, 0], [0, 2]]


@pytest.mark.parametrize(
    ("size", "stride", "miou", "pole", "sign"),
    [
        ((96, 128), 8, 64.3, 0, 21),
        ((96, 128), 4, 77.6, 4, 58),
        ((96, 128), 2, 88.9, 32, 88),
        ((192, 256), 8, 76.6, 2, 55),
        ((192, 256), 4, 85.2, 17, 81),
    ],
)
def test_camvid_is_as_measured_before(
    size: tuple[int, int], stride: int, miou: float, pole: int, sign: int, camvid: Path
) -> None:
    validation = open_dataset("camvid", "val", camvid)
    labels = (resize_sample(validation[index], size).label for index in range(len(validation)))
    confusion = oracle_confusion(labels, 11, stride)
    iou = dict(zip(validation.table.names, 100 * intersection_over_union(overlaps(confusion)), strict=True))
    assert round(100 * mean_iou(confusion, range(11)), 1) == miou
    assert (round(iou["pole"]), round(iou["sign_symbol"])) == (pole, sign)
