"""Pairs per second from palette to shard on disk, against the generators alone.

Usage: python -m benchmarks.end_to_end [--pairs 240] [--size 128x256] [--repetitions 3]

The networks of `camvid-cpu`, trained for one step on embedded scenes (speed does not depend on how well they are
trained). The generators alone draw palettes and make layouts and images in memory; the whole also encodes, checks and
writes. Both take turns. Seconds of processors, of all threads together, hardly depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.generate_memory import benchmark_config
from benchmarks.measure import interleaved_seconds, machine, markdown_table
from scenepalette.pipeline.run import Run

UNIT = "shards/full"


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=240)
    parser.add_argument("--size", type=lambda text: tuple(map(int, text.split("x"))), default=(128, 256))
    parser.add_argument("--repetitions", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Run(benchmark_config(arguments.pairs, arguments.size), Path(folder) / "run")
        run.make([*run.names_of("layouts"), *run.names_of("images")])
        maker, batch_size = run.pair_maker(UNIT), run.config.generate.batch_size

        def generators() -> None:
            for _ in maker.rows(0, arguments.pairs, batch_size):
                pass

        def whole() -> None:
            shutil.rmtree(run.run_dir / UNIT, ignore_errors=True)
            run.make([UNIT])

        cases = {"generators alone": generators, "whole": whole}
        used: dict[str, list[float]] = {name: [] for name in cases}

        def counted(name: str) -> None:
            before = time.process_time()
            cases[name]()
            used[name].append(time.process_time() - before)

        seconds = interleaved_seconds({name: partial(counted, name) for name in cases}, arguments.repetitions)
    print(machine())
    print(f"{arguments.pairs} pairs of {arguments.size[0]}x{arguments.size[1]}, {batch_size} at once\n")
    alone = seconds["generators alone"]
    each = {name: median(values[-arguments.repetitions :]) / arguments.pairs for name, values in used.items()}
    rows = [
        [name, f"{arguments.pairs / taken:.1f}", f"{alone / taken:.2f}", f"{each[name]:.3f}"]
        for name, taken in seconds.items()
    ]
    columns = ["what", "pairs per second", "of the generators' rate", "processor s per pair"]
    print(markdown_table(columns, rows))


if __name__ == "__main__":
    main()
