"""Semi pairs: real layouts with newly generated images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from scenepalette.data.shards.kinds import KIND_CARDS
from scenepalette.generators.pairs.base import Layouts, PairKind, PairMaker
from scenepalette.training.arms import Arm


class Semi(PairKind):
    """Layouts of the training split, as they are."""

    name = "semi"
    card = KIND_CARDS["semi"]
    caption = "Real layouts with newly generated images."
    arms: ClassVar[Mapping[str, Arm]] = {
        "semi": Arm("real pairs and images regenerated on real layouts", synthetic="semi"),
        "semi-trusted": Arm(
            "real pairs and images regenerated on real layouts, pixels that teachers doubt left out",
            synthetic="semi",
            trust="mask",
        ),
        "semi-alone": Arm("images regenerated on real layouts alone (GAN-train)", real="none", synthetic="semi"),
        "semi-advent": Arm(
            "real pairs and images regenerated on real layouts, AdvEnt", synthetic="semi", adaptation="advent"
        ),
    }
    by_default = True

    def layouts(self, maker: PairMaker, indices: list[int], randoms: list[np.random.Generator]) -> Layouts:
        """Take real layouts."""
        return maker.real_layouts(indices)
