"""Kill a complete run at many points and compare what it ends with to an uninterrupted one.

Usage: python -m benchmarks.run_directory.kills [--kills 30] [--seed 0] [--folder DIR]

A tiny run of embedded scenes with every stage is made once without interruption. Then it is made again and its process
group is killed (SIGKILL), at points drawn from the seed: some time after a unit began, every other time waiting for a
half-written file. At least one kill meets each stage, if there are as many kills as units. Each time the same command
resumes. In the end every file is compared: weights, checkpoints, shards, samples and reports. Rows are those of shards
and, where something is trained, of metrics.jsonl. Exits with 1 if anything was lost, doubled or differs, or a temporary
file is left.

Attempts are forked from a process that has imported everything, so that an attempt costs no start of Python.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Before torch is imported: a forked process must not rely on threads of its parent.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import pyarrow.parquet as pq
import yaml

from benchmarks.measure import markdown_table
from scenepalette.common.storage.files import sha256_of_file
from scenepalette.pipeline.cli.main import app
from scenepalette.pipeline.config import load_config
from scenepalette.pipeline.run import units_of
from scenepalette.pipeline.units.records import MANIFEST, UNFINISHED

LAYOUT = {
    "noise_features": 4,
    "max_width": 8,
    "base_width": 64,
    "hidden_channels": 4,
    "fade_steps": [0, 2, 2, 2],
    "stable_steps": [2, 2, 2, 2],
    "batch_sizes": [4, 4, 4, 4],
    "checkpoint_every": 3,
}
RECIPE: dict[str, Any] = {
    "recipe": "demo",
    "data": {"size": [32, 48], "train_scenes": 16, "val_scenes": 4},
    "palettes": {"max_components": 2},
    "layouts": {"full": LAYOUT, "partial": LAYOUT},
    "images": {
        "steps": 8,
        "batch_size": 2,
        "checkpoint_every": 2,
        "systems": {
            "oasis": {
                "width": 2,
                "noise_channels": 2,
                "hidden_channels": 4,
                "discriminator_width": 4,
                "perceptual_weight": 0.0,
            }
        },
    },
    "finetune": {"kinds": ["full"], "steps": 4, "batch_size": 2, "width": 4, "checkpoint_every": 1},
    "generate": {"kinds": ["full", "partial", "semi"], "pairs": 10, "rows_per_shard": 4, "batch_size": 2},
    "segmenters": {
        "arms": ["real", "real+syn-advent", "syn"],
        "steps": 5,
        "batch_size": 2,
        "architecture": "deeplabv3",
        "decoder_channels": 8,
        "checkpoint_every": 2,
    },
    "report": {"bootstrap_samples": 100, "evaluated_pairs": 4, "inception_weights": "no-inception-weights.pth"},
    "compute": {"accelerator": "cpu", "precision": "32-true", "threads": 1},
}
POLL_SECONDS = 0.002
MOST_ROUNDS = 8
# What says how long something took, or when; everything else is compared.
TIMES = ("seconds", "durations", "costs", "provenance")
TEXTS = ("report.md", "report.html")  # hold the same as report.json, times included
NOT_RESULTS = (".lock", UNFINISHED)


def stage_of(name: str) -> str:
    """Return the stage of a unit or of a file in a run directory."""
    return name.partition("/")[0]


def start(recipe: Path, run_dir: Path, log: Path) -> int:
    """Fork a process, a group of its own, that gives the command `scenepalette run`; return its id."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        os.setsid()
        with log.open("ab") as file:
            for stream in (1, 2):
                os.dup2(file.fileno(), stream)
        app(["run", str(recipe), "--out", str(run_dir)], prog_name="scenepalette")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def finished(process: int) -> int | None:
    """Return the exit code of a process that has ended, else None."""
    pid, status = os.waitpid(process, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if pid else None


def is_begun(folder: Path) -> bool:
    """Tell whether a unit is begun or finished."""
    return (folder / UNFINISHED).exists() or (folder / MANIFEST).exists()


def durations_of(recipe: Path, run_dir: Path, units: list[str], log: Path) -> dict[str, float]:
    """Make the run without interruption and return the seconds of each unit."""
    process, begun = start(recipe, run_dir, log), {}
    code = None
    while code is None:
        for unit in units:
            if unit not in begun and is_begun(run_dir / unit):
                begun[unit] = time.monotonic()
        code = finished(process)
        time.sleep(POLL_SECONDS)
    if code:
        sys.exit(f"The uninterrupted run failed with {code}:\n{log.read_text()}")
    ends = [*list(begun.values())[1:], time.monotonic()]
    return {unit: end - begun[unit] for unit, end in zip(begun, ends, strict=True)}


@dataclass(frozen=True)
class Point:
    """Where to kill: a share of a unit's duration after it began, then perhaps at the next half-written file."""

    unit: str
    share: float
    half_written: bool


def kill_at(point: Point, seconds: float, recipe: Path, run_dir: Path, log: Path) -> str | None:
    """Start the command and kill it at a point.

    Returns:
        The unit that was being made, or None if the run was complete before.
    """
    process, began = start(recipe, run_dir, log), None
    while True:
        code = finished(process)
        if code is not None:
            if code:
                sys.exit(f"The command failed with {code}:\n{log.read_text()}")
            return None
        now = time.monotonic()
        if began is None and is_begun(run_dir / point.unit):
            began = now
        if began is not None and now - began >= point.share * seconds:
            late = now - began > 2 * seconds
            if not point.half_written or late or any(run_dir.rglob(".*.scenepalette-tmp")):
                break
        time.sleep(POLL_SECONDS)
    os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return next((unit for unit in reversed(_units_begun(run_dir)) if not (run_dir / unit / MANIFEST).exists()), None)


def _units_begun(run_dir: Path) -> list[str]:
    marks = sorted(run_dir.rglob(UNFINISHED), key=lambda path: path.stat().st_mtime_ns)
    return [str(mark.parent.relative_to(run_dir)) for mark in marks]


def results(run_dir: Path) -> dict[str, str]:
    """Return a content hash of every result, JSON without times."""
    found = {}
    for path in sorted(run_dir.rglob("*")):
        name = str(path.relative_to(run_dir))
        if path.is_dir() or path.name in NOT_RESULTS or path.name in TEXTS:
            continue
        found[name] = _without_times(path) if path.suffix == ".json" else sha256_of_file(path)
    return found


def _without_times(path: Path) -> str:
    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: strip(entry) for key, entry in value.items() if key not in TIMES}
        return [strip(entry) for entry in value] if isinstance(value, list) else value

    content = strip(json.loads(path.read_text()))
    if path.name == MANIFEST:
        content.pop("sha256", None)  # of the manifest itself, times included
        for name in content.get("files", {}):
            if name.endswith(".json") or Path(name).name in TEXTS:  # compared by themselves, or not at all
                content["files"][name] = "written"
    return json.dumps(content, sort_keys=True)


def rows_of(run_dir: Path) -> Iterator[tuple[str, str]]:
    """Yield (stage, row) of every row of shards and of every line of metrics."""
    for path in sorted(run_dir.rglob("*.parquet")):
        for row in pq.read_table(path, columns=["id"])["id"].to_pylist():
            yield path.relative_to(run_dir).parts[0], row
    for path in sorted(run_dir.rglob("metrics.jsonl")):
        name = path.relative_to(run_dir)
        for line in path.read_text().splitlines():
            yield name.parts[0], f"{name} {json.loads(line)['step']}"


def compare(whole: Path, parts: Path) -> tuple[Counter[str], Counter[str], list[str]]:
    """Return lost and doubled rows by stage, and the names of files that differ, lack or are too many."""
    before, after = Counter(rows_of(whole)), Counter(rows_of(parts))
    lost, doubled = (Counter[str](), Counter[str]())
    for (stage, _), count in (before - after).items():
        lost[stage] += count
    for (stage, _), count in (after - before).items():
        doubled[stage] += count
    first, second = results(whole), results(parts)
    return lost, doubled, [name for name in sorted(first | second) if first.get(name) != second.get(name)]


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="Keeps the runs here; a temporary folder if left out.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        ok = measure(folder, arguments.kills, random.Random(arguments.seed))
    sys.exit(0 if ok else 1)


def measure(folder: Path, wanted: int, randomness: random.Random) -> bool:
    """Kill until there are as many kills as wanted, print the table, and tell whether nothing was lost."""
    recipe = folder / "tiny.yaml"
    recipe.write_text(yaml.safe_dump(RECIPE))
    units = list(units_of(load_config(str(recipe))))
    began = time.monotonic()
    seconds = durations_of(recipe, folder / "whole", units, folder / "whole.log")
    print(f"One uninterrupted run: {time.monotonic() - began:.0f} s, {len(units)} units.", flush=True)

    kills: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    doubled: Counter[str] = Counter()
    differing: list[str] = []
    rounds = 0
    # With as many kills as units, no stage is left out; one that ends before it can be hit is tried a few times.
    every = wanted >= len(units)
    missed = list(units)
    while kills.total() < wanted or (every and missed and rounds < MOST_ROUNDS):
        rounds += 1
        run_dir, log = folder / f"killed-{rounds}", folder / f"killed-{rounds}.log"
        each, more = divmod(max(wanted - kills.total(), 0), len(units))
        favoured = set(randomness.sample(units, more)) | (set(missed) if every and rounds > 1 else set())
        points = [
            Point(unit, randomness.random(), bool((index + turn) % 2))
            for index, unit in enumerate(units)
            for turn in range(each + (unit in favoured))
        ]
        for point in points:
            if (run_dir / point.unit / MANIFEST).exists():
                continue  # an earlier kill came after the unit was finished; another round makes up for it
            unit = kill_at(point, seconds[point.unit], recipe, run_dir, log)
            if unit is not None:
                kills[stage_of(unit)] += 1
        code = None
        process = start(recipe, run_dir, log)
        while code is None:
            code = finished(process)
            time.sleep(POLL_SECONDS)
        if code:
            sys.exit(f"The command failed with {code}:\n{log.read_text()}")
        found = compare(folder / "whole", run_dir)
        lost, doubled, differing = lost + found[0], doubled + found[1], [*differing, *found[2]]
        missed = [unit for unit in units if not kills[stage_of(unit)]]
        print(f"Round {rounds}: {kills.total()} kills, {time.monotonic() - began:.0f} s.", flush=True)

    different = Counter(stage_of(name) for name in differing)
    stages = list(dict.fromkeys([*map(stage_of, units), *different]))
    table = [[stage, kills[stage], lost[stage], doubled[stage], different[stage]] for stage in stages]
    table.append(["total", kills.total(), lost.total(), doubled.total(), len(differing)])
    print()
    print(markdown_table(["stage", "kills", "lost", "duplicated", "different"], table))
    for name in differing:
        print(f"differs: {name}")
    return not (lost or doubled or differing)


if __name__ == "__main__":
    main()
