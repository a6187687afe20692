"""One process at a time in a folder."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from scenepalette.common.errors import ScenepaletteError
from scenepalette.common.storage.files import FULL, READ_ONLY, explain_write_error

WAIT_POLL_SECONDS = 0.5


@contextlib.contextmanager
def hold(
    folder: Path,
    lock_name: str,
    doing: str,
    *,
    wait: float = 0.0,
    on_wait: Callable[[], object] | None = None,
    option: str = "",
    named: str = "--out",
) -> Iterator[None]:
    """Hold a folder, which is made; the system lets go of it when the process ends, however it ends.

    Args:
        folder: The folder.
        lock_name: Name of the lock's file within the folder; it stays there.
        doing: What the other process is doing with the folder, for the message: "exporting into".
        wait: Seconds to wait for another process that holds it.
        on_wait: Called once if there is something to wait for.
        option: What a user adds to a command that shall wait, for the message.
        named: The option that names the folder, for the message.

    Raises:
        ScenepaletteError: Another process holds it still, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / lock_name)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if wait <= 0:
                raise
            if on_wait is not None:
                on_wait()
            lock.acquire(timeout=wait, poll_interval=WAIT_POLL_SECONDS)
    except Timeout as error:
        how = f" ({option})" if option else ""
        raise ScenepaletteError(
            f"Another process is {doing} {folder}. Wait until it ends{how}, or give another {named} folder."
        ) from error
    except OSError as error:
        if error.errno in (*FULL, *READ_ONLY):
            raise explain_write_error(folder / lock_name, error) from error
        raise ScenepaletteError(
            f"{folder} cannot be used: {error.strerror or error}. Give a writable {named} folder."
        ) from error
    try:
        yield
    finally:
        lock.release()
