"""Peak memory of generating pairs, which must not grow with their number.

Usage: python -m benchmarks.generate_memory [--pairs 200 2000] [--size 96x128]

Trains the networks of `camvid-cpu` for one step on embedded scenes (memory does not depend on how well they are
trained), then generates each number of full pairs (both networks) in a process of its own and prints its peak memory.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measure import peak_memory
from scenepalette.generators.nn.grids import base_grid
from scenepalette.pipeline.config import RunConfig, make_config, merge
from scenepalette.pipeline.recipes import RECIPES
from scenepalette.pipeline.run import Run


def benchmark_config(pairs: int, size: tuple[int, int]) -> RunConfig:
    """Return `camvid-cpu` on embedded scenes, trained for one step, with the given number of pairs."""
    values = RECIPES["camvid-cpu"]()
    levels = base_grid(size)[1] + 1
    once = {"fade_steps": (0,) * levels, "stable_steps": (0,) * (levels - 1) + (1,), "batch_sizes": (8,) * levels}
    changes = {
        "data": {"name": "streets", "size": size, "train_scenes": 64, "val_scenes": 8},
        "layouts": {"full": once, "partial": once},
        "images": {"steps": 1},
        "generate": {"pairs": pairs, "kinds": ("full",)},
        "segmenters": {"arms": ("real",), "steps": 1},
    }
    return make_config(merge(values, changes))


def generate_once(run_dir: Path, pairs: int, size: tuple[int, int]) -> None:
    """Generate in this process and print what it took as one JSON line."""
    run = Run(benchmark_config(pairs, size), run_dir)
    run.make([*run.names_of("layouts"), *run.names_of("images")])
    began = time.monotonic()
    before = peak_memory()
    run.make(run.names_of("shards"))
    seconds = time.monotonic() - began
    peak = peak_memory()
    print(json.dumps({"before": before, "peak": peak, "seconds": seconds}))


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, nargs="+", default=[200, 2000])
    parser.add_argument("--size", type=lambda text: tuple(map(int, text.split("x"))), default=(96, 128))
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        generate_once(arguments.child, arguments.pairs[0], arguments.size)
        return
    print("| pairs | peak memory, MiB | seconds | pairs per second |")
    print("| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        size = "x".join(map(str, arguments.size))
        for pairs in arguments.pairs:
            run_dir = Path(folder) / "run"
            this = [sys.executable, "-m", "benchmarks.generate_memory", "--size", size]
            this += ["--child", str(run_dir), "--pairs"]
            # The first call of each number trains; its memory is not that of generation alone.
            subprocess.run([*this, "1"], check=True, stdout=subprocess.DEVNULL)
            shutil.rmtree(run_dir / "shards")
            output = subprocess.run([*this, str(pairs)], check=True, stdout=subprocess.PIPE, text=True).stdout
            result = json.loads(output.splitlines()[-1])
            rate = pairs / result["seconds"]
            print(f"| {pairs} | {result['peak']:.0f} | {result['seconds']:.1f} | {rate:.1f} |", flush=True)
            shutil.rmtree(run_dir / "shards")


if __name__ == "__main__":
    main()
