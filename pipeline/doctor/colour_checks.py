"""Whether classes have the colours that things of their names have in images, as far as that can be relied on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
from PIL import Image

from scenepalette.common.errors import DataError
from scenepalette.data.arrays import resize_label
from scenepalette.data.classes import IGNORE_ID
from scenepalette.data.decoding.class_names import SKY, plain_name
from scenepalette.data.sample import Sample, SegmentationDataset
from scenepalette.data.sequences import evenly_spread
from scenepalette.pipeline.doctor.findings import Check

LOOKED_AT = 20
_SIZE = (96, 128)
_LEAST_IMAGES, _LEAST_SHARE = 6, 0.01
_NIGHT = 40
"""Mean grey value up to which an image may be of the night, in which the sky is dark."""


def check_colours(datasets: Sequence[SegmentationDataset]) -> Check | None:
    """Ask about a sky that is darker than the rest of its images: its id may be another class's.

    Looked at are 20 samples of each split, evenly spread. Those of which sky covers less than 1 %, and dark images, of
    a mean grey value below 40, say nothing; six others are needed. Nothing is asked of other classes: in 92 images of
    CamVid the sky is brighter than the rest by 111 to 193 of 255, while trees are as grey as buildings and roads cannot
    be told from pavements, cars or fences.

    Returns:
        None where there is no such class, or too little of it.
    """
    names = datasets[0].table.names
    skies = [class_id for class_id, name in enumerate(names) if plain_name(name) in SKY]
    brighter: list[float] = []
    of_classes: defaultdict[int, list[float]] = defaultdict(list)
    for dataset in datasets if skies else ():
        for place in evenly_spread(len(dataset), LOOKED_AT):
            with suppress(DataError):  # changed since it was scanned, which is reported elsewhere
                _look(dataset[place], skies, brighter, of_classes)
    if len(brighter) < _LEAST_IMAGES:
        return None
    sky = " and ".join(f"'{names[class_id]}' ({class_id})" for class_id in skies)
    difference = float(np.median(brighter))
    where = f"{len(brighter)} images looked at"
    if difference >= 0:
        return Check("colours", "ok", f"The class {sky} is brighter than the rest of the {where}, as a sky should be.")
    brightest = max(
        of_classes, key=lambda class_id: (len(of_classes[class_id]) >= _LEAST_IMAGES, np.median(of_classes[class_id]))
    )
    return Check(
        "colours",
        "warning",
        f"The class {sky} is darker than the rest of the {where}, by {-difference:.0f} of 255. The brightest is "
        f"'{names[brightest]}' ({brightest}).",
        "Look at some labels and their images: does each value stand for the class that the table says? Where it does, "
        "as before snow or in thermal images, nothing has to be done.",
    )


def _look(sample: Sample, skies: Sequence[int], brighter: list[float], of_classes: dict[int, list[float]]) -> None:
    """Add how much brighter the sky, and each class, is than the rest of an image."""
    small = Image.fromarray(sample.image).convert("L").resize((_SIZE[1], _SIZE[0]), Image.Resampling.BOX)
    grey, label = np.asarray(small, np.float32), resize_label(sample.label, _SIZE)
    is_sky = np.isin(label, skies)
    if grey.mean() < _NIGHT or not _LEAST_SHARE <= is_sky.mean() < 1:
        return
    brighter.append(float(grey[is_sky].mean() - grey[~is_sky].mean()))
    for class_id in np.unique(label[label != IGNORE_ID]).tolist():
        here = label == class_id
        if _LEAST_SHARE <= here.mean() < 1:
            of_classes[class_id].append(float(grey[here].mean() - grey[~here].mean()))
