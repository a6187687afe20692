"""How much generated layouts differ from each other: a measure of collapse that costs a few samples."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scenepalette.data.labels import soft_to_label
from scenepalette.data.sequences import evenly_spread
from scenepalette.generators.layouts.inputs import InputSource
from scenepalette.training.monitor import preserve_state

WATCHED_LAYOUTS = 16


def pairwise_disagreement(labels: Tensor, region: Tensor | None = None) -> float:
    """Return the share of pixels in which two label maps differ, averaged over all pairs.

    Args:
        labels: BHW class ids, B at least 2.
        region: HW bool, the pixels that count; None for all.
    """
    pixels = labels.flatten(1) if region is None else labels[:, region]
    pairs = [(pixels[a] != pixels[b]).float().mean() for a, b in combinations(range(len(pixels)), 2)]
    return float(torch.stack(pairs).mean())


class LayoutDiversity:
    """Diversity of a layout generator's fixed samples, as fractions of the diversity of real layouts."""

    def __init__(self, inputs: InputSource, labels: np.ndarray) -> None:
        """Keep fixed inputs and fixed real layouts.

        Args:
            inputs: Where fixed samples come from.
            labels: uint8 [N, H, W] class ids of real layouts, without ignored pixels.
        """
        self.inputs = inputs
        chosen = evenly_spread(len(labels), WATCHED_LAYOUTS)
        self.real = torch.from_numpy(labels[chosen].astype(np.int64))

    def measure(self, network: nn.Module, level: int, fade: float) -> dict[str, float]:
        """Return disagreements between hard layouts at a level, divided by that of real layouts in the same pixels.

        Args:
            network: The generator, left as it is.
            level: Level of the growing network.
            fade: Its fade-in weight.

        Returns:
            "layout_diversity" over different samples, and "layout_noise_diversity" over different noise for one
            palette (for partial generators: one edit, in the pixels that it changes). A measure is left out where
            real layouts do not differ.
        """
        samples, repeated, region = self.inputs.watched(WATCHED_LAYOUTS)
        with preserve_state(network):
            first, second = (soft_to_label(x.run(network, level, fade).layout).cpu() for x in (samples, repeated))
        size = first.shape[1:]
        real = F.interpolate(self.real[:, None].float(), size=size, mode="nearest-exact")[:, 0].long()
        if region is not None:
            region = F.interpolate(region[None, None].float(), size=size, mode="nearest-exact")[0, 0].bool().cpu()
            region = region if region.any() else None
        measures = {"layout_diversity": (first, None), "layout_noise_diversity": (second, region)}
        differing = {name: pairwise_disagreement(real, where) for name, (_, where) in measures.items()}
        return {
            name: pairwise_disagreement(labels, where) / differing[name]
            for name, (labels, where) in measures.items()
            if differing[name] > 0
        }
