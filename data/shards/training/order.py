"""The order in which an epoch visits the rows of shards: a function of (seed, epoch), not of the number of workers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from scenepalette.common.errors import ConfigError
from scenepalette.common.randomness import numpy_generator
from scenepalette.data.shards.schema import ROW_GROUP

Remainder = Literal["keep", "drop", "pad"]
REMAINDERS: tuple[str, ...] = get_args(Remainder)

# Batch i of a rank belongs to lane i modulo the number of lanes, and worker w of W takes the batches w, w + W, ...
# These numbers have many divisors: where W is one of them, no two workers ever read the same lane.
_LANES = (24, 12, 4, 2, 1)


class EpochOrder:
    """All batches of one rank in one epoch, each found without going through those before it.

    The rows of all shards are cut into chunks as large as a row group. Chunks are put in random order and dealt to the
    ranks as one sequence of rows, in equal parts. A rank's part is cut into lanes, and its batches come from the lanes
    in turn. Within a lane, rows are shuffled in windows. So a batch's rows lie in few chunks, and all windows that are
    open at a time hold about `shuffle_rows` rows.

    Attributes:
        batches: Number of batches of this rank.
        lanes: Number of lanes.
        window: Rows that are shuffled among each other in a lane.
    """

    def __init__(
        self,
        shard_rows: Sequence[int],
        *,
        batch_size: int,
        seed: int,
        epoch: int,
        rank: int = 0,
        world_size: int = 1,
        shuffle_rows: int = 4096,
        remainder: Remainder = "keep",
    ) -> None:
        """Draw the order of an epoch, a pass numbered from 0, over shards of so many rows.

        The other arguments are those of `ShardStream`.

        Raises:
            ConfigError: A number is out of range, all such problems listed; or nothing would be left.
        """
        problems = [
            f"{name} is {value}; {least} or more is required"
            for name, value, least in (
                ("batch_size", batch_size, 1),
                ("shuffle_rows", shuffle_rows, 1),
                ("epoch", epoch, 0),
                ("world_size", world_size, 1),
            )
            if value < least
        ]
        if not 0 <= rank < max(1, world_size):
            problems.append(f"rank is {rank}; it must be in 0 .. {world_size - 1}, one below world_size at most")
        if remainder not in REMAINDERS:
            problems.append(f"remainder is {remainder!r}, not one of {', '.join(REMAINDERS)}")
        if problems:
            raise ConfigError("The shards cannot be read in this order.", problems)

        firsts, sizes = _chunks(shard_rows)
        generator = numpy_generator(seed, "shard chunks", epoch)
        shuffled = generator.permutation(len(sizes))
        self._chunk_firsts = firsts[shuffled]
        # Position p of the sequence lies in the chunk c with _chunk_ends[c - 1] <= p < _chunk_ends[c].
        self._chunk_ends = np.cumsum(sizes[shuffled])
        self._chunk_starts = self._chunk_ends - sizes[shuffled]
        total = int(self._chunk_ends[-1])
        if remainder != "keep":
            whole = batch_size * world_size
            if remainder == "drop" and total < whole:
                raise ConfigError(
                    f"{total} rows do not fill one batch of {batch_size} on each of {world_size} ranks, so that "
                    "nothing is left with remainder 'drop'. Use 'keep' or 'pad', or smaller batches."
                )
            total = (total // whole if remainder == "drop" else -(-total // whole)) * whole
        self._first = total * rank // world_size
        self._rows = total * (rank + 1) // world_size - self._first
        self._batch_size = batch_size
        self._key = (seed, "shard windows", epoch, rank)

        self.batches = -(-self._rows // batch_size)
        self.lanes = next(lanes for lanes in _LANES if lanes == 1 or lanes * shuffle_rows <= self._rows)
        self.window = max(1, round(shuffle_rows / self.lanes / batch_size)) * batch_size
        lane_rows = np.array([len(range(lane, self.batches, self.lanes)) * batch_size for lane in range(self.lanes)])
        if self.batches:
            lane_rows[(self.batches - 1) % self.lanes] -= self.batches * batch_size - self._rows
        self._lane_ends = np.cumsum(lane_rows)
        self._windows: dict[int, tuple[int, np.ndarray]] = {}

    def rows(self, batch: int) -> np.ndarray:
        """Return the rows of a batch, int64 [B], numbered through all shards; the last batch may have fewer.

        The shuffled window of each lane is kept until a later one is asked for.

        Args:
            batch: Number of the batch, 0 .. batches - 1.

        Raises:
            IndexError: There is no such batch.
        """
        if not 0 <= batch < self.batches:
            raise IndexError(f"Batch {batch} of {self.batches}: numbers go from 0 to {self.batches - 1}.")
        # A plain int: seeds of the windows distinguish types.
        turn, lane = divmod(int(batch), self.lanes)
        number, offset = divmod(turn * self._batch_size, self.window)
        if lane not in self._windows or self._windows[lane][0] != number:
            self._windows[lane] = (number, self._shuffled_window(lane, number))
        return self._windows[lane][1][offset : offset + self._batch_size]

    def _shuffled_window(self, lane: int, number: int) -> np.ndarray:
        end = int(self._lane_ends[lane])
        start = (int(self._lane_ends[lane - 1]) if lane else 0) + number * self.window
        positions = self._first + np.arange(start, min(start + self.window, end))
        positions %= self._chunk_ends[-1]  # padding starts again at the front
        numpy_generator(*self._key, lane, number).shuffle(positions)
        chunks = np.searchsorted(self._chunk_ends, positions, side="right")
        return self._chunk_firsts[chunks] + positions - self._chunk_starts[chunks]


def _chunks(shard_rows: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the first row and the number of rows of every chunk; chunks never span two shards."""
    firsts, sizes, before = [], [], 0
    for rows in shard_rows:
        starts = np.arange(0, rows, ROW_GROUP)
        firsts.append(before + starts)
        sizes.append(np.minimum(ROW_GROUP, rows - starts))
        before += rows
    return np.concatenate(firsts), np.concatenate(sizes)
