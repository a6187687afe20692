"""One prepared run on a GPU that fits its minutes: what the device makes of generators, trainings, pairs and a recipe.

Usage: python -m benchmarks.gpu --minutes 10 --camvid DIR --out DIR

Parts in turn, each ended when its share of the time is over: the device; generators
(OASIS and layouts, plain against prepared); training steps per second; pairs per second to shards; then the recipe
`camvid` for the rest of the time, its steps scaled to what is left, with its report and weights. Every finished case
is a file in DIR/parts, and DIR/gpu.md is written anew after every part. The same command with the same --out goes on
where an earlier one stopped, with new minutes. Without a GPU all runs on the CPU, for a trial: --minutes 2
--sizes 32x64 --width 0.1.

The first four parts need torch, torchvision, lightning-fabric, NumPy, SciPy, scikit-learn, Pillow, PyArrow,
safetensors and typing-extensions with annotated-types. Segmenters also need segmentation-models-pytorch; what the
recipe and its report need beside (`RECIPE_NEEDS`) is looked for at the start. Prefect is not needed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path

import torch

from benchmarks.gpu import generators, pairs, trainings
from benchmarks.gpu.record import Cases, Record, Row, measure_cases, table_of
from benchmarks.gpu.scenes import Options, Size
from benchmarks.measure import machine, markdown_table, product_rate
from scenepalette.common.storage.files import write_atomically
from scenepalette.training.allocator import keep_freed_memory

TABLE = "gpu.md"
LOG = "log.txt"
RECIPE = "recipe"
SHARES = {"device": 0.05, "generators": 0.2, "trainings": 0.2, "pairs": 0.1}
"""Of the minutes, for each part at most; the recipe has what is left."""
START_SECONDS = 15.0
"""For importing torch and starting the device."""
CLOSING_SECONDS = 10.0
"""For the last table and the copies."""
GRACE_SECONDS = 5.0
"""After the end of its time, until a part that does not end by itself is ended."""
CUT_OFF = 75
"""Exit status of a process that was cut off in the middle of a case."""
RECIPE_NEEDS = (
    "segmentation_models_pytorch",
    "pydantic",
    "yaml",
    "psutil",
    "filelock",
    "fsspec",
    "threadpoolctl",
    "torchmetrics",
    "torch_fidelity",
    "skimage",
    "matplotlib",
    "jinja2",
)
"""Modules without which the recipe fails, some of them at its end."""
TITLES = {"device": "Device", "generators": "Generators", "trainings": "Training steps", "pairs": "Pairs to shards"}


def device_cases(options: Options) -> Cases:
    """Return what is measured of the device itself."""
    types = {"fp32": torch.float32}
    if options.precision.startswith("bf16"):
        types["bf16"] = torch.bfloat16

    def rate(dtype: torch.dtype, seconds: float) -> Row:
        return {"what": f"products in {dtype}", "TFLOP/s": product_rate(dtype, options.device, seconds / 4) / 1e3}

    def name(seconds: float) -> Row:
        return {"what": machine(), "precision of runs": options.precision, "system": platform.platform()}

    return {"machine": name, **{way: lambda seconds, dtype=dtype: rate(dtype, seconds) for way, dtype in types.items()}}


CASES = {"device": device_cases, "generators": generators.cases, "trainings": trainings.cases, "pairs": pairs.cases}


def run_parts(arguments: argparse.Namespace, options: Options) -> None:
    """Do parts in this process, each until its time is over; one that then hangs takes the process with it."""
    keep_freed_memory()
    for part, until in zip(arguments.parts, arguments.until, strict=True):
        if part == RECIPE:
            from benchmarks.gpu import recipe  # needs what the other parts do without

            recipe.train(options.out, arguments.recipe, _changes(arguments), until)
            continue
        watchdog = threading.Timer(until + GRACE_SECONDS - time.time(), os._exit, [CUT_OFF])
        watchdog.daemon = True
        watchdog.start()
        measure_cases(Record(options.out), part, CASES[part](options), until)
        watchdog.cancel()


def run_all(arguments: argparse.Namespace, options: Options) -> None:
    """Do all parts that are left, in processes of their own."""
    began = time.time()
    end = began + 60 * arguments.minutes - CLOSING_SECONDS
    record = Record(options.out)

    def open_parts() -> dict[str, float]:
        """Return the measured parts that have cases left, and by when each is to end."""
        left = [part for part in CASES if not all(record.is_settled(part, case) for case in CASES[part](options))]
        shares = accumulate(SHARES[part] for part in left)
        return {
            part: min(end, began + START_SECONDS + share * 60 * arguments.minutes)
            for part, share in zip(left, shares, strict=True)
        }

    said: list[str] = []
    if lacking := [name for name in RECIPE_NEEDS if importlib.util.find_spec(name) is None]:
        said.append(f"{RECIPE}: it needs {', '.join(lacking)}, which cannot be imported: it will fail there")
        print(said[-1], flush=True)
    ends = open_parts()
    while ends := {part: until for part, until in ends.items() if until > time.time()}:
        status = _in_process(ends, end)
        _write_table(arguments, options, said)
        if status != CUT_OFF:
            if status:
                said.append(f"{', '.join(ends)}: the process ended with status {status}; {options.out / LOG} says why")
            break
    said += [f"{part}: cases are left; rerun the same command for them" for part in open_parts()]
    if end - time.time() < CLOSING_SECONDS:
        said.append(f"{RECIPE}: there was no time for it; rerun the same command")
    elif status := _in_process({RECIPE: end}, end):
        reason = "its time was over; rerun the same command to continue"
        failed = f"it ended with status {status}; {options.out / LOG} says why"
        said.append(f"{RECIPE}: {reason if status == CUT_OFF else failed}")
    _write_table(arguments, options, said, last=True)
    print(f"{options.out / TABLE} after {(time.time() - began) / 60:.1f} minutes")


def _in_process(ends: Mapping[str, float], end: float) -> int:
    """Do parts with the arguments of this process; return the exit status, `CUT_OFF` if the time was over."""
    out = _arguments().out
    command = [sys.executable, "-m", "benchmarks.gpu", *sys.argv[1:]]
    command += ["--parts", *ends, "--until", *map(str, ends.values())]
    print(f"{', '.join(ends)}: up to {max(ends.values()) - time.time():.0f} s", flush=True)
    with (out / LOG).open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            return process.wait(max(0.0, end - time.time()))
        except subprocess.TimeoutExpired:
            process.kill()  # what is finished is on disk
            process.wait()
            return CUT_OFF


def _write_table(arguments: argparse.Namespace, options: Options, said: Sequence[str], last: bool = False) -> None:
    """Write what has been measured so far."""
    record = Record(options.out)
    lines = ["# Measured by `python -m benchmarks.gpu`", ""]
    lines += [f"Networks at {options.width} times the papers' widths, random weights; {options.batch} images at once."]
    for part, title in TITLES.items():
        if rows := record.rows(part):
            # What was not measured has no other name than its case's.
            named = ({key: value for key, value in row.items() if key != "case" or "note" in row} for row in rows)
            columns, cells = table_of(named)
            lines += ["", f"## {title}", "", markdown_table(columns, cells)]
    lines += _recipe_lines(options.out, last)
    if said:
        lines += ["", "## Not finished", "", *(f"- {text}" for text in said)]
    write_atomically(options.out / TABLE, "\n".join(lines) + "\n")


def _recipe_lines(out: Path, last: bool) -> list[str]:
    if not (out / "recipe.json").is_file():
        return []
    from benchmarks.gpu import recipe

    decided = recipe.read_json(out / recipe.PLAN)
    lines = ["", f"## Recipe {decided['recipe']}", ""]
    if decided["scale"] < 1:
        seconds = decided["expected_seconds_unscaled"]
        why = "its steps could not be timed" if seconds is None else f"the whole would take {seconds} s here"
        lines.append(
            f"**Scaled:** {why}, so that there are {decided['scale']:.3f} times as many steps and pairs as the recipe "
            "has. Figures of quality are of such a short training."
        )
    else:
        lines.append("Trained whole, with the recipe's own numbers of steps.")
    lines += ["", f"Changes: `{' '.join(decided['changes'])}`", "", *(f"- {line}" for line in decided["basis"])]
    if rows := recipe.rows_of(out):
        lines += ["", markdown_table(*table_of(rows))]
    if last and (copied := recipe.copy_results(out)):
        lines += ["", f"Copied here: {', '.join(copied)}."]
    return lines


def _changes(arguments: argparse.Namespace) -> list[str]:
    root = [] if arguments.camvid is None else [f"data.root={arguments.camvid.absolute()}"]
    return [*root, *arguments.changes]


def _size(text: str) -> Size:
    height, width = map(int, text.split("x"))
    return height, width


def _options(arguments: argparse.Namespace) -> Options:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Options(
        camvid=arguments.camvid,
        out=arguments.out.absolute(),
        device=device,
        sizes=tuple(arguments.sizes),
        training_size=arguments.training_size or (arguments.sizes[0] if len(arguments.sizes) == 1 else (192, 256)),
        batch=arguments.batch,
        training_batch=arguments.training_batch,
        width=arguments.width,
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, required=True, help="how long the whole may take")
    parser.add_argument("--camvid", type=Path, help="folder of CamVid; without it, embedded scenes and no camvid")
    parser.add_argument("--out", type=Path, required=True, help="folder of everything that is written")
    parser.add_argument("--sizes", nargs="+", type=_size, default=[(128, 256), (256, 512)])
    parser.add_argument("--training-size", type=_size, help="192x256, or the size if --sizes names one alone")
    parser.add_argument("--batch", type=int, default=32, help="images at once in generation")
    parser.add_argument("--training-batch", type=int, default=16, help="samples per step")
    parser.add_argument("--width", type=float, default=1.0, help="factor on the papers' widths")
    parser.add_argument("--recipe", default="camvid", help="what is trained in the rest of the time")
    parser.add_argument(
        "--set", dest="changes", action="append", default=[], help="change of the recipe: section.key=value"
    )
    parser.add_argument("--parts", nargs="+", choices=[*CASES, RECIPE], default=[], help=argparse.SUPPRESS)
    parser.add_argument("--until", nargs="+", type=float, default=[], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.minutes <= 0:
        parser.error(f"--minutes is {arguments.minutes:g}; give more than 0")
    if arguments.camvid is not None and not arguments.camvid.is_dir():
        parser.error(f"--camvid: there is no folder {arguments.camvid}")
    return arguments


def main() -> None:
    """Measure, and write the table and all files."""
    arguments = _arguments()
    options = _options(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    (run_parts if arguments.parts else run_all)(arguments, options)


if __name__ == "__main__":
    main()
