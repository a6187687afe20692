"""Where the user's cache folder lies."""

from __future__ import annotations

from pathlib import Path

import pytest

from scenepalette.common.storage.cache import cache_folder


@pytest.mark.parametrize(
    ("named", "xdg", "home", "expected"),
    [
        ("/there", "/xdg", "/home/a", "/there"),
        ("", "/xdg", "/home/a", None),
        (None, "/xdg", "/home/a", "/xdg/scenepalette"),
        (None, "", "/home/a", "/home/a/.cache/scenepalette"),
        (None, None, "/home/a", "/home/a/.cache/scenepalette"),
        (None, "not/absolute", "/home/a", None),
    ],
)
def test_the_folder_is_the_one_that_is_named_or_that_of_the_user(
    named: str | None, xdg: str | None, home: str, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in {"SCENEPALETTE_CACHE": named, "XDG_CACHE_HOME": xdg, "HOME": home}.items():
        monkeypatch.delenv(variable, raising=False)
        if value is not None:
            monkeypatch.setenv(variable, value)
    assert cache_folder() == (None if expected is None else Path(expected))
