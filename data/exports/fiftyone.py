"""The folder that FiftyOne imports as `ImageSegmentationDirectory`: images and masks of equal names.

FiftyOne takes mask value 0 for background, which it does not draw. Masks therefore hold class ids plus 1, and 0 where
there is no label; `mask_targets.json` says which value is which class, for `default_mask_targets` of a data set.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from scenepalette.common.png import png_of
from scenepalette.common.storage.files import write_atomically
from scenepalette.data.classes import IGNORE_ID
from scenepalette.data.exports.verified_shards import ExportedRow, VerifiedShards

TARGETS = "mask_targets.json"


def write_fiftyone(out: Path, shards: VerifiedShards, rows: Iterator[ExportedRow]) -> None:
    """Write OUT/data/ID.(jpg|png), OUT/labels/ID.png and OUT/mask_targets.json."""
    for row in rows:
        label = row.row.label
        # 255 classes at most, so that the largest value is 255.
        mask = png_of(np.where(label == IGNORE_ID, 0, label + np.uint8(1)).astype(np.uint8))
        write_atomically(out / "data" / row.image_name, row.image, durable=False)
        write_atomically(out / "labels" / f"{row.key}.png", mask, durable=False)
    targets = {str(value): name for value, name in enumerate(shards.table.names, start=1)}
    write_atomically(out / TARGETS, json.dumps(targets, indent=2, ensure_ascii=False) + "\n")
