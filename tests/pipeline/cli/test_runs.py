"""The commands that look at runs, `--version`, and shell completion."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scenepalette.common.progress import NO_PROGRESS
from scenepalette.common.storage.files import sealed, sha256_of_file
from scenepalette.data.shards.manifest import read_manifest
from scenepalette.pipeline.cli.main import app
from scenepalette.pipeline.run_directory.activity import ACTIVITY, told

ROOT = Path(__file__).parents[3]


def invoke(*arguments: str, expected: int = 0) -> tuple[str, str]:
    """Return what a command printed on standard output and standard error."""
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == expected, result.output
    return result.stdout, result.stderr


def test_version_is_that_of_the_package() -> None:
    assert invoke("--version")[0] == f"scenepalette {version('scenepalette')}\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [("sta", {"status"}), ("shards exp", {"export"}), ("status --js", {"--json"}), ("runs ", {"compare"})],
)
def test_the_shell_completes_commands_and_options(words: str, expected: set[str]) -> None:
    given = {"_SCENEPALETTE_COMPLETE": "complete_bash", "COMP_WORDS": f"scenepalette {words}"}
    given["COMP_CWORD"] = str(words.count(" ") + 1)
    command = [sys.executable, "-m", "scenepalette.pipeline.cli.main"]
    found = subprocess.run(command, env={**os.environ, **given}, capture_output=True, text=True, cwd=ROOT, check=True)
    assert set(found.stdout.split()) == expected


def test_status_lists_units_and_who_makes_one(copy_of_run: Callable[..., Path]) -> None:
    run_dir = copy_of_run("report")
    output, _ = invoke("status", str(run_dir))
    lines = output.splitlines()
    assert lines[0].split() == ["unit", "state", "took"] and lines[1].split()[:2] == ["data", "finished"]
    count = sum(" finished" in line for line in lines[1:-2])
    assert lines[-2] == f"{count} of {count + 1} units are finished." and lines[-1] == "No process works here."
    with told(run_dir, "report", NO_PROGRESS) as progress:
        progress.start("evaluate", 10)
        content = json.loads((run_dir / ACTIVITY).read_text())
        changes = {"done": 5, "work_began": content["told"] - 72_000}
        (run_dir / ACTIVITY).write_text(json.dumps(content | changes))
        output, _ = invoke("status", str(run_dir))
        assert f"Process {os.getpid()} on {content['host']} makes report, for " in output
        assert "evaluate: 5 of 10, 20 h left" in output
        (run_dir / ACTIVITY).write_text(json.dumps(content | {"host": "elsewhere"}))
        output, _ = invoke("status", str(run_dir))
        assert "whether it still runs is seen on that machine alone" in output
        document = json.loads(invoke("status", str(run_dir), "--json")[0])
        assert document["running"]["host"] == "elsewhere" and document["running"]["alive"] is None


def test_status_of_what_is_no_run_says_so(tmp_path: Path) -> None:
    assert "holds no run" in invoke("status", str(tmp_path), expected=1)[1]


def test_generate_adds_pairs_to_a_finished_set(copy_of_run: Callable[..., Path]) -> None:
    """Present shards stay, byte for byte and untouched; the new ones are named after the new number."""
    run_dir = copy_of_run()
    folders = [run_dir / "shards" / kind for kind in ("full", "partial", "semi")]
    paths = [path for folder in folders for path in folder.glob("*.parquet")]
    before = {path: (sha256_of_file(path), path.stat().st_mtime_ns) for path in paths}
    command = ("generate", str(run_dir / "config.yaml"), "--set", "generate.pairs=15", "--out", str(run_dir))
    _, errors = invoke(*command)
    assert "generate full: 5" in errors
    assert {path: (sha256_of_file(path), path.stat().st_mtime_ns) for path in paths} == before
    for folder in folders:
        manifest = read_manifest(folder)
        assert manifest["rows"] == 15 and len(manifest["shards"]) > 3
        assert (
            f"15 pairs in {len(manifest['shards'])} shard(s), all as they were written"
            in (invoke("shards", "verify", str(folder))[0])
        )
    _, errors = invoke(*command)
    assert "generate full" not in errors


def test_runs_compare_prints_both_or_json(finished_run: Path, copy_of_run: Callable[..., Path]) -> None:
    other = copy_of_run()
    output, _ = invoke("runs", "compare", str(finished_run), str(other))
    assert output.startswith(f"A: {finished_run}\nB: {other}\n") and "Warning" not in output
    assert "Data: training pairs equal, validation pairs equal" in output and "No setting differs." in output
    (line,) = [line for line in output.splitlines() if line.startswith("semi ")]
    arm = next(arm for arm in json.loads((other / "report/report.json").read_text())["arms"] if arm["name"] == "semi")
    assert line.count(f"{100 * arm['miou']['mean']:.1f} [") >= 2 and line.split("]")[2].split()[0] == "0.0"
    document = json.loads(invoke("runs", "compare", str(finished_run), str(other), "--json")[0])
    assert document["comparable"] and document["settings"] == [] and document["data"] == {"train": True, "val": True}
    assert document["arms"][-1]["a"]["delta_vs_real"] == arm["delta_vs_real"]


def test_runs_compare_names_units_that_one_run_alone_has(finished_run: Path, copy_of_run: Callable[..., Path]) -> None:
    """As runs with other image systems have."""
    other = copy_of_run()
    (other / "images/oasis").rename(other / "images/command")
    path = other / "report/manifest.json"
    path.write_text(path.read_text().replace("images/oasis", "images/command"))
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(sealed(manifest)))
    output, _ = invoke("runs", "compare", str(finished_run), str(other))
    (line,) = [line for line in output.splitlines() if line.startswith("units ")]
    assert line.split() == ["units", '["images/oasis"]', '["images/command"]']


def test_runs_compare_names_both_folders_that_do_not_fit(finished_run: Path, tmp_path: Path) -> None:
    _, errors = invoke("runs", "compare", str(tmp_path), str(tmp_path / "gone"), expected=1)
    assert f"{tmp_path} holds no run" in errors and f"There is no folder {tmp_path / 'gone'}" in errors
    _, errors = invoke("runs", "compare", str(finished_run), str(finished_run), expected=1)
    assert "are the same run. Name two" in errors
