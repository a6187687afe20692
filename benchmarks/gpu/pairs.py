"""Pairs per second from palette to shard on disk."""

from __future__ import annotations

import tempfile
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import torch

from benchmarks.gpu.record import Cases, Row
from benchmarks.gpu.scenes import Options, Size, device_memory, read_scenes, text_of
from benchmarks.inference import image_case, layout_case
from scenepalette.common.processors import worker_count
from scenepalette.data.shards.writing import write_shard
from scenepalette.generators.kernels.passes import prepare_for_inference
from scenepalette.generators.pairs.base import PairMaker
from scenepalette.generators.pairs.batches import made_ahead
from scenepalette.generators.pairs.registry import PAIR_KINDS
from scenepalette.training.device.abilities import inference_type
from scenepalette.training.device.speed import speed_of
from scenepalette.training.fabric import make_fabric

KINDS = ("semi", "full")
ROWS_AHEAD, MOST_ENCODERS = 64, 16  # as `pipeline/stages/generate.py` has them


def cases(options: Options) -> Cases:
    """Return the kinds at each size: with real layouts, and with layouts of a generator."""
    return {
        f"{kind} {text_of(size)}": partial(_measure, options, kind, size) for size in options.sizes for kind in KINDS
    }


def _measure(options: Options, kind: str, size: Size, seconds: float) -> Row:
    """Write shards of one batch, then one that takes most of the time."""
    scenes = read_scenes(options, size)
    fabric = make_fabric(options.device.type, options.precision)
    classes, label = scenes.pairs.table.num_classes, torch.from_numpy(scenes.filled[:1]).long()
    torch.manual_seed(0)
    painter, _ = image_case("oasis", label, classes, options.width)
    drawer, _ = layout_case("semantic-palette", label, classes, options.width)
    maker = PairMaker(
        kind=PAIR_KINDS[kind],
        seed=0,
        train=scenes.pairs,
        filled_labels=scenes.filled,
        sampler=scenes.sampler,
        image_generator=prepare_for_inference(painter.to(fabric.device), inference_type(fabric)),  # type: ignore
        image_model="",
        layout_generator=prepare_for_inference(drawer.to(fabric.device), inference_type(fabric)),  # type: ignore
        layout_model=None,
        fabric=fabric,
    )
    beside = speed_of(fabric).beside
    encoders = worker_count(MOST_ENCODERS) if beside else 1
    if options.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(options.device)

    with tempfile.TemporaryDirectory() as folder:

        def taken(count: int) -> float:
            began, rows = time.perf_counter(), maker.rows(0, count, options.batch)
            with closing(made_ahead(rows, ROWS_AHEAD) if beside else rows) as rows:
                write_shard(Path(folder) / "pairs.parquet", rows, table=scenes.pairs.table, encoders=encoders)
            return time.perf_counter() - began

        first, each = taken(options.batch), taken(options.batch) / options.batch
        count = options.batch * max(1, int((0.7 * seconds - first) / each / options.batch))
        rate = count / taken(count)
    return {
        "pairs": kind,
        "size": text_of(size),
        "pairs per second, to shards": rate,
        "measured on": f"{count} pairs, {options.batch} at once, {encoders} encoding",
        "first batch, s": first,
        "MiB": round(device_memory(options.device)),
    }
