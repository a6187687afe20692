"""Colour and texture of each class, compared between real and generated images (Schönfeld et al., 2021, 4).

The paper compares histograms of colours in LAB space by the earth mover's distance and histograms of local binary
patterns by the chi-square distance, for each class separately, and takes the mean over classes. It states neither bins
nor how three colour channels become one distance; what is chosen here is said at each function. K is the number of
classes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import scipy
from skimage.color import rgb2gray, rgb2lab

from scenepalette.common.errors import DataError
from scenepalette.evaluation.images.image_checks import check_images, labelled_pixels

# Centre of the first bin of L, a and b. Bins have width 1 and are centred on integers, so that rounding does not
# scatter the many pixels with a = b = 0. L of an sRGB colour is in [0, 100], a in [-86, 98], b in [-108, 94].
LAB_STARTS = np.array([0.0, -128.0, -128.0])
LAB_BINS = 256
PATTERN_BINS = 256
# Steps to the neighbours of a pixel, down and to the right; one bit of a pattern each.
NEIGHBORS = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))


@dataclass(frozen=True)
class AppearanceHistograms:
    """How often each class has each colour and each texture in a set of images.

    Attributes:
        colors: int64 [K, 3, 256], pixels per class, LAB channel and value, in bins of width 1 around
            `LAB_STARTS` + 0, 1, ... 255.
        patterns: int64 [K, 256], pixels per class and local binary pattern.
    """

    colors: np.ndarray
    patterns: np.ndarray


def appearance_histograms(pairs: Iterable[tuple[np.ndarray, np.ndarray]], num_classes: int) -> AppearanceHistograms:
    """Count colours and textures per class; only counts are kept, whatever the number of images.

    Colours are CIELAB (D65) of sRGB. The texture of a pixel is the local binary pattern of Ojala et al., 1996, which
    Schönfeld et al., 2021, cites: for each of its 8 neighbours whether it is at least as bright, in grey levels of 8
    bits. A pixel counts for its own class, whatever its neighbours' classes; pixels at the image's border lack
    neighbours and have no texture.

    Args:
        pairs: Batches of images uint8 [B, H, W, 3] and their label maps, integers [B, H, W]; `IGNORE_ID` counts
            nowhere.
        num_classes: K.

    Returns:
        The counts.

    Raises:
        DataError: Images or labels have another type, shape or range.
    """
    colors = np.zeros(num_classes * 3 * LAB_BINS, dtype=np.int64)
    patterns = np.zeros(num_classes * PATTERN_BINS, dtype=np.int64)
    for images, labels in pairs:
        check_images(images)
        labelled = labelled_pixels(labels, images.shape[:-1], num_classes)
        for image, label, counted in zip(images, labels.astype(np.int64), labelled, strict=True):
            bins = np.round(rgb2lab(image) - LAB_STARTS).astype(np.int64)  # H W 3
            cells = (label[..., None] * 3 + np.arange(3)) * LAB_BINS + bins
            colors += np.bincount(cells[counted].ravel(), minlength=len(colors))
            inner = (slice(1, -1), slice(1, -1))
            cells = label[inner] * PATTERN_BINS + _patterns(image)
            patterns += np.bincount(cells[counted[inner]], minlength=len(patterns))
    return AppearanceHistograms(colors.reshape(num_classes, 3, LAB_BINS), patterns.reshape(num_classes, PATTERN_BINS))


def color_distance(real: AppearanceHistograms, generated: AppearanceHistograms) -> np.ndarray:
    """Return the distance between the colours of real and generated images, per class.

    It is the earth mover's distance between the histograms of one LAB channel, averaged over the three channels. In one
    dimension the distance is exact at any number of bins, while one over three-dimensional bins would have to be solved
    as a linear programme over a few coarse bins.

    Returns:
        float64 [K] in units of LAB (1 is about a just noticeable difference), 0 for equal histograms; nan for a class
        that is missing from either set. The papers' value is the mean over classes.

    Raises:
        DataError: The two have different numbers of classes.
    """
    _require_same_classes(real, generated)
    values = np.arange(LAB_BINS)
    distances = np.full(len(real.colors), np.nan)
    for class_id, (one, other) in enumerate(zip(real.colors, generated.colors, strict=True)):
        if one.any() and other.any():
            channels = [scipy.stats.wasserstein_distance(values, values, a, b) for a, b in zip(one, other, strict=True)]
            distances[class_id] = np.mean(channels)
    return distances


def texture_distance(real: AppearanceHistograms, generated: AppearanceHistograms) -> np.ndarray:
    """Return the distance between the textures of real and generated images, per class.

    It is the chi-square distance of the normalised histograms p and q as Rubner et al., 2000 define it, sum of
    (p - m)^2 / m with m = (p + q) / 2. Few pixels give rough histograms and thus a distance well above 0 even for
    textures of one kind: compare only equal numbers of images.

    Returns:
        float64 [K] in [0, 1], 0 for equal histograms, 1 for histograms without a common pattern; nan for a class that
        is missing from either set. The papers' value is the mean over classes.

    Raises:
        DataError: The two have different numbers of classes.
    """
    _require_same_classes(real, generated)
    distances = np.full(len(real.patterns), np.nan)
    for class_id, (one, other) in enumerate(zip(real.patterns, generated.patterns, strict=True)):
        if one.any() and other.any():
            p, q = one / one.sum(), other / other.sum()
            middle = (p + q) / 2
            seen = middle > 0
            distances[class_id] = ((p - middle)[seen] ** 2 / middle[seen]).sum()
    return distances


def _patterns(image: np.ndarray) -> np.ndarray:
    """Return the local binary pattern, int64 (H-2)(W-2) in 0..255, of each pixel of an image HW3 but the border.

    scikit-image has such patterns only with neighbours on a circle: the four diagonal ones are interpolated, and where
    surfaces are plain it is the rounding of the interpolation that decides, in ways that differ between platforms.
    """
    gray = np.round(255 * rgb2gray(image)).astype(np.uint8)
    height, width = gray.shape
    codes = np.zeros((max(height - 2, 0), max(width - 2, 0)), dtype=np.int64)
    for bit, (down, right) in enumerate(NEIGHBORS):
        neighbor = gray[1 + down : height - 1 + down, 1 + right : width - 1 + right]
        codes |= (neighbor >= gray[1:-1, 1:-1]).astype(np.int64) << bit
    return codes


def _require_same_classes(real: AppearanceHistograms, generated: AppearanceHistograms) -> None:
    if len(real.colors) != len(generated.colors):
        raise DataError(
            f"The real histograms have {len(real.colors)} classes, the generated ones {len(generated.colors)}. Count "
            "both with one class table."
        )
