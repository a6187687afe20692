"""Places at URLs: a folder of fsspec's memory, and a bucket of a real S3 server on loopback."""

from __future__ import annotations

import logging
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fsspec
import pytest

MEMORY = "memory://scenepalette-tests"


@pytest.fixture
def memory() -> Iterator[Any]:
    """fsspec's memory file system, empty before and after."""
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    yield fs
    fs.store.clear()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of an S3 server."""
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line per request
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URL of an empty bucket; the environment holds what s3fs needs to find it."""
    import s3fs

    for name, value in {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    urllib.request.urlopen(f"{s3_server}/moto-api/reset", data=b"").close()
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir("scenes")
    yield "s3://scenes"
    s3fs.S3FileSystem.clear_instance_cache()


@contextmanager
def refusing(server: str) -> Iterator[None]:
    """Let an S3 server refuse every key within the block, as one does that does not know it."""
    _allow(server, "0")
    try:
        yield
    finally:
        _allow(server, "inf")


def _allow(server: str, requests: str) -> None:
    """Say how many requests the server answers before it checks keys."""
    address, headers = f"{server}/moto-api/reset-auth", {"Content-Type": "text/plain"}
    urllib.request.urlopen(urllib.request.Request(address, requests.encode(), headers)).close()
