"""Painted parts of real images, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np

from scenepalette.generators.pairs.composite import RealPart, box_around, composite, opacity, usual_feather

SIZE = (20, 24)


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def test_opacity_falls_evenly_beyond_the_box() -> None:
    alpha = opacity([(5, 6, 4, 3)], 3, SIZE)
    np.testing.assert_allclose(alpha[6, 1:13], [0, 0, 0.25, 0.5, 0.75, 1, 1, 1, 0.75, 0.5, 0.25, 0][0:12])
    np.testing.assert_allclose(alpha[0:13, 7], [0, 0, 0.25, 0.5, 0.75, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0])
    assert alpha[3, 4] == 0.5  # two pixels off across and along
    outside = np.ones(SIZE, dtype=bool)
    top, left, height, width = (5, 6, 4, 3)
    outside[max(0, top - 3) : top + height + 3, max(0, left - 3) : left + width + 3] = False
    assert (alpha[outside] == 0).all() and (alpha[~outside] > 0).all()


def test_boxes_are_gathered() -> None:
    assert box_around([(5, 6, 4, 3), (2, 8, 1, 9)]) == (2, 6, 7, 11)
    assert (usual_feather((96, 128)), usual_feather((8, 8))) == (6, 1)


def test_outside_the_dilated_boxes_every_bit_is_the_real_images() -> None:
    real, painted = noise(0), noise(1)
    boxes = [(5, 6, 4, 3), (0, 18, 6, 6)]
    result = composite(RealPart(real, boxes, np.ones(SIZE, dtype=bool)), painted, 2)
    touched = np.zeros(SIZE, dtype=bool)
    for box in boxes:
        top, left, height, width = box
        touched[max(0, top - 2) : top + height + 2, max(0, left - 2) : left + width + 2] = True
    assert np.array_equal(result[~touched], real[~touched]) and result.dtype == np.uint8
    assert (result[touched] != real[touched]).any(axis=-1).mean() > 0.9


def test_without_common_pixels_the_painted_colours_are_used_and_faded() -> None:
    real, painted = np.full((*SIZE, 3), 100, np.uint8), np.full((*SIZE, 3), 200, np.uint8)
    result = composite(RealPart(real, [(5, 6, 4, 3)], np.zeros(SIZE, dtype=bool)), painted, 3)
    assert result[6, 1:13, 0].tolist() == [100, 100, 125, 150, 175, 200, 200, 200, 175, 150, 125, 100]


def test_colours_are_matched_where_both_show_the_same() -> None:
    generator = np.random.default_rng(2)
    scene = generator.integers(60, 120, (*SIZE, 3))
    unchanged = np.ones(SIZE, dtype=bool)
    unchanged[5:9, 6:9] = False
    # The generator paints the same scene brighter and flatter; undone, nothing of its light remains.
    painted = (scene * 0.8 + 70).astype(np.uint8)
    result = composite(RealPart(scene.astype(np.uint8), [(5, 6, 4, 3)], unchanged), painted, 3)
    assert np.abs(result.astype(int) - scene).max() <= 3


def test_the_contrast_of_a_flat_surrounding_does_not_flatten_what_is_painted() -> None:
    real = np.full((*SIZE, 3), 100, np.uint8)
    unchanged = np.ones(SIZE, dtype=bool)
    unchanged[5:9, 6:9] = False
    painted = noise(3)
    painted[5:9, 6:9] = [[[250] * 3]]
    mean = painted[opacity([(5, 6, 4, 3)], 3, SIZE) > 0].reshape(-1, 3)
    assert mean.std() > 30
    result = composite(RealPart(real, [(5, 6, 4, 3)], unchanged), painted, 3)
    assert (result[6, 7] > 140).all()
