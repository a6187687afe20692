"""When a task is tried again."""

from __future__ import annotations

from typing import Any

from prefect.client.schemas.objects import State, TaskRun

RETRY_SECONDS = 20


def is_passing_trouble(task: Any, task_run: TaskRun, state: State[Any]) -> bool:
    """Tell whether a failure may be gone in a moment: reading or writing files, as on a network drive.

    What a user has to mend (`ScenepaletteError`, a full disk and missing files among it) is not tried again, nor is
    anything that would fail in the same way.
    """
    error = state.result(raise_on_failure=False)
    lasting = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError)
    return isinstance(error, OSError) and not isinstance(error, lasting)


RETRIES: dict[str, Any] = {
    "retries": 2,
    "retry_delay_seconds": RETRY_SECONDS,
    "retry_condition_fn": is_passing_trouble,
}
