"""Feature vectors of images, from Inception and from a segmenter, for metrics that compare sets of images."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from scenepalette.common.progress import NO_PROGRESS, Progress
from scenepalette.common.storage.downloads import load_published
from scenepalette.evaluation.miou import apply_to_pairs
from scenepalette.generators.images.base import FeatureNetwork
from scenepalette.segmenters.model import feature_maps, pooled_features
from scenepalette.training.device.fitting import in_fitting_batches

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from scenepalette.data.arrays import PairSource

INCEPTION_LAYER = "2048"


def inception_url() -> str:
    """Return where torch-fidelity publishes the weights of FID's network."""
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    return URL_INCEPTION_V3


def load_inception(weights_path: Path | None = None) -> nn.Module:
    """Load the Inception network of FID.

    Args:
        weights_path: File in torch-fidelity's format; None takes it from torch.hub's folder or downloads it there.

    Returns:
        The network: uint8 B3HW to a tuple with float32 [B, 2048].

    Raises:
        AbsentError: The weights cannot be downloaded or loaded.
    """

    def build(path: Path) -> nn.Module:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        return FeatureExtractorInceptionV3("inception-v3-compat", [INCEPTION_LAYER], str(path))

    return load_published("Inception", inception_url(), build, weights_path)


def inception_features(
    network: nn.Module, images: Iterable[np.ndarray], device: torch.device | str = "cpu"
) -> np.ndarray:
    """Return the features of FID's Inception network.

    Args:
        network: Result of `load_inception`; moved to the device.
        images: Batches uint8 [B, H, W, 3].
        device: Where the network runs.

    Returns:
        float32 [N, 2048], in the order of the images.
    """
    inception, collected = network.to(device), []
    for batch in images:

        def of_rows(rows: range, batch: np.ndarray = batch) -> np.ndarray:
            some = np.ascontiguousarray(batch[rows.start : rows.stop])
            image = torch.from_numpy(some).permute(0, 3, 1, 2).to(device)  # B 3 H W
            with torch.inference_mode():
                return inception(image)[0].cpu().numpy()

        collected += [features for _, features in in_fitting_batches(len(batch), max(1, len(batch)), of_rows)]
    return np.concatenate(collected) if collected else np.zeros((0, int(INCEPTION_LAYER)), dtype=np.float32)


def segmenter_features(
    model: nn.Module,
    pairs: PairSource,
    batch_size: int,
    fabric: Fabric,
    progress: Progress = NO_PROGRESS,
    description: str = "Segmenter features",
) -> np.ndarray:
    """Return the pooled encoder features of a segmenter.

    The model is what `train_segmenter` returns for real pairs; of the pairs only the images are used.

    Returns:
        float32 [N, D], in the order of the pairs, with D the width of the encoder's last stage.
    """

    def pool(image: Tensor, label: Tensor) -> Tensor:
        return pooled_features(model, image).cpu()

    batches = list(apply_to_pairs(model, pairs, pool, batch_size, fabric, progress, description))
    return torch.cat(batches).numpy() if batches else np.zeros((0, 1), dtype=np.float32)


CHOSEN_SEGMENTER = "encoder of the segmenter trained on real pairs"


class SegmenterFeatures(FeatureNetwork):
    """The encoder of a segmenter trained on the real pairs; the documented substitute for VGG-19.

    Args:
        segmenter: The network.
        chosen: Whether it was asked for, rather than found in VGG-19's place.
    """

    description = "encoder of the segmenter trained on real pairs (VGG-19 weights were not available)"

    def __init__(self, segmenter: nn.Module, *, chosen: bool = False) -> None:
        super().__init__()
        if chosen:
            self.description = CHOSEN_SEGMENTER
        self.segmenter = segmenter

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map B3HW in [-1, 1] to the encoder's feature maps, without the image itself."""
        return feature_maps(self.segmenter, image)


OWN_FEATURES = frozenset({SegmenterFeatures.description, CHOSEN_SEGMENTER})
"""Descriptions of networks that were trained on the real pairs alone."""
