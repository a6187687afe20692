from __future__ import annotations

import torch

from scenepalette.generators.layouts.warping import warp_labels


def position_labels(count: int, height: int, width: int) -> torch.Tensor:
    """Every pixel has its own number, so that a warp shows where each comes from."""
    return torch.arange(height * width).view(1, height, width).expand(count, -1, -1)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_no_pixel_comes_from_farther_than_the_largest_shift() -> None:
    height, width, largest = 40, 60, 0.1
    warped = warp_labels(position_labels(50, height, width), largest, generator())
    rows, columns = warped // width, warped % width
    down = (rows - torch.arange(height)[:, None]).abs().amax()
    across = (columns - torch.arange(width)).abs().amax()
    assert 1 < down <= round(largest * height)
    assert 1 < across <= round(largest * width)


def test_a_warp_is_smooth_and_each_sample_has_its_own() -> None:
    warped = warp_labels(position_labels(8, 48, 72), 0.05, generator())
    rows = warped // 72
    assert rows.diff(dim=2).abs().amax() <= 1  # neighbours come from neighbouring rows
    assert len({sample.numpy().tobytes() for sample in warped}) == 8
    assert torch.equal(warped, warp_labels(position_labels(8, 48, 72), 0.05, generator()))
    assert not torch.equal(warped, warp_labels(position_labels(8, 48, 72), 0.05, generator(1)))


def test_processes_warp_their_parts_as_one_warps_all() -> None:
    labels = torch.randint(0, 5, (6, 16, 20), generator=generator(4))
    whole = warp_labels(labels, 0.2, generator())
    for rank in range(3):
        part = slice(rank, None, 3)
        assert torch.equal(warp_labels(labels[part], 0.2, generator(), 3, part), whole[part])


def test_classes_are_kept_and_a_layout_of_one_class_stays() -> None:
    assert warp_labels(torch.full((2, 9, 12), 3), 0.25, generator()).eq(3).all()
