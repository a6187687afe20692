"""The automation for dead runs: what it waits for, and that it is made once."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import anyio
import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, RunDeployment
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

from scenepalette.common.errors import ConfigError
from scenepalette.flows.automations import DEFAULT_FILE, apply_automations
from scenepalette.flows.stages import push

ROOT = Path(__file__).parents[2]
FILE = ROOT / "automations.yaml"
DEPLOYMENTS = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]


def dead_runs() -> AutomationCore:
    entries = yaml.safe_load(FILE.read_text())["automations"]
    return AutomationCore.model_validate({entry["name"]: entry for entry in entries}["scenepalette-dead-runs"])


def test_three_missing_signs_of_life_are_a_crash() -> None:
    automation = dead_runs()
    trigger = automation.trigger
    assert isinstance(trigger, EventTrigger) and trigger.posture == Posture.Proactive and trigger.threshold == 1
    ends = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed")}
    assert trigger.after == {"prefect.flow-run.heartbeat"} and trigger.expect == ends | trigger.after
    (action,) = automation.actions
    assert isinstance(action, ChangeFlowRunState) and action.state == StateType.CRASHED
    for deployment in DEPLOYMENTS:
        frequency = int(deployment["work_pool"]["job_variables"]["env"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"])
        assert trigger.within == timedelta(seconds=3 * frequency), deployment["name"]


def test_the_automation_is_for_runs_of_these_deployments() -> None:
    automation = dead_runs()
    assert isinstance(automation.trigger, EventTrigger)
    tag = automation.trigger.match_related.model_dump()["prefect.resource.id"]  # type: ignore[union-attr]
    for deployment in DEPLOYMENTS:
        assert [f"prefect.tag.{name}" for name in deployment["tags"]] == [tag], deployment["name"]


@pytest.mark.usefixtures("server")
def test_the_same_command_again_changes_nothing(tmp_path: Path) -> None:
    async def deploy() -> None:
        async with get_client() as client:
            await client.create_deployment(await client.create_flow(push), "push")

    anyio.run(deploy)
    names = ("scenepalette-dead-runs", "scenepalette-adopted")
    assert apply_automations(FILE) == dict.fromkeys(names, "created")
    assert apply_automations(FILE) == dict.fromkeys(names, "unchanged")
    changed = tmp_path / "changed.yaml"
    changed.write_text(FILE.read_text().replace("within: 90", "within: 120"))
    assert apply_automations(changed) == dict(zip(names, ("updated", "unchanged"), strict=True))
    with get_client(sync_client=True) as client:
        (found,) = client.read_automations_by_name("scenepalette-dead-runs")
        (other,) = client.read_automations_by_name("scenepalette-adopted")
        deployment = client.read_deployment_by_name("push/push")
    (action,) = other.actions
    assert isinstance(action, RunDeployment) and action.deployment_id == deployment.id and not other.enabled
    assert isinstance(found.trigger, EventTrigger) and found.trigger.within == timedelta(seconds=120)


@pytest.mark.usefixtures("server")
def test_deployments_that_are_not_there_are_told_before_anything_is_changed(tmp_path: Path) -> None:
    changed = tmp_path / "changed.yaml"
    changed.write_text(FILE.read_text().replace("push/push", "other/absent").replace("name: scenepalette", "name: x"))
    with pytest.raises(ConfigError, match="prefect --no-prompt deploy --all") as refused:
        apply_automations(changed)
    assert refused.value.problems == ("other/absent",)
    with get_client(sync_client=True) as client:
        assert client.read_automations_by_name("x-dead-runs") == []


def test_deployments_that_are_not_named_with_their_flow_are_told(tmp_path: Path) -> None:
    changed = tmp_path / "changed.yaml"
    changed.write_text(FILE.read_text().replace("push/push", "push"))
    with pytest.raises(ConfigError, match="FLOW/DEPLOYMENT") as refused:
        apply_automations(changed)
    assert refused.value.problems == ("push",)


@pytest.mark.parametrize(
    "content", [None, "automations: [", "other: []", "automations: [{name: x}]", "automations: [x]", "automations: 3"]
)
def test_a_file_that_holds_no_automations_is_explained(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "automations.yaml"
    words = r"There is no file .*automations\.yaml\. Name a YAML file"
    if content is not None:
        path.write_text(content)
        words = r"automations\.yaml cannot be read as a list of automations"
    with pytest.raises(ConfigError, match=words):
        apply_automations(path)


def test_the_repositorys_automations_are_found_from_anywhere() -> None:
    assert DEFAULT_FILE == FILE and DEFAULT_FILE.is_absolute() and FILE.is_file()
