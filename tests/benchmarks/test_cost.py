from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import cost
from benchmarks.cost import RATE, generation_milliseconds, measured_milliseconds, rows_of
from benchmarks.gpu.record import Record


def test_ten_million_pairs_by_hand() -> None:
    milliseconds = generation_milliseconds(gmac=50.0, teraflops=20.0)
    assert milliseconds == pytest.approx(5.0)  # 100 GFLOP at 20,000 GFLOP/s
    expected = [["1", "200", "13.9"], ["8", "1,600", "1.7"]]
    assert rows_of(10_000_000, milliseconds, [1, 8], encode=0.7) == expected


def test_too_few_cores_hold_up_the_gpu() -> None:
    assert rows_of(3_600_000, 5.0, [1], encode=40.0, cores=4) == [["1", "100", "10.0"]]  # 10 ms a pair


def test_money_is_hours_times_gpus_times_the_price() -> None:
    rows = rows_of(3_600_000, 10.0, [1, 8], price=2.5)  # 10 hours of one GPU
    assert rows == [["1", "100", "10.0", "25.00"], ["8", "800", "1.2", "25.00"]]


def measured(folder: Path) -> Path:
    """What `benchmarks.gpu` leaves in its output folder."""
    record = Record(folder)
    record.finish("device", "machine", {"what": "NVIDIA H100", "precision of runs": "bf16-mixed"})
    for case, size, rate in (("full 128x256", "128x256", 400.0), ("full 256x512", "256x512", 125.0)):
        row = {"pairs": "full", "size": size, RATE: rate, "measured on": "640 pairs, 32 at once, 16 encoding"}
        record.finish("pairs", case, row)
    record.finish("pairs", "semi 256x512", {"note": "out of memory"})
    return folder


def test_what_a_gpu_was_measured_at_takes_the_place_of_assumptions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = measured(tmp_path)
    milliseconds, source = measured_milliseconds(folder, "full", "256x512")
    assert milliseconds == pytest.approx(8.0) and source == "NVIDIA H100; 640 pairs, 32 at once, 16 encoding"
    command = ["cost", "--measured", str(folder), "--pairs", "4500000", "--gpus", "1", "10", "--hourly-price", "3"]
    monkeypatch.setattr(sys, "argv", command)
    cost.main()
    said = capsys.readouterr().out
    assert "8.00 ms a pair and GPU, measured: NVIDIA H100" in said
    assert "| 1 | 125 | 10.0 | 30.00 |" in said and "| 10 | 1,250 | 1.0 | 30.00 |" in said


@pytest.mark.parametrize(("kind", "size"), [("full", "512x1024"), ("semi", "256x512"), ("partial", "128x256")])
def test_what_was_not_measured_says_what_was(kind: str, size: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=rf"no {kind} pairs of {size}.*full 128x256, full 256x512.*benchmarks\.gpu"):
        measured_milliseconds(measured(tmp_path), kind, size)
    with pytest.raises(SystemExit, match="there are: none"):
        measured_milliseconds(tmp_path / "nowhere", kind, size)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--hourly-price", "0"], "--hourly-price: 0; more than 0 is required"),
        (["--teraflops", "-1"], "more than 0"),
        (["--gpus", "0"], "--gpus: 0; 1 or more is required"),
        (["--measured", "x", "--gmac", "3"], "not allowed with argument"),
    ],
)
def test_bad_numbers_are_refused(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["cost", *arguments])
    with pytest.raises(SystemExit):
        cost.main()
    assert message in capsys.readouterr().err
