from __future__ import annotations

import pytest
from prefect.states import Failed

from data.errors import ScenepaletteError
from flows.retries import is_passing_trouble


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError("Stale file handle"), True),
        (TimeoutError("network drive"), True),
        (FileNotFoundError("weights"), False),
        (PermissionError("folder"), False),
        (ScenepaletteError("disk is full"), False),
        (ValueError("a bug"), False),
    ],
)
def test_only_passing_trouble_with_files_is_tried_again(error: Exception, expected: bool) -> None:
    assert is_passing_trouble(None, None, Failed(data=error)) is expected  # type: ignore[arg-type]
