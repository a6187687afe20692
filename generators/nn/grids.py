"""Base grid and number of doublings of a size: every network here grows H x W from (h0, w0) * 2^n."""

from __future__ import annotations

from scenepalette.common.errors import ConfigError

SMALLEST_SIDE = 3
LARGEST_SIDE = 32


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
