"""Shapes of real objects, and where objects of their class stand: what pairs of the kind insert are put together from.

A segment is a connected component of a class in the training labels. Beside the shapes, the labels say where such
objects end at the bottom, on which classes they rest, and how high they are there: in images of one camera that looks
along the ground, an object's height grows with its distance below the horizon (Hoiem et al., 2008, section 2).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import find_objects, gaussian_filter
from scipy.ndimage import label as connected_components

from scenepalette.common.errors import ConfigError
from scenepalette.data.arrays import Pairs
from scenepalette.generators.layouts.crops import EditBox

RARE_SHARE = 0.02
"""A class with a smaller share of the labelled training pixels is rare."""
MOST_SEGMENTS = 1000
"""Segments of a class that a bank keeps, evenly spread over the training set."""
LEAST_HEIGHT, LEAST_PIXELS, LARGEST_PART = 4, 12, 0.05
"""Of a segment: pixels from top to bottom, pixels in all, and part of the image."""
LEAST_FITTED = 8
"""Segments below which no relation of height and position is fitted."""
SUPPORT_SHARE = 0.1
"""A class rests on those that are under at least this part of its segments."""
STANDING_PART = 0.25
"""A class of which this part of the segments or more rest on ground stands; else it hangs, as signs do."""
GROUND_SHARE = 0.02
"""What makes up at least this part of the lowest eighth of the images is ground."""
POSITION_BLUR = 1 / 24
"""Standard deviation of the blur of positions, as a part of the image's height."""
_FITTED = 300
_NO_SEGMENT = (
    f"the training labels hold no whole segment of {LEAST_HEIGHT} rows, {LEAST_PIXELS} pixels or more and at most "
    f"{100 * LARGEST_PART:g} % of an image"
)
_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=int)


@dataclass(frozen=True, eq=False)
class Segment:
    """One object of the training labels.

    Attributes:
        id: `SAMPLE#CLASS@TOP,LEFT,HEIGHT,WIDTH`: where it comes from.
        box: Top, left, height, width in its image.
        shape: bool [height, width].
    """

    id: str
    box: EditBox
    shape: np.ndarray

    @property
    def bottom(self) -> int:
        """Its lowest row."""
        return self.box[0] + self.box[2] - 1


@dataclass(frozen=True)
class HeightLine:
    """A straight line through heights of objects by their lowest rows, both in pixels."""

    slope: float
    intercept: float

    def height(self, bottom: float | np.ndarray) -> np.ndarray:
        """Return the usual height of an object that ends at a row, at least 2 pixels."""
        return np.maximum(2.0, self.slope * np.asarray(bottom, dtype=np.float64) + self.intercept)


def fit_heights(bottoms: Sequence[int], heights: Sequence[int]) -> HeightLine | None:
    """Fit heights to lowest rows: the median of all pairwise slopes (Theil, 1950; Sen, 1968), then of the rest.

    Args:
        bottoms: Lowest row of each object.
        heights: Height of each.

    Returns:
        None where nothing can be said: too few objects, one row alone, or objects that do not grow towards the viewer.
    """
    if len(bottoms) < LEAST_FITTED:
        return None
    chosen = np.unique(np.linspace(0, len(bottoms) - 1, min(_FITTED, len(bottoms))).astype(int))
    x, y = np.asarray(bottoms, dtype=np.float64)[chosen], np.asarray(heights, dtype=np.float64)[chosen]
    first, second = np.triu_indices(len(x), 1)
    run = x[second] - x[first]
    if not run.any():
        return None
    slope = float(np.median((y[second] - y[first])[run != 0] / run[run != 0]))
    return HeightLine(slope, float(np.median(y - slope * x))) if slope > 0 else None


@dataclass(frozen=True, eq=False)
class ClassSegments:
    """What a bank knows of one class.

    Attributes:
        segments: Its objects.
        positions: float64 [H, W]: how often objects end at the bottom around here, middle column; sums to 1.
        support: float64 [K]: how much more often than chance it rests on each class; 0 for those that it hardly does.
        stands: Whether it rests on ground; else it hangs, as signs do.
        heights: Height by lowest row; None where it does not depend on it.
    """

    segments: Sequence[Segment]
    positions: np.ndarray
    support: np.ndarray
    stands: bool
    heights: HeightLine | None


@dataclass(frozen=True, eq=False)
class SegmentBank:
    """Segments of some classes of a training set.

    Attributes:
        classes: What is known of each class that has segments, by its id.
        ground: Classes that others stand on.
        shares: float64 [K], part of each class in the labelled pixels.
    """

    classes: Mapping[int, ClassSegments]
    ground: frozenset[int]
    shares: np.ndarray


def class_shares(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the part of each class in the labelled pixels of label maps uint8 [N, H, W], float64 [num_classes]."""
    counts = np.zeros(256, dtype=np.int64)
    for label in labels:
        counts += np.bincount(label.reshape(-1), minlength=256)
    return counts[:num_classes] / max(1, counts[:num_classes].sum())


def chosen_classes(pairs: Pairs, names: Sequence[str], *, needed: bool = True) -> list[int]:
    """Return the ids of the classes to insert: those that are named, or else all rare ones that are evaluated.

    Args:
        pairs: Training pairs; their images are not read.
        names: Names of the classes, or none.
        needed: Whether there has to be one.

    Raises:
        ConfigError: A name is not in the class table, or no class is rare; each problem with its remedy.
    """
    table = pairs.table
    unknown = [name for name in names if name not in table.names]
    if unknown:
        raise ConfigError(
            "Unknown classes are to be inserted.",
            [f"there is no class {name!r}; classes are {', '.join(table.names)}" for name in unknown],
        )
    if names:
        return [table.names.index(name) for name in dict.fromkeys(names)]
    shares = class_shares(pairs.labels, table.num_classes)
    rare = [k for k in table.eval_ids if 0 < shares[k] < RARE_SHARE]
    if needed and not rare:
        raise ConfigError(
            "No class is rare.",
            [
                f"every class has {100 * RARE_SHARE:g} % or more of the training pixels, or none; name classes in "
                "generate.insert_classes, or leave the kind insert out"
            ],
        )
    return rare


def build_bank(pairs: Pairs, class_ids: Sequence[int]) -> SegmentBank:
    """Collect the segments of some classes from training labels; the same labels always give the same bank.

    Segments are whole: those that touch the border of the image, or are too small or too large, are left out. So are
    those of a class that stands which do not reach the ground: something hides their lower part.

    Args:
        pairs: Training pairs; their images are not read.
        class_ids: Classes to collect. One without segments is not in the bank.
    """
    labels, table = pairs.labels, pairs.table
    num_classes = table.num_classes
    shares = class_shares(labels, num_classes)
    lowest = class_shares(labels[:, -max(1, labels.shape[1] // 8) :], num_classes)
    ground = frozenset(np.flatnonzero(lowest >= GROUND_SHARE).tolist())
    found: dict[int, list[Segment]] = {k: [] for k in class_ids}
    below: dict[int, list[int]] = {k: [] for k in class_ids}
    for sample, label in zip(pairs.ids, labels, strict=True):
        for k in class_ids:
            for top, left, shape in _whole_components(label == k):
                height, width = shape.shape
                name = f"{sample}#{table.names[k]}@{top},{left},{height},{width}"
                found[k].append(Segment(name, (top, left, height, width), shape))
                middle = left + int(np.flatnonzero(shape[-1]).mean())
                below[k].append(int(label[top + height, middle]))
    classes = {}
    for k in class_ids:
        if found[k]:
            classes[k] = _class_segments(found[k], np.array(below[k]), ground, labels, num_classes)
    return SegmentBank(classes, ground, shares)


def bank_problems(pairs: Pairs, names: Sequence[str]) -> list[str]:
    """Say why classes cannot be inserted: unknown, none rare, or no segment of a wanted one."""
    try:
        wanted = chosen_classes(pairs, names)
    except ConfigError as error:
        return [f"insert_classes: {text}" for text in error.problems]
    bank, table = build_bank(pairs, wanted), pairs.table
    empty = [table.names[k] for k in wanted if k not in bank.classes]
    if names:
        others = "leave it out, or raise data.size"
        return [f"insert_classes: {name!r} cannot be inserted: {_NO_SEGMENT}; {others}" for name in empty]
    if bank.classes:
        return []
    return [
        f"insert_classes: none of the rare classes ({', '.join(empty)}) can be inserted: {_NO_SEGMENT}; name other "
        "classes, raise data.size, or leave the kind insert out"
    ]


def left_out(pairs: Pairs, wanted: Sequence[int], bank: SegmentBank) -> str | None:
    """Say which of the wanted classes a bank has no segment of; None where it has some of each, or of none."""
    empty = [pairs.table.names[k] for k in wanted if k not in bank.classes]
    if not empty or not bank.classes:
        return None
    return f"no {', no '.join(empty)} is inserted: {_NO_SEGMENT}. Raise data.size to have them"


def rows_below(label: np.ndarray) -> np.ndarray:
    """Return, for each pixel, the lowest row that its class reaches without a break in its column, int64 [H, W].

    Of what stands upright, that is where it meets the ground: the lower, the nearer it is.
    """
    ends = np.empty(label.shape, dtype=np.int64)
    ends[-1] = label.shape[0] - 1
    for row in range(label.shape[0] - 2, -1, -1):
        ends[row] = np.where(label[row] == label[row + 1], ends[row + 1], row)
    return ends


def scaled(shape: np.ndarray, scale: float) -> np.ndarray:
    """Return a shape bool [h, w] of another size, each pixel that of the nearest old one; no row or column is lost.

    Thin shapes shrink to one pixel and not to none.
    """
    height, width = (max(1, round(side * scale)) for side in shape.shape)
    rows = ((np.arange(height) + 0.5) * shape.shape[0] / height).astype(int)
    columns = ((np.arange(width) + 0.5) * shape.shape[1] / width).astype(int)
    result = shape[np.ix_(rows, columns)]
    # Thin parts fall between the sampled columns: each row of the old shape that held something goes on to.
    empty = ~result.any(axis=1)
    for row in np.flatnonzero(empty):
        place = np.flatnonzero(shape[rows[row]])
        if place.size:
            result[row, min(width - 1, int(place.mean() * width / shape.shape[1]))] = True
    return result


def _whole_components(mask: np.ndarray) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield top, left and shape of the components that can serve as segments."""
    if not mask.any():
        return
    height, width = mask.shape
    numbers = np.zeros(mask.shape, dtype=np.int64)
    connected_components(mask, _EIGHT_NEIGHBOURS, output=numbers)
    for number, (rows, columns) in enumerate(find_objects(numbers), start=1):
        if rows.start == 0 or rows.stop == height or columns.start == 0 or columns.stop == width:
            continue
        shape = numbers[rows, columns] == number
        if shape.shape[0] >= LEAST_HEIGHT and LEAST_PIXELS <= shape.sum() <= LARGEST_PART * mask.size:
            yield rows.start, columns.start, shape


def _class_segments(
    segments: list[Segment], below: np.ndarray, ground: frozenset[int], labels: np.ndarray, num_classes: int
) -> ClassSegments:
    size = labels.shape[1:]
    on_ground = np.isin(below, list(ground))
    stands = bool(on_ground.mean() >= STANDING_PART)
    if stands:
        segments = [each for each, rests in zip(segments, on_ground, strict=True) if rests]
        below = below[on_ground]
    heights = fit_heights([each.bottom for each in segments], [each.box[2] for each in segments])
    positions = np.zeros(size)
    for each in segments:
        positions[each.bottom, each.box[1] + each.box[3] // 2] += 1
    positions = gaussian_filter(positions, POSITION_BLUR * size[0], mode="constant")
    positions /= positions.sum()
    parts = np.bincount(below[below < num_classes], minlength=num_classes) / len(segments)
    # By chance: under the places where objects end, in all images. A road is wide, but few poles stand on it.
    chance = np.zeros(256)
    for label in labels:
        chance += np.bincount(label[1:].reshape(-1), positions[:-1].reshape(-1), minlength=256) / len(labels)
    carries = parts >= SUPPORT_SHARE
    support = np.where(carries, parts / np.where(carries, np.maximum(chance[:num_classes], 1e-6), 1.0), 0.0)
    chosen = np.unique(np.linspace(0, len(segments) - 1, min(MOST_SEGMENTS, len(segments))).astype(int))
    return ClassSegments(
        segments=[segments[index] for index in chosen],
        positions=positions,
        support=support,
        stands=stands,
        heights=heights,
    )
