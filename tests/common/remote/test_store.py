"""Folders at URLs, in memory and on an S3 server."""

from __future__ import annotations

import asyncio
import gc
import io
import logging
import re
from pathlib import Path
from typing import Any

import pytest

from buckets import MEMORY, refusing
from scenepalette.common.errors import ConfigError
from scenepalette.common.remote import store as stores
from scenepalette.common.remote.store import Store, StoreError, explained, store_problem


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("/data/x", "no URL; write one such as s3://BUCKET/FOLDER"),
        ("foo://b/x", "the protocol foo is not known"),
        ("s3://key:secret@b/x", "credentials"),
        ("s3://", "names no bucket"),
    ],
)
def test_a_url_that_cannot_be_opened_is_told_with_its_remedy(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)) as raised:
        Store.open(url)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(("scheme", "extra"), [("s3", "s3"), ("gs", "gcs"), ("az", "azure"), ("abfs", "azure")])
def test_a_missing_package_names_the_extra(scheme: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(protocol: str) -> None:
        raise ImportError("Install it")

    monkeypatch.setattr(stores.fsspec, "get_filesystem_class", absent)
    assert f"pip install 'scenepalette[{extra}]'" in str(store_problem(f"{scheme}://b/x"))


@pytest.mark.parametrize(
    ("url", "root"),
    [
        ("hf://org/name", "datasets/org/name"),
        ("hf://org/name/sub/", "datasets/org/name/sub"),
        ("hf://datasets/org/name", "datasets/org/name"),
    ],
)
def test_a_name_on_the_hub_is_that_of_a_data_set(url: str, root: str) -> None:
    pytest.importorskip("huggingface_hub")
    assert Store.open(url).root == root


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError("no"), "AWS_ACCESS_KEY_ID"),
        (RuntimeError("An error occurred (AccessDenied)"), "AWS_ACCESS_KEY_ID"),
        (FileNotFoundError("The specified bucket does not exist"), "make one first"),
        (TimeoutError(), "Rerun the same command"),
        (ConnectionError("https://h/x?X-Amz-Signature=secret"), "Rerun the same command"),
    ],
)
def test_what_a_package_raises_becomes_a_sentence_with_the_remedy(error: Exception, said: str) -> None:
    with pytest.raises(StoreError, match=said) as raised, explained("s3://b/x"):
        raise error
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "name", "text"),
    [
        ("gs://b/x", "HttpError", "Invalid Credentials, 401"),
        ("gs://b/x", "HttpError", "Anonymous caller does not have storage.objects.list access to the bucket., 401"),
        ("gs://b/x", "RefreshError", "('invalid_grant: Invalid JWT Signature.', {})"),
        ("az://c/x", "HttpResponseError", "Server failed to authenticate. ErrorCode:AuthorizationFailure"),
        ("az://c/x", "HttpResponseError", "Public access is not permitted. ErrorCode:PublicAccessNotPermitted"),
        ("az://c/x", "ClientAuthenticationError", "DefaultAzureCredential failed to retrieve a token"),
        ("az://c/x", "ValueError", "Must provide either a connection_string or account_name with credentials!!"),
        ("hf://o/x", "HfHubHTTPError", "401 Client Error: Unauthorized for url: https://huggingface.co/api"),
    ],
)
def test_refused_credentials_are_told_whatever_a_package_calls_them(url: str, name: str, text: str) -> None:
    with pytest.raises(StoreError, match="give credentials outside the URL"), explained(url):
        raise type(name, (Exception,), {})(text)


def test_names_that_lead_elsewhere_are_refused(memory: Any) -> None:
    memory.pipe_file("/other", b"x")
    memory.store["/scenepalette-tests/../../etc/x"] = memory.store["/other"]
    with pytest.raises(StoreError, match="would lead elsewhere"):
        Store.open(MEMORY).files()


def test_content_is_compared_by_reading_back_where_the_store_states_no_hash(memory: Any, tmp_path: Path) -> None:
    path, store = tmp_path / "a", Store.open(MEMORY)
    path.write_bytes(b"abc")
    assert not store.holds("a", path)
    store.put(path, "a")
    assert store.holds("a", path)
    memory.pipe_file("/scenepalette-tests/a", b"abd")
    assert not store.holds("a", path)


def test_a_bucket_takes_gives_and_compares_files(bucket: str, tmp_path: Path) -> None:
    store, path = Store.open(f"{bucket}/some/where"), tmp_path / "a"
    assert store.files() == {} and store.read("a") is None
    path.write_bytes(b"abc")
    store.put(path, "sub/a")
    (name, entry), *others = store.files().items()
    assert (name, entry.size, others) == ("sub/a", 3, []) and "900150983cd24fb0d6963f7d28e17f72" in entry.stamp  # MD5
    assert store.holds("sub/a", path)
    store.write("sub/a", b"abd")
    assert not store.holds("sub/a", path)
    assert store.files()["sub/a"].stamp != entry.stamp
    store.remove("sub/a")
    store.remove("sub/a")
    assert store.files() == {}


def test_a_bucket_that_refuses_or_is_missing_is_told(bucket: str, s3_server: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    with refusing(s3_server), pytest.raises(StoreError, match=r"may not be read: .*AWS_ACCESS_KEY_ID"):
        Store.open(bucket).files()
    with pytest.raises(StoreError, match="make one first"):
        Store.open("s3://not-there/x").put(path, "a")


@pytest.mark.parametrize(
    ("content", "expected"), [(b"abc", True), (b"abd", False)], ids=["the same", "another of the same size"]
)
@pytest.mark.parametrize(
    "stated",
    [
        {"ETag": '"900150983cd24fb0d6963f7d28e17f72"'},
        {"md5Hash": "kAFQmDzST7DWlj99KOF/cg=="},
        {"lfs": {"sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}},
    ],
    ids=["S3", "Google", "Hub"],
)
def test_a_hash_that_a_store_states_is_believed(
    stated: dict[str, Any], content: bytes, expected: bool, memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store holds "abc", and says so; a file that differs is told by reading back."""
    read = list[str]()

    def info(path: str) -> dict[str, Any]:
        return {"name": path, "size": 3, "type": "file", **stated}

    def opened(path: str, mode: str) -> io.BytesIO:
        read.append(path)
        return io.BytesIO(b"abc")

    monkeypatch.setattr(memory, "info", info)
    monkeypatch.setattr(memory, "open", opened)
    (tmp_path / "a").write_bytes(content)
    assert Store.open(MEMORY).holds("a", tmp_path / "a") == expected
    assert bool(read) != expected


def test_a_connection_that_an_upload_lost_is_told_by_the_upload_alone(
    bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    loop = Store.open(bucket).fs.loop

    async def lose() -> None:
        for error in (ConnectionResetError("lost"), ValueError("a mistake")):

            async def fail(error: Exception = error) -> None:
                raise error

            # Nobody asks for its result: asyncio reports it when it is collected.
            await asyncio.wait([asyncio.ensure_future(fail())])

    with caplog.at_level(logging.ERROR, logger="asyncio"):
        asyncio.run_coroutine_threadsafe(lose(), loop).result(timeout=30)
        gc.collect()
    assert ["mistake" in str(record.exc_info) for record in caplog.records] == [True]
