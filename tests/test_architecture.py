"""docs/architecture.md shows the data's way file by file; the files are there, and the ways stay short."""

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
    "title", ["From the command line to a row of a Parquet file", "From `train-images` to a weights"]
)
def test_each_way_takes_at_most_ten_files(title: str) -> None:
    way = PAGE.split(f"## {title}")[1].split("\n## ")[0]
    files = re.findall(r"`([\w/]+\.py)`", way)
    assert 5 < len(files) == len(set(files)) <= 10
