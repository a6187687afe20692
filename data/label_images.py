"""Label images: reading one, and what its values mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from scenepalette.common.errors import DataError
from scenepalette.common.problems import ProblemKind
from scenepalette.data.classes import IGNORE_ID
from scenepalette.data.image_opening import open_lossless


@dataclass(frozen=True)
class LabelValues:
    """What the values in label files mean.

    Attributes:
        ids: Class id of each value, 0 to 254, that stands for a class.
        ignored: Values without a class; they win over `ids`, and IGNORE_ID is always one of them.
    """

    ids: Mapping[int, int]
    ignored: frozenset[int] = frozenset()

    @classmethod
    def class_ids(cls, num_classes: int, *, ignored: Iterable[int] = ()) -> LabelValues:
        """Return the plain reading: the values 0..K-1 are class ids."""
        return cls(ids={value: value for value in range(num_classes)}, ignored=frozenset(ignored))

    @cached_property
    def lookup(self) -> np.ndarray:
        """Class id of every value: uint8 [256], IGNORE_ID where there is none."""
        lookup = np.full(256, IGNORE_ID, dtype=np.uint8)
        lookup[list(self.ids)] = list(self.ids.values())
        lookup[sorted(self.ignored)] = IGNORE_ID
        return lookup

    @cached_property
    def allowed(self) -> np.ndarray:
        """Whether a value may occur: bool [256]."""
        allowed = np.zeros(256, dtype=bool)
        allowed[[*self.ids, *self.ignored, IGNORE_ID]] = True
        return allowed

    def __str__(self) -> str:
        ignored = {*self.ignored, IGNORE_ID}
        return f"the class ids {_ranges(self.ids.keys() - ignored)} and, as ignored, {_ranges(ignored)}"


def read_label(path: Path) -> np.ndarray:
    """Read a label map completely; a palette PNG gives its indices, not its colours.

    Args:
        path: A single-channel PNG file of class ids.

    Returns:
        uint8 [H, W].

    Raises:
        DataError: The file is missing, damaged, cut off, far too large, not a PNG, colour-coded, or holds values
            above 255.
    """
    with open_lossless(path, "labels") as image:
        if image.mode not in ("L", "P", "1") and not image.mode.startswith("I"):
            raise DataError(
                f"it is a colour-coded or transparent label (mode {image.mode}); required is a "
                "single channel with a class id per pixel. Convert the colours to ids",
                kind=ProblemKind.LABEL_FORMAT,
            )
        label = np.asarray(image)
    if label.dtype != np.uint8 and (label.max() > 255 or label.min() < 0):
        raise DataError(
            f"it holds values from {label.min()} to {label.max()}; class ids must fit into 0 to 255",
            kind=ProblemKind.LABEL_VALUE,
        )
    return label.astype(np.uint8)


def read_mask(path: Path) -> np.ndarray:
    """Read a black-and-white mask completely.

    Args:
        path: A PNG file with 8 bits per channel; several channels must be equal.

    Returns:
        bool [H, W], true where the mask is not black.

    Raises:
        DataError: The file is missing, damaged, cut off, far too large, not a PNG, or coloured.
    """
    with open_lossless(path, "masks") as image:
        if image.mode not in ("1", "L", "P", "RGB"):
            raise DataError(
                f"its pixels are of mode {image.mode}; a mask must be grey or RGB with 8 bits per channel",
                kind=ProblemKind.LABEL_FORMAT,
            )
        channels = np.asarray(image.convert("RGB"))
    if (channels != channels[:, :, :1]).any():
        raise DataError(
            "it is coloured; a mask must be black and white, white where its part is", kind=ProblemKind.LABEL_FORMAT
        )
    return channels[:, :, 0] > 0


def value_counts(label: np.ndarray) -> np.ndarray:
    """Return how many pixels of a label map uint8 [H, W] have each value, int64 [256]."""
    # Pillow's histogram needs no integers of 8 bytes a pixel, as numpy's does, and is twice as fast.
    return np.array(Image.fromarray(np.ascontiguousarray(label)).histogram(), np.int64)


def _ranges(values: Iterable[int]) -> str:
    """Write numbers in order, with runs of them as "a to b"."""
    ordered = sorted(values)
    starts = [ordered[0], *(after for before, after in pairwise(ordered) if after != before + 1)]
    ends = [*(before for before, after in pairwise(ordered) if after != before + 1), ordered[-1]]
    return ", ".join(
        str(first) if first == last else f"{first} to {last}" for first, last in zip(starts, ends, strict=True)
    )
