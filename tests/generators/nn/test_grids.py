from __future__ import annotations

import re

import pytest

from scenepalette.common.errors import ConfigError
from scenepalette.generators.nn.grids import LARGEST_GRID, MOST_CHANGED, base_grid, reached_size


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


def test_generators_keep_a_size_that_a_grid_reaches() -> None:
    for size in ((6, 6), (96, 128), (128, 256), (176, 176), (1024, 62)):
        try:
            base_grid(size)
        except ConfigError:
            continue
        assert reached_size(size) == size


@pytest.mark.parametrize(
    "size", [(1080, 1920), (720, 1280), (360, 480), (45, 60), (135, 240), (375, 1242), (7, 61), (1052, 1914)]
)
def test_else_they_take_the_nearest_of_all_that_small_grids_reach(size: tuple[int, int]) -> None:
    def changed(other: tuple[int, int]) -> float:
        ratios = [max(a / b, b / a) for a, b in zip(size, other, strict=True)]
        return ratios[0] * ratios[1]

    reached = reached_size(size)
    assert min(base_grid(reached)[0]) <= LARGEST_GRID
    others = [
        (rows << doublings, columns << doublings)
        for doublings in range(1, 13)
        for rows in range(3, 33)
        for columns in range(3, 33)
        if min(rows, columns) <= LARGEST_GRID
    ]
    assert changed(reached) == min(map(changed, others))
    assert all(max(a / b, b / a) <= MOST_CHANGED for a, b in zip(size, reached, strict=True))


@pytest.mark.parametrize(
    ("size", "text"),
    [((5, 100), r"smaller than a base grid doubled once.*Use 6x100"), ((100, 1800), r"18\.0 times as long as short")],
)
def test_sizes_that_no_grid_comes_near_are_refused_with_what_to_do(size: tuple[int, int], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        reached_size(size)
