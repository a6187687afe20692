from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scenepalette.common.errors import ConfigError
from scenepalette.training.image_grid import check_extension, tile_images, write_animation


def pictures_of(count: int, height: int, width: int) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize(("columns", "grid"), [(0, (2, 3)), (2, (3, 2)), (5, (1, 5))])
def test_pictures_are_laid_row_by_row(columns: int, grid: tuple[int, int], tmp_path: Path) -> None:
    images = pictures_of(5, 64, 80)
    tile_images(tmp_path / "new" / "sheet.png", images, columns)
    sheet = np.asarray(Image.open(tmp_path / "new" / "sheet.png"))
    rows, per_row = grid
    assert sheet.shape == (rows * 66 - 2, per_row * 82 - 2, 3)
    for index, image in enumerate(images):
        top, left = index // per_row * 66, index % per_row * 82
        np.testing.assert_array_equal(sheet[top : top + 64, left : left + 80], image)
    # Gaps and places without an image are white.
    assert sheet[:, 80:82].min() == 255 or per_row == 1
    covered = 5 * 64 * 80 * 3
    assert (sheet != 255).sum() <= covered


def test_small_pictures_are_enlarged_by_whole_pixels(tmp_path: Path) -> None:
    (image,) = pictures_of(1, 12, 16)
    tile_images(tmp_path / "sheet.png", [image])
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape == (72, 96, 3)  # the least whole factor that makes 12 at least 64 is 6
    np.testing.assert_array_equal(sheet, np.kron(image, np.ones((6, 6, 1), dtype=np.uint8)))


@pytest.mark.parametrize("ending", [".gif", ".webp"])
@pytest.mark.parametrize(("count", "shown"), [(2, [0, 1]), (4, [0, 1, 2, 3, 2, 1])])
def test_an_animation_goes_forth_and_back_for_ever(ending: str, count: int, shown: list[int], tmp_path: Path) -> None:
    # Frames of one colour each, which no format loses.
    frames = [np.full((20, 30, 3), (60 * index, 200 - 40 * index, 90), dtype=np.uint8) for index in range(count)]
    write_animation(tmp_path / f"frames{ending}", frames, milliseconds=120)
    with Image.open(tmp_path / f"frames{ending}") as animation:
        assert animation.size == (30, 20) and animation.n_frames == len(shown)
        assert animation.info["loop"] == 0
        for position, index in enumerate(shown):
            animation.seek(position)
            animation.load()
            assert animation.info["duration"] == 120
            difference = np.asarray(animation.convert("RGB")).astype(int) - frames[index][0, 0]
            assert np.abs(difference).max() <= 8


@pytest.mark.parametrize("name", ["strip.PNG", "forth.gif", "forth.WebP"])
def test_endings_of_strips_and_animations_are_known(name: str) -> None:
    assert check_extension(Path(name)) == Path(name).suffix.lower()


def test_other_endings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ends in '\.mp4'; a strip is written as \.png"):
        check_extension(tmp_path / "frames.mp4")
