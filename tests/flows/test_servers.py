"""A server for the time of a block."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

FLOW = """
from prefect import flow

from scenepalette.flows.servers import shared_server

@flow(log_prints=True)
def told() -> None:
    print("the last line")

with shared_server():
    told()
"""


@pytest.mark.slow
def test_the_last_lines_of_a_flow_reach_the_server_before_it_stops(tmp_path: Path) -> None:
    settings = {
        "PREFECT_HOME": str(tmp_path),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    }
    own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    result = subprocess.run(
        [sys.executable, "-c", FLOW], capture_output=True, text=True, timeout=300, env={**own, **settings}
    )
    assert result.returncode == 0, result.stderr
    assert "Error logging to API" not in result.stderr
    with closing(sqlite3.connect(tmp_path / "prefect.db")) as database:
        lines = [message for (message,) in database.execute("SELECT message FROM log")]
    assert "the last line" in lines and "Finished in state Completed()" in lines
