"""Insert pairs: real images into which objects of rare classes are put, painted there by the image generator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from scenepalette.data.shards.kinds import KIND_CARDS
from scenepalette.data.shards.schema import palette_of_label
from scenepalette.generators.layouts.crops import EditBox
from scenepalette.generators.pairs.base import Composite, Inserted, Layouts, PairKind, PairMaker
from scenepalette.generators.pairs.composite import RealPart, box_around
from scenepalette.generators.pairs.segment_bank import ClassSegments, Segment, SegmentBank, rows_below, scaled
from scenepalette.training.arms import Arm

SCALES = (0.5, 2.0)
"""Least and largest factor by which a segment is resized; with others its outline would no longer be one."""
MOST_OBJECTS = 20
"""Largest number of objects that may be asked for."""
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


class Insert(PairKind):
    """Real pairs with objects of rare classes added, painted and faded in (after Dwibedi et al., 2017, section 4)."""

    name = "insert"
    card = KIND_CARDS["insert"]
    caption = (
        "Real images with objects of rare classes put in: only their surroundings are generated. Bars: achieved class "
        "shares; black lines: the shares asked for."
    )
    arms: ClassVar[Mapping[str, Arm]] = {
        "real+insert": Arm("real pairs and real images with rare objects inserted", synthetic="insert"),
        "real+insert-trusted": Arm(
            "real pairs and real images with rare objects inserted, pixels that teachers doubt left out",
            synthetic="insert",
            trust="mask",
        ),
        "copy-paste+insert-trusted": Arm(
            "as copy-paste and as real+insert-trusted", synthetic="insert", mixing="copy-paste", trust="mask"
        ),
    }
    settings = ("insert_classes", "insert_objects")
    # Few samples, as the doctor times with, need not hold an object that can be inserted.
    costs_like = "semi"

    def keeps_real_pixels(self, composite: Composite) -> bool:
        """Return True: it is what this kind is about."""
        return True

    def layouts(self, maker: PairMaker, indices: list[int], randoms: list[np.random.Generator]) -> Layouts:
        """Put objects into real layouts."""
        real, chosen = maker.real_layouts(indices), maker.choose_sources(indices, len(maker.train))
        labels, painted = real.labels.numpy().copy(), real.painted.numpy().copy()
        boxes: list[EditBox] = []
        inserted: list[Inserted] = []
        composites: list[RealPart] = []
        for i, random in enumerate(randoms):
            before = painted[i].copy()
            placements = place_objects(before, maker.bank, random, maker.insert_objects)
            for each in placements:
                top, left, height, width = each.box
                for layout in (labels[i], painted[i]):
                    layout[top : top + height, left : left + width][each.visible] = each.class_id
            boxes.append(box_around([each.box for each in placements]))
            source = str(real.sources[i])
            names = tuple(maker.train.table.names[each.class_id] for each in placements)
            inserted.append(Inserted(names, (source, *(each.segment.id for each in placements))))
            image = np.asarray(maker.train.images[chosen[i]])
            composites.append(RealPart(image, [each.box for each in placements], before == painted[i]))
        targets = np.stack([palette_of_label(label.astype(np.uint8), maker.num_classes) for label in labels])
        return Layouts(
            torch.from_numpy(labels),
            torch.from_numpy(painted),
            targets,
            real.sources,
            boxes,
            composites=composites,
            inserted=inserted,
        )


def place_objects(label: np.ndarray, bank: SegmentBank, random: np.random.Generator, most: int) -> list[Placement]:
    """Choose objects for a layout and where they stand.

    Their number is uniform in 1 to `most`. Each one's class is drawn inversely to its share of the training pixels,
    its segment at random, its place where objects of the class are found and what they rest on is there.

    Args:
        label: [H, W], class ids without ignored pixels.
        bank: The segments.
        random: Source of randomness.
        most: Largest number of objects.

    Returns:
        One or more, the farther ones first: each is drawn over those before it.
    """
    classes = sorted(bank.classes)
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
