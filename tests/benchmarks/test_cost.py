from __future__ import annotations

import pytest

from benchmarks.cost import generation_milliseconds, rows_of


def test_ten_million_pairs_by_hand() -> None:
    milliseconds = generation_milliseconds(gmac=50.0, teraflops=20.0)
    assert milliseconds == pytest.approx(5.0)  # 100 GFLOP at 20,000 GFLOP/s
    assert rows_of(10_000_000, milliseconds, 0.7, 1, [1, 8]) == [["1", "200", "13.9"], ["8", "1,600", "1.7"]]


def test_too_few_cores_hold_up_the_gpu() -> None:
    assert rows_of(3_600_000, 5.0, 40.0, 4, [1]) == [["1", "100", "10.0"]]  # 10 ms a pair
