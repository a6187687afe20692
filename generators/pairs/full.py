"""Full pairs: layout and image are both generated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch

from scenepalette.data.shards.kinds import KIND_CARDS
from scenepalette.generators.pairs.base import Layouts, PairKind, PairMaker
from scenepalette.training.arms import Arm


class Full(PairKind):
    """Layouts drawn for sampled palettes (Le Moing et al., 2021, section 3)."""

    name = "full"
    card = KIND_CARDS["full"]
    caption = (
        "Layout and image both generated; under hardening by objects, the shapes of rare ones are real. Bars: achieved "
        "class shares; black lines: the shares asked for."
    )
    arms: ClassVar[Mapping[str, Arm]] = {
        "syn": Arm("generated pairs alone (GAN-train)", real="none", synthetic="full"),
        "syn-advent": Arm(
            "generated pairs, and real images without labels by AdvEnt",
            real="unlabelled",
            synthetic="full",
            adaptation="advent",
        ),
        "syn-minent": Arm(
            "generated pairs, and real images without labels by MinEnt",
            real="unlabelled",
            synthetic="full",
            adaptation="minent",
        ),
        "real+syn": Arm("real and generated pairs", synthetic="full"),
        "real+syn-trusted": Arm(
            "real and generated pairs, pixels that teachers doubt left out", synthetic="full", trust="mask"
        ),
        "real+syn-relabelled": Arm(
            "real and generated pairs, pixels that teachers doubt left out or relabelled",
            synthetic="full",
            trust="relabel",
        ),
        "copy-paste+syn-trusted": Arm(
            "as copy-paste and as real+syn-trusted", synthetic="full", mixing="copy-paste", trust="mask"
        ),
        "real+syn-advent": Arm("real and generated pairs, AdvEnt", synthetic="full", adaptation="advent"),
        "real+syn-minent": Arm("real and generated pairs, MinEnt", synthetic="full", adaptation="minent"),
    }
    by_default = True
    layout_section = "full"
    from_scratch = True
    takes_budget = True

    def layouts(self, maker: PairMaker, indices: list[int], randoms: list[np.random.Generator]) -> Layouts:
        """Draw layouts for sampled palettes."""
        palettes = maker.sample_palettes(indices, randoms)
        target = torch.from_numpy(palettes).float().to(maker.fabric.device)
        layout = maker.generate_layouts(indices, randoms, target, palettes=torch.from_numpy(palettes))
        objects = maker.hardening == "objects"
        inserted = maker.put_lacking_objects(layout, palettes, randoms) if objects else None
        nothing = [None] * len(indices)
        return Layouts(layout, layout, palettes, sources=nothing, boxes=nothing, inserted=inserted)
