"""The notebooks: their cells run one after the other, and what is committed was made by running them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scenepalette.pipeline.config import load_config
from scenepalette.pipeline.run import Run

EXAMPLES = Path(__file__).parents[2] / "examples"
FROM_PALETTE, READ_SHARDS = "from_palette_to_datasets.ipynb", "read-shards.ipynb"


def code_cells(notebook: str) -> list[dict[str, Any]]:
    """Return the cells of code of a notebook of `examples`."""
    cells = json.loads((EXAMPLES / notebook).read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def output_with(notebook: str, parameters: str, folder: Path) -> str:
    """Return what the code of all cells prints in a folder, with other values in the cell of parameters."""
    cells = code_cells(notebook)
    tagged = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    assert tagged == cells[:1], "the first code cell, and no other, is tagged as parameters"
    code = "\n\n".join([parameters, *("".join(cell["source"]) for cell in cells[1:])])
    # Nothing is read from or written to the caches of whoever runs the tests.
    environment = {**os.environ, "MPLBACKEND": "agg", "HF_HOME": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-"], input=code, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_every_cell_from_palette_to_datasets_runs(tiny_recipe: Path, tmp_path: Path) -> None:
    changes = ["generate.kinds=[full]", "generate.pairs=6", "segmenters.arms=[real]"]
    parameters = f"RECIPE = {str(tiny_recipe)!r}\nCHANGES = {changes}\nRUN_DIR = 'run'"
    output = output_with(FROM_PALETTE, parameters, tmp_path)
    assert "streets (32, 48) 6\n" in output and "num_rows: 6" in output


@pytest.mark.slow
def test_every_cell_that_reads_shards_runs(finished_run: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    shutil.copytree(finished_run, tmp_path / "run")
    teachers = ["teachers.kinds=[full]", "teachers.folds=2", "teachers.steps=1"]
    run = Run(load_config(str(tiny_recipe), teachers), tmp_path / "run")
    run.make(run.names_of("quality"))
    parameters = "SHARDS = 'run/shards/full'\nSCORES = 'run/quality/full/rows.parquet'"
    output = output_with(READ_SHARDS, parameters, tmp_path)
    assert "train-00002-of-00003.parquet 2 rows as written\nproblems: []\n" in output
    assert "10 rows: id, image, label" in output and "of 10 rows are kept" in output
    assert re.search(r"label \([1-8], 32, 48\) torch.int64", output)


@pytest.mark.parametrize(("notebook", "images", "most"), [(FROM_PALETTE, 3, 1_000_000), (READ_SHARDS, 1, 300_000)])
def test_committed_outputs_are_those_of_one_run_without_errors(notebook: str, images: int, most: int) -> None:
    cells = code_cells(notebook)
    assert [cell["execution_count"] for cell in cells] == [*range(1, len(cells) + 1)]
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"stream", "display_data", "execute_result"}
    assert sum("image/png" in output.get("data", {}) for output in outputs) == images
    # Warnings name files of the machine that ran it.
    assert "site-packages" not in (EXAMPLES / notebook).read_text(encoding="utf-8")
    assert (EXAMPLES / notebook).stat().st_size < most
