"""Insert pairs: real images into which objects of rare classes are put, painted there by the image generator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch

from scenepalette.data.shards.kinds import KIND_CARDS
from scenepalette.data.shards.schema import palette_of_label
from scenepalette.generators.layouts.crops import EditBox
from scenepalette.generators.pairs.base import Composite, Inserted, Layouts, PairKind, PairMaker
from scenepalette.generators.pairs.composite import RealPart, box_around
from scenepalette.generators.pairs.placement import draw_objects, place_objects
from scenepalette.training.arms import Arm

MOST_OBJECTS = 20
"""Largest number of objects that may be asked for."""


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
    takes_budget = True
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
            asked = maker.asked_class(indices[i])
            placements = place_objects(before, maker.bank, random, maker.insert_objects, asked)
            for layout in (labels[i], painted[i]):
                draw_objects(layout, placements)
            boxes.append(box_around([each.box for each in placements]))
            inserted.append(maker.inserted(placements, str(real.sources[i])))
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
