"""The automation for dead runs: what it waits for, and that it is made once."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

from scenepalette.common.errors import ConfigError
from scenepalette.flows.automations import DEFAULT_FILE, apply_automations

ROOT = Path(__file__).parents[2]
FILE = ROOT / "automations.yaml"
DEPLOYMENTS = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]


def test_three_missing_signs_of_life_are_a_crash() -> None:
    (automation,) = [AutomationCore.model_validate(entry) for entry in yaml.safe_load(FILE.read_text())["automations"]]
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
    (automation,) = [AutomationCore.model_validate(entry) for entry in yaml.safe_load(FILE.read_text())["automations"]]
    assert isinstance(automation.trigger, EventTrigger)
    tag = automation.trigger.match_related.model_dump()["prefect.resource.id"]  # type: ignore[union-attr]
    for deployment in DEPLOYMENTS:
        assert [f"prefect.tag.{name}" for name in deployment["tags"]] == [tag], deployment["name"]


@pytest.mark.usefixtures("server")
def test_the_same_command_again_changes_nothing(tmp_path: Path) -> None:
    assert apply_automations(FILE) == {"scenepalette-dead-runs": "created"}
    assert apply_automations(FILE) == {"scenepalette-dead-runs": "unchanged"}
    changed = tmp_path / "changed.yaml"
    changed.write_text(FILE.read_text().replace("within: 90", "within: 120"))
    assert apply_automations(changed) == {"scenepalette-dead-runs": "updated"}
    with get_client(sync_client=True) as client:
        (found,) = client.read_automations_by_name("scenepalette-dead-runs")
    assert isinstance(found.trigger, EventTrigger) and found.trigger.within == timedelta(seconds=120)


@pytest.mark.parametrize("content", [None, "automations: [", "other: []", "automations: [{name: x}]"])
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
