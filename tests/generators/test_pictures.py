from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from generators.pictures import tile_pictures


def pictures_of(count: int, height: int, width: int) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize(("columns", "grid"), [(0, (2, 3)), (2, (3, 2)), (5, (1, 5))])
def test_pictures_are_laid_row_by_row(columns: int, grid: tuple[int, int], tmp_path: Path) -> None:
    pictures = pictures_of(5, 64, 80)
    tile_pictures(tmp_path / "new" / "sheet.png", pictures, columns)
    sheet = np.asarray(Image.open(tmp_path / "new" / "sheet.png"))
    rows, per_row = grid
    assert sheet.shape == (rows * 66 - 2, per_row * 82 - 2, 3)
    for index, picture in enumerate(pictures):
        top, left = index // per_row * 66, index % per_row * 82
        np.testing.assert_array_equal(sheet[top : top + 64, left : left + 80], picture)
    # Gaps and places without a picture are white.
    assert sheet[:, 80:82].min() == 255 or per_row == 1
    covered = 5 * 64 * 80 * 3
    assert (sheet != 255).sum() <= covered


def test_small_pictures_are_enlarged_by_whole_pixels(tmp_path: Path) -> None:
    (picture,) = pictures_of(1, 12, 16)
    tile_pictures(tmp_path / "sheet.png", [picture])
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape == (72, 96, 3)  # the least whole factor that makes 12 at least 64 is 6
    np.testing.assert_array_equal(sheet, np.kron(picture, np.ones((6, 6, 1), dtype=np.uint8)))
