from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from data.shards.checking import find_problems
from data.shards.schema import Row
from pipeline.command_line import app


@pytest.mark.parametrize("name", ["README.md", "croissant.json"])
@pytest.mark.parametrize("change", ["altered", "missing", "linked"])
def test_an_altered_card_or_croissant_file_is_told(
    name: str, change: str, write_shards: Callable[..., list[Row]], tmp_path: Path
) -> None:
    folder = tmp_path / "shards"
    write_shards(folder, (2, 1))
    assert list(find_problems(folder)) == []
    path = folder / name
    if change == "altered":
        path.write_text(path.read_text().replace("non-commercial", "free for all"))
    else:
        moved = path.rename(tmp_path / name)
        if change == "linked":
            path.symlink_to(moved)
    (problem,) = find_problems(folder)
    assert problem.problem.startswith(f"{name} {'was altered' if change == 'altered' else 'is missing'}")


def test_documents_that_the_manifest_does_not_name_are_their_owners(
    write_shards: Callable[..., list[Row]], tmp_path: Path
) -> None:
    write_shards(tmp_path, (2,))
    (tmp_path / "NOTES.md").write_text("Mine.")
    assert json.loads((tmp_path / "manifest.json").read_text())["documents"].keys() == {"README.md", "croissant.json"}
    assert list(find_problems(tmp_path)) == []


def test_verify_says_how_to_mend_an_altered_card(write_shards: Callable[..., list[Row]], tmp_path: Path) -> None:
    write_shards(tmp_path / "shards", (2,))
    (tmp_path / "shards/README.md").write_text("Free for all.")
    result = CliRunner().invoke(app, ["shards", "verify", str(tmp_path / "shards")])
    assert result.exit_code == 1
    assert "README.md was altered" in result.output and "copy again what is missing or altered" in result.output
