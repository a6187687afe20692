"""What metrics are computed from, each part made when the first metric needs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from torch import nn

from scenepalette.common.errors import AbsentError
from scenepalette.common.progress import NO_PROGRESS, Progress
from scenepalette.data.arrays import PairSource, images_to_uint8
from scenepalette.evaluation.images.appearance import AppearanceHistograms, appearance_histograms
from scenepalette.evaluation.images.diversity import load_lpips
from scenepalette.evaluation.images.features import inception_features, load_inception, segmenter_features
from scenepalette.evaluation.images.precision_recall import PrecisionRecall, precision_recall
from scenepalette.evaluation.miou import confusion_per_image

if TYPE_CHECKING:
    from lightning_fabric import Fabric


DRAWS = "draws"
NEEDS = {
    "real": "real pairs; `real.batch(rows)` gives images B3HW in [-1, 1] and labels BHW, `len(real)` their number",
    "generated": "generated pairs, in the same form",
    "table": "their class table",
    "segmenter": "the segmenter trained on real pairs, images B3HW in [-1, 1] to logits BKHW",
    "gan_test": "its confusion matrices [M, K, K] on the generated pairs",
    "segmenter_features": "features [N, D] of real and [M, D] of generated images, by that segmenter",
    "segmenter_shares": "precision and recall by these",
    "inception_features": "features [N, 2048] of real and [M, 2048] of generated images, by FID's Inception",
    "inception_shares": "precision and recall by these",
    "histograms": "`AppearanceHistograms` of real and of generated pairs",
    "lpips": "the network that `mean_pairwise_lpips` takes",
    "device": "where networks run",
    "real_palettes": "class shares [N, K] of the real training layouts",
    "requested_palettes": "class shares [M, K] asked of the layout generator",
    "achieved_palettes": "class shares [M, K] of the layouts that it made",
    "gan_train": "confusion matrices [N, K, K] on real images of a segmenter trained on generated pairs",
    "discriminator": "confusion matrix [K, K] on real images of a discriminator that labels pixels",
    "memorisation": "distances of generated and of validation images to training images, as `Memorisation`",
    "layout_size": "height and width of the layouts of which several images are drawn",
    DRAWS: "several images of one layout, as `Draws`; the metric is a mean over layouts",
}
"""What the function of a metric may be given, by name."""


class Draws(NamedTuple):
    """Images drawn for one layout.

    Attributes:
        images: uint8 [N, H, W, 3], N >= 2.
        label: The layout, integer class ids [H, W].
    """

    images: np.ndarray
    label: np.ndarray


class Evidence:
    """What metrics need, by the names of `NEEDS`; made once, when first asked for, or absent for good."""

    def __init__(
        self,
        real: PairSource,
        generated: PairSource,
        segmenter: nn.Module,
        *,
        batch_size: int,
        fabric: Fabric,
        draws: Callable[[], Iterator[Draws]],
        inception_weights: Path | None = None,
        alexnet_weights: Path | None = None,
        given: Mapping[str, Any] | None = None,
        progress: Progress = NO_PROGRESS,
    ) -> None:
        """Say what is compared; nothing is computed yet.

        Args:
            real: Real pairs, as a rule of the validation split.
            generated: Generated pairs.
            segmenter: Segmenter trained on real pairs.
            batch_size: Images at once.
            fabric: Device and precision.
            draws: Yields several images of each of some layouts.
            inception_weights: Local file for FID, precision and recall; None to find or download it.
            alexnet_weights: Local file for LPIPS; None to find or download it.
            given: What else is there, by name; it takes the place of what would be computed.
            progress: Counts images.
        """
        self.draws = draws
        self._pairs, self._segmenter = (real, generated), segmenter
        self._batch_size, self._fabric, self._progress = batch_size, fabric, progress
        self._inception_weights, self._alexnet_weights = inception_weights, alexnet_weights
        self._made: dict[str, Any] = {
            "real": real,
            "generated": generated,
            "table": real.table,
            "segmenter": segmenter,
            "device": fabric.device,
            **(given or {}),
        }

    def __contains__(self, need: str) -> bool:
        """Tell whether something is there or can be made, as far as is known without making it."""
        return need == DRAWS or need in self._made or hasattr(self, f"_{need}")

    def __getitem__(self, need: str) -> Any:
        """Return what a metric needs.

        Raises:
            AbsentError: It cannot be had.
        """
        if need not in self._made:
            try:
                self._made[need] = getattr(self, f"_{need}")()
            except AbsentError as absent:
                self._made[need] = absent
        if isinstance(self._made[need], AbsentError):
            raise self._made[need]
        return self._made[need]

    def _gan_test(self) -> np.ndarray:
        return confusion_per_image(self._segmenter, self._pairs[1], self._batch_size, self._fabric, self._progress)

    def _segmenter_features(self) -> list[np.ndarray]:
        return [
            segmenter_features(
                self._segmenter,
                pairs,
                self._batch_size,
                self._fabric,
                self._progress,
                f"Segmenter features of {what} images",
            )
            for what, pairs in zip(("real", "generated"), self._pairs, strict=True)
        ]

    def _segmenter_shares(self) -> PrecisionRecall:
        return precision_recall(*self["segmenter_features"])

    def _inception_features(self) -> list[np.ndarray]:
        network = load_inception(self._inception_weights)
        return [
            inception_features(network, (images for images, _ in batches), self._fabric.device)
            for batches in self._batches("Inception features")
        ]

    def _inception_shares(self) -> PrecisionRecall:
        return precision_recall(*self["inception_features"])

    def _histograms(self) -> list[AppearanceHistograms]:
        classes = self["table"].num_classes
        return [appearance_histograms(batches, classes) for batches in self._batches("Colours and textures")]

    def _lpips(self) -> nn.Module:
        return load_lpips(self._alexnet_weights).to(self._fabric.device)

    def _batches(self, work: str) -> Iterator[Iterator[tuple[np.ndarray, np.ndarray]]]:
        """Yield, for real and for generated pairs, their images uint8 [B, H, W, 3] and labels int64 [B, H, W]."""

        def batches(pairs: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
            for first in range(0, len(pairs), self._batch_size):
                images, labels = pairs.batch(range(first, min(first + self._batch_size, len(pairs))))
                yield images_to_uint8(images), labels.numpy()
                self._progress.advance(len(images))

        for what, pairs in zip(("real", "generated"), self._pairs, strict=True):
            self._progress.start(f"{work} of {what} images", len(pairs))
            yield batches(pairs)
            self._progress.finish()
