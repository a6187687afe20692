"""Every example of docs/python.md runs, on a finished run, and every public name has one."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import scenepalette
from scenepalette.data.shards.reading import iterate_rows
from scenepalette.generators.layouts.registry import LAYOUT_SYSTEMS

PAGE = (Path(__file__).parents[1] / "docs/python.md").read_text(encoding="utf-8")
SECTIONS = [
    (section.split("\n")[0], example)
    for section in PAGE.split("\n## ")[1:]
    for example in re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
]


def check(section: str, names: dict[str, Any], printed: str, folder: Path) -> None:
    """Compare what an example found with what is there."""
    shards = folder / "runs/mine/shards"
    if section == "Version":
        assert printed.strip() == scenepalette.__version__
    elif section == "Configurations":
        assert printed == "500 (0, 1, 2) oasis\n"
    elif section == "Runs":
        assert ("'shards/full'" in printed) if 'names_of("shards")' in names["source"] else printed == "demo []\n"
    elif section == "Systems":
        assert {"oasis", "semantic-palette"} <= {line.split()[1] for line in printed.splitlines()}
    elif section == "Systems of your own":
        log = (folder / "runs/field/layouts/field/metrics.jsonl").read_text().splitlines()
        assert printed.endswith("True\n") and "matching" in json.loads(log[-1])
    elif section == "Data sets":
        assert "(32, 64, 3) (32, 64)" in printed and "'road'" in printed
    elif section == "Shards for training":
        rows = list(iterate_rows(shards / "full"))
        assert names["images"].shape == (2, 3, 32, 48) and names["labels"].shape == (2, 32, 48)
        assert sorted(names["ids"]) == sorted(row.id for row in rows) and names["kinds"] == {"full", "semi"}
    elif section == "Shards, row by row":
        assert printed.startswith(f"full {len(printed.splitlines()) - 1} ") and names["problems"] == []
    elif section == "Errors":
        assert "generate.pairs" in names["message"] and "images.step" in names["message"]
    else:
        raise AssertionError(f"no check for the section {section}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("section", "example"), SECTIONS, ids=[f"{number}-{name}" for number, (name, _) in enumerate(SECTIONS)]
)
def test_example_of_the_page_runs(
    section: str,
    example: str,
    finished_run: Path,
    tiny_recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(finished_run, tmp_path / "runs/mine")
    shutil.copy(tiny_recipe, tmp_path / "mine.yaml")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(LAYOUT_SYSTEMS, "_added", {})  # what the example registers
    names: dict[str, Any] = {"__name__": "__main__", "source": example}
    exec(example, names)
    check(section, names, capsys.readouterr().out, tmp_path)


def test_every_public_name_is_listed_and_has_an_example() -> None:
    for name in scenepalette.__all__:
        assert re.search(rf"^\| \[.*`{name}`", PAGE, re.MULTILINE), f"docs/python.md does not list {name}"
        assert any(re.search(rf"\b{name}\b", example) for _, example in SECTIONS), f"docs/python.md shows no {name}"
