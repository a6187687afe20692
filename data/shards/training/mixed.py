"""Training from several kinds of pairs at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import ConcatDataset

from scenepalette.common.errors import ConfigError, DataError
from scenepalette.common.randomness import numpy_generator
from scenepalette.data.classes import ClassTable
from scenepalette.data.shards.pairs import ShardPairs


class MixedPairs(ConcatDataset[dict[str, Any]]):
    """The pairs of several folders of shards, one after the other, and an order that mixes them by weight.

    A map-style data set. `DataLoader(pairs, batch_size=8, sampler=pairs.sampler(epoch))` visits the rows of a folder
    with weight 1 once per epoch, with weight 2 twice, with weight 0.5 every other epoch.

    Attributes:
        table: Classes of the labels.
        size: Height and width in pixels.
        weights: Weight of each folder, in order.
        seed: Seed of the order.
    """

    datasets: list[ShardPairs]  # type: ignore[assignment]

    def __init__(
        self,
        folders: Mapping[str, float] | Mapping[Path, float],
        *,
        transform: Callable[[dict[str, Any]], Any] | None = None,
        seed: int = 0,
        cache_bytes: int = 256 * 2**20,
        decoded: Path | str | None = None,
    ) -> None:
        """Open folders of shards.

        Args:
            folders: The weight of each folder: how often its rows come in an epoch, above 0.
            transform: Applied to each sample, see `ShardPairs`.
            seed: Seed of the order.
            cache_bytes: Most bytes of encoded row groups to keep, in equal parts for the folders.
            decoded: Where `decode_shards` put decoded copies of all of them.

        Raises:
            ConfigError: There is no folder, or a weight is out of range.
            DataError: A folder cannot be read, or class tables or sizes differ; the problems of all folders are listed.
        """
        problems = [
            f"{folder}: the weight is {weight!r}; a number above 0 is required"
            for folder, weight in folders.items()
            if not (math.isfinite(weight) and weight > 0)
        ]
        if problems or not folders:
            raise ConfigError("Name at least one folder of shards, each with its weight.", problems)
        opened: dict[str, ShardPairs] = {}
        for folder in folders:
            try:
                pairs = ShardPairs(
                    folder, cache_bytes=cache_bytes // len(folders), decoded=decoded, transform=transform
                )
                pairs.size  # noqa: B018  reads the first pair
                opened[str(folder)] = pairs
            except DataError as error:
                problems.append(f"{folder}: {error.summary}")
                problems += [f"{folder}: {problem}" for problem in error.problems]
        problems += _disagreements(opened)
        if problems:
            raise DataError("These folders of shards cannot be read together.", problems)
        super().__init__(opened.values())
        self.table: ClassTable = self.datasets[0].table
        self.size = self.datasets[0].size
        self.weights = tuple(folders.values())
        self.seed = seed

    def sampler(self, epoch: int) -> list[int]:
        """Return the numbers of the pairs of an epoch in shuffled order, a function of seed and epoch.

        Each folder gives its weight times its number of rows, at least one. It goes through all of its rows, in an
        order of their own for each pass, before any comes again, also from one epoch to the next. Several ranks take
        `sampler(epoch)[rank::world_size]`.

        Args:
            epoch: Number of the epoch, from 0.
        """
        chosen = [first + self._rows(member, epoch) for member, first in enumerate([0, *self.cumulative_sizes[:-1]])]
        order = np.concatenate(chosen)
        numpy_generator(self.seed, "mixed pairs", epoch).shuffle(order)
        return order.tolist()

    def _rows(self, member: int, epoch: int) -> np.ndarray:
        """Return the rows of one folder for an epoch: a part of an endless sequence of passes through it."""
        rows = len(self.datasets[member])
        count = max(1, round(self.weights[member] * rows))
        start = epoch * count
        passes = range(start // rows, (start + count - 1) // rows + 1)
        sequence = [numpy_generator(self.seed, "mixed pairs", member, number).permutation(rows) for number in passes]
        return np.concatenate(sequence)[start - passes.start * rows :][:count]


def _disagreements(opened: Mapping[str, ShardPairs]) -> list[str]:
    """Compare classes and sizes of all folders with those of the first."""
    if not opened:
        return []
    problems, (name, first) = [], next(iter(opened.items()))
    for folder, pairs in opened.items():
        if pairs.table != first.table:
            problems.append(f"{folder} has other classes ({_classes(pairs)}) than {name} ({_classes(first)})")
        if pairs.size != first.size:
            problems.append(f"{folder} has pairs of {_size(pairs)} pixels, {name} of {_size(first)}")
    return problems


def _classes(pairs: ShardPairs) -> str:
    return f"{pairs.table.name}: {', '.join(pairs.table.names)}"


def _size(pairs: ShardPairs) -> str:
    return " x ".join(map(str, pairs.size))
