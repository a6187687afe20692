"""Partial pairs: real layouts edited in part, and images generated for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from scenepalette.data.classes import IGNORE_ID
from scenepalette.data.labels import labels_to_palette, one_hot
from scenepalette.data.shards.kinds import KIND_CARDS
from scenepalette.generators.layouts.crops import boxes_to_crop, crop_palette, sample_crop
from scenepalette.generators.layouts.networks.progressive import addition_budget, crop_layout, partial_budget
from scenepalette.generators.pairs.base import Composite, Layouts, PairKind, PairMaker
from scenepalette.generators.pairs.composite import RealPart
from scenepalette.training.arms import Arm


class Partial(PairKind):
    """Real layouts of which a crop is redone, or to which a sampled palette adds (Le Moing et al., 2021, 3.4)."""

    name = "partial"
    card = KIND_CARDS["partial"]
    caption = (
        "A box of a real layout drawn again, then the image generated. Bars: achieved class shares; black lines: the "
        "shares asked for."
    )
    arms: ClassVar[Mapping[str, Arm]] = {
        "real+partial": Arm("real pairs and real layouts edited in part", synthetic="partial"),
        "real+partial-trusted": Arm(
            "real pairs and real layouts edited in part, pixels that teachers doubt left out",
            synthetic="partial",
            trust="mask",
        ),
        "real+partial-advent": Arm(
            "real pairs and real layouts edited in part, AdvEnt", synthetic="partial", adaptation="advent"
        ),
    }
    by_default = True
    layout_section = "partial"
    edits_layouts = True
    settings = ("composite",)

    def keeps_real_pixels(self, composite: Composite) -> bool:
        """Return whether images are painted in the edited box alone."""
        return composite == "box"

    def layouts(self, maker: PairMaker, indices: list[int], randoms: list[np.random.Generator]) -> Layouts:
        """Edit real layouts."""
        device, count = maker.fabric.device, maker.num_classes
        real = maker.real_layouts(indices)
        layout = one_hot(real.painted.to(device), count)
        if maker.edits == "add":
            targets, boxes = maker.sample_palettes(indices, randoms), real.boxes
            shares = torch.from_numpy(targets)
            budget = addition_budget(shares.float(), labels_to_palette(real.painted, count))
            edited = maker.generate_layouts(indices, randoms, budget.to(device), layout, palettes=shares)
            return Layouts(_as_known(real, edited), edited, targets, real.sources, boxes)
        edited_boxes = [sample_crop(random, maker.train.size, maker.crop_mode) for random in randoms]
        crop = boxes_to_crop(edited_boxes, maker.train.size)
        shares, kept = crop_palette(real.painted, crop, count), real.painted.masked_fill(crop, IGNORE_ID)
        budget = partial_budget(shares, crop)
        layout = crop_layout(layout, crop.to(device))
        edited = maker.generate_layouts(indices, randoms, budget.to(device), layout, palettes=shares, kept=kept)
        composites = None
        if maker.composite == "box":
            edited = torch.where(crop, edited, real.painted)
            chosen = maker.choose_sources(indices, len(maker.train))
            composites = [
                RealPart(np.asarray(maker.train.images[source]), [box], same)
                for source, box, same in zip(chosen, edited_boxes, (edited == real.painted).numpy(), strict=True)
            ]
        return Layouts(_as_known(real, edited), edited, real.targets, real.sources, edited_boxes, composites)


def _as_known(real: Layouts, edited: Tensor) -> Tensor:
    """Return edited layouts; where nothing changed, pixels that the annotators left out are as unknown as before."""
    return torch.where((real.labels == IGNORE_ID) & (edited == real.painted), IGNORE_ID, edited)
