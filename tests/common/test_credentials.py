from __future__ import annotations

import pytest

from scenepalette.common.credentials import holds_credentials, masked


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:pass@host/x", "https://***@host/x"),
        ("https://me:p@ss@host/x", "https://***@host/x"),
        ("run --to s3://key@bucket {out}", "run --to s3://***@bucket {out}"),
        ("http://host/x?a=1&token=abc&b=2", "http://host/x?a=1&token=***&b=2"),
        ("http://host/?X-Amz-Signature=0f#top", "http://host/?X-Amz-Signature=***#top"),
    ],
)
def test_credentials_in_urls_are_masked(text: str, shown: str) -> None:
    assert masked(text) == shown
    assert holds_credentials(text) and not holds_credentials(shown)


@pytest.mark.parametrize("text", ["http://host:80/a@b?size=3", "python paint.py a@b {out}", ""])
def test_other_texts_stay(text: str) -> None:
    assert masked(text) == text and not holds_credentials(text)
