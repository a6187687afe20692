"""Prefect's server: whether it can be reached, and one for the time of a flow that its workers reach too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

DRAIN_SECONDS = 5.0


def unreachable() -> str | None:
    """Return what is wrong with the server that is configured, and what to do, or None if it answers.

    Without a configured server there is nothing to reach: Prefect starts one for the time of a flow.
    """
    # Imported here: a command line must be able to explain itself without.
    from prefect.client.orchestration import get_client
    from prefect.settings import get_current_settings

    url = get_current_settings().api.url
    if url is None:
        return None
    with get_client(sync_client=True) as client:
        error = client.api_healthcheck()
    if not isinstance(error, httpx.TransportError):
        return None
    return (
        f"Prefect's server at {url} does not answer ({error}). Start it (prefect server start --host 127.0.0.1), or "
        "set PREFECT_API_URL to the address of one that runs."
    )


@contextmanager
def shared_server() -> Iterator[None]:
    """Start a server for the time of the block, unless one is configured, that workers of this machine use as well.

    Prefect would start one by itself, but one in each process that runs a task.
    """
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogHandler
    from prefect.server.api.server import SubprocessASGIServer
    from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings

    if get_current_settings().api.url is not None:
        yield
        return
    with SubprocessASGIServer() as server, temporary_settings({PREFECT_API_URL: server.api_url}):
        os.environ["PREFECT_API_URL"] = server.api_url  # of processes that are started here
        try:
            yield
        finally:
            # What is queued still needs the server: the last lines of the log, and how the last tasks ended.
            APILogHandler().flush()
            EventsWorker.drain_all(timeout=DRAIN_SECONDS)
            del os.environ["PREFECT_API_URL"]
