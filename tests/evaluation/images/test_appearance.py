from __future__ import annotations

import numpy as np
import pytest

from scenepalette.common.errors import DataError
from scenepalette.data.classes import IGNORE_ID
from scenepalette.evaluation.images.appearance import (
    AppearanceHistograms,
    appearance_histograms,
    color_distance,
    texture_distance,
)


def random_pairs(seed: int, count: int = 3, brightest: int = 256) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    images = generator.integers(0, brightest, (count, 9, 11, 3), dtype=np.uint8)
    labels = generator.integers(0, 3, (count, 9, 11), dtype=np.uint8)
    labels[:, :2, :3] = IGNORE_ID
    return images, labels


def plain(color: tuple[int, int, int], classes: int = 2) -> AppearanceHistograms:
    """Histograms of an image of one colour and class 0."""
    images = np.broadcast_to(np.array(color, dtype=np.uint8), (1, 6, 8, 3)).copy()
    return appearance_histograms([(images, np.zeros((1, 6, 8), dtype=np.int64))], classes)


def lab_of(images: np.ndarray) -> np.ndarray:
    """CIE 1976 L*a*b* of sRGB values 0..255 (IEC 61966-2-1) for the white point D65."""
    share = images / 255
    linear = np.where(share > 0.04045, ((share + 0.055) / 1.055) ** 2.4, share / 12.92)
    to_xyz = [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
    relative = linear @ np.array(to_xyz).T / [0.95047, 1.0, 1.08883]
    x, y, z = np.moveaxis(np.where(relative > 0.008856, np.cbrt(relative), 7.787 * relative + 16 / 116), -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def test_colors_are_counted_per_class() -> None:
    images, labels = random_pairs(0)
    counts = appearance_histograms([(images, labels)], 3).colors
    lab = lab_of(images)
    for class_id in range(3):
        pixels = lab[labels == class_id]  # N 3
        for channel, lowest in enumerate((0, -128, -128)):
            edges = np.arange(257) + lowest - 0.5
            assert counts[class_id, channel].tolist() == np.histogram(pixels[:, channel], edges)[0].tolist()


def pattern(gray: np.ndarray, row: int, column: int) -> int:
    """The pattern of one pixel, its neighbours in counter-clockwise order from the right."""
    code = 0
    steps = [(0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1)]
    for bit, (down, right) in enumerate(steps):
        code += (gray[row + down, column + right] >= gray[row, column]) << bit
    return int(code)


def test_patterns_are_counted_per_class() -> None:
    images, labels = random_pairs(1)
    images[..., 1:] = images[..., :1]  # grey, so that the grey level is known
    images[0] //= 64  # with many equal neighbours
    expected = np.zeros((3, 256), dtype=np.int64)
    for image, label in zip(images[..., 0].astype(int), labels, strict=True):
        for row in range(1, 8):
            for column in range(1, 10):
                if label[row, column] != IGNORE_ID:
                    expected[label[row, column], pattern(image, row, column)] += 1
    assert appearance_histograms([(images, labels)], 3).patterns.tolist() == expected.tolist()


@pytest.mark.parametrize("level", range(0, 256, 5))
def test_a_plain_surface_has_the_same_texture_at_any_brightness(level: int) -> None:
    counts = plain((level, level, level)).patterns
    assert counts[0, 255] == counts.sum() == 4 * 6


def test_batches_do_not_matter() -> None:
    images, labels = random_pairs(2, count=5)
    whole = appearance_histograms([(images, labels)], 3)
    parts = appearance_histograms(((images[[i]], labels[[i]].astype(np.int64)) for i in (4, 2, 0, 1, 3)), 3)
    assert whole.colors.tolist() == parts.colors.tolist() and whole.patterns.tolist() == parts.patterns.tolist()


def test_color_distance_by_hand() -> None:
    # Grey levels have a = b = 0; black has L = 0, white L = 100, and (119, 119, 119) L = 50.03.
    black, white, gray = plain((0, 0, 0)), plain((255, 255, 255)), plain((119, 119, 119))
    assert color_distance(black, white)[0] == pytest.approx(100 / 3)
    assert color_distance(gray, white)[0] == pytest.approx(50 / 3)
    # Red is (53.2, 80.1, 67.2) and blue (32.3, 79.2, -107.9).
    assert color_distance(plain((255, 0, 0)), plain((0, 0, 255)))[0] == pytest.approx((21 + 1 + 175) / 3)
    assert np.isnan(color_distance(black, white)[1])


def test_color_distance_against_cumulative_histograms() -> None:
    real = appearance_histograms([random_pairs(3)], 3)
    generated = appearance_histograms([random_pairs(4, count=2, brightest=150)], 3)
    distances = color_distance(real, generated)
    for class_id in range(3):
        channels = []
        for channel in range(3):
            counts = [histograms.colors[class_id, channel] for histograms in (real, generated)]
            p, q = (np.cumsum(count) / count.sum() for count in counts)
            channels.append(np.abs(p - q).sum())
        assert distances[class_id] == pytest.approx(np.mean(channels))
    assert (distances > 5).all()
    np.testing.assert_allclose(color_distance(generated, real), distances)


def test_texture_distance_by_hand() -> None:
    def counted(*counts: int) -> AppearanceHistograms:
        patterns = np.zeros((2, 256), dtype=np.int64)
        patterns[0, : len(counts)] = counts
        return AppearanceHistograms(np.zeros((2, 3, 256), dtype=np.int64), patterns)

    # p = (3/4, 1/4, 0), q = (1/4, 1/4, 1/2): ((1/2)^2 / 1 + 0 + (1/2)^2 / (1/2)) / 2
    distances = texture_distance(counted(3, 1), counted(2, 2, 4))
    assert distances[0] == pytest.approx((1 / 4 + 1 / 2) / 2)
    assert np.isnan(distances[1])
    assert texture_distance(counted(1, 2), counted(0, 0, 5))[0] == pytest.approx(1.0)
    assert texture_distance(counted(1, 2), counted(10, 20))[0] == 0


def test_equal_sets_have_no_distance() -> None:
    images, labels = random_pairs(5)
    counts, doubled = (appearance_histograms([(images, labels)] * times, 3) for times in (1, 2))
    assert color_distance(counts, doubled) == pytest.approx([0, 0, 0], abs=1e-12)
    assert texture_distance(counts, doubled) == pytest.approx([0, 0, 0], abs=1e-12)


def test_texture_does_not_depend_on_brightness_but_colour_does() -> None:
    images, labels = random_pairs(6, brightest=128)
    images[..., 1:] = images[..., :1]
    dark, bright = (appearance_histograms([(images + shift, labels)], 3) for shift in (np.uint8(0), np.uint8(100)))
    assert texture_distance(dark, bright).tolist() == [0, 0, 0]
    assert (color_distance(dark, bright) > 10).all()


def test_classes_are_kept_apart() -> None:
    images, labels = random_pairs(7)
    changed = images.copy()
    changed[labels == 1] = 0
    distances = color_distance(
        appearance_histograms([(images, labels)], 4), appearance_histograms([(changed, labels)], 4)
    )
    assert distances[0] == distances[2] == 0 < distances[1]
    assert np.isnan(distances[3])


def test_refuses() -> None:
    images, labels = random_pairs(0)
    with pytest.raises(DataError, match=r"uint8 \[N, H, W, 3\]; received float64"):
        appearance_histograms([(images / 255, labels)], 3)
    with pytest.raises(DataError, match=r"of the same size; received uint8 \[3, 9, 10\]"):
        appearance_histograms([(images, labels[..., :-1])], 3)
    with pytest.raises(DataError, match=r"holds the ids \[2\], but there are 2 classes"):
        appearance_histograms([(images, labels)], 2)
    with pytest.raises(DataError, match="3 classes, the generated ones 4"):
        color_distance(*(appearance_histograms([(images, labels)], classes) for classes in (3, 4)))
