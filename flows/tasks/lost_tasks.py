"""Task runs of a flow run's earlier attempts, whose process died: nothing else reports that they ended."""

from __future__ import annotations

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.runtime import flow_run
from prefect.states import Crashed


def end_lost_tasks() -> int:
    """Mark as crashed what the current flow run's earlier attempts left running; call it before the first task.

    Returns:
        How many task runs there were; 0 outside of a flow run.
    """
    if flow_run.id is None:
        return 0
    lost = TaskRunFilter(state=TaskRunFilterState(type=TaskRunFilterStateType(any_=[StateType.RUNNING])))
    with get_client(sync_client=True) as client:
        runs = client.read_task_runs(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run.id])), task_run_filter=lost
        )
        for run in runs:
            client.set_task_run_state(
                run.id, Crashed(message="Its process ended; a later attempt of the flow run went on."), force=True
            )
    return len(runs)
