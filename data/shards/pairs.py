"""Training straight from shards: random access to pairs in bounded memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor
from torch.utils.data import Dataset

from scenepalette.common.errors import ConfigError, DataError
from scenepalette.common.progress import NO_PROGRESS, Progress
from scenepalette.data.arrays import PairSource, images_from_uint8
from scenepalette.data.classes import IGNORE_ID, ClassTable
from scenepalette.data.fitting.resampling import resample_pairs
from scenepalette.data.shards.decoded import DecodedShards, decoded_path, write_decoded_shard
from scenepalette.data.shards.manifest import (
    link_problems,
    read_manifest,
    require_those_of_manifest,
    shard_problems,
    table_of_manifest,
)
from scenepalette.data.shards.places import local_shards
from scenepalette.data.shards.reading import explained_read, open_shard, read_group
from scenepalette.data.shards.schema import ROW_GROUP, decode_image, decode_label

_OPEN_FILES = 32


class ShardPairs(Dataset[dict[str, Any]]):
    """The pairs of a folder of shards, for training.

    Serves as `scenepalette.data.arrays.Pairs` does, and as a map-style data set of a
    `torch.utils.data.DataLoader`. Files are opened when first asked for. Row groups stay in memory in encoded form
    up to a limit in bytes, the least recently used one leaves first; only rows that are asked for are decoded. A
    copy in another process starts with an empty memory.

    Attributes:
        folder: Absolute path of the folder.
        name: Name of the source data set and the kind of rows.
        licence: Licence of the source data set.
        kind: "full", "partial", "semi", "pseudo", "insert" or that of another package.
        table: Classes of the labels.
        shard_rows: Number of pairs in each shard.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        cache_bytes: int = 256 * 2**20,
        threads: int = 1,
        decoded: Path | str | None = None,
        transform: Callable[[dict[str, Any]], Any] | None = None,
        size: tuple[int, int] | None = None,
    ) -> None:
        """Open a folder of shards.

        Args:
            folder: A folder with a manifest, or the URL of one, which is copied into the cache folder first.
            cache_bytes: Most bytes of encoded row groups to keep; a single larger row group is kept while in use.
            threads: Threads that decode the images of a batch. With workers of a DataLoader, 1 is best.
            decoded: Where `decode_shards` put decoded copies; pixels then come from them, and nothing is decoded.
            transform: Turns each sample that indexing gives into another; `batch` and `samples` leave pairs as they
                are. For workers that are spawned it must be a function at the top of a module.
            size: Height and width that pairs are resampled to as they are read, images smoothly and labels by the class
                that covers most of a pixel; by default they stay as they were written.

        Raises:
            DataError: The folder is not complete, a file has another size than its manifest says, or a decoded copy is
                missing.
            ConfigError: `threads` is below 1.
        """
        if threads < 1:
            raise ConfigError(f"threads is {threads}; 1 or more is required to decode images.")
        self.folder = local_shards(folder).absolute()
        manifest = read_manifest(self.folder)
        require_those_of_manifest(
            self.folder, [*shard_problems(self.folder, manifest), *link_problems(self.folder, manifest)]
        )
        self.kind: str = manifest["kind"]
        self.name = f"{manifest['source']['name']}-{self.kind}"
        self.licence: str = manifest["source"]["licence"]
        self.table: ClassTable = table_of_manifest(manifest)
        self.shard_rows: list[int] = [shard["rows"] for shard in manifest["shards"]]
        self._cache_bytes = cache_bytes
        self._threads = threads
        self._transform = transform
        self._decoded = None if decoded is None else DecodedShards(decoded, manifest["shards"])
        self._columns = ["id", "palette_achieved", *([] if decoded is not None else ["image.bytes", "label.bytes"])]
        self._paths = [self.folder / shard["name"] for shard in manifest["shards"]]
        # Row r lies in the shard s with _ends[s - 1] <= r < _ends[s].
        self._ends = np.cumsum(self.shard_rows)
        self._asked_size = size
        self._size = size
        self._ids: list[str] | None = None
        self._forget()

    def _forget(self) -> None:
        self._lock = threading.RLock()
        self._files: OrderedDict[int, tuple[pq.ParquetFile, np.ndarray]] = OrderedDict()
        self._groups: OrderedDict[tuple[int, int], pa.Table] = OrderedDict()
        self._cached_bytes = 0

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what cannot or need not travel to another process: lock, open files, row groups."""
        state = self.__dict__.copy()
        for name in ("_lock", "_files", "_groups", "_cached_bytes"):
            del state[name]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Start with no open files and an empty memory."""
        self.__dict__.update(state)
        self._forget()

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels: those asked for, else those of the first pair."""
        if self._size is None:
            label = self._pixels([0])[1]
            self._size = (label.shape[1], label.shape[2])
        return self._size

    @property
    def ids(self) -> list[str]:
        """The ids of all pairs, in order; the id columns are read when first asked for."""
        if self._ids is None:
            with self._lock:
                ids: list[str] = []
                for shard, path in enumerate(self._paths):
                    file, _ = self._file(shard)
                    with explained_read(path):
                        ids += file.read(columns=["id"], use_threads=False)["id"].to_pylist()
                self._ids = ids
        return self._ids

    def batch(self, indices: Sequence[int] | np.ndarray) -> tuple[Tensor, Tensor]:
        """Decode some pairs.

        Args:
            indices: Numbers of pairs, 0 .. len - 1.

        Returns:
            Images B3HW float32 in [-1, 1] and labels BHW int64, ids 0 .. K-1 and 255.

        Raises:
            IndexError: A number is out of range.
            DataError: A pair is damaged, has ids outside the class table or another size than the first of the batch.
        """
        images, labels = self._pixels([int(index) for index in indices])
        if self._asked_size is not None:
            images, labels = resample_pairs(images, labels, self._asked_size)
        return images_from_uint8(images), torch.from_numpy(labels).long()

    def samples(self, indices: Sequence[int] | np.ndarray) -> dict[str, Any]:
        """Decode some pairs with what names and describes them.

        Args:
            indices: Numbers of pairs, 0 .. len - 1.

        Returns:
            "image" B3HW float32 in [-1, 1], "label" BHW int64, "id" and "kind", lists, and "palette" BK float32, the
            shares achieved.

        Raises:
            IndexError: A number is out of range.
            DataError: As for `batch`.
        """
        images, labels = self.batch(indices)
        ids, palettes = [], []
        for index in indices:
            group, position, path = self._locate(int(index))
            row_id, palette = group["id"][position].as_py(), group["palette_achieved"][position].values
            if row_id is None or palette is None or len(palette) != self.table.num_classes or palette.null_count:
                raise DataError(
                    f"{path} row {row_id!r}: it needs an id and a palette_achieved of {self.table.num_classes} shares. "
                    "Generate the shard again."
                )
            ids.append(row_id)
            palettes.append(palette.to_numpy())
        return {
            "image": images,
            "label": labels,
            "id": ids,
            "kind": [self.kind] * len(ids),
            "palette": torch.from_numpy(np.stack(palettes)),
        }

    def __getitem__(self, index: int) -> Any:
        """Return one pair as a dictionary that `torch.utils.data.default_collate` understands, or what becomes of it.

        Args:
            index: Number of the pair; negative numbers count from the end.

        Returns:
            "image" 3HW float32 in [-1, 1], "label" HW int64, "id", "kind", and "palette" K float32, the shares
            achieved.
        """
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Return several pairs as `__getitem__` does; a DataLoader asks for a whole batch at a time."""
        batch = self.samples([range(len(self))[index] for index in indices])
        samples = [{name: values[position] for name, values in batch.items()} for position in range(len(indices))]
        return samples if self._transform is None else [self._transform(sample) for sample in samples]

    def _pixels(self, indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return some pairs: images uint8 BHW3, labels uint8 BHW."""
        if self._decoded is not None:
            return self._decoded.pixels([self._place(index) for index in indices])
        rows = [self._locate(index) for index in indices]
        if self._threads == 1:
            pairs = [self._decode(row) for row in rows]
        else:
            # Threads of one batch only: they would not exist in a forked worker, which would wait for them for ever.
            with ThreadPoolExecutor(self._threads, "decoder") as pool:
                pairs = list(pool.map(self._decode, rows))
        sizes = {image.shape[:2] for image, _ in pairs}
        if len(sizes) > 1:
            raise DataError(f"{self.folder} holds pairs of sizes {sorted(sizes)}; one batch must have one size.")
        labels = np.stack([label for _, label in pairs])
        # One more than an id wraps 255 to 0: a single comparison for the whole batch, which is all that good ones cost.
        if (labels + np.uint8(1)).max() > self.table.num_classes:
            for label, (group, position, path) in zip(labels, rows, strict=True):
                self._check_ids(label, f"{path} row {group['id'][position].as_py()!r}")
        return np.stack([image for image, _ in pairs]), labels

    def _decode(self, row: tuple[pa.Table, int, Path]) -> tuple[np.ndarray, np.ndarray]:
        """Return one pair: image uint8 HW3, label uint8 HW."""
        group, position, path = row
        where = f"{path} row {group['id'][position].as_py()!r}"
        image = decode_image(group["image.bytes"][position].as_py(), where)
        label = decode_label(group["label.bytes"][position].as_py(), where)
        if image.shape[:2] != label.shape:
            raise DataError(f"{where}: the image is {image.shape[:2]} and the label {label.shape}; sizes must agree.")
        return image, label

    def _check_ids(self, label: np.ndarray, where: str) -> None:
        strays = (label >= self.table.num_classes) & (label != IGNORE_ID)
        if strays.any():
            raise DataError(
                f"{where}: the label has ids {np.unique(label[strays]).tolist()}; allowed are "
                f"0 .. {self.table.num_classes - 1} and {IGNORE_ID}."
            )

    def _place(self, index: int) -> tuple[int, int]:
        """Return the shard with pair `index` and the pair's row in it."""
        if not 0 <= index < len(self):
            raise IndexError(f"Pair {index} of {len(self)}: numbers go from 0 to {len(self) - 1}.")
        shard = int(np.searchsorted(self._ends, index, side="right"))
        return shard, index - (int(self._ends[shard - 1]) if shard else 0)

    def _locate(self, index: int) -> tuple[pa.Table, int, Path]:
        """Return the row group with pair `index`, the pair's position there, and the file."""
        shard, row = self._place(index)
        with self._lock:
            file, ends = self._file(shard)
            group = int(np.searchsorted(ends, row, side="right"))
            position = row - (int(ends[group - 1]) if group else 0)
            return self._row_group(shard, group, file), position, self._paths[shard]

    def _file(self, shard: int) -> tuple[pq.ParquetFile, np.ndarray]:
        """Return an open shard and where its row groups end."""
        if shard in self._files:
            self._files.move_to_end(shard)
            return self._files[shard]
        file = open_shard(self._paths[shard], self.shard_rows[shard])
        metadata = file.metadata
        ends = np.cumsum([metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)])
        self._files[shard] = (file, ends)
        if len(self._files) > _OPEN_FILES:
            self._files.popitem(last=False)[1][0].close()
        return file, ends

    def _row_group(self, shard: int, group: int, file: pq.ParquetFile) -> pa.Table:
        key = (shard, group)
        if key in self._groups:
            self._groups.move_to_end(key)
            return self._groups[key]
        table = read_group(file, self._paths[shard], group, self._columns).flatten()
        self._groups[key] = table
        self._cached_bytes += table.nbytes
        while self._cached_bytes > self._cache_bytes and len(self._groups) > 1:
            self._cached_bytes -= self._groups.popitem(last=False)[1].nbytes
        return table


def decode_shards(folder: Path | str, to: Path | str, *, threads: int = 1, progress: Progress = NO_PROGRESS) -> Path:
    """Write decoded copies of a folder of shards, from which `ShardPairs` and `ShardStream` read without decoding.

    A copy takes 4 bytes per pixel of each pair. Copies that are there already are kept, so that the same call continues
    an interrupted one; they are named by content and may share a folder with those of other shards.

    Args:
        folder: A folder with a manifest.
        to: Where to write; created if needed.
        threads: Threads that decode.
        progress: Watches the pairs.

    Returns:
        The folder of the copies, absolute.

    Raises:
        DataError: The folder is not complete, a pair is damaged, or sizes differ within a shard.
        ScenepaletteError: A copy cannot be written; those before it stay.
    """
    pairs = ShardPairs(folder, threads=threads, cache_bytes=0)
    to = Path(to).absolute()
    first = 0
    progress.start("decode pairs", len(pairs))
    for shard in read_manifest(folder)["shards"]:
        end = first + shard["rows"]
        if not decoded_path(to, shard).is_file():
            starts = range(first, end, ROW_GROUP)
            parts = (pairs._pixels(range(start, min(start + ROW_GROUP, end))) for start in starts)
            write_decoded_shard(decoded_path(to, shard), parts, shard["rows"])
        progress.advance(shard["rows"])
        first = end
    progress.finish()
    return to


class ChosenPairs:
    """Some pairs of a larger set."""

    def __init__(self, pairs: PairSource, indices: Sequence[int] | np.ndarray) -> None:
        self.pairs, self.indices = pairs, np.asarray(indices, dtype=np.int64)
        self.table, self.size = pairs.table, pairs.size

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def ids(self) -> list[str]:
        """The ids of the pairs, in order."""
        ids = self.pairs.ids
        return [ids[int(index)] for index in self.indices]

    def batch(self, indices: Sequence[int] | np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images B3HW in [-1, 1] and labels BHW."""
        return self.pairs.batch(self.indices[np.asarray(indices, dtype=np.int64)])


class FirstPairs(ChosenPairs):
    """The first pairs of a larger set, for evaluations that need not look at all of them."""

    def __init__(self, pairs: PairSource, count: int) -> None:
        super().__init__(pairs, range(min(count, len(pairs))))


class JoinedPairs(ChosenPairs):
    """The pairs of several sets, one after the other."""

    def __init__(self, parts: Sequence[PairSource]) -> None:
        """Take the sets, one or more, of the same classes and size."""
        self.parts, self._ends = list(parts), np.cumsum([len(part) for part in parts])
        super().__init__(parts[0], range(self._ends[-1]))

    @property
    def ids(self) -> list[str]:
        """The ids of all pairs, in order."""
        return [name for part in self.parts for name in part.ids]

    def batch(self, indices: Sequence[int] | np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images B3HW in [-1, 1] and labels BHW."""
        rows = np.asarray(indices, dtype=np.int64)
        owners = np.searchsorted(self._ends, rows, side="right")
        places, found = [], []
        for number in np.unique(owners):
            own = np.flatnonzero(owners == number)
            places.append(own)
            found.append(self.parts[number].batch(rows[own] - self._ends[number] + len(self.parts[number])))
        order = torch.from_numpy(np.argsort(np.concatenate(places)))
        images, labels = (torch.cat(each)[order] for each in zip(*found, strict=True))
        return images, labels
