"""Guesses what label files are that do not hold the class ids that are required."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scenepalette.common.wording import counted
from scenepalette.data.classes import IGNORE_ID, ClassTable
from scenepalette.data.decoding.class_files import CAMVID, CELEBAMASK_HQ, CITYSCAPES, IDD, packaged_table
from scenepalette.data.decoding.image_opening import open_image

TRAIN_IDS = 19
"""Cityscapes' evaluated classes, which many tools renumber from 0 to 18 ("train ids")."""
_MATCHING = 0.9
_LEAST_VALUES = 3
_MOST_COLOURS = 512
_ALL_BUT, _MANY_OF = 0.9, 0.5


@dataclass(frozen=True)
class RawLabel:
    """What a label file holds, whatever that means.

    Attributes:
        mode: Pillow's name of its pixels' kind, such as L, P or RGB.
        values: Its different values, sorted; for several channels, its different colours [N, 3] if they differ.
        counts: Pixels of each.
    """

    mode: str
    values: np.ndarray
    counts: np.ndarray


def read_raw_label(path: Path) -> RawLabel:
    """Look into a label file that `read_label` may refuse, to find out what it is.

    Raises:
        DataError: It is missing, damaged, cut off or far too large.
    """
    with open_image(path) as image:
        mode = image.mode
        single = mode in ("L", "P", "1") or mode.startswith(("I", "F"))
        pixels = np.asarray(image if single else image.convert("RGB"))
    if not single:
        if (pixels != pixels[:, :, :1]).any():
            return RawLabel(mode, *np.unique(pixels.reshape(-1, 3), axis=0, return_counts=True))
        pixels = pixels[:, :, 0]
    return RawLabel(mode, *np.unique(pixels.astype(np.int64), return_counts=True))


def known_tables() -> tuple[ClassTable, ...]:
    """Return the class tables of the published data sets."""
    return (CAMVID, CITYSCAPES, IDD, CELEBAMASK_HQ, packaged_table("ade20k"), packaged_table("coco-stuff"))


def guess(labels: Sequence[RawLabel], table: ClassTable | None, *, ignored: Collection[int] = ()) -> list[str]:
    """Return what label files seem to be and how to turn them into class ids, one text per guess.

    Args:
        labels: What some of the files hold.
        table: The classes that they should be of, if known.
        ignored: Values that stand for no class and may occur, which say nothing about how ids are counted.

    Returns:
        Nothing if they look like class ids.
    """
    coloured = [label for label in labels if label.values.ndim == 2]
    single = [label for label in labels if label.values.ndim == 1]
    guesses = []
    if coloured:
        guesses.append(_guess_colours(np.unique(np.concatenate([label.values for label in coloured]), axis=0), table))
    if single:
        values = np.unique(np.concatenate([label.values for label in single]))
        guesses += _guess_values(values, table, ignored)
    return guesses


def _guess_colours(colours: np.ndarray, table: ClassTable | None) -> str:
    if len(colours) > _MOST_COLOURS:
        return (
            f"{len(colours)} different colours: these are photographs, or label images that were smoothed or stored "
            "as JPEG. Export the labels again, without smoothing, as PNG"
        )
    for candidate in [*([table] if table else []), *known_tables()]:
        known = {entry.color for entry in candidate.classes} | {(0, 0, 0)}
        share = sum(tuple(map(int, colour)) in known for colour in colours) / len(colours)
        if share >= _MATCHING and len(colours) > 1:
            return (
                f"the colours are those of the class table '{candidate.name}': state them in the class file, or "
                "replace each colour by its class's place in that table, counted from 0"
            )
    return (
        f"{counted(len(colours), 'different colour')}, of no known class table: state the colour of each class in the "
        "class file, or replace each by its class id, counted from 0"
    )


def _guess_values(values: np.ndarray, table: ClassTable | None, ignored: Collection[int]) -> list[str]:
    used = [int(value) for value in values if value != IGNORE_ID and value not in ignored]
    if not used:
        return []
    guesses = []
    count = table.num_classes if table else IGNORE_ID
    # An ignored value after the classes is counted up with them.
    last = used[-1] == count or (used[-1] > count and used[-1] - 1 in ignored)
    if table is not None and last and used[0] == 1 and len(used) >= _LEAST_VALUES:
        guesses.append(f"the values run from 1 to {used[-1]}: these count classes from 1. Subtract 1")
        return guesses
    if table is not None and used[-1] >= count:
        for candidate in [table, *known_tables()]:
            grey = {_luminance(entry.color) for entry in candidate.classes} | {0}
            if len(used) >= 3 and set(used) <= grey and used[-1] >= candidate.num_classes:
                guesses.append(
                    f"the values are the grey tones of the colours of '{candidate.name}': a colour-coded label was "
                    "turned into grey, from which ids can be had only if no two tones are equal. Go back to the colours"
                )
                return guesses
        # One value too many is a wrong value; many of another table's, up to its last ones, are that table's.
        fitting = [
            other.name
            for other in known_tables()
            if other.name != table.name
            and other.num_classes > used[-1] >= _ALL_BUT * other.num_classes
            and len(used) >= _MANY_OF * other.num_classes
        ]
        if fitting:
            guesses.append(
                f"ids up to {used[-1]} fit the class tables {', '.join(fitting)}: data.name or the class file "
                "may be that of another data set"
            )
    numbered = table is not None and table.num_classes in (len(CITYSCAPES.classes), len(IDD.classes))
    if numbered and used[-1] == TRAIN_IDS - 1 and len(used) >= TRAIN_IDS - 4:
        guesses.append(
            "only the values 0 to 18 occur: these look like Cityscapes' train ids, not its label ids. Use the files "
            "*_labelIds.png"
        )
    return guesses


def _luminance(colour: tuple[int, int, int]) -> int:
    red, green, blue = colour
    return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16  # as Pillow converts RGB to L
