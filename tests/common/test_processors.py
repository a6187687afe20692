"""How many threads a process takes, from made-up machines (affinity, quotas, other work), and how they read."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from scenepalette.common import processors
from scenepalette.common.processors import (
    SPINS,
    ThreadChoice,
    busy_processors,
    choose_threads,
    map_in_order,
    set_waiting_policy,
    usable_processors,
    worker_count,
)

MANY = frozenset(range(64))


@pytest.fixture(autouse=True)
def affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors, "_affinity", lambda: set(MANY))


def _write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 64.0),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2.0),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 64.0),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
        # The quota of a group above this one holds too.
        (
            {
                "proc/self/cgroup": "0::/pod/container\n",
                "sys/fs/cgroup/pod/cpu.max": "300000 100000\n",
                "sys/fs/cgroup/pod/container/cpu.max": "800000 100000\n",
            },
            3.0,
        ),
        (
            {
                "proc/self/cgroup": "3:cpu,cpuacct:/docker/x\n",
                "sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_quota_us": "400000\n",
                "sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_period_us": "100000\n",
            },
            4.0,
        ),
        # As a container with a namespace of its own sees it: its group is the mounted folder itself.
        (
            {
                "proc/self/cgroup": "1:cpu:/docker/not-here\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "250000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            2.5,
        ),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, 64.0),
        ({"sys/fs/cgroup/cpu.max": "half of it\n"}, 64.0),
        ({"proc/self/cgroup": "0::/../../etc\n", "sys/fs/cgroup/cpu.max": "900000 100000\n"}, 9.0),
    ],
)
def test_a_quota_bounds_what_the_affinity_allows(tmp_path: Path, files: dict[str, str], expected: float) -> None:
    assert usable_processors(_write(tmp_path, files)) == expected


@pytest.mark.parametrize(
    ("quota", "others", "expected"),
    [
        ("max", 0.0, 64),
        ("max", 0.4, 64),
        ("max", 10.2, 54),
        ("max", 64.0, 1),
        ("max", 900.0, 1),
        # On 64 processors with 10 of them busy, a quota of 2 can be used up.
        ("200000", 10.0, 2),
        ("150000", 0.0, 1),
        ("50000", 0.0, 1),
    ],
)
def test_a_thread_for_each_processor_that_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, others: float, expected: int
) -> None:
    monkeypatch.setattr(processors, "busy_processors", lambda root: others)
    _write(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": f"{quota} 100000\n"})
    choice = choose_threads(tmp_path, {})
    assert choice.threads == expected and choice.chosen_by == ""
    assert choice.is_busy == (others >= 0.3)


@pytest.mark.parametrize(("given", "expected"), [("3", 3), ("4,2", 4)])
def test_the_environment_of_the_user_wins(tmp_path: Path, given: str, expected: int) -> None:
    choice = choose_threads(tmp_path, {"OMP_NUM_THREADS": given})
    assert choice.threads == expected and choice.chosen_by == "OMP_NUM_THREADS"


@pytest.mark.parametrize("given", ["", "0", "many", "-1"])
def test_an_environment_variable_that_says_nothing_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setattr(processors, "busy_processors", lambda root: 0.0)
    assert choose_threads(tmp_path, {"OMP_NUM_THREADS": given}).threads == 64


def test_work_of_others_is_what_is_busy_beside_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = os.sysconf("SC_CLK_TCK")

    def stat(worked: int) -> str:
        rows = [f"cpu{number} {worked} 0 0 900 70 0 0 0 0 0" for number in range(2)]
        # The sum of all, and a processor that is not this process's, do not count.
        return "\n".join(["cpu  1 1 1 1 1 1 1 1 1 1", *rows, f"cpu99 {50 * worked} 0 0 0 0 0 0 0 0 0", "intr 12", ""])

    _write(tmp_path, {"proc/stat": stat(0)})
    clock, own = iter([0.0, 1.0]), iter([0.0, 0.5])
    monkeypatch.setattr(processors.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(processors.time, "process_time", lambda: next(own))
    monkeypatch.setattr(processors.time, "sleep", lambda seconds: _write(tmp_path, {"proc/stat": stat(ticks)}))
    # Two processors worked for a second each; half a second of it was this process.
    assert busy_processors(tmp_path) == pytest.approx(1.5)


def test_without_proc_the_load_average_says_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors.os, "getloadavg", lambda: (1.25, 7.0, 7.0))
    assert busy_processors(tmp_path) == 1.25


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_a_waiting_policy_of_the_user_stays(name: str) -> None:
    environment = {name: "0"}
    set_waiting_policy(environment)
    assert environment == {name: "0"}
    set_waiting_policy(empty := {})
    assert empty == {"GOMP_SPINCOUNT": SPINS}


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (ThreadChoice(2, 2.0, 0.0), ""),
        (ThreadChoice(1, 2.0, 1.1), "other processes keep 1.1 of 2 processors busy, so that 1 thread is used"),
        (
            ThreadChoice(64, 1.5, 0.0, "compute.threads"),
            "compute.threads asks for 64 threads, but this process may use 1.5",
        ),
        (ThreadChoice(2, 2.0, 1.5, "OMP_NUM_THREADS"), ""),
    ],
)
def test_what_is_warned_of(choice: ThreadChoice, expected: str) -> None:
    assert choice.warning.startswith(expected) and bool(choice.warning) == bool(expected)


def test_the_policy_is_set_before_torch_is_there() -> None:
    code = (
        "import os, sys, scenepalette.flows; assert os.environ['GOMP_SPINCOUNT'] and 'torch' not in sys.modules; "
        "import scenepalette.pipeline.cli.main as main; assert 'torch' not in sys.modules"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    source = str(Path(__file__).parents[2] / "src")
    subprocess.run([sys.executable, "-c", code], env=clean | {"PYTHONPATH": source}, check=True)


@pytest.mark.parametrize(
    ("stated", "quota", "expected"),
    [
        ("", "400000", 4),
        ("2", "400000", 2),
        ("8", "400000", 4),
        ("3,1", "400000", 3),
        (" 2 ", "400000", 2),
        ("0", "400000", 4),
        ("-1", "400000", 4),
        ("many", "400000", 4),
        ("", "max", processors.MOST_WORKERS),
        ("", "50000", 1),
        ("4", "50000", 1),
    ],
)
def test_workers_are_the_processors_of_this_process_or_as_many_as_openmp_may_use(
    tmp_path: Path, stated: str, quota: str, expected: int
) -> None:
    _write(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": f"{quota} 100000\n"})
    assert worker_count(root=tmp_path, environment={"OMP_NUM_THREADS": stated}) == expected


@pytest.mark.parametrize("count", [0, 1, 7, 100])
def test_results_come_in_order(count: int) -> None:
    assert list(map_in_order(lambda value: value * value, range(count))) == [value * value for value in range(count)]


def test_few_items_are_begun_before_results_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors, "worker_count", lambda: 2)
    begun: list[int] = []
    results = map_in_order(begun.append, range(1000))
    next(results)
    assert len(begun) <= 6


def test_an_error_ends_the_work_and_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors, "worker_count", lambda: 2)
    begun: list[int] = []

    def work(value: int) -> int:
        begun.append(value)
        if value == 3:
            raise ValueError("broken")
        return value

    def taken() -> Iterator[int]:
        yield from map_in_order(work, range(1000))

    before = threading.active_count()
    with pytest.raises(ValueError, match="broken"):
        list(taken())
    assert len(begun) < 20 and threading.active_count() == before
