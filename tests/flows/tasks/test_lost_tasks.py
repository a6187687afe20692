from __future__ import annotations

from uuid import UUID

import pytest
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run
from prefect.states import Completed, Running, State

from scenepalette.flows.tasks.lost_tasks import end_lost_tasks


@task
def work() -> None:
    """What an earlier attempt was at."""


def test_nothing_is_lost_outside_of_a_flow_run() -> None:
    assert end_lost_tasks() == 0


@pytest.mark.usefixtures("server")
def test_what_an_earlier_attempt_left_running_is_marked_as_crashed_and_nothing_else() -> None:
    def begun(of: str, key: str, state: State) -> UUID:
        with get_client(sync_client=True) as client:
            return client.create_task_run(work, flow_run_id=UUID(of), dynamic_key=key, state=state).id

    def state_of(task_run: UUID) -> str:
        with get_client(sync_client=True) as client:
            return str(client.read_task_run(task_run).state_name)

    @flow
    def other() -> UUID:
        return begun(str(flow_run.id), "elsewhere", Running())

    @flow
    def retried() -> tuple[int, list[str], int]:
        runs = [begun(str(flow_run.id), "lost", Running()), begun(str(flow_run.id), "done", Completed())]
        first = end_lost_tasks()
        return first, [state_of(run) for run in runs], end_lost_tasks()

    elsewhere = other()
    assert retried() == (1, ["Crashed", "Completed"], 0)
    assert state_of(elsewhere) == "Running"
