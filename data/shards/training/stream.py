"""Training from large sets: batches of shards in shuffled order, over many workers and ranks, resumable anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import IterableDataset, get_worker_info
from torch.utils.data._utils.collate import default_collate_fn_map

from scenepalette.common.errors import ConfigError
from scenepalette.common.storage.files import sha256_of_json
from scenepalette.data.shards.manifest import read_manifest
from scenepalette.data.shards.pairs import ShardPairs
from scenepalette.data.shards.places import local_shards
from scenepalette.data.shards.training.order import EpochOrder, Remainder

# Row groups of neighbouring windows overlap, and bytes per row vary.
_ROOM = 2

# Where a copy is: its epoch, the batch of the rank at which this pass began, and how many this copy gave since.
_COUNTERS = ("epoch", "first", "given")


class Batch(dict[str, Any]):
    """A whole batch: a dictionary that a DataLoader does not put into further batches."""


def _refuse(batches: Sequence[Batch], **_: Any) -> None:
    raise ConfigError(
        f"ShardStream gives whole batches, and the DataLoader was to make batches of {len(batches)} of them. Give the "
        "number of pairs to ShardStream and batch_size=None to the DataLoader."
    )


# Where PyTorch looks up how to put samples of a type together; in workers too, which import this module.
default_collate_fn_map[Batch] = _refuse


class ShardStream(IterableDataset[dict[str, Any]]):
    """Whole batches from a folder of shards, for `DataLoader(stream, batch_size=None, num_workers=...)`.

    Every epoch visits every row once, over all workers and ranks together (see `remainder`). The batches of a rank and
    their order depend on (seed, epoch, batch size, shuffle_rows, ranks) only: with any number of workers they are the
    same, so that a training can be resumed with another number of them. Call `set_epoch` before each epoch; it also
    reaches workers that persist.

    To resume, either count the batches that were trained on and call `resume(epoch, batches)`, or use torchdata's
    `StatefulDataLoader`, which calls `state_dict` and `load_state_dict` in the workers by itself.

    Attributes:
        pairs: The shards, with class table and licence.
        rank: This process among those that share the rows.
        world_size: Their number.
    """

    def __init__(
        self,
        folder: Path | str,
        batch_size: int,
        *,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        shuffle_rows: int = 4096,
        remainder: Remainder = "keep",
        threads: int = 1,
        decoded: Path | str | None = None,
    ) -> None:
        """Open a folder of shards.

        Args:
            folder: A folder with a manifest, or the URL of one, which is copied into the cache folder first.
            batch_size: Pairs per batch.
            seed: Seed of the order.
            rank: This process, 0 .. world_size - 1; by default torch.distributed's rank if it is initialised, else 0.
            world_size: Number of processes; by default torch.distributed's if it is initialised, else 1.
            shuffle_rows: Rows among which a rank's next batches are drawn, in up to 24 windows. A worker holds at most
                about twice as many in encoded form; workers whose number divides the number of windows share them.
            remainder: "keep" visits every row exactly once, so that a rank's last batch may be smaller and ranks may
                differ by a batch; "drop" leaves out, "pad" repeats the fewest rows with which all ranks have the same
                number of whole batches.
            threads: Threads that decode, see `ShardPairs`.
            decoded: Folder of decoded copies, see `ShardPairs`.

        Raises:
            DataError: The folder is not complete.
            ConfigError: A number is out of range, or only one of rank and world_size is given.
        """
        if (rank is None) != (world_size is None):
            raise ConfigError(
                f"rank is {rank} and world_size is {world_size}. Give both, or neither to take those of "
                "torch.distributed."
            )
        if rank is None or world_size is None:
            initialised = torch.distributed.is_available() and torch.distributed.is_initialized()
            rank = torch.distributed.get_rank() if initialised else 0
            world_size = torch.distributed.get_world_size() if initialised else 1
        self.rank, self.world_size = rank, world_size
        folder = local_shards(folder)
        manifest = read_manifest(folder)
        row_bytes = manifest["bytes"] / manifest["rows"]
        self.pairs = ShardPairs(
            folder, threads=threads, decoded=decoded, cache_bytes=int(_ROOM * shuffle_rows * row_bytes)
        )
        self._order_of: dict[str, Any] = {
            "batch_size": batch_size,
            "seed": seed,
            "rank": rank,
            "world_size": world_size,
            "shuffle_rows": shuffle_rows,
            "remainder": remainder,
        }
        self._identity = {**self._order_of, "shards": sha256_of_json([shard["sha256"] for shard in manifest["shards"]])}
        # In shared memory, so that a call in the main process reaches workers that persist: epoch and first batch.
        self._position = torch.zeros(2, dtype=torch.int64).share_memory_()
        self._loaded: dict[str, int] | None = None
        self._reached: dict[str, int] | None = None
        self._batches = self._order(0).batches

    def __len__(self) -> int:
        """Return the number of batches of this rank in a whole epoch."""
        return self._batches

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from 0, that the next iteration visits from its first batch."""
        self.resume(epoch, 0)

    def resume(self, epoch: int, batches: int) -> None:
        """Let the next iteration resume within an epoch.

        Args:
            epoch: Number of the epoch, from 0.
            batches: How many of its batches this rank was given before.

        Raises:
            ConfigError: There is no such epoch, or it has fewer batches.
        """
        if epoch < 0 or not 0 <= batches <= len(self):
            raise ConfigError(
                f"Epoch {epoch} cannot be resumed after {batches} batches: epochs count from 0, and each has "
                f"{len(self)} batches here."
            )
        self._position[0], self._position[1] = epoch, batches
        self._loaded = self._reached = None

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches of this rank that fall to this worker.

        Yields:
            "image" B3HW float32 in [-1, 1], "label" BHW int64, "id" and "kind", lists, and "palette" BK float32.
        """
        info = get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        reached = self._loaded or self._start()
        self._loaded, self._reached = None, reached
        order = self._order(reached["epoch"])
        for batch in range(reached["first"] + worker + reached["given"] * workers, order.batches, workers):
            values = self.pairs.samples(order.rows(batch))
            # Counted before it is given: whoever asks for the state afterwards has this batch.
            reached["given"] += 1
            yield Batch(values)

    def state_dict(self) -> dict[str, Any]:
        """Return how far this copy is: in a worker, that worker's part of the epoch."""
        return {**self._identity, **(self._reached or self._start())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next iteration of this copy resume where `state_dict` was called.

        Raises:
            ConfigError: The state is of another order or other shards; everything in which it differs is listed.
        """
        problems = [
            f"{name}: the state has {state.get(name)!r}, this stream {value!r}"
            for name, value in self._identity.items()
            if state.get(name) != value
        ]
        problems += [
            f"{name}: the state has {state.get(name)!r}, not a number of at least 0"
            for name in _COUNTERS
            if not isinstance(state.get(name), int) or state[name] < 0
        ]
        if problems:
            raise ConfigError(
                "The state is not one of this stream. Open the stream as it was when the state was saved.", problems
            )
        self._loaded = self._reached = {name: state[name] for name in _COUNTERS}

    def _start(self) -> dict[str, int]:
        epoch, first = self._position.tolist()
        return {"epoch": epoch, "first": first, "given": 0}

    def _order(self, epoch: int) -> EpochOrder:
        return EpochOrder(self.pairs.shard_rows, epoch=epoch, **self._order_of)
