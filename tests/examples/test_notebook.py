"""The notebook: its cells run one after the other, and what is committed was made by running them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[2] / "examples/from_palette_to_datasets.ipynb"
CELLS: list[dict[str, Any]] = [
    cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"
]


def source_with(parameters: str) -> str:
    """Return the code of all cells, with other values in the cell of parameters."""
    tagged = [cell for cell in CELLS if "parameters" in cell["metadata"].get("tags", [])]
    assert tagged == CELLS[:1], "the first code cell, and no other, is tagged as parameters"
    return "\n\n".join([parameters, *("".join(cell["source"]) for cell in CELLS[1:])])


@pytest.mark.slow
def test_every_cell_runs(tiny_recipe: Path, tmp_path: Path) -> None:
    changes = ["generate.kinds=[full]", "generate.pairs=6", "segmenters.arms=[real]"]
    code = source_with(f"RECIPE = {str(tiny_recipe)!r}\nCHANGES = {changes}\nRUN_DIR = 'run'")
    # Nothing is read from or written to the caches of whoever runs the tests.
    environment = {**os.environ, "MPLBACKEND": "agg", "HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-"], input=code, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "streets (32, 48) 6\n" in done.stdout and "num_rows: 6" in done.stdout


def test_committed_outputs_are_those_of_one_run_without_errors() -> None:
    assert [cell["execution_count"] for cell in CELLS] == [*range(1, len(CELLS) + 1)]
    outputs = [output for cell in CELLS for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"stream", "display_data", "execute_result"}
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
    # Warnings name files of the machine that ran it.
    assert "site-packages" not in NOTEBOOK.read_text(encoding="utf-8")
    assert NOTEBOOK.stat().st_size < 1_000_000
