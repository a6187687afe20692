"""Steps and batch sizes of every level of a growing layout network, from the steps of the whole training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

FINEST_BATCH = 8
LARGEST_BATCH = 256
COARSEST_EPOCHS = 4
"""Epochs of the coarsest level for each one of the finest: 600 to 150 in Le Moing et al., 2021, appendix F."""


class LevelLists(NamedTuple):
    """Numbers per level, from the coarsest to the finest.

    Attributes:
        fade_steps: Steps of fading in; the first is 0.
        stable_steps: Steps after fading in.
        batch_sizes: Batch sizes.
    """

    fade_steps: tuple[int, ...]
    stable_steps: tuple[int, ...]
    batch_sizes: tuple[int, ...]


def batch_sizes_of(levels: int) -> tuple[int, ...]:
    """Return batch sizes per level: 8 at the finest, twice as many at each coarser one, at most 256.

    Le Moing et al., 2021, appendix F, has 8 at the finest level as well, and up to 1024 at the coarsest.
    """
    return tuple(min(LARGEST_BATCH, FINEST_BATCH * 2 ** (levels - 1 - level)) for level in range(levels))


def lists_of(steps: int, levels: int, batch_sizes: Sequence[int] = ()) -> LevelLists:
    """Divide the steps of a training among the levels of a growing network.

    Epochs fall in a straight line from the coarsest level to a quarter at the finest (Le Moing et al., 2021, appendix
    F: 600, 510, 420, 330, 240, 150), so that a level's steps are as its epochs divided by its batch size. Every level
    but the first fades in during half of them (Karras et al., 2018, Progressive GAN).

    Args:
        steps: Of the whole training, at least one per level.
        levels: L, at least 1.
        batch_sizes: L batch sizes; by default `batch_sizes_of`.

    Returns:
        Lists whose steps are `steps` in all, with at least one per level.
    """
    batches = tuple(batch_sizes) or batch_sizes_of(levels)
    epochs = [COARSEST_EPOCHS - (COARSEST_EPOCHS - 1) * level / max(1, levels - 1) for level in range(levels)]
    weights = [count / batch for count, batch in zip(epochs, batches, strict=True)]
    spare, total = steps - levels, sum(weights)
    # Rounded as running sums, so that no step is lost.
    ends = [round(spare * sum(weights[: level + 1]) / total) for level in range(levels)]
    counts = [1 + end - before for before, end in zip([0, *ends], ends, strict=False)]
    fades = (0, *(count // 2 for count in counts[1:]))
    return LevelLists(fades, tuple(count - fade for count, fade in zip(counts, fades, strict=True)), batches)
