"""Shards with many rows: checking them in bounded memory, and the time to the first batch.

Usage: python -m benchmarks.shards_at_scale [--rows 10000 100000] [--size 16x24] [--folder FOLDER]

Writes small pairs through the project's own writer, then checks the folder, and opens it for training, each in a
process of its own. Memory is the growth of the process's peak over what it had after its imports; the time to the
first batch runs from opening the folder to a shuffled batch of 8 decoded pairs, without imports.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

from benchmarks.measure import forget_peak_memory, machine, markdown_table, peak_memory
from scenepalette.data.classes import ClassTable
from scenepalette.data.decoding.class_files import CAMVID
from scenepalette.data.shards.checking import find_problems
from scenepalette.data.shards.manifest import make_manifest, write_manifest
from scenepalette.data.shards.pairs import ShardPairs
from scenepalette.data.shards.schema import Row, palette_of_label, shard_name
from scenepalette.data.shards.writing import write_shard

PATTERNS = 64
ROWS_PER_SHARD = 1024


def row_of(index: int, image: np.ndarray, label: np.ndarray, num_classes: int) -> Row:
    """Return a row of the kind full that no model has made."""
    palette = palette_of_label(label, num_classes)
    return Row(f"full-{index:08d}", image, label, "full", palette, palette, None, None, 0, index, None, None)


def write_rows(folder: Path, row: Callable[[int], Row], ends: Sequence[int], table: ClassTable, name: str) -> None:
    """Write rows by number into shards, each of the rows from one end to the next, and their manifest."""
    count = len(ends) - 1
    shards = [
        write_shard(folder / shard_name(shard, count), map(row, range(ends[shard], ends[shard + 1])))
        for shard in range(count)
    ]
    source = {"name": name, "licence": "CC0-1.0"}
    manifest = make_manifest(shards, kind="full", table=table, config_hash="0" * 64, models={}, source=source)
    write_manifest(folder, manifest)


def write_folder(folder: Path, rows: int, size: tuple[int, int]) -> None:
    """Write shards of `rows` pairs, whose images are 64 patterns in turn."""
    random = np.random.default_rng(0)
    labels = random.integers(0, CAMVID.num_classes, (PATTERNS, *size), dtype=np.uint8)
    images = CAMVID.colorize(labels)

    def row(index: int) -> Row:
        return row_of(index, images[index % PATTERNS], labels[index % PATTERNS], CAMVID.num_classes)

    write_rows(folder, row, [*range(0, rows, ROWS_PER_SHARD), rows], CAMVID, "patterns")


def verify(folder: Path) -> None:
    """Check the folder, which must be in order."""
    problems = list(find_problems(folder))
    if problems:
        raise SystemExit(f"{len(problems)} problems, the first: {problems[0]}")


def first_batch(folder: Path) -> None:
    """Open the folder and take one shuffled batch."""
    next(iter(DataLoader(ShardPairs(folder), batch_size=8, shuffle=True)))


STEPS: dict[str, Callable[[Path], None]] = {"verify": verify, "first batch": first_batch}


def measured(step: str, folder: Path) -> dict[str, Any]:
    """Return seconds and growth of peak memory in MiB of a step in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.shards_at_scale", "--step", step, "--folder", str(folder)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1])


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--size", type=lambda text: tuple(map(int, text.split("x"))), default=(16, 24))
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder by default")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        forget_peak_memory()  # of the imports
        before, began = peak_memory(), time.monotonic()
        STEPS[arguments.step](arguments.folder)
        seconds, growth = time.monotonic() - began, peak_memory() - before
        print(json.dumps({"seconds": seconds, "growth": growth}))
        return
    columns = ["rows", "shards", "MiB", "write, s", "verify, s", "verify, MiB", "first batch, s", "open, MiB"]
    lines = []
    with tempfile.TemporaryDirectory() as temporary:
        for rows in arguments.rows:
            folder = (arguments.folder or Path(temporary)) / str(rows)
            began = time.monotonic()
            write_folder(folder, rows, arguments.size)
            written = time.monotonic() - began
            files = list(folder.glob("*.parquet"))
            size = sum(path.stat().st_size for path in files) / 2**20
            checked, opened = measured("verify", folder), measured("first batch", folder)
            verified = [f"{checked['seconds']:.1f}", f"{checked['growth']:.0f}"]
            first = [f"{opened['seconds']:.2f}", f"{opened['growth']:.0f}"]
            lines.append([rows, len(files), f"{size:.0f}", f"{written:.1f}", *verified, *first])
    print(markdown_table(columns, lines))
    print(f"\n{machine()}")


if __name__ == "__main__":
    main()
