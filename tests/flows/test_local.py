"""A flow in this process: what it is given, and which folder is printed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import scenepalette.flows.augment
from scenepalette.flows import local, servers, stages

FOLDERS = {"augment": "report", "report": "report", "fit-palettes": "palettes", "generate-dataset": "shards"}


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    monkeypatch.setattr(servers, "unreachable", lambda: None)
    program = typer.Typer()
    program.command()(local.run)
    return program


@pytest.mark.parametrize("name", FOLDERS)
def test_the_folder_that_was_made_is_printed_and_the_status_is_0(
    name: str, program: typer.Typer, finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    def made(**parameters: Any) -> str:
        given.update(parameters)
        shutil.copytree(finished_run / "report", Path(parameters["out"]) / "report")
        return f"{parameters['out']}/{FOLDERS[name]}"

    module = scenepalette.flows.augment if name == "augment" else stages
    monkeypatch.setattr(module, name.replace("-", "_"), made)
    arguments = [name, "demo", "--out", str(tmp_path / "{date}"), "--set", "seed=3", "--wait", "2"]
    result = CliRunner().invoke(program, arguments)
    assert result.exit_code == 0, result.output
    assert given["overrides"] == ["seed=3"] and given["wait_minutes"] == 2
    assert "{" not in given["out"] and f"{given['out']}/{FOLDERS[name]}" in result.stdout


def test_an_interrupted_flow_names_the_folder_that_it_goes_on_in(
    program: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[str] = []

    def stopped(out: str, **parameters: Any) -> None:
        given.append(out)
        raise KeyboardInterrupt

    monkeypatch.setattr(stages, "report", stopped)
    result = CliRunner().invoke(program, ["report", "demo", "--out", str(tmp_path / "{time}")])
    assert result.exit_code == 130
    assert f"Rerun the same command with --out {given[0]} to continue." in result.stderr
