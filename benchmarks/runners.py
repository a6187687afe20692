"""Shards per second by task runner and number of workers, and whether all make the same bytes.

python -m benchmarks.runners --shards 12 --rows 16 --workers 1 2 4 --runners threads processes dask ray

Networks of the recipe demo, trained for a step a level: their speed does not depend on what they have learned. Workers
share this machine's cores. A server for Prefect is started unless PREFECT_API_URL names one.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")

from prefect import flow

from benchmarks.measure import machine, markdown_table
from scenepalette.common.errors import ConfigError
from scenepalette.common.storage.files import sha256_of_file
from scenepalette.flows.shards import RunnerName, ShardPool, generate_pairs
from scenepalette.pipeline.config import load_config
from scenepalette.pipeline.run import Run

UNIT = "shards/full"
SHORT = [
    "layouts.full.steps=5",
    "layouts.partial.steps=5",
    "images.steps=1",
    "images.systems.oasis.perceptual_weight=0",  # which would take a segmenter
    "generate.kinds=[full]",
    "segmenters.arms=[real]",
    "data.train_scenes=32",
    "data.val_scenes=8",
]


@flow(name="benchmark-runners", log_prints=False)
def make_shards(shards: int, rows: int, run_dir: str, runner: RunnerName, workers: int) -> None:
    """Make all shards of the unit."""
    generate_pairs(short_run(shards, rows, Path(run_dir)), UNIT, ShardPool(runner, workers))


def short_run(shards: int, rows: int, run_dir: Path, changes: Sequence[str] = ()) -> Run:
    """Return a run whose trainings take seconds and that makes so many shards."""
    changes = [*SHORT, *changes, f"generate.pairs={shards * rows}", f"generate.rows_per_shard={rows}"]
    return Run(load_config("demo", changes), run_dir)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=12)
    parser.add_argument("--rows", type=int, default=16, help="pairs per shard")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--runners", nargs="+", default=list(get_args(RunnerName)), choices=get_args(RunnerName))
    arguments = parser.parse_args()
    if arguments.shards < 2:
        parser.error("--shards: a rate needs at least 2")
    lines: list[list[str]] = []
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        run = short_run(arguments.shards, arguments.rows, run_dir)
        run.make(list(run.units[UNIT].inputs))
        expected: list[str] | None = None
        for runner in arguments.runners:
            try:
                ShardPool(runner).check()
            except ConfigError as error:
                print(error)
                continue
            for workers in arguments.workers:
                shutil.rmtree(run_dir / UNIT, ignore_errors=True)
                began = time.time()
                make_shards(arguments.shards, arguments.rows, str(run_dir), runner, workers)
                paths = sorted((run_dir / UNIT).glob("*.parquet"))
                written = sorted(path.stat().st_mtime for path in paths)
                hashes = [sha256_of_file(path) for path in paths]
                expected = expected or hashes
                rate = (len(written) - 1) / (written[-1] - written[0])
                same = "yes" if hashes == expected else "NO"
                lines.append([runner, str(workers), f"{written[0] - began:.1f}", f"{rate:.2f}", same])
                print(lines[-1], flush=True)
    print(machine())
    print(
        markdown_table(["runner", "workers", "s to the first shard", "shards per s from then on", "same bytes"], lines)
    )


if __name__ == "__main__":
    main()
