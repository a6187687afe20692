"""Conditional IMLE: the nearest of m candidates is drawn to each real image (Li et al., 2019, 3.2 and 3.4).

Shapes: B batch, K classes, N training images, S samples of a round, L feature layers, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy
import torch
from torch import Tensor, nn

from scenepalette.common.randomness import epoch_batch, numpy_generator, torch_generator
from scenepalette.data.arrays import Pairs
from scenepalette.data.device.transfer import to_device
from scenepalette.generators.images.base import BatchSource, FeatureNetwork, Forward, ImageBatch, ImageObjective, Loss
from scenepalette.generators.images.noise import sample_noise
from scenepalette.generators.images.perceptual import feature_distances
from scenepalette.generators.images.systems.crn_losses import balance_layers, total_distance
from scenepalette.training.ranks import ALONE, Ranks

LARGEST_CLASSES = 5
# A density of colours needs more images than a tetrahedron has corners, and a spread that is not mere rounding.
FEWEST_IMAGES = 5
SMALLEST_DEVIATION = 0.1  # of 255 grey levels, in the direction in which colours vary least


def mean_colors(pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    """Return C_k(p) of section 3.4: the mean colour of each class in each image.

    Args:
        pairs: Images and labels; ignored pixels have no class.

    Returns:
        float64 [N, K, 3], 0 to 255, NaN where an image lacks the class; and int64 [N, K], the numbers of pixels.
    """
    count, classes = len(pairs), pairs.table.num_classes
    colors, areas = np.full((count, classes, 3), np.nan), np.zeros((count, classes), dtype=np.int64)
    for index in range(count):
        label, image = np.ravel(pairs.labels[index]), np.reshape(pairs.images[index], (-1, 3))
        areas[index] = np.bincount(label, minlength=256)[:classes]
        sums = np.stack([np.bincount(label, channel, minlength=256)[:classes] for channel in image.T], axis=1)
        present = areas[index] > 0
        colors[index, present] = sums[present] / areas[index, present, None]
    return colors, areas


def color_rarity(colors: np.ndarray) -> np.ndarray:
    """Return R_p(k) of section 3.4: one over the density of a class's mean colour among all images with the class.

    The density is a Gaussian kernel estimate (bandwidth by Scott's rule). Classes of too few images, or of colours
    without spread, have no density: they get the median rarity of all others, so that they are neither preferred nor
    left out.

    Args:
        colors: [N, K, 3] from `mean_colors`.

    Returns:
        float64 [N, K], above 0 where an image has the class, 0 elsewhere.
    """
    present = ~np.isnan(colors[..., 0])
    rarity = np.zeros(present.shape)
    estimated = np.zeros(present.shape, dtype=bool)
    for p in range(present.shape[1]):
        points = colors[present[:, p], p].T  # 3 n
        if points.shape[1] < FEWEST_IMAGES:
            continue
        if np.linalg.eigvalsh(np.cov(points))[0] < SMALLEST_DEVIATION**2:
            continue
        rarity[present[:, p], p] = 1.0 / scipy.stats.gaussian_kde(points)(points)
        estimated[present[:, p], p] = True
    rarity[present & ~estimated] = np.median(rarity[estimated]) if estimated.any() else 1.0
    return rarity


def largest_classes(areas: np.ndarray) -> list[int]:
    """Return the (at most five) classes that cover most pixels of the data set, the largest first.

    Args:
        areas: [N, K], numbers of pixels.
    """
    total = areas.sum(axis=0)
    return [int(p) for p in np.argsort(-total, kind="stable")[:LARGEST_CLASSES] if total[p] > 0]


def draw_by_rarity(
    rarity: np.ndarray, classes: Sequence[int], count: int, generator: np.random.Generator
) -> np.ndarray:
    """Draw S of Algorithm 1: a portion of it by each class's rarity (section 3.4, data set rebalancing).

    Args:
        rarity: [N, K].
        classes: Which classes get a portion; what is left over goes to the first.
        count: |S|.
        generator: Source of randomness.

    Returns:
        int64 [count] of image indices; an image may occur more than once.
    """
    portions = [count // len(classes) + (i < count % len(classes)) for i in range(len(classes))]
    return np.concatenate(
        [
            generator.choice(len(rarity), portion, p=rarity[:, p] / rarity[:, p].sum())
            for p, portion in zip(classes, portions, strict=True)
        ]
    ).astype(np.int64)


def mask_values(rarity: np.ndarray) -> np.ndarray:
    """Return each class's value in the rarity mask of each image: rarity over the largest in the image (section 3.4).

    Args:
        rarity: [N, K], with at least one class above 0 in each image.

    Returns:
        [N, K] in [0, 1]; 0 for classes that an image lacks.
    """
    return rarity / rarity.max(axis=1, keepdims=True)


def rarity_mask(values: Tensor, layout: Tensor) -> Tensor:
    """Return the mask of section 3.4, loss rebalancing.

    Args:
        values: BK, rows of `mask_values`.
        layout: BHW class ids.

    Returns:
        B1HW in (0, 1].
    """
    return torch.gather(values, 1, layout.flatten(1)).view_as(layout)[:, None]


def nearest_candidate(distance: Callable[[int], Tensor], candidates: int) -> Tensor:
    """Return sigma of Algorithm 1: which candidate is nearest to each sample, the first among equals.

    Args:
        distance: Maps the number of a candidate to its distance from each sample, [B].
        candidates: m.

    Returns:
        int64 [B].
    """
    least = distance(0)
    nearest = torch.zeros_like(least, dtype=torch.int64)
    for candidate in range(1, candidates):
        current = distance(candidate)
        nearest = torch.where(current < least, candidate, nearest)
        least = torch.minimum(current, least)
    return nearest


class ImleMemory(nn.Module):
    """What a round of Algorithm 1 found, and the layers' weights: enough to go on within the round.

    Attributes:
        layer_weights: lambda, float32 [L]; empty before the training set was looked at.
        round: Number of the round from 0; -1 before the first.
        images: [S] indices of the round's images.
        candidates: [S] numbers of their nearest candidates.
    """

    layer_weights: Tensor
    round: Tensor
    images: Tensor
    candidates: Tensor

    def __init__(self, round_size: int) -> None:
        super().__init__()
        self.register_buffer("layer_weights", torch.zeros(0))
        self.register_buffer("round", torch.tensor(-1))
        self.register_buffer("images", torch.zeros(round_size, dtype=torch.int64))
        self.register_buffer("candidates", torch.zeros(round_size, dtype=torch.int64))


class ImleObjective(ImageObjective):
    """Algorithm 1: rounds of a search, in which each real image gets its nearest candidate, and K steps towards it.

    The noise of a candidate is a function of (seed, round, sample, candidate), so that a round is remembered as
    integers and memory does not grow with m.
    """

    memory: ImleMemory

    def __init__(
        self,
        features: FeatureNetwork | None,
        noise_channels: int,
        round_size: int,
        candidates: int,
        round_steps: int,
        rebalance_data: bool,
        rebalance_loss: bool,
    ) -> None:
        """Create the objective.

        Args:
            features: Of the perceptual metric; None if nothing is to be trained.
            noise_channels: Channels of the generator's noise, drawn for each pixel.
            round_size: |S|.
            candidates: m.
            round_steps: K.
            rebalance_data: Whether images of rare colours are drawn into S more often.
            rebalance_loss: Whether pixels of classes in rare colours weigh more in the metric.
        """
        self.features, self.noise_channels = features, noise_channels
        self.round_size, self.candidates, self.round_steps = round_size, candidates, round_steps
        self.rebalance_data, self.rebalance_loss = rebalance_data, rebalance_loss
        self.memory = ImleMemory(round_size)
        self._found: tuple[int, np.ndarray, np.ndarray] | None = None  # of the memory, to wait for a GPU once a round

    def begin(self, source: BatchSource, device: torch.device) -> None:
        """Balance the feature layers and estimate how rare the colours of each class are in each image."""
        assert self.features is not None
        self.memory.layer_weights = balance_layers(self.features, source.pairs, source.seed, device)
        if self.rebalance_data or self.rebalance_loss:
            colors, areas = mean_colors(source.pairs)
            self.rarity, self.classes = color_rarity(colors), largest_classes(areas)
            self.mask_values = torch.from_numpy(mask_values(self.rarity)).float().to(device)

    def batch(
        self, source: BatchSource, step: int, stream: str, indices: np.ndarray, generator: Forward, ranks: Ranks = ALONE
    ) -> ImageBatch:
        """Return samples of the round's S with the noise of their nearest candidates, after the search if one is due.

        Only the number of `indices` counts: S and its minibatches are drawn here.
        """
        current, size = step // self.round_steps, len(indices)
        if self._found is None or self._found[0] != current:
            if int(self.memory.round) != current:
                self._search(source, current, stream, size, generator, ranks)
            self._found = current, self.memory.images.cpu().numpy(), self.memory.candidates.cpu().numpy()
        _, images, candidates = self._found
        positions = epoch_batch(self.round_size, size, step, source.seed, f"{stream}-minibatch")[ranks.part]
        samples = self._samples(source, current, stream, images, positions)
        noise = self._noise(source, current, stream, positions, candidates[positions], samples.layout)
        return samples._replace(noise=noise, ranks=ranks)

    def generator_loss(
        self, generator: Forward, discriminator: Forward | None, batch: ImageBatch
    ) -> tuple[Tensor, Loss]:
        """The chosen candidate's image is to come near to the real one (Eq. 1, weighted by rarity)."""
        fake = generator(batch.label_map, batch.noise)
        total = self._distance(fake, self._real_features(batch), batch).mean()
        return fake, Loss(total, {"generator": total})

    @torch.no_grad()
    def _search(
        self, source: BatchSource, current: int, stream: str, size: int, generator: Forward, ranks: Ranks
    ) -> None:
        """Draw S and find each sample's nearest candidate, `size` images at a time, divided among the processes."""
        images = self._draw_images(source, current, stream)
        chunks = [np.arange(start, min(start + size, self.round_size)) for start in range(0, self.round_size, size)]
        nearest = torch.zeros_like(self.memory.candidates)
        for positions in chunks[ranks.part]:
            nearest[positions] = self._nearest(source, current, stream, images, positions, generator)
        self.memory.images.copy_(torch.from_numpy(images))
        self.memory.candidates.copy_(ranks.total(nearest))
        self.memory.round.fill_(current)

    def _nearest(
        self,
        source: BatchSource,
        current: int,
        stream: str,
        images: np.ndarray,
        positions: np.ndarray,
        generator: Forward,
    ) -> Tensor:
        samples = self._samples(source, current, stream, images, positions)
        real = self._real_features(samples)

        def distance(candidate: int) -> Tensor:
            chosen = np.full(len(positions), candidate)
            noise = self._noise(source, current, stream, positions, chosen, samples.layout)
            return self._distance(generator(samples.label_map, noise), real, samples)

        return nearest_candidate(distance, self.candidates)

    def _draw_images(self, source: BatchSource, current: int, stream: str) -> np.ndarray:
        if not self.rebalance_data:
            return epoch_batch(len(source.pairs), self.round_size, current, source.seed, f"{stream}-round")
        randomness = numpy_generator(source.seed, stream, "round", current)
        return draw_by_rarity(self.rarity, self.classes, self.round_size, randomness)

    def _samples(
        self, source: BatchSource, current: int, stream: str, images: np.ndarray, positions: np.ndarray
    ) -> ImageBatch:
        """Return samples at positions of S, each flipped in the same way throughout the round."""
        singles = [
            source.batch(images[[position]], current * self.round_size + int(position), f"{stream}-sample")
            for position in positions
        ]
        joined: dict[str, Any] = {
            name: torch.cat([getattr(single, name) for single in singles])
            for name in ("image", "label", "layout", "label_map", "noise")
        }
        return ImageBatch(indices=images[positions], augmentation=None, **joined)

    def _noise(
        self,
        source: BatchSource,
        current: int,
        stream: str,
        positions: np.ndarray,
        candidates: np.ndarray,
        layout: Tensor,
    ) -> Tensor:
        generators = [
            torch_generator(source.seed, stream, "candidate", current, int(position), int(candidate))
            for position, candidate in zip(positions, candidates, strict=True)
        ]
        return sample_noise("pixel", layout, self.noise_channels, generators)

    @torch.no_grad()
    def _real_features(self, batch: ImageBatch) -> list[Tensor]:
        assert self.features is not None
        return self.features(batch.image)

    def _distance(self, fake: Tensor, real: list[Tensor], batch: ImageBatch) -> Tensor:
        """Return the perceptual metric between generated and real images, [B]."""
        assert self.features is not None
        weight = None
        if self.rebalance_loss:
            indices = to_device(torch.from_numpy(batch.indices), fake.device)
            weight = rarity_mask(self.mask_values[indices], batch.layout)
        distances = feature_distances(self.features(fake), real, weight)
        return total_distance(distances, self.memory.layer_weights)
