"""Training steps per second on an idle machine and beside other work, by threads and by how threads wait.

Usage: python -m benchmarks.contention [--seconds 8] [--rounds 3] [--busy 1] [--spins 2000 20000]

Each way runs in a process of its own, since OpenMP reads its settings once, and the ways take turns: idle, then with
`--busy` processes that compute without end. Run it on a machine that does nothing else. The work is small convolutions,
as the recipes for two cores train them: the demo's segmenter, batches of 8 at 64x96.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median

from benchmarks.measure import machine, markdown_table
from scenepalette.common.processors import SPINS, busy_processors, usable_processors

AS_CHOSEN = "as scenepalette chooses"


def steps_per_second(seconds: float, chosen: bool) -> float:
    """Train for a while and return the steps per second.

    Args:
        seconds: How long, after a warm-up.
        chosen: Whether the threads are those that a run would choose now, else torch's own or OMP_NUM_THREADS.
    """
    if chosen:
        from scenepalette.common.processors import choose_threads, set_waiting_policy

        set_waiting_policy()
    import torch

    from scenepalette.segmenters.model import build_network

    if chosen:
        torch.set_num_threads(choose_threads().threads)
    torch.manual_seed(0)
    network = build_network("fpn", 14, encoder="tu-resnet10t", encoder_weights=None, decoder_channels=64)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    image, label = torch.randn(8, 3, 64, 96), torch.randint(14, (8, 64, 96))

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(image), label).backward()
        optimizer.step()

    for _ in range(3):
        step()
    count, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds:
        step()
        count += 1
    return count / passed


def measured(way: Mapping[str, str], seconds: float, chosen: bool) -> float:
    """Return the steps per second of a process with more environment variables."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))}
    command = [sys.executable, "-m", "benchmarks.contention", "--seconds", str(seconds), "--only"]
    command.append("chosen" if chosen else "given")
    done = subprocess.run(command, env=clean | dict(way), capture_output=True, text=True, check=True)
    return float(done.stdout)


@contextmanager
def other_work(processes: int) -> Iterator[None]:
    """Keep processors busy."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def ways_of(spins: Sequence[int]) -> dict[str, dict[str, str]]:
    """Return environment variables by the name of the way."""
    every = str(int(usable_processors()))
    return {
        "torch's own choice": {},
        "1 thread": {"OMP_NUM_THREADS": "1"},
        "passive waiting": {"OMP_NUM_THREADS": every, "OMP_WAIT_POLICY": "PASSIVE"},
        **{f"{count} spins": {"OMP_NUM_THREADS": every, "GOMP_SPINCOUNT": str(count)} for count in spins},
        AS_CHOSEN: {},
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--busy", type=int, default=1, help="processes that compute beside the training")
    parser.add_argument("--spins", type=int, nargs="+", default=[2000, int(SPINS)])
    parser.add_argument("--only", choices=("chosen", "given"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(steps_per_second(options.seconds, options.only == "chosen"))
        return
    if (others := busy_processors(seconds=1.0)) > 0.1:
        print(f"Other processes keep {others:.1f} processors busy already: these figures say nothing.", file=sys.stderr)
    rates: dict[str, tuple[list[float], list[float]]] = {}
    for _ in range(options.rounds):
        for name, way in ways_of(options.spins).items():
            idle, busy = rates.setdefault(name, ([], []))
            idle.append(measured(way, options.seconds, name == AS_CHOSEN))
            with other_work(options.busy):
                time.sleep(0.5)
                busy.append(measured(way, options.seconds, name == AS_CHOSEN))
    reference = median(rates["torch's own choice"][0])
    print(f"{machine()}; {options.busy} other process(es), medians of {options.rounds}\n")
    rows = [
        (
            name,
            f"{median(idle):.2f}",
            f"{median(busy):.2f}",
            f"{median(idle) / reference:.2f}",
            f"{median(busy) / reference:.2f}",
        )
        for name, (idle, busy) in rates.items()
    ]
    print(
        markdown_table(("way", "idle, steps/s", "busy, steps/s", "idle / torch's own", "busy / torch's own idle"), rows)
    )


if __name__ == "__main__":
    main()
