from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from benchmarks.gpu import __main__ as program
from benchmarks.gpu import generators, recipe
from benchmarks.gpu.record import ATTEMPTS, Record, measure_cases, table_of
from benchmarks.gpu.scenes import Options, time_calls
from benchmarks.gpu.trainings import StepRate
from scenepalette.common.progress import EnoughError
from scenepalette.pipeline.config import load_config

ROOT = Path(__file__).parents[2]


def soon() -> float:
    return time.time() + 60


def test_finished_cases_are_not_measured_again_and_failed_ones_say_why(tmp_path: Path) -> None:
    called: list[str] = []

    def case(name: str) -> dict[str, Any]:
        called.append(name)
        if name == "b":
            raise ValueError("no such layer\nand more")
        if name == "c":
            raise torch.OutOfMemoryError
        return {"rate": 2.0}

    cases = {name: lambda seconds, name=name: case(name) for name in "abc"}
    for _ in range(2):
        measure_cases(Record(tmp_path), "part", cases, soon())
    assert called == ["a", "b", "c"]
    rows = [{key: value for key, value in row.items() if key != "seconds"} for row in Record(tmp_path).rows("part")]
    assert rows == [
        {"case": "a", "rate": 2.0},
        {"case": "b", "note": "failed: ValueError: no such layer"},
        {"case": "c", "note": "out of memory"},
    ]


def test_cases_share_the_time_and_none_is_begun_after_it(tmp_path: Path) -> None:
    shares: list[float] = []
    cases = {name: lambda seconds: shares.append(seconds) or {} for name in ("a", "b", "c")}
    measure_cases(Record(tmp_path), "part", cases, time.time() + 30)
    assert shares == pytest.approx([10, 15, 30], abs=2)
    measure_cases(Record(tmp_path), "other", cases, time.time() + 0.5)
    assert len(shares) == 3 and not Record(tmp_path).is_settled("other", "a")


def test_a_case_that_was_cut_off_is_tried_again_but_not_for_ever(tmp_path: Path) -> None:
    def cut_off(seconds: float) -> dict[str, Any]:
        raise KeyboardInterrupt

    for attempt in range(ATTEMPTS):
        assert not Record(tmp_path).is_settled("part", "slow one"), attempt
        with pytest.raises(KeyboardInterrupt):
            measure_cases(Record(tmp_path), "part", {"slow one": cut_off}, soon())
    assert Record(tmp_path).is_settled("part", "slow one")
    measure_cases(Record(tmp_path), "part", {"slow one": cut_off}, soon())
    assert Record(tmp_path).rows("part") == [{"case": "slow one", "note": "not finished in its time"}]


def options_of(out: Path, precision: str, monkeypatch: pytest.MonkeyPatch) -> Options:
    monkeypatch.setattr(Options, "precision", precision)
    return Options(None, out, torch.device("cpu"), ((32, 64),), (32, 64), 2, 2, 0.1)


def test_a_device_without_bfloat16_is_not_measured_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert any("bf16" in case for case in generators.cases(options_of(tmp_path, "bf16-mixed", monkeypatch)))
    cases = generators.cases(options_of(tmp_path, "32-true", monkeypatch))
    assert cases and not any("bf16" in case for case in cases)


def test_the_table_names_what_was_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = Record(tmp_path)
    record.finish("generators", "oasis 32x64 plain, fp32", {"system": "oasis", "ms per image": 2.0})
    record.finish("generators", "oasis 32x64 prepared, fp32", {"note": "out of memory"})
    record.begin("generators", "oasis 32x64 compiled, bf16")
    program._write_table(Namespace(), options_of(tmp_path, "32-true", monkeypatch), [])
    table = (tmp_path / program.TABLE).read_text()
    assert "| oasis 32x64 prepared, fp32 |" in table and "| oasis 32x64 compiled, bf16 |" in table
    assert "plain, fp32" not in table


def test_what_the_recipe_lacks_is_said_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert all(importlib.util.find_spec(name) for name in program.RECIPE_NEEDS)
    monkeypatch.setattr(program, "RECIPE_NEEDS", ("torch", "no_such_package"))
    monkeypatch.setattr(program, "_in_process", lambda ends, end: print("measured") or 0)
    program.run_all(Namespace(minutes=1.0), options_of(tmp_path, "32-true", monkeypatch))
    said = capsys.readouterr().out
    assert said.startswith("recipe: it needs no_such_package, which cannot be imported") and "measured" in said
    assert "it needs no_such_package" in (tmp_path / program.TABLE).read_text()


def test_rows_need_not_have_the_same_entries() -> None:
    columns, cells = table_of([{"way": "plain", "ms": 1234.5}, {"way": "fast", "note": "out of memory"}])
    assert columns == ["way", "ms", "note"]
    assert cells == [["plain", "1234", ""], ["fast", "", "out of memory"]]


def test_calls_are_timed_for_as_long_as_is_asked() -> None:
    calls: list[float] = []

    def work() -> None:
        calls.append(time.perf_counter())
        time.sleep(0.02)

    began = time.perf_counter()
    timing = time_calls(work, torch.device("cpu"), 0.4)
    assert 0.02 <= timing.seconds < 0.2 and len(calls) > 4
    assert time.perf_counter() - began < 2


def test_steps_are_counted_after_the_first_ones() -> None:
    rate = StepRate(torch.device("cpu"), 0.3)
    with pytest.raises(EnoughError):
        while True:
            time.sleep(0.01)
            rate.advance(1, loss=1.0)
    assert rate.steps >= 2 and rate.seconds / rate.steps == pytest.approx(0.01, rel=3)


def test_a_recipe_is_scaled_in_its_steps_and_pairs_alone(tmp_path: Path) -> None:
    root = f"data.root={tmp_path}"
    config = load_config("camvid", [root])
    scaled = load_config("camvid", [root, *recipe._scaled(config, 0.01)])
    assert (scaled.images.steps, scaled.segmenters.steps, scaled.generate.pairs) == (300, 30, 40)
    assert sum(scaled.layouts.full.stable_steps) == pytest.approx(
        0.01 * sum(config.layouts.full.stable_steps), rel=0.05
    )
    assert scaled.layouts.full.fade_steps[0] == 0 and min(scaled.layouts.full.stable_steps) >= 1
    assert scaled.layouts.full.batch_sizes == config.layouts.full.batch_sizes
    assert (scaled.images.batch_size, scaled.data.size) == (config.images.batch_size, config.data.size)


def test_how_a_recipe_is_scaled_is_decided_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "_expected_seconds", lambda config, left: (10 * left, ["images: long"]))
    first = recipe.plan(tmp_path, "demo", [], soon())
    assert first["scale"] == pytest.approx(recipe.TRAINED_SHARE / 10, rel=0.1)
    monkeypatch.setattr(recipe, "_expected_seconds", lambda config, left: (1.0, []))
    assert recipe.plan(tmp_path, "demo", [], soon()) == first
    monkeypatch.setattr(recipe, "_expected_seconds", lambda config, left: (None, ["images: not measured"]))
    assert recipe.plan(tmp_path / "unknown", "demo", [], soon())["scale"] == recipe.UNKNOWN_SCALE
    monkeypatch.setattr(recipe, "_expected_seconds", lambda config, left: (1.0, []))
    whole = recipe.plan(tmp_path / "other", "demo", ["seed=3"], soon())
    assert (whole["scale"], whole["changes"]) == (1.0, ["seed=3"])


def test_finished_weights_and_the_report_are_copied(finished_run: Path, tmp_path: Path) -> None:
    (tmp_path / recipe.RUN).symlink_to(finished_run)
    copied = recipe.copy_results(tmp_path)
    assert copied[0] == "report/" and (tmp_path / "report/report.md").is_file()
    weights, original = tmp_path / "weights/images-oasis.safetensors", finished_run / "images/oasis/weights.safetensors"
    assert any(text.startswith("weights/segmenters-real-seed0.safetensors") for text in copied)
    for name, value in load_file(original).items():
        rounded = load_file(weights)[name]
        assert rounded.dtype == (torch.bfloat16 if value.dtype == torch.float32 else value.dtype)
        torch.testing.assert_close(rounded.to(value.dtype), value, rtol=1e-2, atol=1e-6)
    assert {row["state"] for row in recipe.rows_of(tmp_path)} == {"finished"}


@pytest.mark.slow
def test_what_needs_no_run_directory_needs_neither_prefect_nor_segmentation_models() -> None:
    code = """
import sys
absent = {"prefect", "segmentation_models_pytorch", "pydantic", "matplotlib"}
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import benchmarks.gpu.__main__
absent = {"prefect"}  # which the recipe, too, does without
import benchmarks.gpu.recipe
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--minutes", "0"], "--minutes is 0; give more than 0"),
        (["--minutes", "1", "--camvid", "nowhere"], "there is no folder"),
    ],
)
def test_bad_arguments_say_what_is_wrong(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["benchmarks.gpu", "--out", "out", *arguments])
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert ended.value.code == 2 and message in capsys.readouterr().err
    assert not Path("out").exists()
