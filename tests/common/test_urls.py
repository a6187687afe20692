"""What is a URL, and what of one may be shown."""

from __future__ import annotations

import pickle

import pytest

from scenepalette.common.errors import ScenepaletteError
from scenepalette.common.storage.untrusted import short
from scenepalette.common.urls import holds_credentials, is_url, masked, url_problem, without_file_scheme


@pytest.mark.parametrize(
    ("text", "expected"),
    [("s3://b/x", True), ("memory://x", True), ("/data/x", False), ("C:\\x", False), ("a:b", False), ("", False)],
)
def test_a_url_has_a_protocol(text: str, expected: bool) -> None:
    assert is_url(text) == expected


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://key:secret@bucket/x", "s3://***@bucket/x"),
        ("s3://AKIA:se/cr+et@bucket/x", "s3://***@bucket/x"),
        ("s3://AKIA:12/secret@bucket/x", "s3://***@bucket/x"),
        ("ftp://me:a@b:c@host/x", "ftp://***@host/x"),
        ("there is no /data/s3:/key:secret@b/x", "there is no /data/s3:/***@b/x"),
        ("https://token@host/x", "https://***@host/x"),
        ("https://host/x?sv=1&sig=secret", "https://host/x?sv=***&sig=***"),
        ("https://host/x?secret", "https://host/x?***"),
        ("api_key=secret --password=secret y", "api_key=*** --password=*** y"),
        ("s3://key:pa@ss-secret@bucket/x and http://secret@h", "s3://***@bucket/x and http://***@h"),
        ("tried 's3://key:secret@b/x' and s3://key:secret@b/y.", "tried 's3://***@b/x' and s3://***@b/y."),
    ],
)
def test_credentials_are_masked_in_any_text_and_refused_in_a_url(text: str, shown: str) -> None:
    assert masked(text) == shown
    error = ScenepaletteError(text, [text])
    assert "secret" not in f"{error} {error.problems} {pickle.loads(pickle.dumps(error))} {short(text)}"
    if is_url(text):
        assert "credentials" in str(url_problem(text)) and "secret" not in str(url_problem(text))


@pytest.mark.parametrize(
    "url",
    [
        "s3://bucket/a@2x.png",
        "http://localhost:9000/a@b",
        "abfs://container@account.dfs.core.windows.net/x",
        "hf://datasets/org/name@main/x",
        "memory://x",
    ],
)
def test_what_is_no_credential_stays(url: str) -> None:
    assert masked(url) == url and url_problem(url) is None


@pytest.mark.parametrize(
    "text",
    [
        "https://me:pass@host/x",
        "https://me:p@ss@host/x",
        "run --to s3://key@bucket {out}",
        "http://host/x?a=1&token=abc&b=2",
        "http://host/?X-Amz-Signature=0f#top",
    ],
)
def test_credentials_are_found_and_no_longer_when_masked(text: str) -> None:
    assert holds_credentials(text) and not holds_credentials(masked(text))


@pytest.mark.parametrize("text", ["http://host:80/a@b?size=3", "python paint.py a@b {out}", "section.key=value", ""])
def test_other_texts_hold_none(text: str) -> None:
    assert not holds_credentials(text)


def test_a_secret_is_masked_before_a_message_is_cut() -> None:
    long = f"s3://key:{'secret' * 100}@bucket"
    assert "secret" not in short(long, 60)


def test_a_url_without_a_bucket_is_told() -> None:
    assert "s3://BUCKET/FOLDER" in str(url_problem("s3://"))


@pytest.mark.parametrize(
    ("text", "path"), [("file:///a/b", "/a/b"), ("/a/b", "/a/b"), ("s3://file/x", "s3://file/x"), ("file", "file")]
)
def test_a_file_url_is_a_path(text: str, path: str) -> None:
    assert without_file_scheme(text) == path
