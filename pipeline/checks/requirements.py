"""What every verb requires of a labelled data set: asked by the doctor, and by the stage data before anything is made.

One place, so that the doctor never passes what the next verb refuses, and both say it in the same words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from scenepalette.common.storage.untrusted import short
from scenepalette.common.wording import listed
from scenepalette.data.classes import ClassTable

LEAST_SAMPLES = 2
"""Samples of which a spread can be taken: by the palettes' mixture, and by every Frechet distance."""
LEAST_CLASSES = 2
LEAST_SIDE = 4
"""Fewest rows and columns of an image; nothing is arranged in fewer."""
MOST_STRETCHED = 10.0
"""Most by which an image is stretched to `data.size`; beyond it, rows or columns are lost by the dozen."""
REFUSED = "The data set cannot be learned from; nothing was trained."
_SHOWN = 3
_NOUNS = {"train": "training", "val": "validation", "test": "test"}


class Counted(Protocol):
    """What is known of the samples of a split."""

    @property
    def split(self) -> str:
        """Either "train", "val" or "test"."""
        ...

    @property
    def ids(self) -> Sequence[str]:
        """N sample ids."""
        ...

    @property
    def sizes(self) -> np.ndarray:
        """Int [N, 2], height and width of the images."""
        ...

    @property
    def pixels(self) -> np.ndarray:
        """Int [N, K + 1], pixels of each class in each label, and in the last column of ignored ones."""
        ...


def requirement_problems(table: ClassTable, size: tuple[int, int], splits: Sequence[Counted]) -> list[str]:
    """Return what keeps a data set from being learned from and measured on, one text each with what to do.

    Args:
        table: Its classes.
        size: Height and width in pixels that samples are resized to.
        splits: Training, validation and, if there is one, the test split.
    """
    counts = {counted.split: len(counted.ids) for counted in splits}
    problems = amount_problems(counts.get("train", 0), counts.get("val", 0))
    for counted in splits:
        noun = _NOUNS[counted.split]
        if counted.split != "test" and len(counted.ids):
            problems += _class_problems(table, counted.pixels, noun)
        problems += _size_problems(counted, size, noun)
    return problems


def amount_problems(train: int, validation: int) -> list[str]:
    """Return which of both splits have too few samples."""
    return [
        f"data.root: there {'is' if count == 1 else 'are'} {count} {noun} image{'' if count == 1 else 's'} with a "
        f"label; at least {LEAST_SAMPLES} are required. Add labelled images to the {noun} split"
        for noun, count in (("training", train), ("validation", validation))
        if count < LEAST_SAMPLES
    ]


def _class_problems(table: ClassTable, pixels: np.ndarray, noun: str) -> list[str]:
    totals = pixels.sum(axis=0)
    shown = np.flatnonzero(totals[:-1])
    ignored = 100 * totals[-1] / max(1, totals.sum())
    aside = f", and {ignored:.0f} % of the pixels are ignored" if ignored >= 1 else ""
    if len(shown) < LEAST_CLASSES:
        names = f" ({', '.join(table.names[index] for index in shown)})" if len(shown) else ""
        return [
            f"data.root: the {noun} labels show {len(shown)} of {table.num_classes} classes{names}{aside}; at least "
            f"{LEAST_CLASSES} are required, as there is nothing to tell apart. Look at some labels and at the class "
            "file: values that stand for another class may count as ignored, or not be in the labels at all"
        ]
    if noun == "training" and not ((pixels[:, :-1] > 0).sum(axis=1) >= LEAST_CLASSES).any():
        return [
            f"data.root: each {noun} label shows a single class{aside}; labels that show {LEAST_CLASSES} classes or "
            "more are required, as layouts say where one class meets another. These seem to be labels of whole images: "
            "give labels of their pixels"
        ]
    return []


def _size_problems(counted: Counted, size: tuple[int, int], noun: str) -> list[str]:
    read = counted.sizes.min(axis=1, initial=1) > 0 if len(counted.sizes) else np.zeros(0, bool)
    sides = np.maximum(counted.sizes, 1)
    small = read & (sides.min(axis=1) < LEAST_SIDE)
    stretch = (sides[:, 1] / sides[:, 0]) / (size[1] / size[0])
    stretched = read & ~small & (np.maximum(stretch, 1 / stretch) > MOST_STRETCHED)
    problems = []
    if small.any():
        problems.append(
            f"data.root: {_named(counted, small, noun)} fewer than {LEAST_SIDE} rows or columns of pixels; at least "
            f"{LEAST_SIDE} x {LEAST_SIDE} are required. Remove them with their labels, or put the real images in their "
            "place"
        )
    if stretched.any():
        problems.append(
            f"data.root: {_named(counted, stretched, noun)} an aspect ratio that data.size {size[0]} x {size[1]} would "
            f"stretch more than {MOST_STRETCHED:g} times. Cut them into pieces with their labels, or choose a "
            "data.size of their aspect ratio"
        )
    return problems


def _named(counted: Counted, chosen: np.ndarray, noun: str) -> str:
    """Return how many images of a split are chosen, with some of them, up to the verb."""
    places = np.flatnonzero(chosen).tolist()
    named = (
        f"{short(counted.ids[place])} of {counted.sizes[place, 0]} x {counted.sizes[place, 1]}" for place in places
    )
    images, verb = ("image", "has") if len(places) == 1 else ("images", "have")
    return f"{len(places)} {noun} {images} ({listed(named, _SHOWN)}) {verb}"
