"""Base grid and number of doublings of a size: every network here grows H x W from (h0, w0) * 2^n."""

from __future__ import annotations

import contextlib

from scenepalette.common.errors import ConfigError

SMALLEST_SIDE = 3
LARGEST_SIDE = 32


LARGEST_GRID = 9
"""Shorter side of a base grid up to which `reached_size` looks first: from larger ones there are few levels to grow."""
MOST_CHANGED = 1.5
"""Most by which `reached_size` changes a side."""
_MOST_DOUBLINGS = 13
_SPADE_DOUBLINGS = 5


def reached_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return the size that generators work at for pairs of a size: the size itself where a base grid reaches it.

    Else it is the one whose sides differ least from it, by the sum of both sides' ratios, among those reached from a
    grid of at most `LARGEST_GRID` on its shorter side, or if none of these is near, from any grid.

    Args:
        size: Height and width in pixels.

    Raises:
        ConfigError: It is smaller than a base grid, or so long that none comes near it.
    """
    with contextlib.suppress(ConfigError):
        base_grid(size)
        return size
    height, width = size
    smallest = 2 * SMALLEST_SIDE
    if min(size) < smallest:
        raise ConfigError(
            f"The size {height}x{width} is smaller than a base grid doubled once; {smallest} pixels each way are "
            f"required. Use {max(height, smallest)}x{max(width, smallest)}, or larger."
        )
    for largest_grid in (LARGEST_GRID, LARGEST_SIDE):
        found = [
            (
                _change(height, rows << doublings) * _change(width, columns << doublings),
                rows << doublings,
                columns << doublings,
            )
            for doublings in range(1, _MOST_DOUBLINGS + 1)
            for rows in _near(height, doublings)
            for columns in _near(width, doublings)
            if min(rows, columns) <= largest_grid
        ]
        for _, rows, columns in sorted(found):
            if _change(height, rows) <= MOST_CHANGED and _change(width, columns) <= MOST_CHANGED:
                return rows, columns
    longest = LARGEST_SIDE / SMALLEST_SIDE
    raise ConfigError(
        f"The size {height}x{width} is {max(size) / min(size):.1f} times as long as short, which no base grid reaches; "
        f"up to {longest:.1f} times is possible. Choose sides nearer to each other; data.fit=tile cuts long "
        "images into tiles of that aspect ratio."
    )


def _near(side: int, doublings: int) -> list[int]:
    """Return the sides of base grids that come nearest to a side from both sides."""
    below = side >> doublings
    return sorted({min(max(near, SMALLEST_SIDE), LARGEST_SIDE) for near in (below, below + 1)})


def _change(side: int, other: int) -> float:
    return max(side / other, other / side)


def base_grid(size: tuple[int, int], smallest_side: int = SMALLEST_SIDE) -> tuple[tuple[int, int], int]:
    """Return the base grid from which a size is reached by doubling, and how often it is doubled.

    The smallest grid is taken whose sides are at least `smallest_side`: 128x256 from 4x8, 96x128 from 3x4, 256x256
    from 4x4.

    Args:
        size: Height and width in pixels.
        smallest_side: Least height and width of the base grid.

    Returns:
        ((h0, w0), n) with (h0 * 2^n, w0 * 2^n) == size and n >= 1.

    Raises:
        ConfigError: No base grid reaches the size.
    """
    height, width = size
    doublings = 0
    while height % 2 == 0 and width % 2 == 0 and min(height, width) // 2 >= smallest_side:
        height, width, doublings = height // 2, width // 2, doublings + 1
    if doublings < 1 or max(height, width) > LARGEST_SIDE:
        factor = 2
        while round(max(size) / factor) > LARGEST_SIDE:
            factor *= 2
        near = [max(smallest_side, round(side / factor)) * factor for side in size]
        raise ConfigError(
            f"The size {size[0]}x{size[1]} is not reached by doubling a small base grid: both sides must be a number "
            f"from {smallest_side} to {LARGEST_SIDE} times the same power of two. A near one that works is "
            f"{near[0]}x{near[1]}."
        )
    return (height, width), doublings


def spade_grid(size: tuple[int, int]) -> tuple[tuple[int, int], int]:
    """Return the base grid of SPADE's and OASIS' generators, 8x8 for 256x256, and how often it is doubled.

    Raises:
        ConfigError: No base grid reaches the size.
    """
    _, reachable = base_grid(size, smallest_side=1)
    doublings = min(_SPADE_DOUBLINGS, reachable)
    return (size[0] >> doublings, size[1] >> doublings), doublings
