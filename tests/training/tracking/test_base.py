"""Settings are made flat, without credentials."""

from __future__ import annotations

from scenepalette.training.tracking.base import flat


def test_settings_are_flat_texts_without_credentials() -> None:
    values = {"a": {"b": {"c": 1}, "d": [1, 2]}, "e": None, "root": "s3://me:secret@bucket"}
    assert flat(values) == {"a.b.c": "1", "a.d": "[1, 2]", "e": "None", "root": "s3://***@bucket"}
