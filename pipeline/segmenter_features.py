"""Which features a perceptual loss compares: VGG-19's where its weights can be had, else those of our own segmenter."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from scenepalette.common.errors import AbsentError
from scenepalette.generators.images.base import FeatureNetwork
from scenepalette.generators.images.perceptual import VGG_LAYERS, load_vgg19
from scenepalette.segmenters.model import feature_maps


class SegmenterFeatures(FeatureNetwork):
    """The encoder of a segmenter trained on the real pairs; the documented substitute for VGG-19."""

    description = "encoder of the segmenter trained on real pairs (VGG-19 weights were not available)"

    def __init__(self, segmenter: nn.Module) -> None:
        """Use the encoder of `segmenter`, a result of `train_segmenter`."""
        super().__init__()
        self.segmenter = segmenter

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map B3HW in [-1, 1] to the encoder's feature maps, without the image itself."""
        return feature_maps(self.segmenter, image)


def choose_features(
    vgg_weights: Path | None, segmenter: nn.Module, layers: Sequence[int] | None = None
) -> FeatureNetwork:
    """Return VGG-19, or say in one line why it cannot be had and return the segmenter's features.

    Args:
        vgg_weights: Local weights file, or None to find or download it.
        segmenter: Trained on the real pairs.
        layers: Positions of VGG-19's layers, None for conv1_2 to conv5_2; the segmenter's encoder has its own.
    """
    try:
        return load_vgg19(vgg_weights, layers or VGG_LAYERS)
    except AbsentError as absent:
        print(
            f"{absent} The perceptual loss compares features of the segmenter trained on real pairs instead. Give "
            "images.vgg_weights for VGG-19.",
            file=sys.stderr,
            flush=True,
        )
    return SegmenterFeatures(segmenter)
