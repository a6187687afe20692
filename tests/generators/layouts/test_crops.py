from __future__ import annotations

import numpy as np
import pytest
import torch

from scenepalette.generators.layouts.crops import CropMode, boxes_to_crop, crop_palette, sample_crop


@pytest.mark.parametrize(
    ("mode", "heights", "widths"), [("rectangle", (8, 24), (16, 48)), ("band", (32, 32), (32, 64))]
)
def test_boxes_lie_in_the_frame_and_have_the_stated_sides(
    mode: CropMode, heights: tuple[int, int], widths: tuple[int, int]
) -> None:
    generator = np.random.default_rng(0)
    boxes = np.array([sample_crop(generator, (32, 64), mode) for _ in range(3000)])
    top, left, height, width = boxes.T
    assert top.min() == left.min() == 0
    assert (top + height).max() == 32
    assert (left + width).max() == 64
    assert (height.min(), height.max()) == heights
    assert (width.min(), width.max()) == widths
    # Uniform sides: the mean is the middle of the range.
    assert width.mean() == pytest.approx(sum(widths) / 2, abs=0.6)


def test_boxes_are_a_function_of_the_generator() -> None:
    first, second = (
        [sample_crop(np.random.default_rng(seed), (32, 64), "rectangle") for seed in range(9)] for _ in range(2)
    )
    assert first == second
    assert len(set(first)) == 9


def test_a_crop_covers_its_box_alone() -> None:
    crop = boxes_to_crop([(1, 2, 2, 3), (0, 0, 4, 6)], (4, 6))
    expected = torch.zeros(2, 4, 6, dtype=torch.bool)
    for row in (1, 2):
        for column in (2, 3, 4):
            expected[0, row, column] = True
    expected[1] = True
    assert torch.equal(crop, expected)


def test_shares_inside_a_crop_by_hand() -> None:
    label = torch.tensor([[[0, 0, 1], [2, 1, 1]], [[2, 2, 2], [0, 0, 0]]])
    crop = torch.tensor([[[0, 1, 1], [0, 1, 1]], [[1, 1, 1], [1, 0, 0]]]) > 0
    torch.testing.assert_close(crop_palette(label, crop, 3), torch.tensor([[0.25, 0.75, 0.0], [0.25, 0.0, 0.75]]))
