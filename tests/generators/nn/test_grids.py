from __future__ import annotations

import re

import pytest

from scenepalette.common.errors import ConfigError
from scenepalette.generators.nn.grids import base_grid


@pytest.mark.parametrize(
    ("size", "grid"),
    [
        ((128, 256), ((4, 8), 5)),
        ((96, 128), ((3, 4), 5)),
        ((256, 256), ((4, 4), 6)),
        ((256, 512), ((4, 8), 6)),
        ((12, 16), ((3, 4), 2)),
        ((24, 16), ((3, 2), 3)),
    ],
)
def test_sizes_of_the_papers_and_of_the_recipes(size: tuple[int, int], grid: tuple[tuple[int, int], int]) -> None:
    assert base_grid(size, smallest_side=2 if 2 in grid[0] else 3) == grid


@pytest.mark.parametrize("smallest_side", [1, 3])
def test_every_grid_found_leads_back_to_its_size_and_cannot_be_halved_again(smallest_side: int) -> None:
    found = 0
    for height in range(1, 200):
        for width in range(1, 200, 3):
            try:
                (rows, columns), doublings = base_grid((height, width), smallest_side)
            except ConfigError:
                continue
            found += 1
            assert (rows << doublings, columns << doublings) == (height, width)
            assert doublings >= 1
            assert min(rows, columns) >= smallest_side
            assert rows % 2 or columns % 2 or min(rows, columns) // 2 < smallest_side
    assert found > 500


@pytest.mark.parametrize(
    "size", [(127, 256), (360, 480), (375, 1242), (1052, 1914), (33, 600), (5, 7), (1, 1), (2, 2), (3001, 4001)]
)
@pytest.mark.parametrize("smallest_side", [1, 3])
def test_the_size_that_a_refusal_recommends_is_accepted(size: tuple[int, int], smallest_side: int) -> None:
    try:
        base_grid(size, smallest_side)
    except ConfigError as error:
        assert f"{size[0]}x{size[1]}" in str(error)
        recommended = re.search(r"one that works is (\d+)x(\d+)", str(error))
        assert recommended is not None
        base_grid((int(recommended[1]), int(recommended[2])), smallest_side)
    else:
        assert (size, smallest_side) == ((2, 2), 1)
