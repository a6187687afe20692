from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scenepalette.data.shards.checking import find_problems, find_warnings
from scenepalette.data.shards.manifest import read_manifest, seal_documents
from scenepalette.data.shards.pairs import ShardPairs
from scenepalette.data.shards.reading import iterate_rows
from scenepalette.data.shards.schema import Row
from scenepalette.pipeline.cli.main import app


@pytest.mark.parametrize("name", ["README.md", "croissant.json"])
@pytest.mark.parametrize("change", ["altered", "missing", "linked"])
def test_an_altered_card_or_croissant_file_is_told(
    name: str, change: str, write_shards: Callable[..., list[Row]], tmp_path: Path
) -> None:
    folder = tmp_path / "shards"
    rows = write_shards(folder, (2, 1))
    assert find_warnings(folder) == []
    path = folder / name
    if change == "altered":
        path.write_text(path.read_text().replace("non-commercial", "free for all"))
    else:
        moved = path.rename(tmp_path / name)
        if change == "linked":
            path.symlink_to(moved)
    warnings = find_warnings(folder)
    assert len(warnings) == (change != "linked")
    assert all(text.startswith(f"{name} {'was changed' if change == 'altered' else 'is missing'}") for text in warnings)
    # The rows are as they were, and are read.
    assert list(find_problems(folder)) == []
    assert [row.id for row in iterate_rows(folder)] == [row.id for row in rows] == ShardPairs(folder).ids
    result = CliRunner().invoke(app, ["shards", "verify", str(folder), "--json"])
    told = json.loads(result.stdout)
    assert (result.exit_code, told["ok"], told["problems"], told["warnings"]) == (0, True, [], warnings)


def test_documents_that_the_manifest_does_not_name_are_their_owners(
    write_shards: Callable[..., list[Row]], tmp_path: Path
) -> None:
    write_shards(tmp_path, (2,))
    (tmp_path / "NOTES.md").write_text("Mine.")
    assert json.loads((tmp_path / "manifest.json").read_text())["documents"].keys() == {"README.md", "croissant.json"}
    assert (list(find_problems(tmp_path)), find_warnings(tmp_path)) == ([], [])


@pytest.mark.parametrize("written_by", ["this version", "another version"])
def test_verify_says_how_to_mend_an_altered_card_and_mends_it(
    written_by: str, write_shards: Callable[..., list[Row]], tmp_path: Path
) -> None:
    folder = tmp_path / "shards"
    write_shards(folder, (2,))
    whole = {name: (folder / name).read_bytes() for name in ("README.md", "croissant.json")}
    if written_by == "another version":
        for name in whole:
            (folder / name).write_text("As it was written then.")
        seal_documents(folder, read_manifest(folder))
    stored = tmp_path / "blob"
    stored.write_text("Free for all.")
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to(stored)
    (folder / "croissant.json").unlink()
    result = CliRunner().invoke(app, ["shards", "verify", str(folder)])
    assert result.exit_code == 0
    assert "Warning: README.md was changed" in result.stderr and "Warning: croissant.json is missing" in result.stderr
    command = result.stderr.strip().splitlines()[-1].partition(": ")[2]
    result = CliRunner().invoke(app, shlex.split(command)[1:])
    assert result.exit_code == 0 and result.stdout.count("Repaired: ") == 2 and result.stderr == ""
    assert {name: (folder / name).read_bytes() for name in whole} == whole
    assert stored.read_text() == "Free for all." and not (folder / "README.md").is_symlink()
    assert (list(find_problems(folder)), find_warnings(folder)) == ([], [])
    stamps = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert CliRunner().invoke(app, ["shards", "verify", str(folder), "--mend", "--json"]).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == stamps


def test_mending_documents_does_not_hide_damaged_rows(write_shards: Callable[..., list[Row]], tmp_path: Path) -> None:
    write_shards(tmp_path / "shards", (2,))
    (tmp_path / "shards/README.md").write_text("Mine.")
    (tmp_path / "shards/train-00000-of-00001.parquet").unlink()
    result = CliRunner().invoke(app, ["shards", "verify", str(tmp_path / "shards"), "--mend"])
    assert result.exit_code == 1 and "Repaired: README.md" in result.stdout and "is missing" in result.stderr
    (tmp_path / "shards/manifest.json").write_text("{}")
    result = CliRunner().invoke(app, ["shards", "verify", str(tmp_path / "shards"), "--mend"])
    assert result.exit_code == 1 and "is not a valid manifest" in result.output
