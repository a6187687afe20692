"""Generated pairs whose labels are left out, or replaced, where teachers do not trust them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from scenepalette.common.errors import DataError
from scenepalette.data.classes import IGNORE_ID
from scenepalette.data.shards.pairs import FirstPairs, ShardPairs
from scenepalette.evaluation.pair_quality.quality import QualityFile
from scenepalette.evaluation.pair_quality.trust import TrustSettings, relabelled, thresholds, trusted_pixels


class TrustedPairs(FirstPairs):
    """The first pairs of a folder of shards, with labels as far as they are trusted.

    A pair that no teacher judged keeps its label. Thresholds are applied as pairs are read: shards and scores stay
    as they are.

    Attributes:
        limits: int [K], the highest level at which pixels of each class are trusted.
    """

    def __init__(
        self,
        pairs: ShardPairs,
        count: int,
        quality: Path,
        settings: TrustSettings,
        blind: np.ndarray,
        mode: Literal["mask", "relabel"],
    ) -> None:
        """Open the scores and find the thresholds.

        Args:
            pairs: The pairs.
            count: How many of them, from the first.
            quality: Their scores.
            settings: The thresholds.
            blind: bool [K], classes that a teacher never finds.
            mode: Whether pixels are only left out, or get the teachers' class where these are sure of another one.

        Raises:
            DataError: The scores cannot be read, or are those of other pairs.
        """
        super().__init__(pairs, count)
        self._quality, self._mode, self._settings = QualityFile(quality), mode, settings
        place = {name: row for row, name in enumerate(self._quality.column("id"))}
        if not place.keys() >= set(self.ids):
            raise DataError(
                f"{quality} holds the scores of other pairs than those in {pairs.folder}. Remove the folder that it "
                "lies in and rerun the same command."
            )
        # The pairs may be a selection of those with scores.
        self._rows = np.array([place[name] for name in self.ids], dtype=np.int64)
        chosen = np.zeros(len(self._quality), dtype=bool)
        chosen[self._rows] = True
        counts = self._quality.level_counts(chosen, self.table.num_classes)
        self.limits = thresholds(counts, settings.trust_factor, settings.trust_floor, blind)

    def batch(self, indices: Sequence[int] | np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images B3HW in [-1, 1] and labels BHW, 255 where they are not trusted."""
        images, labels = super().batch(indices)
        chosen = [self._trusted(int(index), label) for index, label in zip(indices, labels.numpy(), strict=True)]
        return images, torch.from_numpy(np.stack(chosen).astype(np.int64))

    def _trusted(self, index: int, label: np.ndarray) -> np.ndarray:
        maps = self._quality.maps(int(self._rows[index]))
        if maps is None:
            return label
        own = label.astype(np.uint8)
        trusted = trusted_pixels(maps.levels, own, self.limits)
        if self._mode == "mask":
            return np.where(trusted, label, IGNORE_ID)
        return relabelled(own, trusted, maps.predicted, maps.confidence, self._settings.relabel_confidence)
