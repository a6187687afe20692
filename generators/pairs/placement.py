"""Objects of a segment bank put into layouts: where they can stand, how large they are there, and what hides them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from scenepalette.generators.layouts.crops import EditBox
from scenepalette.generators.pairs.segment_bank import ClassSegments, Segment, SegmentBank, rows_below, scaled

SCALES = (0.5, 2.0)
"""Least and largest factor by which a segment is resized; with others its outline would no longer be one."""
VISIBLE_PART = 0.6
"""Part of an object that must show, the rest being hidden by what is nearer."""
BUDGET = 0.1
"""Objects of a row together take at most this part of the image."""
TRIES = 12
"""Segments that are tried for each object before it is given up."""
OWN_ROWS = 1 / 16
"""Rows by which an object of unknown scale may move up or down, as a part of the image's height."""


@dataclass(frozen=True, eq=False)
class Placement:
    """A segment at its place in another image.

    Attributes:
        segment: The segment.
        class_id: Its class.
        box: Top, left, height, width where it stands.
        shape: bool [height, width], resized.
        visible: bool [height, width], what nearer things do not hide.
    """

    segment: Segment
    class_id: int
    box: EditBox
    shape: np.ndarray
    visible: np.ndarray


def place_objects(
    label: np.ndarray, bank: SegmentBank, random: np.random.Generator, most: int, asked: int | None = None
) -> list[Placement]:
    """Choose objects for a layout and where they stand.

    Their number is uniform in 1 to `most`. Each one's class is drawn inversely to its share of the training pixels,
    its segment at random, its place where objects of the class are found and what they rest on is there.

    Args:
        label: [H, W], class ids without ignored pixels.
        bank: The segments.
        random: Source of randomness.
        most: Largest number of objects.
        asked: The class of all of them, one of the bank's; None to draw each one's.

    Returns:
        One or more, the farther ones first: each is drawn over those before it.
    """
    classes = sorted(bank.classes) if asked is None else [asked]
    odds = 1 / bank.shares[classes]
    odds /= odds.sum()
    ends, free = rows_below(label), BUDGET * label.size
    placed: list[Placement] = []
    for _ in range(int(random.integers(1, most + 1))):
        for _ in range(TRIES):
            class_id = classes[int(random.choice(len(classes), p=odds))]
            known = bank.classes[class_id]
            segment = known.segments[int(random.integers(len(known.segments)))]
            found = _place(label, ends, bank, class_id, segment, random)
            if found is None or found.visible.sum() > free or _covers(found, placed):
                continue
            placed.append(found)
            free -= found.visible.sum()
            break
    if not placed:
        # Nothing fits this image: an object goes where it stood in its own, and hides what is there.
        class_id = classes[int(random.choice(len(classes), p=odds))]
        known = bank.classes[class_id]
        segment = known.segments[int(random.integers(len(known.segments)))]
        placed.append(Placement(segment, class_id, segment.box, segment.shape, segment.shape))
    return _farther_first(placed)


def lacking_objects(
    label: np.ndarray, palette: np.ndarray, bank: SegmentBank, random: np.random.Generator
) -> list[Placement]:
    """Choose objects of the classes that a layout holds less of than was asked for, and where they stand.

    Each class of the bank, the rarest first, gets objects as long as these bring it nearer to what was asked. They
    stand where `place_objects` would put them, and share no pixels with each other.

    Args:
        label: [H, W], class ids without ignored pixels.
        palette: [K], the class shares that were asked for, summing to 1.
        bank: The segments.
        random: Source of randomness.

    Returns:
        The farther ones first; none where nothing is lacking or fits.
    """
    ends, drawn = rows_below(label), label.copy()
    placed: list[Placement] = []
    for class_id in sorted(bank.classes, key=lambda each: bank.shares[each]):
        asked, segments = palette[class_id] * label.size, bank.classes[class_id].segments
        tries, lacking = 0, asked - np.count_nonzero(drawn == class_id)
        while lacking > 0 and tries < TRIES:
            segment = segments[int(random.integers(len(segments)))]
            found = _place(label, ends, bank, class_id, segment, random)
            tries += 1
            if found is None or _covers(found, placed):
                continue
            # Pixels that were of the class before bring it no nearer.
            tried = drawn.copy()
            draw_objects(tried, [found])
            left = asked - np.count_nonzero(tried == class_id)
            if abs(left) >= lacking:
                continue
            placed.append(found)
            drawn, lacking, tries = tried, left, 0
    return _farther_first(placed)


def draw_objects(label: np.ndarray, placements: Iterable[Placement]) -> None:
    """Give the visible pixels of objects their classes, in place, each object above those before it."""
    for each in placements:
        top, left, height, width = each.box
        label[top : top + height, left : left + width][each.visible] = each.class_id


def _farther_first(placed: list[Placement]) -> list[Placement]:
    return sorted(placed, key=lambda each: each.box[0] + each.box[2])


def _place(
    label: np.ndarray, ends: np.ndarray, bank: SegmentBank, class_id: int, segment: Segment, random: np.random.Generator
) -> Placement | None:
    """Put a segment somewhere into a layout; None where it does not fit or too little of it would show."""
    known = bank.classes[class_id]
    odds = places(label, bank, class_id, segment).reshape(-1).cumsum()
    if odds[-1] <= 0:
        return None
    place = int(np.searchsorted(odds, random.uniform(0, odds[-1]), side="right"))
    bottom, middle = divmod(min(place, odds.size - 1), label.shape[1])
    shape = scaled(segment.shape, scale_at(known, segment, bottom))
    height, width = shape.shape
    top, left = bottom - height + 1, middle - width // 2
    if top < 0 or left < 0 or left + width > label.shape[1]:
        return None
    part = (slice(top, bottom + 1), slice(left, left + width))
    visible = shape & ~hidden(label[part], ends[part], bank, class_id, bottom)
    if visible.sum() < VISIBLE_PART * shape.sum():
        return None
    return Placement(segment, class_id, (top, left, height, width), shape, visible)


def scale_at(known: ClassSegments, segment: Segment, bottom: int) -> float:
    """Return the factor by which a segment is resized where its lowest row is another; 1 where no relation is known."""
    if known.heights is None:
        return 1.0
    return float(known.heights.height(bottom) / known.heights.height(segment.bottom))


def places(label: np.ndarray, bank: SegmentBank, class_id: int, segment: Segment) -> np.ndarray:
    """Return the odds of each pixel to be the middle of a segment's lowest row, float64 [H, W].

    They are those of the class, times those of the class of the pixel below to carry it, where the segment keeps a
    sensible size: within `SCALES`, or near its own row if no relation of size and row is known.
    """
    known, height = bank.classes[class_id], label.shape[0]
    rows = np.arange(height)
    if known.heights is None:
        fits = np.abs(rows - segment.bottom) <= OWN_ROWS * height
    else:
        scale = known.heights.height(rows) / known.heights.height(segment.bottom)
        fits = (scale >= SCALES[0]) & (scale <= SCALES[1])
    rests = np.zeros(label.shape)
    rests[:-1] = known.support[label[1:]]
    return known.positions * rests * fits[:, None]


def hidden(label: np.ndarray, ends: np.ndarray, bank: SegmentBank, class_id: int, bottom: int) -> np.ndarray:
    """Return where an object that ends at a row is hidden, bool of the shape of `label`.

    What stands reaches down to the ground, the lower the nearer: it hides an object whose lowest row is above. Ground
    hides nothing. How near things are that hang cannot be told: they never cover anything of the classes of the bank.

    Args:
        label: Class ids of a part of a layout.
        ends: The same part of `rows_below` of the layout.
        bank: Classes that are inserted, and ground.
        class_id: Class of the object.
        bottom: Its lowest row.
    """
    if not bank.classes[class_id].stands:
        return np.isin(label, list(bank.classes))
    return (ends > bottom) & ~np.isin(label, list(bank.ground))


def _covers(found: Placement, placed: list[Placement]) -> bool:
    """Tell whether an object shares pixels with those that are placed."""
    top, left, height, width = found.box
    for other in placed:
        above, beside, other_height, other_width = other.box
        rows = range(max(top, above), min(top + height, above + other_height))
        columns = range(max(left, beside), min(left + width, beside + other_width))
        if rows and columns:
            return True
    return False
