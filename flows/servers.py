"""Whether Prefect's server can be reached, reported before Prefect fails with a traceback."""

from __future__ import annotations

import httpx


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
