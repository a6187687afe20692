"""The event of a finished report: what it says, that it arrives, and that the automation acts on it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.events import emit_event
from prefect.server.events.schemas.automations import EventTrigger
from prefect.server.events.schemas.events import ReceivedEvent

from scenepalette.common.storage.files import read_json
from scenepalette.flows import stages
from scenepalette.flows.automations import DEFAULT_FILE, apply_automations
from scenepalette.flows.platforms import events as platform_events
from scenepalette.flows.platforms.events import REPORT_FINISHED, emit_report_finished, report_event
from scenepalette.pipeline.report.sections.page_one import ANSWERS, decision_headline

ADOPTED = "scenepalette-adopted"


def automation() -> dict[str, Any]:
    entries = yaml.safe_load(DEFAULT_FILE.read_text())["automations"]
    return {entry["name"]: entry for entry in entries}[ADOPTED]


def events(resource: str) -> list[dict[str, Any]]:
    """Events of reports that the server has of a resource; they are written every few seconds."""
    wanted = {"filter": {"event": {"name": [REPORT_FINISHED]}, "resource": {"id": [resource]}}}
    with get_client(sync_client=True) as client:
        response = client.request("POST", "/events/filter", json=wanted)
        response.raise_for_status()
        return response.json()["events"]


def until(look: Callable[[], Any], seconds: float = 120) -> Any:
    """Return what is there as soon as something is."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.5)
    return found


def test_the_event_says_what_the_report_says(finished_run: Path) -> None:
    document = read_json(finished_run / "report/report.json")
    event = report_event(finished_run)
    payload, labels = event["payload"], event["resource"]
    assert event["event"] == "scenepalette.report.finished"
    assert labels["prefect.resource.id"] == f"scenepalette.run.{document['provenance']['config_hash']}"
    assert labels["scenepalette.verdict"] == payload["verdict"] and payload["verdict"] in {
        "adopt",
        "try more seeds",
        "do not",
    }
    # As page one says it.
    assert decision_headline(document).startswith(f"{ANSWERS[payload['verdict']]}: ")
    assert payload["miou"] == {arm["name"]: arm["miou"]["mean"] for arm in document["arms"]}
    primary = document["primary"]
    assert payload["primary"] == {
        "treatment": primary["treatment"],
        "control": primary["control"],
        "seeds": len(primary["seeds"]),
        "miou_gain": primary["miou"]["mean"],
        "miou_gain_ci95": primary["miou"]["ci95"],
    }
    assert Path(payload["report"]).is_file() and Path(payload["run_dir"]) == finished_run
    assert payload.keys() == {"verdict", "reason", "primary", "smallest_gain", "miou", "run_dir", "report"}


def test_a_report_without_a_contrast_has_an_event_too(copy_of_run: Callable[..., Path]) -> None:
    run_dir = copy_of_run()
    path = run_dir / "report/report.json"
    path.write_text(json.dumps({**read_json(path), "primary": None}))
    payload = report_event(run_dir)["payload"]
    assert payload["primary"] is None and payload["verdict"] == "do not"


@pytest.mark.slow
@pytest.mark.usefixtures("server")
def test_a_report_that_is_made_is_an_event_and_one_that_was_there_is_none(
    copy_of_run: Callable[..., Path], tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = copy_of_run("report")
    told: list[Path] = []

    def noted(folder: Path) -> Any:
        event = emit_report_finished(folder)
        told.extend([folder] if event else [])
        return event

    monkeypatch.setattr(stages, "emit_report_finished", noted)
    state = stages.report(str(tiny_recipe), str(run_dir), return_state=True)
    assert told == [run_dir]
    wanted = report_event(run_dir)
    (event, *_) = until(lambda: events(wanted["resource"]["prefect.resource.id"]))
    assert event["payload"] == wanted["payload"] and event["resource"] == wanted["resource"]
    # Automations find the flow run, its flow and its tags among what the event is related to.
    related = {each["prefect.resource.id"] for each in event["related"]}
    assert f"prefect.flow-run.{state.state_details.flow_run_id}" in related
    stages.report(str(tiny_recipe), str(run_dir))
    assert told == [run_dir]


@pytest.mark.slow
@pytest.mark.usefixtures("server")
def test_a_flow_run_that_dies_before_it_tells_of_its_report_leaves_that_to_the_next(
    copy_of_run: Callable[..., Path], tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir, told = copy_of_run("report"), list[Any]()

    def dies(**_: Any) -> None:
        raise KeyboardInterrupt

    def noted(**event: Any) -> Any:
        told.append(event)
        return emit_event(**event)

    with monkeypatch.context() as dying:
        dying.setattr(platform_events, "emit_event", dies)
        with pytest.raises(KeyboardInterrupt):
            stages.report(str(tiny_recipe), str(run_dir))
    assert (run_dir / "report/report.json").is_file()
    monkeypatch.setattr(platform_events, "emit_event", noted)
    stages.train_segmenter(str(tiny_recipe), str(run_dir))
    assert told == []
    for _ in range(2):
        stages.report(str(tiny_recipe), str(run_dir))
        assert told == [report_event(run_dir)]


@pytest.mark.parametrize(("verdict", "acts"), [("adopt", True), ("do not", False), ("try more seeds", False)])
def test_the_trigger_matches_the_verdict(verdict: str, acts: bool, finished_run: Path) -> None:
    event = report_event(finished_run)
    event["resource"]["scenepalette.verdict"] = verdict
    received = ReceivedEvent.model_validate({**event, "id": "0" * 32, "occurred": "2026-01-01T00:00:00Z"})
    trigger = EventTrigger.model_validate(automation()["trigger"])
    assert trigger.covers(received) is acts
    event["resource"]["prefect.resource.id"] = "other.run.1"
    received = ReceivedEvent.model_validate({**event, "id": "0" * 32, "occurred": "2026-01-01T00:00:00Z"})
    assert not trigger.covers(received)


@pytest.mark.usefixtures("server")
def test_the_automation_runs_the_push_of_the_run_that_is_adopted(finished_run: Path, tmp_path: Path) -> None:
    async def deploy() -> Any:
        async with get_client() as client:
            flow_id = await client.create_flow(stages.push)
            return await client.create_deployment(
                flow_id, "push", parameter_openapi_schema=stages.push.parameters.model_dump()
            )

    deployment = anyio.run(deploy)
    path = tmp_path / "automations.yaml"
    path.write_text(yaml.safe_dump({"automations": [{**automation(), "name": "adopted-test", "enabled": True}]}))
    assert apply_automations(path) == {"adopted-test": "created"}
    assert apply_automations(path) == {"adopted-test": "unchanged"}
    event = report_event(finished_run)
    chosen = DeploymentFilter(id=DeploymentFilterId(any_=[deployment]))

    def tell(verdict: str, folder: str) -> None:
        labels = {**event["resource"], "scenepalette.verdict": verdict}
        emit_event(event["event"], labels, payload={**event["payload"], "run_dir": folder})

    def runs() -> list[Any]:
        with get_client(sync_client=True) as client:
            return client.read_flow_runs(deployment_filter=chosen)

    def repeated() -> list[Any]:
        # The server looks for new automations in its own time.
        tell("do not", "/runs/no")
        tell("adopt", "/runs/yes")
        time.sleep(2)
        return runs()

    found = until(repeated)
    assert {run.parameters["run_dir"] for run in found} == {"/runs/yes"}
    assert {run.parameters["push_to"] for run in found} == {automation()["actions"][0]["parameters"]["push_to"]}
    with get_client(sync_client=True) as client:
        (made,) = client.read_automations_by_name("adopted-test")
        client.delete_automation(made.id)


def test_the_automation_is_off_until_it_is_wanted() -> None:
    assert automation()["enabled"] is False
