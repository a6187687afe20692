"""A flow in this process: what it is given, and which folder is printed."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import typer
from typer.testing import CliRunner

import scenepalette.flows.augment
from scenepalette.flows import local, servers, shards, stages

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


def test_a_cluster_is_named_on_the_command_line(
    program: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(stages, "generate_dataset", lambda **parameters: given.update(parameters) or "shards")
    monkeypatch.setattr(shards, "find_spec", lambda name: object())
    monkeypatch.setattr(servers, "shared_server", lambda: nullcontext())
    arguments = ["generate-dataset", "demo", "--out", str(tmp_path), "--task-runner", "ray"]
    result = CliRunner().invoke(program, [*arguments, "--cluster-address", "127.0.0.1:6379", "--shard-workers", "8"])
    assert result.exit_code == 0, result.output
    pool = {key: given[key] for key in ("task_runner", "shard_workers", "cluster_address")}
    assert pool == {"task_runner": "ray", "shard_workers": 8, "cluster_address": "127.0.0.1:6379"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["report", "--task-runner", "dask"], "--task-runner: report makes no pairs; these options are for augment"),
        (["generate-dataset", "--cluster-address", "tcp://127.0.0.1:1"], "threads work on this machine alone"),
        (
            ["generate-dataset", "--task-runner", "dask", "--cluster-address", "tcp://10.0.0.5:8786"],
            "cannot reach Prefect's server, which would be started for this flow alone",
        ),
    ],
)
def test_what_a_cluster_cannot_do_is_told_before_a_server_starts(
    arguments: list[str], message: str, program: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "find_spec", lambda name: object())
    monkeypatch.setattr(shards, "get_current_settings", lambda: SimpleNamespace(api=SimpleNamespace(url=None)))
    monkeypatch.setattr(stages, "generate_dataset", None)
    flow, *options = arguments
    result = CliRunner().invoke(program, [flow, "demo", "--out", str(tmp_path / "run"), *options])
    assert result.exit_code == 1 and message in " ".join(result.stderr.split())
    assert not (tmp_path / "run").exists()


def test_the_runners_are_those_of_the_flows() -> None:
    assert get_args(local.Runner) == get_args(shards.RunnerName)
    makers = [name for name in get_args(local.FlowName) if "task_runner" in _parameters(name)]
    assert sorted(makers) == sorted(local.MAKE_PAIRS)


def _parameters(name: str) -> set[str]:
    chosen = scenepalette.flows.augment.augment if name == "augment" else getattr(stages, name.replace("-", "_"))
    return set(chosen.parameters.model_dump()["properties"])
