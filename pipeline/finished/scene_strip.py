"""Strips and animations of edited scenes: layouts above images, enlarged by whole factors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from scenepalette.common.storage.files import write_atomically
from scenepalette.data.classes import ClassTable
from scenepalette.generators.editing import Scene
from scenepalette.pipeline.report.figures import DPI, MUTED, draw_legend, figure_to_png
from scenepalette.training.image_grid import check_extension, enlarge, write_animation

# All in pixels.
STRIP_WIDTH = 900
FRAME_WIDTH = 320
GAP = 4
MARGIN = 12
CAPTION_HEIGHT = 24
LEGEND_ROW = 20
LEGEND_COLUMNS = 6


def write_scenes(path: Path, scenes: Sequence[Scene], table: ClassTable) -> None:
    """Write scenes as a strip (.png) or as an animation that goes forth and back (.gif, .webp).

    Args:
        path: File to write, atomically.
        scenes: Scenes of one size.
        table: Names and colours of the classes.

    Raises:
        ConfigError: The extension is none of these.
    """
    if check_extension(path) == ".png":
        write_atomically(path, figure_to_png(draw_strip(scenes, table)))
    else:
        factor = factor_to(FRAME_WIDTH, scenes[0].label.shape[1])
        write_animation(path, [enlarge(frame_of(scene, table), factor) for scene in scenes])


def draw_strip(scenes: Sequence[Scene], table: ClassTable) -> Figure:
    """Draw a column per scene with its caption, and name the classes below.

    The pixels of scenes are repeated by the least whole factor with which the columns are 900 pixels wide or more.
    """
    height, width = scenes[0].label.shape
    factor = factor_to(STRIP_WIDTH, width * len(scenes))
    width, height = width * factor, 2 * height * factor
    labels = np.stack([scene.label for scene in scenes])
    legend_height = math.ceil(len(np.unique(labels)) / LEGEND_COLUMNS) * LEGEND_ROW + MARGIN
    total_width = len(scenes) * (width + GAP) - GAP + 2 * MARGIN
    total_height = CAPTION_HEIGHT + height + legend_height
    figure = Figure(figsize=(total_width / DPI, total_height / DPI), dpi=DPI)
    for index, scene in enumerate(scenes):
        left = MARGIN + index * (width + GAP)
        # Unlike images of axes, this one is drawn pixel by pixel, wherever it lies.
        figure.figimage(enlarge(frame_of(scene, table), factor), left, legend_height, origin="upper")
        center = (left + width / 2) / total_width, 1 - CAPTION_HEIGHT / 2 / total_height
        figure.text(*center, scene.caption, ha="center", va="center", fontsize=9, color=MUTED)
    draw_legend(figure, table, labels, LEGEND_COLUMNS)
    return figure


def frame_of(scene: Scene, table: ClassTable) -> np.ndarray:
    """Return a layout in the colours of its classes above its image, uint8 [2H, W, 3]."""
    return np.concatenate([table.colorize(scene.label), scene.image])


def factor_to(least: int, width: int) -> int:
    """Return the least whole factor by which a width becomes `least` or more."""
    return max(1, math.ceil(least / width))


def captioned(scenes: Sequence[Scene], captions: Sequence[str]) -> list[Scene]:
    """Return the scenes with a caption each."""
    return [scene._replace(caption=caption) for scene, caption in zip(scenes, captions, strict=True)]


def percentages(count: int) -> list[str]:
    """Return how far each of `count` frames, 2 or more, has come from one end to the other."""
    return [f"{100 * index / (count - 1):.0f} %" for index in range(count)]


def numbered(word: str, count: int) -> list[str]:
    """Return `word 1`, `word 2`, ..."""
    return [f"{word} {number}" for number in range(1, count + 1)]
