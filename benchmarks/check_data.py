"""Speed and memory of checking a large data set, against decoding its files and nothing else.

Usage: python -m benchmarks.check_data [--images 1000 10000] [--size 1024x2048] [--format jpg] [--drawn 400]
       [--work decode check doctor]

Draws images of smooth areas with grain, and labels of 19 classes, in a temporary folder, as the data set `folder`
takes them. Of more than `--drawn` images, the others are copies of these, each with its own bytes on the disk (180 KB a
pair). Each line of the table is a process of its own: all files decoded by Pillow on all cores, the check of every
verb, the doctor's pass (check and everything that it gathers), and both once more, when their results are remembered.
Memory is the largest of the process less that of one that has done nothing yet; no process starts others.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.measure import peak_memory
from scenepalette.common.processors import map_in_order, worker_count
from scenepalette.common.storage.cache import VARIABLE
from scenepalette.data.datasets import Split
from scenepalette.data.files import checking
from scenepalette.pipeline.config import DataConfig
from scenepalette.pipeline.doctor.scan import Scanner, scan
from scenepalette.pipeline.stages.inputs.opened_splits import try_splits

CLASSES = 19
WORK = {
    "decode": "decoding alone",
    "check": "check of every verb",
    "check again": "the same, remembered",
    "doctor": "doctor's pass",
    "doctor again": "the same, remembered",
}


def write_data(root: Path, count: int, size: tuple[int, int], extension: str, drawn: int) -> None:
    """Write `count` pairs, a tenth of them for validation, and a class file; all after the first `drawn` are copies."""
    height, width = size
    (root / "classes.csv").write_text(
        "name,red,green,blue\n" + "".join(f"class {k},{k},{2 * k},{3 * k}\n" for k in range(CLASSES))
    )

    def files(index: int) -> tuple[Path, Path]:
        folder = root / ("val" if index % 10 == 0 else "train")
        return folder / "images" / f"{index:06d}.{extension}", folder / "labels" / f"{index:06d}.png"

    def write(index: int) -> None:
        if index >= drawn:
            for before, after in zip(files(index % drawn), files(index), strict=True):
                shutil.copyfile(before, after)
            return
        random = np.random.default_rng(index)
        image_file, label_file = files(index)
        small = Image.fromarray(random.integers(0, 256, (16, 32, 3), dtype=np.uint8))
        grain = random.integers(-4, 5, (height, width, 1), dtype=np.int16)
        image = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16) + grain
        label = Image.fromarray(random.integers(0, CLASSES, (16, 32), dtype=np.uint8))
        Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(image_file)
        label.resize((width, height), Image.Resampling.NEAREST).save(label_file)

    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (root / split / kind).mkdir(parents=True)
    for indices in (range(min(count, drawn)), range(drawn, count)):
        for _ in map_in_order(write, indices):
            pass


def decode(path: Path) -> None:
    """Decode a file."""
    with Image.open(path) as image:
        image.load()


def work_once(work: str, root: Path) -> None:
    """Do one kind of work in this process and print its seconds and peak memory as JSON."""
    config = DataConfig(name="folder", root=root, size=(256, 512))
    # What is only just written is not remembered, as it could change once more within the same second.
    checking.UNSETTLED_SECONDS = 0.0
    before, began, worked = peak_memory(), time.monotonic(), time.process_time()
    if work == "decode":
        for _ in map_in_order(decode, [*root.glob("*/images/*"), *root.glob("*/labels/*")]):
            pass
    else:
        looks: dict[Split, Scanner] = {"train": Scanner(config.size), "val": Scanner(config.size)}
        is_doctor = work.startswith("doctor")
        datasets, errors = try_splits(config, 0, looks=looks if is_doctor else None)
        assert not errors
        for split, dataset in datasets.items() if is_doctor else ():
            scan(dataset, config.size, seen=looks[split])
    seconds, worked = time.monotonic() - began, time.process_time() - worked
    print(json.dumps({"seconds": seconds, "worked": worked, "memory": peak_memory() - before}))


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--size", type=lambda text: tuple(map(int, text.split("x"))), default=(1024, 2048))
    parser.add_argument("--format", choices=("jpg", "png"), default="jpg")
    parser.add_argument("--drawn", type=int, default=400)
    parser.add_argument("--work", choices=WORK, nargs="+", default=list(WORK), help="what is done; all by default")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        work_once(arguments.child[0], Path(arguments.child[1]))
        return
    height, width = arguments.size
    print(f"{arguments.format} images of {height} x {width}, {worker_count()} threads\n")
    print("| images | work | images per second | of decoding | processor, ms a pair | of decoding | memory, MiB |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for count in arguments.images:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "data"
            root.mkdir()
            write_data(root, count, arguments.size, arguments.format, arguments.drawn)
            decoding, least = 0.0, 0.0
            for work in arguments.work:
                # The doctor's first pass remembers nothing of the verb before it.
                environment = {**os.environ, VARIABLE: str(Path(folder) / work.split()[0])}
                command = [sys.executable, "-m", "benchmarks.check_data", "--child", work, str(root)]
                done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
                result = json.loads(done.stdout.splitlines()[-1])
                rate, cost = count / result["seconds"], 1000 * result["worked"] / count
                if work == "decode":
                    decoding, least = rate, cost
                of_rate, of_cost = (f"{rate / decoding:.2f}", f"{least / cost:.2f}") if decoding else ("", "")
                speed = f"{rate:.3g} | {of_rate} | {cost:.2f} | {of_cost}"
                print(f"| {count:,} | {WORK[work]} | {speed} | {result['memory']:.0f} |", flush=True)


if __name__ == "__main__":
    main()
