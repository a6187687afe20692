"""Partial pairs: real layouts edited in part, and images generated for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch

from scenepalette.data.classes import IGNORE_ID
from scenepalette.data.labels import labels_to_palette, one_hot
from scenepalette.data.shards.kinds import KIND_CARDS
from scenepalette.generators.layouts.crops import boxes_to_crop, crop_palette, sample_crop
from scenepalette.generators.layouts.networks import addition_budget, crop_layout, partial_budget
from scenepalette.generators.pairs.base import Layouts, PairKind, PairMaker
from scenepalette.training.arms import Arm


class Partial(PairKind):
    """Real layouts of which a crop is redone, or to which a sampled palette adds (Semantic Palette, section 3.4)."""

    name = "partial"
    card = KIND_CARDS["partial"]
    caption = (
        "A box of a real layout drawn again, then the image generated. Bars: achieved class shares; black lines: the "
        "shares asked for."
    )
    arms: ClassVar[Mapping[str, Arm]] = {
        "real+partial": Arm("real pairs and real layouts edited in part", synthetic="partial"),
        "real+partial-advent": Arm(
            "real pairs and real layouts edited in part, AdvEnt", synthetic="partial", adaptation="advent"
        ),
    }
    by_default = True
    layout_section = "partial"
    edits_layouts = True

    def layouts(self, maker: PairMaker, indices: list[int], randoms: list[np.random.Generator]) -> Layouts:
        """Edit real layouts."""
        device, count = maker.fabric.device, maker.num_classes
        real = maker.real_layouts(indices)
        layout = one_hot(real.painted.to(device), count)
        if maker.edits == "add":
            targets, boxes = maker.sample_palettes(randoms), real.boxes
            budget = addition_budget(torch.from_numpy(targets).float(), labels_to_palette(real.painted, count))
        else:
            edited_boxes = [sample_crop(random, maker.train.size, maker.crop_mode) for random in randoms]
            targets, boxes = real.targets, edited_boxes
            crop = boxes_to_crop(edited_boxes, maker.train.size)
            budget = partial_budget(crop_palette(real.painted, crop, count), crop)
            layout = crop_layout(layout, crop.to(device))
        edited = maker.generate_layouts(indices, randoms, budget.to(device), layout)
        # Where the edit changed nothing, pixels that the annotators left out are as unknown as before.
        labels = torch.where((real.labels == IGNORE_ID) & (edited == real.painted), IGNORE_ID, edited)
        return Layouts(labels, edited, targets, real.sources, boxes)
