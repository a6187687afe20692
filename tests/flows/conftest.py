"""A temporary Prefect server for all tests of flows."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")

from prefect.testing.utilities import prefect_test_harness


@pytest.fixture(scope="session")
def server() -> Iterator[None]:
    """A server with an empty database; it is up in seconds, unless the machine is busy."""
    with prefect_test_harness(server_startup_timeout=180):
        yield
