"""Which sizes a first recipe can choose among."""

from __future__ import annotations

from dataclasses import replace

from scenepalette.common.errors import ConfigError
from scenepalette.generators.nn.grids import base_grid
from scenepalette.segmenters.registry import network_problem
from scenepalette.segmenters.settings import SegmenterSettings

UNIT = 32
"""Sides are multiples of it, as segmenters with a decoder at a quarter of the size require."""
SMALLEST, LARGEST = 64, 1024
LARGEST_GRID = 9
MOST_STRETCHED = 1.15
WIDEST = 10.0
ARCHITECTURES = ("fpn", "deeplabv3plus", "unet", "deeplabv3")
"""Segmenters whose scores have stride 4, or else finer, or else 8, in the order of preference."""


def stretch(size: tuple[int, int], ratio: float) -> float:
    """Return how much an image of a ratio of width to height is stretched to a size: 1 for not at all."""
    factor = size[1] / size[0] / ratio
    return max(factor, 1 / factor)


def sizes_for(native: tuple[int, int], ratio: float) -> list[tuple[int, int]]:
    """Return the sizes that images can be worked at, from small to large.

    Sides are multiples of 32 that doubling reaches from a grid whose shorter side is at most 9, not above those of the
    images; images are stretched by at most 15 %. Of two sizes of about as many pixels, the one that stretches less
    remains.

    Args:
        native: Median height and width of the images.
        ratio: Their width over height; beyond 10 or 1/10 they are stretched.
    """
    wanted = min(max(ratio, 1 / WIDEST), WIDEST)
    found = [
        size
        for short in range(UNIT, LARGEST + 1, UNIT)
        for long in range(short, int(WIDEST + 1) * short, UNIT)
        if stretch(size := (short, long) if wanted >= 1 else (long, short), wanted) <= MOST_STRETCHED and _reached(size)
    ]
    found.sort(key=lambda size: (size[0] * size[1], stretch(size, wanted)))
    best = [size for size in found if not any(_replaces(other, size, wanted) for other in found)]
    for least in (SMALLEST, UNIT):
        fitting = [
            size for size in best if min(size) >= least and size[0] <= native[0] + 8 and size[1] <= native[1] + 8
        ]
        if fitting:
            return fitting
    return best[:1]


def _reached(size: tuple[int, int]) -> bool:
    try:
        grid, _ = base_grid(size)
    except ConfigError:
        return False
    return min(grid) <= LARGEST_GRID


def _replaces(other: tuple[int, int], size: tuple[int, int], ratio: float) -> bool:
    """Tell whether another size has nearly as many pixels and stretches clearly less."""
    pixels = other[0] * other[1] / (size[0] * size[1])
    return 0.6 <= pixels <= 1 and stretch(other, ratio) < stretch(size, ratio) - 0.03


def architecture_for(settings: SegmenterSettings, size: tuple[int, int]) -> str:
    """Return the first of some architectures that can work at a size.

    Args:
        settings: Choose the encoder.
        size: Height and width in pixels.

    Raises:
        ConfigError: None can.
    """
    problem = ""
    for name in ARCHITECTURES:
        problem = network_problem(replace(settings, architecture=name), size)
        if not problem:
            return name
    raise ConfigError(f"data.size: no segmenter can work at {size[0]}x{size[1]}: {problem}.")
