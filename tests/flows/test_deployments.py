from __future__ import annotations

import importlib
import tomllib
from collections.abc import Iterator
from importlib.metadata import entry_points
from logging import getLogger
from pathlib import Path
from typing import Any

import anyio
import pytest
import typer
import yaml
from prefect import Flow
from prefect.client.orchestration import PrefectClient, get_client
from prefect.exceptions import ObjectNotFound
from prefect.plugins import HookContext
from prefect.settings import PREFECT_API_URL, temporary_settings
from typer.testing import CliRunner

from scenepalette.common.errors import ConfigError
from scenepalette.flows import deployment_names, local
from scenepalette.flows.automations import apply_automations
from scenepalette.flows.deployment_names import accept_short_names, full_name, setup_environment
from scenepalette.flows.servers import unreachable
from scenepalette.flows.stages import generate_dataset

ROOT = Path(__file__).parents[2]
DEPLOYMENTS = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda deployment: deployment["name"])
def test_deployment_has_its_flows_name(deployment: dict[str, Any]) -> None:
    module, _, function = deployment["entrypoint"].rpartition(".")
    chosen = getattr(importlib.import_module(module), function)
    assert isinstance(chosen, Flow) and chosen.name == deployment["name"]
    asked = {"push_to": "s3://bucket/folder"} if deployment["name"] == "push" else {}
    chosen.validate_parameters(deployment["parameters"] | asked)
    assert deployment["concurrency_limit"]["limit"] == 1


def test_every_flow_is_deployed_and_schedules_are_off() -> None:
    assert {deployment["name"] for deployment in DEPLOYMENTS} == {
        "augment",
        "fit-palettes",
        "train-layouts",
        "train-images",
        "generate-dataset",
        "train-segmenter",
        "report",
        "finetune",
        "compare",
        "curve",
        "loop",
        "edit",
        "doctor",
        "push",
    }
    scheduled = {deployment["name"]: deployment["schedules"] for deployment in DEPLOYMENTS if "schedules" in deployment}
    assert scheduled.keys() == {"augment", "generate-dataset"}
    assert all(schedule["active"] is False for schedules in scheduled.values() for schedule in schedules)


def test_a_name_without_slash_is_flow_and_deployment() -> None:
    assert full_name("generate-dataset") == "generate-dataset/generate-dataset"
    assert full_name("generate-dataset/nightly") == "generate-dataset/nightly"


def test_a_client_learns_short_names() -> None:
    class Client:
        async def read_deployment_by_name(self, name: str, extra: int = 0) -> tuple[str, int]:
            return name, extra

    assert accept_short_names(Client)
    assert anyio.run(Client().read_deployment_by_name, "augment", 3) == ("augment/augment", 3)
    assert anyio.run(Client().read_deployment_by_name, "augment/weekly") == ("augment/weekly", 0)


def test_a_client_without_the_method_is_left_alone() -> None:
    assert not accept_short_names(type("Other", (), {}))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["prefect", "deployment", "run", "x"], True),
        (["prefect", "--no-prompt", "deployment", "run"], True),
        (["prefect", "server", "start"], False),
        (["python"], False),
    ],
)
def test_the_plugin_acts_on_the_deployment_command_alone(
    arguments: list[str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed: list[Any] = []
    monkeypatch.setattr(deployment_names.sys, "argv", arguments)
    monkeypatch.setattr(deployment_names, "unreachable", lambda: None)
    monkeypatch.setattr(deployment_names, "accept_short_names", lambda client: changed.append(client) is None)
    assert setup_environment(ctx=HookContext("3", None, getLogger)) is None
    assert changed == ([PrefectClient] if expected else [])


def test_an_unregistered_deployment_is_hinted_at(capsys: pytest.CaptureFixture[str]) -> None:
    class Client:
        async def read_deployment_by_name(self, name: str) -> None:
            raise ObjectNotFound(ValueError(name))

    assert accept_short_names(Client)
    with pytest.raises(ObjectNotFound):
        anyio.run(Client().read_deployment_by_name, "augment")
    hint = capsys.readouterr().err
    assert "no deployment augment/augment" in hint and f"deploy --all --prefect-file {ROOT / 'prefect.yaml'}`" in hint


def test_deploying_all_from_elsewhere_is_hinted_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(deployment_names.sys, "argv", ["prefect", "--no-prompt", "deploy", "--all"])
    monkeypatch.setattr(deployment_names, "unreachable", lambda: None)
    for folder, hinted in ((tmp_path, True), (ROOT, False)):
        monkeypatch.chdir(folder)
        setup_environment(ctx=HookContext("3", None, getLogger))
        assert (f"Or add --prefect-file {ROOT / 'prefect.yaml'};" in capsys.readouterr().err) is hinted


@pytest.fixture
def nobody() -> Iterator[str]:
    """The address of a server that is not there."""
    url = "http://127.0.0.1:1/api"
    with temporary_settings({PREFECT_API_URL: url}):
        yield url


@pytest.mark.parametrize("command", [["deploy", "--all"], ["--no-prompt", "deploy"], ["deployment", "run", "augment"]])
def test_a_server_that_does_not_answer_is_told_in_a_line(
    command: list[str], nobody: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployment_names.sys, "argv", ["prefect", *command])
    with pytest.raises(SystemExit, match=f"Error: Prefect's server at {nobody} does not answer .*PREFECT_API_URL"):
        setup_environment(ctx=HookContext("3", nobody, getLogger))


@pytest.mark.parametrize(
    "parameter",
    [
        "push_to=s3://KEY:hunter2@bucket/x",
        'data={"root": "https://user:hunter2@example.org/x"}',
        'overrides=["report.extra_test.night=az://box/x?sig=hunter2"]',
    ],
)
def test_credentials_in_a_parameter_go_no_further(parameter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployment_names, "unreachable", lambda: pytest.fail("a server was asked"))
    monkeypatch.setattr(deployment_names.sys, "argv", ["prefect", "deployment", "run", "push", "--param", parameter])
    with pytest.raises(SystemExit, match=r"^Error: \w+=.*\*\*\*.* holds credentials") as refused:
        setup_environment(ctx=HookContext("3", None, getLogger))
    assert "hunter2" not in str(refused.value)


def test_programs_of_flows_tell_of_a_server_that_does_not_answer(nobody: str) -> None:
    with pytest.raises(ConfigError, match=f"server at {nobody} does not answer"):
        apply_automations(ROOT / "automations.yaml")
    program = typer.Typer()
    program.command()(local.run)
    result = CliRunner().invoke(program, ["augment", "demo"])
    assert result.exit_code == 1 and f"Error: Prefect's server at {nobody} does not answer" in result.stderr


@pytest.mark.usefixtures("server")
def test_a_server_that_answers_is_reached() -> None:
    assert unreachable() is None


def test_prefect_finds_and_enables_the_plugin() -> None:
    (entry,) = [entry for entry in entry_points(group="prefect.plugins") if entry.name == "scenepalette"]
    assert entry.load() is deployment_names
    assert tomllib.loads((ROOT / "prefect.toml").read_text())["plugins"]["enabled"] is True


@pytest.mark.usefixtures("server")
def test_the_real_client_finds_a_deployment_by_its_short_name() -> None:
    class Client(PrefectClient):
        """Changed in place of the real class, which other tests use."""

    assert accept_short_names(Client)

    async def find() -> str:
        async with get_client() as client:
            flow_id = await client.create_flow(generate_dataset)
            deployment_id = await client.create_deployment(flow_id, "generate-dataset")
            found = await Client.read_deployment_by_name(client, "generate-dataset")  # type: ignore[arg-type]
            assert found.id == deployment_id
            return found.name

    assert anyio.run(find) == "generate-dataset"
