"""Training straight from shards: random access to pairs in bounded memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor
from torch.utils.data import Dataset

from data.arrays import Pairs
from data.classes import IGNORE_ID, ClassTable
from data.errors import DataError
from data.shards.manifest import file_problems, read_manifest, table_of_manifest
from data.shards.reading import explained_read, open_shard, read_group
from data.shards.schema import decode_image, decode_label

_OPEN_FILES = 32


class ShardPairs(Dataset[dict[str, Any]]):
    """The pairs of a folder of shards, for training.

    Serves as `data.arrays.Pairs` does, and as a map-style data set of a `torch.utils.data.DataLoader`. Files are opened
    when first asked for. Row groups stay in memory in encoded form up to a limit in bytes, the least recently used one
    leaves first; only rows that are asked for are decoded. A copy in another process starts with an empty memory.

    Attributes:
        folder: Absolute path of the folder.
        name: Name of the source data set and the kind of rows.
        licence: Licence of the source data set.
        kind: "full", "partial", "semi" or "pseudo".
        table: Classes of the labels.
    """

    def __init__(self, folder: Path | str, *, cache_bytes: int = 256 * 2**20) -> None:
        """Open a folder of shards.

        Args:
            folder: A folder with a manifest.
            cache_bytes: Most bytes of encoded row groups to keep; a single larger row group is kept while in use.

        Raises:
            DataError: The folder is not complete or a file has another size than its manifest says.
        """
        self.folder = Path(folder).absolute()
        manifest = read_manifest(self.folder)
        problems = file_problems(self.folder, manifest)
        if problems:
            raise DataError(f"The shards in {self.folder} are not those of its manifest.", problems)
        self.kind: str = manifest["kind"]
        self.name = f"{manifest['source']['name']}-{self.kind}"
        self.licence: str = manifest["source"]["licence"]
        self.table: ClassTable = table_of_manifest(manifest)
        self._cache_bytes = cache_bytes
        self._paths = [self.folder / shard["name"] for shard in manifest["shards"]]
        # Row r lies in the shard s with _ends[s - 1] <= r < _ends[s].
        self._ends = np.cumsum([shard["rows"] for shard in manifest["shards"]])
        self._size: tuple[int, int] | None = None
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
        """Return the number of pairs."""
        return int(self._ends[-1])

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels, those of the first pair."""
        if self._size is None:
            label = self._decode(0)[1]
            self._size = (label.shape[0], label.shape[1])
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
        pairs = [self._decode(int(index)) for index in indices]
        sizes = {image.shape[:2] for image, _ in pairs}
        if len(sizes) > 1:
            raise DataError(f"{self.folder} holds pairs of sizes {sorted(sizes)}; one batch must have one size.")
        images = torch.from_numpy(np.stack([image for image, _ in pairs]))  # BHW3
        labels = torch.from_numpy(np.stack([label for _, label in pairs]))  # BHW
        # Contiguous, as for `Pairs`: the memory layout decides the order of sums in a convolution.
        return images.permute(0, 3, 1, 2).to(
            torch.float32, memory_format=torch.contiguous_format
        ) / 127.5 - 1, labels.long()

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return one pair as a dictionary that `torch.utils.data.default_collate` understands.

        Args:
            index: Number of the pair; negative numbers count from the end.

        Returns:
            "image" 3HW float32 in [-1, 1], "label" HW int64, "id", and "palette" K float32, the shares achieved.
        """
        index = range(len(self))[index]
        image, label = self.batch([index])
        group, position, path = self._locate(index)
        palette, row_id = group["palette_achieved"][position].as_py(), group["id"][position].as_py()
        if row_id is None or palette is None or len(palette) != self.table.num_classes or None in palette:
            raise DataError(
                f"{path} row {row_id!r}: it needs an id and a palette_achieved of {self.table.num_classes} shares. "
                "Generate the shard again."
            )
        return {
            "image": image[0],
            "label": label[0],
            "id": row_id,
            "palette": torch.tensor(palette, dtype=torch.float32),
        }

    def _decode(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return one pair: image uint8 HW3, label uint8 HW."""
        group, position, path = self._locate(index)
        where = f"{path} row {group['id'][position].as_py()!r}"
        image = decode_image(group["image"][position]["bytes"].as_py(), where)
        label = decode_label(group["label"][position]["bytes"].as_py(), where)
        if image.shape[:2] != label.shape:
            raise DataError(f"{where}: the image is {image.shape[:2]} and the label {label.shape}; sizes must agree.")
        strays = (label >= self.table.num_classes) & (label != IGNORE_ID)
        if strays.any():
            raise DataError(
                f"{where}: the label has ids {np.unique(label[strays]).tolist()}; allowed are "
                f"0 .. {self.table.num_classes - 1} and {IGNORE_ID}."
            )
        return image, label

    def _locate(self, index: int) -> tuple[pa.Table, int, Path]:
        """Return the row group with pair `index`, the pair's position there, and the file."""
        if not 0 <= index < len(self):
            raise IndexError(f"Pair {index} of {len(self)}: numbers go from 0 to {len(self) - 1}.")
        shard = int(np.searchsorted(self._ends, index, side="right"))
        row = index - (int(self._ends[shard - 1]) if shard else 0)
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
        file = open_shard(self._paths[shard])
        metadata = file.metadata
        ends = np.cumsum([metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)])
        rows = int(self._ends[shard] - (self._ends[shard - 1] if shard else 0))
        if metadata.num_rows != rows:
            file.close()
            raise DataError(f"{self._paths[shard]} has {metadata.num_rows} rows, its manifest says {rows}.")
        self._files[shard] = (file, ends)
        if len(self._files) > _OPEN_FILES:
            self._files.popitem(last=False)[1][0].close()
        return file, ends

    def _row_group(self, shard: int, group: int, file: pq.ParquetFile) -> pa.Table:
        key = (shard, group)
        if key in self._groups:
            self._groups.move_to_end(key)
            return self._groups[key]
        columns = ["id", "image.bytes", "label.bytes", "palette_achieved"]
        table = read_group(file, self._paths[shard], group, columns)
        self._groups[key] = table
        self._cached_bytes += table.nbytes
        while self._cached_bytes > self._cache_bytes and len(self._groups) > 1:
            self._cached_bytes -= self._groups.popitem(last=False)[1].nbytes
        return table


class FirstPairs:
    """The first pairs of a larger set, for evaluations that need not look at all of them."""

    def __init__(self, pairs: Pairs | ShardPairs, count: int) -> None:
        """View the first `count` of `pairs`."""
        self.pairs, self.count = pairs, min(count, len(pairs))
        self.table, self.size = pairs.table, pairs.size

    def __len__(self) -> int:
        """Number of pairs in view."""
        return self.count

    def batch(self, indices: Sequence[int] | np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images B3HW in [-1, 1] and labels BHW."""
        return self.pairs.batch(indices)
