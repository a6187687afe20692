"""Threads that use the cores that a process has, and take no more memory than they may."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from scenepalette.common import threads
from scenepalette.common.threads import map_in_order, worker_count


@pytest.mark.parametrize(
    ("stated", "cores", "expected"),
    [
        ("", 4, 4),
        ("2", 4, 2),
        ("8", 4, 4),
        ("3,1", 4, 3),
        (" 2 ", 4, 2),
        ("0", 4, 4),
        ("-1", 4, 4),
        ("many", 4, 4),
        ("", 500, threads.MOST_WORKERS),
        ("1", 1, 1),
    ],
)
def test_workers_are_the_cores_of_this_process_or_as_many_as_openmp_may_use(
    stated: str, cores: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", stated)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)), raising=False)
    assert worker_count() == expected


@pytest.mark.parametrize("count", [0, 1, 7, 100])
def test_results_come_in_order(count: int) -> None:
    assert list(map_in_order(lambda value: value * value, range(count))) == [value * value for value in range(count)]


def test_few_items_are_begun_before_results_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "worker_count", lambda: 2)
    begun: list[int] = []
    results = map_in_order(begun.append, range(1000))
    next(results)
    assert len(begun) <= 6


def test_an_error_ends_the_work_and_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "worker_count", lambda: 2)
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
