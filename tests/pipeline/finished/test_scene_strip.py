"""Strips of edited scenes: whole factors, captions and the names of the classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scenepalette.data.classes import ClassTable
from scenepalette.generators.editing import Scene
from scenepalette.pipeline.finished.scene_strip import captioned, draw_strip, numbered, percentages, write_scenes


def scenes_of(count: int, height: int, width: int) -> list[Scene]:
    random = np.random.default_rng(0)
    scenes = [
        Scene(random.integers(0, 5, (height, width), np.uint8), random.integers(0, 256, (height, width, 3), np.uint8))
        for _ in range(count)
    ]
    return captioned(scenes, numbered("draw", count))


@pytest.mark.parametrize(("count", "width", "factor"), [(1, 72, 13), (6, 72, 3), (8, 48, 3), (3, 299, 2), (3, 300, 1)])
def test_every_pixel_is_repeated_by_one_whole_factor(count: int, width: int, factor: int, tmp_path: Path) -> None:
    table, scenes = ClassTable.unnamed(5), scenes_of(count, 24, width)
    write_scenes(tmp_path / "strip.png", scenes, table)
    strip = np.asarray(Image.open(tmp_path / "strip.png").convert("RGB"))
    column = factor * width
    assert strip.shape[1] == 2 * 12 + count * (column + 4) - 4 and count * column >= 900
    for index, scene in enumerate(scenes):
        shown = np.kron(np.concatenate([table.colorize(scene.label), scene.image]), np.ones((factor, factor, 1)))
        left = 12 + index * (column + 4)
        np.testing.assert_array_equal(strip[24 : 24 + factor * 48, left : left + column], shown)


def test_captions_stand_above_and_the_classes_that_occur_below() -> None:
    table, scenes = ClassTable.unnamed(7), scenes_of(3, 8, 12)
    figure = draw_strip(scenes, table)
    assert [text.get_text() for text in figure.texts] == ["draw 1", "draw 2", "draw 3"]
    (legend,) = figure.legends
    assert sorted(text.get_text() for text in legend.get_texts()) == sorted(table.names[:5])
    figure.canvas.draw()
    width, height = figure.canvas.get_width_height()
    for box in [text.get_window_extent() for text in figure.texts] + [legend.get_window_extent()]:
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height


def test_the_legend_ends_below_the_scenes() -> None:
    for count in (2, 6, 7, 30):
        table = ClassTable.unnamed(count)
        label = np.arange(30 * 40, dtype=np.int64).reshape(30, 40) % count
        figure = draw_strip([Scene(label.astype(np.uint8), np.zeros((30, 40, 3), np.uint8))], table)
        figure.canvas.draw()
        assert figure.legends[0].get_window_extent().y1 <= min(image.oy for image in figure.images)  # type: ignore[attr-defined]


def test_frames_between_two_ends_say_how_far_they_are() -> None:
    assert percentages(2) == ["0 %", "100 %"] and percentages(5) == ["0 %", "25 %", "50 %", "75 %", "100 %"]


@pytest.mark.parametrize("ending", [".gif", ".webp"])
def test_animations_are_enlarged_by_whole_factors(ending: str, tmp_path: Path) -> None:
    write_scenes(tmp_path / f"forth{ending}", scenes_of(3, 24, 50), ClassTable.unnamed(5))
    with Image.open(tmp_path / f"forth{ending}") as animation:
        assert animation.size == (7 * 50, 7 * 48) and animation.n_frames == 4
