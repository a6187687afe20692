"""When a task is tried again."""

from __future__ import annotations

import errno
from typing import Any

from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import exponential_backoff

from scenepalette.common.errors import ScenepaletteError
from scenepalette.common.remote.store import TransferError

RETRY_COUNT = 3
FIRST_RETRY_SECONDS = 20
# Jitter keeps the shards of a run from asking a file server again all at once.
RETRY_JITTER = 0.3
LASTING = frozenset(
    {
        errno.EACCES,
        errno.EDQUOT,
        errno.EEXIST,
        errno.EFBIG,
        errno.EINVAL,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENOENT,
        errno.ENOSPC,
        errno.ENOTDIR,
        errno.ENOTEMPTY,
        errno.EPERM,
        errno.EROFS,
    }
)


def is_passing_trouble(task: Any, task_run: TaskRun, state: State[Any]) -> bool:
    """Tell whether a failure may be gone in a moment: reading or writing files, as on a network drive or a bucket.

    What a user has to fix (a full disk and missing files among it) is not tried again, nor is anything that would
    fail in the same way, such as a damaged image: an `OSError` without an error number. Most errors of files come
    in words (`ScenepaletteError`); what the system said is their cause.
    """
    error = state.result(raise_on_failure=False)
    if isinstance(error, TransferError):
        return True
    if isinstance(error, ScenepaletteError):
        error = error.__cause__
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    return isinstance(error, OSError) and error.errno is not None and error.errno not in LASTING


RETRIES: dict[str, Any] = {
    "retries": RETRY_COUNT,
    "retry_delay_seconds": exponential_backoff(FIRST_RETRY_SECONDS),
    "retry_jitter_factor": RETRY_JITTER,
    "retry_condition_fn": is_passing_trouble,
}
