"""Where results go: URLs and blocks, whose credentials stay out of all texts."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.filesystems import LocalFileSystem, RemoteFileSystem
from pydantic import SecretStr
from rich.text import Text

from scenepalette.common.errors import ConfigError
from scenepalette.common.remote.store import Store, StoreError, TransferError
from scenepalette.flows.platforms.destinations import BLOCKS, PUSH_PATTERN, Destination, resolve


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("s3://bucket/streets", True),
        ("s3://bucket/{date}-{time}", True),
        ("abfs://container@account.dfs.core.windows.net/x", True),
        ("hf://org/name", True),
        ("remote-file-system/results", True),
        ("s3-bucket/results/streets-{date}", True),
        ("s3://KEY:SECRET@bucket/x", False),
        ("s3://KEY:SEC/RET@bucket/x", False),
        ("https://account.blob.core.windows.net/x?sig=abc", False),
        ("s3://bucket/{day}", False),
        ("bucket", False),
        ("", False),
        ("/srv/results", False),
        ("s3://two words", False),
    ],
)
def test_what_is_taken_when_a_run_is_submitted(text: str, taken: bool) -> None:
    assert (re.search(PUSH_PATTERN, text) is not None) is taken


def test_a_refusal_shows_the_whole_pattern_on_a_command_line() -> None:
    assert Text.from_markup(PUSH_PATTERN).plain == PUSH_PATTERN


def test_a_url_is_itself_and_a_bad_one_is_explained_without_its_secret() -> None:
    assert resolve(" memory://a/b ") == Destination("memory://a/b")
    with pytest.raises(ConfigError, match="holds credentials") as refused:
        resolve("s3://KEY:TOPSECRET@bucket/x")
    assert "TOPSECRET" not in str(refused.value)
    with pytest.raises(ConfigError, match="protocol nowhere is not known"):
        resolve("nowhere://x/y")


@pytest.mark.parametrize("text", ["slack-webhook/mine", "remote-file-system", "remote-file-system/", "/srv/results"])
def test_what_names_no_place_is_explained(text: str) -> None:
    with pytest.raises(ConfigError, match="neither a URL nor a block") as refused:
        resolve(text)
    assert all(f"{slug}/NAME" in str(refused.value) for slug in BLOCKS)


@pytest.mark.usefixtures("server")
def test_a_block_that_is_not_there_is_explained() -> None:
    with pytest.raises(ConfigError, match=r"block remote-file-system/nobody cannot be read.*prefect block ls"):
        resolve("remote-file-system/nobody")


@pytest.mark.usefixtures("server")
def test_blocks_of_prefect_give_their_place_and_settings(tmp_path: Any) -> None:
    settings = {"key": "AKIAEXAMPLE", "secret": "TOPSECRET", "client_kwargs": {"region_name": "eu-central-1"}}
    RemoteFileSystem(basepath="s3://bucket/base/", settings=settings).save("results")
    found = resolve("remote-file-system/results")
    assert (found.url, found.options) == ("s3://bucket/base/", settings)
    assert resolve("remote-file-system/results/streets/a").url == "s3://bucket/base/streets/a"
    assert "SECRET" not in repr(found) and "AKIA" not in repr(found)
    RemoteFileSystem(basepath="s3://KEY:TOPSECRET@bucket", settings={}).save("careless")
    with pytest.raises(ConfigError, match="holds credentials") as refused:
        resolve("remote-file-system/careless")
    assert "TOPSECRET" not in str(refused.value)
    LocalFileSystem(basepath=str(tmp_path)).save("disk")
    assert resolve("local-file-system/disk/x") == Destination(f"file://{tmp_path}/x")


def credentials(**values: Any) -> SimpleNamespace:
    """What an AwsCredentials block has."""
    usual = {
        "aws_access_key_id": "AKIAEXAMPLE",
        "aws_secret_access_key": SecretStr("TOPSECRET"),
        "aws_session_token": None,
        "profile_name": None,
        "region_name": "eu-central-1",
        "assume_role_arn": None,
        "aws_client_parameters": SimpleNamespace(endpoint_url="http://127.0.0.1:9000", verify=True),
    }
    return SimpleNamespace(**usual | values)


def test_an_s3_bucket_gives_its_folder_and_credentials() -> None:
    read = BLOCKS["s3-bucket"]
    found = read(SimpleNamespace(bucket_name="scenes", bucket_folder="a/b/", credentials=credentials()))
    assert found.url == "s3://scenes/a/b"
    assert found.options == {
        "key": "AKIAEXAMPLE",
        "secret": "TOPSECRET",
        "endpoint_url": "http://127.0.0.1:9000",
        "client_kwargs": {"region_name": "eu-central-1"},
    }
    # Without keys, those of the machine are used.
    bare = credentials(
        aws_access_key_id=None,
        aws_secret_access_key=None,
        region_name=None,
        aws_client_parameters=SimpleNamespace(endpoint_url=None, verify=True),
    )
    assert read(SimpleNamespace(bucket_name="scenes", bucket_folder="", credentials=bare)) == Destination("s3://scenes")
    role = credentials(assume_role_arn="arn:aws:iam::1:role/x")
    with pytest.raises(ConfigError, match="assume a role"):
        read(SimpleNamespace(bucket_name="scenes", bucket_folder="", credentials=role))


@pytest.mark.usefixtures("server")
def test_blocks_of_prefect_aws_are_read(bucket: str, monkeypatch: pytest.MonkeyPatch, s3_server: str) -> None:
    package = pytest.importorskip("prefect_aws", reason="the package prefect-aws is not installed")
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    parameters = {"aws_client_parameters": {"endpoint_url": s3_server}, "region_name": "us-east-1"}
    given = {
        "aws": package.AwsCredentials(aws_access_key_id="testing", aws_secret_access_key="testing", **parameters),
        "minio": package.MinIOCredentials(minio_root_user="testing", minio_root_password="testing", **parameters),
    }
    for name, each in given.items():
        package.S3Bucket(bucket_name="scenes", bucket_folder=name, credentials=each).save(name)
        found = resolve(f"s3-bucket/{name}/run")
        assert found.url == f"s3://scenes/{name}/run"
        store = Store.open(found.url, found.options)
        store.write("x.txt", b"hello")
        assert store.read("x.txt") == b"hello"


def test_errors_are_told_without_credentials_and_keep_their_type() -> None:
    place = Destination(
        "s3://bucket", {"key": "AKIAEXAMPLE", "client_kwargs": {"aws_session_token": "tok=EN"}, "region": "eu"}
    )
    error = place.without_secrets(TransferError("key AKIAEXAMPLE of eu was refused", ["tok=EN is old", "eu"]))
    assert type(error) is TransferError and isinstance(error, StoreError)
    headers = {"client_kwargs": {"headers": {"Authorization": "Bearer abc"}, "auth": ["me", "mypass"]}}
    told = Destination("webdav://host", headers).without_secrets(StoreError("Bearer abc, mypass"))
    assert told.summary == "***, ***"
    assert error.summary == "key *** of eu was refused" and error.problems == ("*** is old", "eu")
