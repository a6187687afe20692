"""How many rows of a set of pairs are asked for each class, and palettes that hold a class which is asked for.

Let d_k be what a segmenter lacks of class k. Of n rows, the part `share` is asked for classes in proportion to it,

    n_k = share * n * d_k / sum_j d_j,

rounded by largest remainders, and the other rows are asked for nothing. A row that is asked for class k takes a palette
s not with its usual density p(s) but with

    q_k(s) = p(s) s_k / E[s_k]    where s_k is at most the largest share of k in any training image, else 0,

the size-biased density of k (Patil and Rao, 1978): of a class that is in few images, palettes that hold it come in
place of those that do not, and none holds more of it than was ever seen. q_k is drawn from by sampling/importance
resampling (Rubin, 1987): of several palettes drawn by p, one is taken by chance in proportion to its share of k.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from scenepalette.common.randomness import numpy_generator
from scenepalette.generators.palettes import PaletteControls, PaletteSampler

DRAWS = 64
"""Palettes of which one is resampled."""


def divide_rows(rows: int, share: float, lacking: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return how many of some rows are asked for each class, as the module says.

    Args:
        rows: Rows of the set, n.
        share: Part of them that is asked for a class, in [0, 1].
        lacking: float [K], what is lacking of each class: not negative.

    Returns:
        int64 [K], with the sum round(share * n); all 0 if nothing is lacking. Of equal remainders the first class's
        counts as larger.
    """
    weights, asked = np.asarray(lacking, dtype=np.float64), round(share * rows)
    if weights.sum() <= 0:
        return np.zeros(len(weights), dtype=np.int64)
    exact = asked * weights / weights.sum()
    counts = np.floor(exact + 1e-9).astype(np.int64)
    for index in np.argsort(counts - exact, kind="stable")[: asked - counts.sum()]:
        counts[index] += 1
    return counts


@dataclass(frozen=True)
class ClassBudget:
    """What each row of a set of pairs is asked for.

    Attributes:
        counts: Rows that are asked for each of K classes.
        rows: Rows of the set, at least the sum of the counts.
        seed: Which rows are asked for which class is a function of it.
    """

    counts: tuple[int, ...]
    rows: int
    seed: int

    @cached_property
    def _classes(self) -> np.ndarray:
        asked = np.repeat(np.arange(len(self.counts)), self.counts)
        every = np.concatenate([asked, np.full(self.rows - len(asked), -1)])
        return numpy_generator(self.seed, "class budget").permutation(every)

    def class_of(self, index: int) -> int | None:
        """Return the class that a row is asked for, or None if it may hold anything."""
        found = int(self._classes[index]) if index < self.rows else -1
        return found if found >= 0 else None


def palette_holding(
    class_id: int,
    sampler: PaletteSampler,
    random: np.random.Generator,
    seen: np.ndarray,
    controls: PaletteControls | None = None,
) -> np.ndarray:
    """Return a palette that holds a class, float64 [K].

    Args:
        class_id: The class, which occurs in training images and is not banned.
        sampler: Draws palettes by p.
        random: Source of randomness.
        seen: float [N, K], palettes of the training images. If no palette that is drawn holds the class within its
            largest share there, that of a training image serves, taken in proportion to its share of the class.
        controls: Constraints on the palettes.
    """
    shares = sampler.sample(random, DRAWS, controls)
    odds = np.where(shares[:, class_id] <= seen[:, class_id].max(), shares[:, class_id], 0.0)
    if odds.sum() <= 0:
        shares, odds = sampler.constrained(seen, controls), seen[:, class_id].astype(np.float64)
    return shares[int(random.choice(len(shares), p=odds / odds.sum()))]
