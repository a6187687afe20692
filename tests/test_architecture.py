"""docs/architecture.md shows the data's way file by file; the files are there, and as many as it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")


def test_every_file_and_folder_that_is_named_exists() -> None:
    folders = "pipeline|generators|segmenters|training|data|flows|tests"
    named = set(re.findall(rf"`((?:{folders})/[\w./]*)`", PAGE)) - {"data/"}
    assert len(named) > 20
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize(
    ("title", "said"),
    [
        ("From the command line to a row of a Parquet file", "passes through 14 files:"),
        ("From `train-images` to a weights", 'passes through those seven, for the stage "images", and 8 more:'),
    ],
)
def test_each_way_takes_as_many_files_as_it_says(title: str, said: str) -> None:
    way = PAGE.split(f"## {title}")[1].split("\n## ")[0]
    files = re.findall(r"^\d+\. `([\w/]+\.py)`", way, re.MULTILINE)
    assert said in way and len(set(files)) == len(files) == int(re.findall(r"\d+", said)[0])


def test_the_ways_leave_out_no_file_of_the_command_line() -> None:
    way = PAGE.split("## From the command line")[1].split("\n## ")[0]
    code = {name: (ROOT / "pipeline" / f"{name}.py").read_text(encoding="utf-8") for name in ("request", "run")}
    files = {"config": "config/run_config"}
    imported = {
        f"`pipeline/{files.get(name, name)}.py`"
        for text in code.values()
        for name in re.findall(r"from scenepalette\.pipeline\.(\w+) import", text)
    }
    assert {"`pipeline/config/run_config.py`", "`pipeline/plan.py`", "`pipeline/recipes.py`"} <= imported
    assert [name for name in sorted(imported) if name not in way] == []
