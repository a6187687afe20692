from __future__ import annotations

import numpy as np
import pytest

from scenepalette.data.fitting.geometry import Box, Tile, crop_box, largest_part, tiles_of


@pytest.mark.parametrize(
    ("size", "aspect", "part"),
    [
        ((1080, 1920), (96, 128), (1080, 1440)),
        ((1920, 1080), (96, 128), (810, 1080)),
        ((45, 60), (96, 128), (45, 60)),
        ((45, 61), (96, 128), (45, 60)),
        ((7, 10), (2, 3), (7, 10)),  # 10.5 columns, of which there are 10
        ((7, 100), (2, 3), (7, 11)),  # 10.5 columns, rounded up
        ((10, 10), (1, 1), (10, 10)),
        ((5, 1000), (100, 1), (5, 1)),
    ],
)
def test_the_largest_part_of_an_aspect_ratio(
    size: tuple[int, int], aspect: tuple[int, int], part: tuple[int, int]
) -> None:
    assert largest_part(size, aspect) == part


def test_a_crop_is_the_middle() -> None:
    assert crop_box((1080, 1920), (96, 128)) == Box(0, 240, 1080, 1680)
    assert crop_box((1921, 1080), (1, 1)) == Box(420, 0, 1500, 1080)
    assert crop_box((1080, 1920), (96, 128)).size == (1080, 1440)


def test_tiles_lie_side_by_side_and_the_last_is_moved_back() -> None:
    # 1920 columns in tiles of 1440: the second begins at 480, and both share 480 .. 1440, of which each owns half.
    assert tiles_of((1080, 1920), (96, 128)) == [
        Tile(Box(0, 0, 1080, 1440), Box(0, 0, 1080, 960)),
        Tile(Box(0, 480, 1080, 1920), Box(0, 960, 1080, 1920)),
    ]
    # Tiles of 4 x 6 in 10 x 12: rows begin at 0, 4 and 6, columns at 0 and 6 without overlap.
    tiles = tiles_of((10, 12), (2, 3), height=4)
    assert [(tile.box.top, tile.box.left) for tile in tiles] == [(0, 0), (0, 6), (4, 0), (4, 6), (6, 0), (6, 6)]
    assert [(tile.own.top, tile.own.bottom) for tile in tiles[::2]] == [(0, 4), (4, 7), (7, 10)]
    assert {tile.box.size for tile in tiles} == {(4, 6)}


def test_tiles_larger_than_the_image_are_the_largest_that_fit() -> None:
    assert tiles_of((10, 12), (2, 3), height=11) == tiles_of((10, 12), (2, 3))
    assert tiles_of((10, 12), (2, 3), height=10) == tiles_of((10, 12), (2, 3))  # 15 columns are more than 12
    assert tiles_of((8, 12), (2, 3)) == [Tile(Box(0, 0, 8, 12), Box(0, 0, 8, 12))]


@pytest.mark.parametrize("size", [(45, 60), (31, 100), (100, 31), (5, 5), (64, 64), (37, 53)])
@pytest.mark.parametrize("aspect", [(3, 4), (1, 1), (45, 60), (1, 5)])
@pytest.mark.parametrize("height", [None, 1, 7, 30])
def test_owned_parts_cover_every_pixel_once_and_lie_in_their_tile(
    size: tuple[int, int], aspect: tuple[int, int], height: int | None
) -> None:
    owners = np.zeros(size, int)
    tiles = tiles_of(size, aspect, height)
    for box, own in tiles:
        assert 0 <= box.top <= own.top < own.bottom <= box.bottom <= size[0]
        assert 0 <= box.left <= own.left < own.right <= box.right <= size[1]
        owners[own.top : own.bottom, own.left : own.right] += 1
    assert (owners == 1).all()
    assert len({tile.box.size for tile in tiles}) == 1
