"""What a finished run saves: moved, copied, extended by pairs, arms and seeds, and lending its models to another run.

    python -m benchmarks.run_directory.reuse --recipe demo --out runs/reuse

makes the whole run once, then changes one thing at a time by the commands that a user would give. Seconds are those of
each command from its start to its end, against the seconds of the whole run.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import machine, markdown_table
from scenepalette.pipeline.config import load_config


def seconds_of(*arguments: str) -> float:
    """Run a command of scenepalette and return how long it took; its progress goes to standard error."""
    began = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "scenepalette.pipeline.cli.main", *arguments], check=True, stdout=subprocess.DEVNULL
    )
    return time.monotonic() - began


def weights_of(run_dir: Path) -> dict[str, int]:
    """Return when each file of weights was written, by its path in the run directory."""
    return {
        str(path.relative_to(run_dir)): path.stat().st_mtime_ns for path in run_dir.glob("[li]*/*/weights.safetensors")
    }


def measure(recipe: str, changes: Sequence[str], out: Path) -> list[list[str]]:
    """Return a row per change: what was done, seconds, share of the whole run, generators trained again."""
    given = [part for change in changes for part in ("--set", change)]
    config = load_config(recipe, changes)
    arms, pairs = config.segmenters.arms, config.generate.pairs
    extra = next(arm for arm in ("real-flip", "real-standard", "semi") if arm not in arms)
    whole = out / "whole"
    total = seconds_of("run", recipe, *given, "--out", str(whole))
    rows = [["whole run", f"{total:.0f}", "100 %", str(len(weights_of(whole)))]]

    def row(name: str, run_dir: Path, *arguments: str) -> None:
        before = weights_of(run_dir) if run_dir.exists() else {}
        seconds = seconds_of(*arguments, "--out", str(run_dir))
        trained = [path for path, when in weights_of(run_dir).items() if before.get(path) != when]
        lent = "--models-from" in arguments
        rows.append([name, f"{seconds:.0f}", f"{100 * seconds / total:.0f} %", "0" if lent else str(len(trained))])

    run = ("run", recipe, *given)
    row("the same command again", whole, *run)
    moved = out / "moved"
    whole.rename(moved)
    row("moved", moved, *run)
    copied = Path(shutil.copytree(moved, out / "copied"))
    row("copied", copied, *run)
    row(f"{pairs} more pairs of each kind", copied, "generate", recipe, *given, "--set", f"generate.pairs={2 * pairs}")
    row(f"one more arm, {extra}", moved, *run, "--set", f"segmenters.arms=[{', '.join([*arms, extra])}]")
    seeds = [*config.segmenters.seeds, max(config.segmenters.seeds) + 1]
    row(f"one more seed of {len(arms)} arms", moved, *run, "--set", f"segmenters.seeds={seeds}")
    lending = ("--models-from", str(moved), "--set", "seed=7")
    row("pairs of another seed, by its models", out / "lent", "generate", recipe, *given, *lending)
    row("a whole run of another seed, by its models", out / "lent", *run, *lending)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="demo", help="recipe or YAML file")
    parser.add_argument("--set", action="append", default=[], dest="changes", metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, required=True, help="a new folder for the runs")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True)
    rows = measure(arguments.recipe, arguments.changes, arguments.out)
    print(machine())
    print(markdown_table(["finished run of " + arguments.recipe, "s", "of the whole", "generators trained"], rows))


if __name__ == "__main__":
    main()
