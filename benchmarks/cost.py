"""Hours and money that a number of pairs costs on GPUs, from measured or assumed times.

Usage: python -m benchmarks.cost --measured DIR --size 256x512 --hourly-price 2.50 [--pairs 10000000] [--gpus 1 8 64]
       python -m benchmarks.cost --gmac 362 --teraflops 20 --encode-milliseconds 2.4

DIR is the --out folder of `python -m benchmarks.gpu`, whose pairs per second to shards, encoding and writing included,
take the place of all assumptions. Without it a GPU makes a pair in 2 x gmac / teraflops milliseconds, or in
`--milliseconds-per-pair`; encoding is done by CPU cores beside it, which must keep up, or the GPU waits. GPUs are taken
to share nothing, as workers of a cluster do. The price is what an hour of one GPU costs with its share of the machine.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gpu.record import Record
from benchmarks.measure import markdown_table

RATE = "pairs per second, to shards"


def generation_milliseconds(gmac: float, teraflops: float) -> float:
    """Return the milliseconds of a pair of `gmac` billion multiply-adds at an achieved rate in TFLOP/s."""
    return 2 * gmac / teraflops


def measured_milliseconds(folder: Path, kind: str, size: str) -> tuple[float, str]:
    """Return the milliseconds of a pair, from palette to shard, that `benchmarks.gpu` measured, and on what.

    Args:
        folder: Its output folder.
        kind: Kind of pairs, "full" or "semi".
        size: Height and width, as 256x512.

    Raises:
        SystemExit: It has measured no such pairs.
    """
    record = Record(folder)
    rows = [row for row in record.rows("pairs") if row.get(RATE)]
    chosen = [row for row in rows if row["pairs"] == kind and row["size"] == size]
    if not chosen:
        there = ", ".join(f"{row['pairs']} {row['size']}" for row in rows) or "none"
        raise SystemExit(
            f"--measured: {folder} has no {kind} pairs of {size}; there are: {there}. Measure them with `python -m "
            f"benchmarks.gpu --minutes 10 --sizes {size} --out DIR`, or choose others with --kind and --size."
        )
    device = next(
        (row["what"] for row in record.rows("device") if row["case"] == "machine" and "what" in row), "unknown"
    )
    return 1000 / chosen[-1][RATE], f"{device}; {chosen[-1]['measured on']}"


def rows_of(
    pairs: int,
    milliseconds: float,
    gpus: Sequence[int],
    encode: float = 0.0,
    cores: int = 1,
    price: float | None = None,
) -> list[list[str]]:
    """Return a line for each number of GPUs: pairs a second, hours, and money if there is a price.

    Args:
        pairs: To be made.
        milliseconds: Of a GPU for a pair.
        gpus: Numbers of GPUs.
        encode: Milliseconds of a CPU core for a pair; 0 where the milliseconds of the GPU include it.
        cores: CPU cores beside each GPU.
        price: Of an hour of a GPU, in any currency.
    """
    slowest = max(milliseconds, encode / cores)
    hours = {count: pairs * slowest / count / 3.6e6 for count in gpus}
    return [
        [str(count), f"{count * 1000 / slowest:,.0f}", f"{hours[count]:,.1f}"]
        + ([] if price is None else [f"{hours[count] * count * price:,.2f}"])
        for count in gpus
    ]


def _amount(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"{text}; more than 0 is required")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}; 1 or more is required")
    return value


def main() -> None:
    """Print what pairs cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=_count, default=10_000_000)
    parser.add_argument("--gpus", type=_count, nargs="+", default=[1, 8, 64])
    parser.add_argument("--hourly-price", type=_amount, help="of a GPU with its share of a machine, any currency")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--measured", type=Path, help="--out folder of benchmarks.gpu")
    source.add_argument("--milliseconds-per-pair", type=_amount, help="of a GPU, measured")
    source.add_argument("--gmac", type=_amount, default=362.0, help="billion multiply-adds of a pair")
    parser.add_argument("--kind", default="full", help="of the measured pairs")
    parser.add_argument("--size", default="256x512", help="of the measured pairs")
    parser.add_argument("--teraflops", type=_amount, default=20.0, help="achieved rate of a GPU")
    parser.add_argument("--encode-milliseconds", type=_amount, default=2.4, help="of a CPU core for a pair")
    parser.add_argument("--cores-per-gpu", type=_count, help="enough by default")
    arguments = parser.parse_args()
    if arguments.measured is not None:
        milliseconds, source_text = measured_milliseconds(arguments.measured, arguments.kind, arguments.size)
        print(f"{milliseconds:.2f} ms a pair and GPU, measured: {source_text}\n")
        lines = rows_of(arguments.pairs, milliseconds, arguments.gpus, price=arguments.hourly_price)
    else:
        assumed = generation_milliseconds(arguments.gmac, arguments.teraflops)
        milliseconds = arguments.milliseconds_per_pair or assumed
        needed = math.ceil(arguments.encode_milliseconds / milliseconds)
        cores = arguments.cores_per_gpu or needed
        print(
            f"{milliseconds:.2f} ms a pair and GPU; {needed} core(s) a GPU keep up with encoding, {cores} are there\n"
        )
        lines = rows_of(
            arguments.pairs, milliseconds, arguments.gpus, arguments.encode_milliseconds, cores, arguments.hourly_price
        )
    columns = ["GPUs", "pairs per second", "hours", *([] if arguments.hourly_price is None else ["price"])]
    print(markdown_table(columns, lines))


if __name__ == "__main__":
    main()
