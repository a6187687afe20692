"""Credentials are masked, settings made flat."""

from __future__ import annotations

import pytest

from scenepalette.training.tracking.base import flat, masked


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://me:secret@host/a", "https://***@host/a"),
        ("s3://key:pa@ss@bucket/x and http://u@h", "s3://***@bucket/x and http://***@h"),
        ("https://host/a?token=abc&x=1", "https://host/a?token=***&x=1"),
        (
            "https://s3/a?X-Amz-Signature=abc&X-Amz-Credential=k",
            "https://s3/a?X-Amz-Signature=***&X-Amz-Credential=***",
        ),
        ("api_key=abc --password=x y", "api_key=*** --password=*** y"),
        ("user@host: https://host/a@b", "user@host: https://host/a@b"),
        ("images.steps=5", "images.steps=5"),
    ],
)
def test_credentials_are_masked(text: str, expected: str) -> None:
    assert masked(text) == expected


def test_settings_are_flat_texts_without_credentials() -> None:
    values = {"a": {"b": {"c": 1}, "d": [1, 2]}, "e": None, "root": "s3://me:secret@bucket"}
    assert flat(values) == {"a.b.c": "1", "a.d": "[1, 2]", "e": "None", "root": "s3://***@bucket"}
