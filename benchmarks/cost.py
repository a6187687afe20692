"""Hours that a number of pairs costs on GPUs, from measured or assumed times.

Usage: python -m benchmarks.cost --gmac 20 --teraflops 20 --encode-milliseconds 1.1 [--pairs 10000000] [--gpus 1 8 64]

A GPU makes a pair in 2 x gmac / teraflops milliseconds; `--milliseconds-per-pair`, if measured, takes their place.
Encoding is done by CPU cores beside it; they must keep up, or the GPU waits.
"""

from __future__ import annotations

import argparse
import math

from benchmarks.measure import markdown_table


def generation_milliseconds(gmac: float, teraflops: float) -> float:
    """Return the milliseconds of a pair of `gmac` billion multiply-adds at an achieved rate in TFLOP/s."""
    return 2 * gmac / teraflops


def rows_of(pairs: int, milliseconds: float, encode: float, cores: int, gpus: list[int]) -> list[list[str]]:
    """Return a line for each number of GPUs: pairs a second and hours.

    Args:
        pairs: To be made.
        milliseconds: Of a GPU for a pair.
        encode: Milliseconds of a CPU core for a pair.
        cores: CPU cores beside each GPU.
        gpus: Numbers of GPUs.
    """
    slowest = max(milliseconds, encode / cores)
    return [[str(count), f"{count * 1000 / slowest:,.0f}", f"{pairs * slowest / count / 3.6e6:,.1f}"] for count in gpus]


def main() -> None:
    """Print what pairs cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=10_000_000)
    parser.add_argument("--gmac", type=float, default=20.0, help="billion multiply-adds of a pair")
    parser.add_argument("--teraflops", type=float, default=20.0, help="achieved rate of a GPU")
    parser.add_argument("--milliseconds-per-pair", type=float, help="of a GPU, measured")
    parser.add_argument("--encode-milliseconds", type=float, default=1.1, help="of a CPU core for a pair")
    parser.add_argument("--cores-per-gpu", type=int, help="enough by default")
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 8, 64])
    arguments = parser.parse_args()
    milliseconds = arguments.milliseconds_per_pair or generation_milliseconds(arguments.gmac, arguments.teraflops)
    needed = math.ceil(arguments.encode_milliseconds / milliseconds)
    cores = arguments.cores_per_gpu or needed
    print(f"{milliseconds:.2f} ms a pair and GPU; {needed} core(s) a GPU keep up with encoding, {cores} are there\n")
    lines = rows_of(arguments.pairs, milliseconds, arguments.encode_milliseconds, cores, arguments.gpus)
    print(markdown_table(["GPUs", "pairs per second", "hours"], lines))


if __name__ == "__main__":
    main()
