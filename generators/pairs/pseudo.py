"""Pseudo pairs: layouts predicted from images without labels, and images generated for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from scenepalette.data.shards.kinds import KIND_CARDS
from scenepalette.data.shards.schema import palette_of_label
from scenepalette.generators.pairs.base import Layouts, PairKind, PairMaker
from scenepalette.training.arms import Arm


class Pseudo(PairKind):
    """Layouts that an image system's discriminator predicts (Schönfeld et al., 2021, App. B.4)."""

    name = "pseudo"
    card = KIND_CARDS["pseudo"]
    caption = "Layouts predicted from real images without labels, with newly generated images."
    arms: ClassVar[Mapping[str, Arm]] = {
        "real+pseudo": Arm(
            "real pairs and images painted on predicted layouts of unlabelled images", synthetic="pseudo"
        )
    }
    predicts = True
    costs_like = "semi"

    def layouts(self, maker: PairMaker, indices: list[int], randoms: list[np.random.Generator]) -> Layouts:
        """Predict the layouts of unlabelled images."""
        assert maker.unlabelled is not None and maker.labeller is not None
        chosen = maker.choose_sources(indices, len(maker.unlabelled))
        layout = maker.labeller(maker.unlabelled.batch(chosen).to(maker.fabric.device)).cpu()
        # Nothing is asked of them.
        palettes = [palette_of_label(label, maker.num_classes) for label in layout.numpy().astype(np.uint8)]
        sources = [maker.unlabelled.ids[position] for position in chosen]
        return Layouts(layout, layout, np.stack(palettes), sources, [None] * len(indices))
