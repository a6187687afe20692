"""Street scenes drawn by hand: sky, a road with a pavement, and men and signs at chosen places."""

from __future__ import annotations

import numpy as np

from scenepalette.data.arrays import Pairs
from scenepalette.data.classes import ClassTable, SemanticClass

SKY, ROAD, WALK, MAN, SIGN, VOID = range(6)
TABLE = ClassTable(
    "street",
    tuple(
        SemanticClass(name, (40 * k, 9, 9), name != "void")
        for k, name in enumerate(("sky", "road", "walk", "man", "sign", "void"))
    ),
)
SIZE = (48, 64)


def scene() -> np.ndarray:
    """Sky above, road below from row 24 on, a pavement in its left quarter."""
    label = np.full(SIZE, SKY, dtype=np.uint8)
    label[24:] = ROAD
    label[24:, :16] = WALK
    return label


def pairs_of(*labels: np.ndarray) -> Pairs:
    """Return labels with black images."""
    return Pairs(
        images=np.zeros((len(labels), *SIZE, 3), dtype=np.uint8),
        labels=np.stack(labels),
        ids=[f"s{index}" for index in range(len(labels))],
        table=TABLE,
        name="street",
        licence="CC0-1.0",
    )


def put(label: np.ndarray, class_id: int, bottom: int, left: int, height: int, width: int = 4) -> np.ndarray:
    """Draw a rectangle into a label by its lowest row and leftmost column, and return the label."""
    label[bottom - height + 1 : bottom + 1, left : left + width] = class_id
    return label
