"""What a test split must be to be worth a report; looked at before anything is trained.

Problems keep a run from starting. Warnings are kept with the split and stand on the report's page.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from scenepalette.common.storage.untrusted import short
from scenepalette.common.wording import counted, listed
from scenepalette.data.arrays import Pairs
from scenepalette.data.class_counts import class_counts
from scenepalette.data.classes import ClassTable
from scenepalette.data.sequences import BLOCK_FRAMES, blocks_of
from scenepalette.data.similarity import similar_pairs, thumbnail_of
from scenepalette.data.splits.holdout import LEAST_TEST

Origin = Literal["published", "held out", "drawn", "extra"]
LEAST_BLOCKS = 2
"""Blocks of consecutive frames of which an interval can be computed."""
MOST_NAMED = 5


class Findings(NamedTuple):
    """What was found of a test split.

    Attributes:
        problems: What keeps it from being used, with its remedy.
        warnings: What its scores are to be read with.
    """

    problems: list[str]
    warnings: list[str]


def examine_size(ids: Sequence[str], where: str, origin: Origin, recordings: bool) -> Findings:
    """Look at how many images, and blocks of consecutive frames, a test split has.

    Args:
        ids: Its sample ids.
        where: The field of the configuration that the split comes from, for messages.
        origin: How it came about.
        recordings: Whether images may be frames of recordings; else each is an observation by itself.
    """
    remedy = "Raise data.holdout" if origin == "held out" else "Add images"
    if len(ids) < LEAST_TEST:
        text = (
            f"{where}: the test split has {counted(len(ids), 'image')}, at least {LEAST_TEST} are required. {remedy}."
        )
        return Findings([text], [])
    if recordings and (blocks := len(set(blocks_of(ids).tolist()))) < LEAST_BLOCKS:
        text = (
            f"{where}: the test split's {len(ids)} images are {counted(blocks, 'block')} of consecutive frames (up to "
            f"{BLOCK_FRAMES} of one recording), which look alike and say little of other scenes; at least "
            f"{LEAST_BLOCKS} blocks are required for an interval"
        )
        # What is published cannot be chosen otherwise.
        return Findings([f"{text}. {remedy}."], []) if origin == "held out" else Findings([], [f"{text}."])
    return Findings([], [])


def examine_classes(table: ClassTable, in_train: np.ndarray, in_test: np.ndarray, where: str) -> Findings:
    """Look for evaluated classes that are missing from training or from a test split.

    Args:
        table: The classes.
        in_train: Whether a training label shows each class, bool [K].
        in_test: The same of the test split.
        where: The field of the configuration that the split comes from, for messages.
    """

    def names(chosen: np.ndarray) -> list[str]:
        return [table.names[index] for index in table.eval_ids if chosen[index]]

    if not names(in_train & in_test):
        text = f"{where}: no evaluated class is in training labels and in test labels; nothing could be measured"
        return Findings([f"{text}. Take another test split, or check that ids mean the same classes in both."], [])
    warnings = []
    if missing := names(in_train & ~in_test):
        they = "they are" if len(missing) > 1 else "it is"
        warnings.append(
            f"{where}: no test label shows {', '.join(missing)}: how well {they} found cannot be measured. Test on "
            "other images as well, or read the scores as those of the other classes."
        )
    if unknown := names(in_test & ~in_train):
        they, them = ("they", "them") if len(unknown) > 1 else ("it", "it")
        warnings.append(
            f"{where}: no training label shows {', '.join(unknown)}: {they} cannot be learned, and the IoU is 0. Add "
            f"training images that show {them}, or leave {them} out of the evaluated classes."
        )
    return Findings([], warnings)


def examine_arrays(train: Pairs, test: Pairs, where: str, origin: Origin, recordings: bool) -> Findings:
    """Look at a test split whose arrays are written: size, classes, and images that are also in training.

    Args:
        train: Training pairs.
        test: Pairs of the test split.
        where: The field of the configuration that the split comes from, for messages.
        origin: How it came about.
        recordings: Whether images may be frames of recordings.
    """
    parts = [
        examine_size(test.ids, where, origin, recordings),
        examine_classes(train.table, class_counts(train).pixels > 0, class_counts(test).pixels > 0, where),
        _examine_copies(train, test, where, origin),
    ]
    return Findings(
        [text for part in parts for text in part.problems], [text for part in parts for text in part.warnings]
    )


def class_difference(table: ClassTable, other: ClassTable) -> str:
    """Return in what the classes of a test set differ from those that are learned, or nothing."""
    if table.names == other.names:
        return ""
    first = next(
        (index for index, (ours, theirs) in enumerate(zip(table.names, other.names, strict=False)) if ours != theirs),
        min(len(table.names), len(other.names)),
    )
    ours, theirs = (repr(each.names[first]) if first < len(each.names) else "missing" for each in (table, other))
    return (
        f"its {len(other.names)} classes are not the {len(table.names)} of the data set: class {first} is "
        f"{short(theirs)}, {short(ours)} is required. Give a set with the same classes in the same order"
    )


def _examine_copies(train: Pairs, test: Pairs, where: str, origin: Origin) -> Findings:
    """Compare pixels, and thumbnails as the doctor does, at the size that is worked at."""
    places = {_hash(image): index for index, image in enumerate(train.images)}
    same = [
        (test.ids[j], train.ids[places[digest]])
        for j, image in enumerate(test.images)
        if (digest := _hash(image)) in places
    ]
    remedy = "Raise data.holdout_gap, or remove the copies" if origin == "held out" else "Remove them from one of both"
    if same:
        text = f"{where}: {counted(len(same), 'test image is', 'test images are')} also in training ({_listed(same)})"
        return Findings([f"{text}; scores on images that were trained on mean nothing. {remedy}."], [])
    thumbnails = [np.stack([thumbnail_of(image) for image in pairs.images]) for pairs in (test, train)]
    alike = similar_pairs(*thumbnails, most=1)
    if not alike:
        return Findings([], [])
    near = [(test.ids[pair.first], train.ids[pair.second]) for pair in alike]
    alike_ones = counted(len(near), "test image is", "test images are")
    text = f"{where}: {alike_ones} nearly identical to training images ({_listed(near)})"
    return Findings([], [f"{text}; scores may flatter. {remedy}."])


def _hash(image: np.ndarray) -> str:
    return hashlib.sha256(image.tobytes()).hexdigest()


def _listed(pairs: Sequence[tuple[str, str]]) -> str:
    return listed((f"{short(test)} is {short(train)}" for test, train in pairs), MOST_NAMED)
