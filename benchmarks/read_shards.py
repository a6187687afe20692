"""Pairs per second that a training can read: our readers, `datasets`, and a folder of PNG files.

Usage: python -m benchmarks.read_shards [--pairs 512] [--size 128x256] [--workers 0 2] [--data streets]

The same pairs are written as JPEG shards, decoded copies and PNG files. Every reader gives batches of images B3HW
float32 in [-1, 1] and labels BHW int64 through a DataLoader with the same batch size and number of workers, which keep
running; the readers take turns, an epoch each. `datasets` is read in the fastest of the ways that were tried: PIL
images of the two columns, stacked by the collate function.
"""

from __future__ import annotations

import argparse
import io
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as pads
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.measure import interleaved_seconds, machine, markdown_table
from benchmarks.shards_at_scale import row_of, write_rows
from scenepalette.data.arrays import images_from_uint8, resize_sample
from scenepalette.data.datasets import open_dataset
from scenepalette.data.readers.folder import open_folder
from scenepalette.data.sample import Sample
from scenepalette.data.shards.pairs import ShardPairs, decode_shards
from scenepalette.data.shards.schema import Row
from scenepalette.data.shards.training.stream import ShardStream

_SHARDS = 4
_BASELINE = "`datasets`, map-style"


def collate_samples(samples: list[Sample]) -> tuple[Tensor, Tensor]:
    return _tensors([sample.image for sample in samples], [sample.label for sample in samples])


def collate_images(rows: list[dict[str, Any]]) -> tuple[Tensor, Tensor]:
    return _tensors([np.asarray(row["image"]) for row in rows], [np.asarray(row["label"]) for row in rows])


def _tensors(images: list[np.ndarray], labels: list[np.ndarray]) -> tuple[Tensor, Tensor]:
    return images_from_uint8(np.stack(images)), torch.from_numpy(np.stack(labels)).long()


def write_sources(folder: Path, data: str, root: Path | None, size: tuple[int, int], pairs: int) -> None:
    """Write the same pairs as shards and as PNG files.

    Args:
        folder: Where.
        data: Name of the data set that the pairs come from; they repeat if it has too few.
        root: Its folder, if it has one.
        size: Height and width, pixels.
        pairs: How many.
    """
    count = {"count": min(pairs, 128), "size": size} if data == "streets" else {"root": root}
    source = open_dataset(data, "train", **count)
    samples = [resize_sample(source[index], size) for index in range(min(pairs, len(source)))]
    table = source.table
    (folder / "png/train/images").mkdir(parents=True)
    (folder / "png/train/labels").mkdir()
    classes = [f"{item.name},{','.join(map(str, item.color))}" for item in table.classes]
    (folder / "png/classes.csv").write_text("\n".join(["name,red,green,blue", *classes]))

    def row(index: int) -> Row:
        sample = samples[index % len(samples)]
        Image.fromarray(sample.image).save(folder / f"png/train/images/{index:06d}.png")
        Image.fromarray(sample.label).save(folder / f"png/train/labels/{index:06d}.png")
        return row_of(index, sample.image, sample.label, table.num_classes)

    write_rows(folder / "shards", row, [pairs * part // _SHARDS for part in range(_SHARDS + 1)], table, source.name)


def readers(folder: Path, batch: int, workers: int) -> dict[str, Iterable[Any]]:
    """Return the loaders by name, in the order of the table."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import datasets

    shards, copies = folder / "shards", folder / "decoded"
    kept = {"num_workers": workers, "persistent_workers": workers > 0}
    options = {"batch_size": batch, **kept}
    columns = ["image", "label"]
    loaded = datasets.load_dataset(str(shards), split="train", cache_dir=str(folder / "cache")).select_columns(columns)
    streamed = datasets.load_dataset(str(shards), split="train", streaming=True).select_columns(columns)
    return {
        "`ShardPairs`, decoded copies": DataLoader(ShardPairs(shards, decoded=copies), shuffle=True, **options),
        "`ShardStream`, decoded copies": DataLoader(
            ShardStream(shards, batch, decoded=copies), batch_size=None, **kept
        ),
        "`ShardPairs`": DataLoader(ShardPairs(shards), shuffle=True, **options),
        "`ShardStream`": DataLoader(ShardStream(shards, batch), batch_size=None, **kept),
        _BASELINE: DataLoader(loaded, shuffle=True, collate_fn=collate_images, **options),
        "`datasets`, streaming": DataLoader(streamed, collate_fn=collate_images, **options),
        "folder of PNG files": DataLoader(
            open_folder(folder / "png", "train"), shuffle=True, collate_fn=collate_samples, **options
        ),
    }


def decoding_alone(shards: Path) -> Callable[[], None]:
    """Return the work that no reader without decoded copies can avoid: Pillow decoding all images in memory."""
    table = pads.dataset(shards, format="parquet", exclude_invalid_files=True).to_table(columns=["image", "label"])
    contents = [value["bytes"] for name in ("image", "label") for value in table[name].to_pylist()]

    def decode() -> None:
        for content in contents:
            Image.open(io.BytesIO(content)).load()

    return decode


def epoch(loader: Iterable[Any], pairs: int) -> Callable[[], None]:
    """Return the work of reading one epoch."""

    def read() -> None:
        found = 0
        for batch in loader:
            images, labels = (batch["image"], batch["label"]) if isinstance(batch, dict) else batch
            assert images.dtype == torch.float32 and labels.dtype == torch.int64
            found += len(images)
        assert found == pairs

    return read


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=512)
    parser.add_argument("--size", type=lambda text: tuple(map(int, text.split("x"))), default=(128, 256))
    parser.add_argument("--batch", type=int, default=16, help="pairs per batch")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2], help="workers of the DataLoader")
    parser.add_argument("--repetitions", type=int, default=5, help="epochs of each reader")
    parser.add_argument("--data", default="streets", help="data set that the pairs come from")
    parser.add_argument("--root", type=Path, help="its folder")
    arguments = parser.parse_args()
    print(machine())
    print(f"{arguments.pairs} pairs of {arguments.size[0]}x{arguments.size[1]} from {arguments.data}\n")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_sources(folder, arguments.data, arguments.root, arguments.size, arguments.pairs)
        began = time.perf_counter()
        decode_shards(folder / "shards", folder / "decoded")
        print(f"Writing decoded copies, once: {arguments.pairs / (time.perf_counter() - began):.0f} pairs per second")
        for workers in arguments.workers:
            loaders = readers(folder, arguments.batch, workers)
            cases = {name: epoch(loader, arguments.pairs) for name, loader in loaders.items()}
            cases["Pillow decoding alone, one thread"] = decoding_alone(folder / "shards")
            seconds = interleaved_seconds(cases, arguments.repetitions)
            rows = [
                [name, f"{arguments.pairs / spent:.0f}", f"{seconds[_BASELINE] / spent:.2f}"]
                for name, spent in seconds.items()
            ]
            print(f"\nBatches of {arguments.batch}, {workers} workers\n")
            print(markdown_table(["reader", "pairs per second", f"against {_BASELINE}"], rows), flush=True)


if __name__ == "__main__":
    main()
