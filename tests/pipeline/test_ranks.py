"""Runs by two processes that `torchrun` starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from scenepalette.pipeline.config import RunConfig, load_config, write_config
from scenepalette.pipeline.run import Run

ROOT = Path(__file__).parents[2]


def torchrun(verb: str, recipe: Path, out: Path) -> subprocess.CompletedProcess[str]:
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*start, "-m", "scenepalette.pipeline.cli.main", verb, str(recipe), "--out", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)


@pytest.mark.slow
def test_two_processes_make_the_run_of_one(tiny_config: RunConfig, tmp_path: Path) -> None:
    recipe, out = tmp_path / "tiny.yaml", tmp_path / "run"
    write_config(recipe, tiny_config)
    done = torchrun("generate", recipe, out)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Done: ") == 1
    run = Run(load_config(str(recipe), ()), out)
    shards = run.names_of("shards")
    assert shards and run.missing(shards) == []
    # Shards are a function of the models: one process makes the same bytes of those that two have trained.
    files = {path: path.read_bytes() for name in shards for path in (out / name).glob("*.parquet")}
    for path in files:
        path.unlink()
    for name in shards:
        (out / name / "manifest.json").unlink()
    run.make(shards)
    assert files == {path: path.read_bytes() for path in files}


@pytest.mark.slow
def test_a_problem_is_told_once_and_ends_all(tiny_config: RunConfig, tmp_path: Path) -> None:
    recipe = tmp_path / "odd.yaml"
    values: dict[str, Any] = tiny_config.model_dump(mode="json")
    values["images"]["batch_size"] = 3
    recipe.write_text(yaml.safe_dump(values), encoding="utf-8")
    done = torchrun("train-images", recipe, tmp_path / "run")
    assert done.returncode != 0
    assert done.stderr.count("Error: Batches cannot be divided among 2 processes.") == 1
    assert "images/oasis (batch sizes): 3; each must be a multiple of 2" in done.stderr
    assert not (tmp_path / "run" / "data").exists()
