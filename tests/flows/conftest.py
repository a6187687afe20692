"""A temporary Prefect server for all tests of flows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prefect.testing.utilities import prefect_test_harness


@pytest.fixture(scope="session")
def server() -> Iterator[None]:
    """A server with an empty database; it is up in seconds, unless the machine is busy."""
    with prefect_test_harness(server_startup_timeout=180):
        yield
