"""Whether a generator copies its training images: how near generated images are to them, against validation images.

Each image's distance is that to its nearest training image, mirrored or not, since generators are trained with both.
Fresh real images say how near is near: images of a generator that copies are nearer to the training images than they
are. Meehan et al., 2020, section 3, test exactly this, distances of generated samples to the training set against those
of held-out ones, by the Mann-Whitney statistic (here over the whole space as one cell). Bad images are far from all
real ones and would hide copies among them; hence also a share in the tail, and a comparison of pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy
import torch
import torch.nn.functional as F
from torch import Tensor

from scenepalette.common.errors import DataError
from scenepalette.common.progress import NO_PROGRESS, Progress
from scenepalette.evaluation.images.nearest import nearest
from scenepalette.generators.images.base import FeatureNetwork
from scenepalette.training.device.fitting import in_fitting_batches

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from scenepalette.data.arrays import PairSource

PERCENTILE = 5
"""Of validation's distances; as many percent of the images of a generator that does not copy are nearer."""
THUMBNAIL_ROWS = 32
NEAR_COPY = 0.985
"""Correlation of thumbnails from which an image is a near-copy.

Copies of CamVid's images at 96x128 that were blurred over 5 pixels, moved by one or given noise of a tenth of the range
reach 0.985 to 0.994; 6 % of its training images, taken once a second, are as like another one.
"""
COPIED_SHARE = 0.1
"""Share of near-copies, beyond twice that of validation images, from which a generator is said to copy."""
COPIED_RATIO = 0.5
"""Ratio of medians at and below which a generator is said to copy, where also most images are in the tail."""


@dataclass(frozen=True)
class Described:
    """Images as they are compared.

    Attributes:
        features: [N, D] of a network.
        thumbnails: [N, P] pixels, of mean 0 and length 1.
    """

    features: np.ndarray
    thumbnails: np.ndarray


@dataclass(frozen=True)
class Memorisation:
    """How near images are to the training images.

    Attributes:
        network: Whose features are compared.
        distances: [N] of generated images to their nearest training image.
        indices: int64 [N], this image.
        mirrored: bool [N], whether its mirror image is meant.
        validation: [M] distances of validation images.
        alike: [N] largest correlation of a generated image's thumbnail with one of a training image.
        validation_alike: [M] the same of validation images.
        to_source: [S] distances of generated images to the training images whose layouts they have; empty if there are
            none. Such a source is no candidate for the nearest image.
    """

    network: str
    distances: np.ndarray
    indices: np.ndarray
    mirrored: np.ndarray
    validation: np.ndarray
    alike: np.ndarray
    validation_alike: np.ndarray
    to_source: np.ndarray

    @property
    def ratio(self) -> float:
        """Median distance of generated images over that of validation images; near 0 for copies."""
        return _over(np.median(self.distances), np.median(self.validation))

    @property
    def source_ratio(self) -> float | None:
        """The same of the distances to the images whose layouts generated images have; None if there are none."""
        return _over(np.median(self.to_source), np.median(self.validation)) if len(self.to_source) else None

    @property
    def nearer_share(self) -> float:
        """Share of generated images that are nearer than the `PERCENTILE` of validation images."""
        return float((self.distances < np.percentile(self.validation, PERCENTILE)).mean())

    @property
    def precedence(self) -> float:
        """Probability that a generated image is nearer than a validation image, ties by halves; 0.5 without copies.

        The statistic of Mann and Whitney over the product of the numbers of images (Meehan et al., 2020, section 3).
        """
        count, others = len(self.distances), len(self.validation)
        ranks = scipy.stats.rankdata(np.concatenate([self.distances, self.validation]))[:count]
        return float(1 - (ranks.sum() - count * (count + 1) / 2) / (count * others))

    @property
    def near_copies(self) -> float:
        """Share of generated images whose pixels are nearly those of a training image."""
        return float((self.alike >= NEAR_COPY).mean())

    @property
    def validation_near_copies(self) -> float:
        """The same share of validation images."""
        return float((self.validation_alike >= NEAR_COPY).mean())

    @property
    def copies(self) -> bool:
        """Whether the generator is said to copy: by pixels, or by features of most images."""
        pixels = self.near_copies >= COPIED_SHARE + 2 * self.validation_near_copies
        return pixels or (self.ratio <= COPIED_RATIO and self.nearer_share > 0.5)

    def closest(self, count: int) -> np.ndarray:
        """Return the numbers of the generated images that are nearest to a training image, the nearest first."""
        return np.argsort(self.distances, kind="stable")[:count]


def describe(
    pairs: PairSource,
    network: FeatureNetwork,
    batch_size: int,
    fabric: Fabric,
    progress: Progress = NO_PROGRESS,
    *,
    mirrored: bool = False,
    description: str = "Features of images",
) -> Described:
    """Return what images are compared by.

    Args:
        pairs: Pairs of which only the images are used.
        network: On the fabric's device, in evaluation mode; its coarsest features are averaged over the image.
        batch_size: Images at once.
        fabric: Device and precision.
        progress: Counts images.
        mirrored: Whether the images are mirrored first, left to right.
        description: What the work is called.
    """
    progress.start(description, len(pairs))
    features, thumbnails = [], []

    def of_rows(rows: range) -> tuple[np.ndarray, np.ndarray]:
        image = pairs.batch(list(rows))[0]
        image = image.flip(3) if mirrored else image
        with torch.inference_mode(), fabric.autocast():
            found = network(image.to(fabric.device))[-1].float().mean(dim=(2, 3)).cpu().numpy()
        return found, _thumbnails(image)

    for rows, (found, small) in in_fitting_batches(len(pairs), batch_size, of_rows):
        features.append(found)
        thumbnails.append(small)
        progress.advance(len(rows))
    progress.finish()
    return Described(np.concatenate(features), np.concatenate(thumbnails))


def memorisation(
    generated: Described,
    train: Described,
    mirrored: Described,
    validation: Described,
    network: str,
    sources: np.ndarray | None = None,
) -> Memorisation:
    """Compare the distances of generated and of validation images to the training images.

    Args:
        generated: Generated images.
        train: The training images.
        mirrored: The same, mirrored.
        validation: Real images that the generator has not seen.
        network: Whose features these are.
        sources: int [N], the training image whose layout a generated image has, which it is like for that reason, and
            which is left out; -1 for none.

    Raises:
        DataError: There are no images to compare, or no training image is left.
    """
    if not (len(generated.features) and len(validation.features)):
        raise DataError(
            f"Memorisation compares generated images ({len(generated.features)} given) with validation images "
            f"({len(validation.features)} given); give at least one of each."
        )
    both = (train, mirrored)
    found = [nearest(generated.features, each.features, sources) for each in both]
    indices, distances = (np.stack(each) for each in zip(*found, strict=True))
    side = distances.argmin(axis=0)
    rows = np.arange(len(side))

    def alike(images: Described, excluded: np.ndarray | None = None) -> np.ndarray:
        # Of vectors of length 1: |a - b|^2 = 2 - 2 ab.
        return 1 - _nearest_of(images, both, lambda each: each.thumbnails, excluded) ** 2 / 2

    own = np.flatnonzero(sources >= 0) if sources is not None else np.zeros(0, np.int64)
    apart = [
        np.linalg.norm(generated.features[own] - each.features[sources[own]], axis=1) if sources is not None else own
        for each in both
    ]
    return Memorisation(
        network=network,
        distances=distances[side, rows],
        indices=indices[side, rows],
        mirrored=side == 1,
        validation=_nearest_of(validation, both, lambda each: each.features),
        alike=alike(generated, sources),
        validation_alike=alike(validation),
        to_source=np.minimum(*apart).astype(np.float64),
    )


def _nearest_of(
    images: Described,
    references: tuple[Described, Described],
    vectors: Callable[[Described], np.ndarray],
    excluded: np.ndarray | None = None,
) -> np.ndarray:
    return np.minimum(*(nearest(vectors(images), vectors(each), excluded)[1] for each in references))


def _thumbnails(image: Tensor) -> np.ndarray:
    height, width = image.shape[2:]
    rows = min(THUMBNAIL_ROWS, height)
    small = F.adaptive_avg_pool2d(image.float().cpu(), (rows, max(1, round(width * rows / height)))).flatten(1)
    small = small - small.mean(dim=1, keepdim=True)
    return F.normalize(small, dim=1).numpy()


def _over(value: float | np.floating, reference: float | np.floating) -> float:
    return float(value / reference) if reference > 0 else float("inf" if value > 0 else "nan")
