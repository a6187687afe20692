"""Places at URLs: a folder of fsspec's memory, and servers on loopback of S3, Google, Azure and the Hub."""

from __future__ import annotations

import logging
import secrets
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.config import conf

from hub import REPOSITORY, Hub

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


@dataclass(frozen=True)
class Place:
    """An empty place at a URL, which `fsspec` and the environment are configured to find.

    Attributes:
        url: The URL.
        secret: What authorises, and must not be shown.
        refusing: Has the server refuse what authorises, within a block.
    """

    url: str
    secret: str
    refusing: Callable[[], AbstractContextManager[None]]


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A bucket of an emulator of Google's storage."""
    # Read when gcsfs is imported: it would ask the emulator by gRPC, a minute a bucket, what kind of bucket it has.
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    gcsfs = pytest.importorskip("gcsfs")
    emulator = pytest.importorskip("gcp_storage_emulator.server")
    from google.oauth2.credentials import Credentials

    server = emulator.create_server("127.0.0.1", 0, in_memory=True, default_bucket="scenes")
    server.start()
    host, port = server._api._httpd.server_address
    secret = "ya29.secret"
    options = {"endpoint_url": f"http://{host}:{port}", "token": Credentials(secret)}

    @contextmanager
    def refusing() -> Iterator[None]:
        with _refusing_server() as address, pytest.MonkeyPatch.context() as patched:
            patched.setitem(conf, "gs", {**options, "endpoint_url": address})
            yield

    monkeypatch.setitem(conf, "gs", options)
    yield Place("gs://scenes", secret, refusing)
    gcsfs.GCSFileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of Azurite, Microsoft's emulator of Azure's storage: `npm install -g azurite`."""
    if (program := shutil.which("azurite-blob")) is None:
        pytest.skip("needs azurite-blob: npm install -g azurite")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--silent", "--disableTelemetry"]
    folder = tmp_path_factory.mktemp("azurite")
    process = subprocess.Popen([program, *options, "--skipApiVersionCheck"], cwd=folder, stdout=subprocess.DEVNULL)
    for _ in range(300):
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    yield port
    process.terminate()
    process.wait()


@pytest.fixture
def azure(azurite: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A container of Azurite."""
    adlfs = pytest.importorskip("adlfs")
    # The account that every Azurite has.
    key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

    def text(key: str) -> str:
        home = f"http://127.0.0.1:{azurite}/devstoreaccount1"
        return f"DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey={key};BlobEndpoint={home};"

    @contextmanager
    def refusing() -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("AZURE_STORAGE_CONNECTION_STRING", text(f"AAAA{key[4:]}"))
            adlfs.AzureBlobFileSystem.clear_instance_cache()
            yield
        adlfs.AzureBlobFileSystem.clear_instance_cache()

    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", text(key))
    adlfs.AzureBlobFileSystem.clear_instance_cache()
    container = f"scenes-{secrets.token_hex(4)}"
    adlfs.AzureBlobFileSystem().mkdir(container)
    yield Place(f"az://{container}", key[4:], refusing)
    adlfs.AzureBlobFileSystem.clear_instance_cache()


@pytest.fixture
def hub_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Place]:
    """A data set repository of a hub that takes files by the protocol of Git LFS."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    with Hub.served({}) as hub:

        @contextmanager
        def refusing() -> Iterator[None]:
            hub.refuses = True
            yield
            hub.refuses = False

        secret = "hf_secretsecretsecretsecretsecretsecr"
        monkeypatch.setitem(conf, "hf", {"endpoint": hub.address, "token": secret})
        yield Place(f"hf://{REPOSITORY}", secret, refusing)
        fsspec.get_filesystem_class("hf").clear_instance_cache()


@pytest.fixture(params=["google", "azure", "hub_place"])
def place(request: pytest.FixtureRequest) -> Place:
    """An empty place at each of the servers in turn."""
    return request.getfixturevalue(request.param)


@contextmanager
def _refusing_server() -> Iterator[str]:
    """Yield the address of a server that answers everything by 401."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(401)
            self.end_headers()
            self.wfile.write(b'{"error": {"code": 401, "message": "Invalid Credentials"}}')

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
