from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from PIL import UnidentifiedImageError
from prefect.states import Failed

from scenepalette.common.errors import ScenepaletteError
from scenepalette.common.storage.files import open_atomically
from scenepalette.flows.tasks.retries import FIRST_RETRY_SECONDS, RETRIES, RETRY_COUNT, is_passing_trouble


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ESTALE, "Stale file handle"), True),
        (OSError(errno.EIO, "Input/output error"), True),
        (TimeoutError("network drive"), True),
        (ConnectionResetError("file server"), True),
        (FileNotFoundError(errno.ENOENT, "weights"), False),
        (PermissionError(errno.EACCES, "folder"), False),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (OSError(errno.EROFS, "Read-only file system"), False),
        (UnidentifiedImageError("cannot identify image file"), False),
        (OSError("image file is truncated"), False),
        (ScenepaletteError("disk is full"), False),
        (ValueError("a bug"), False),
    ],
)
def test_only_passing_trouble_with_files_is_tried_again(error: Exception, expected: bool) -> None:
    assert is_passing_trouble(None, None, Failed(data=error)) is expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("code", "expected"),
    [(errno.EIO, True), (errno.ESTALE, True), (errno.ENOSPC, False), (errno.EDQUOT, False), (errno.EROFS, False)],
)
def test_a_failed_write_in_words_is_judged_by_what_the_system_said(code: int, expected: bool, tmp_path: Path) -> None:
    with pytest.raises(ScenepaletteError) as caught, open_atomically(tmp_path / "file"):
        raise OSError(code, os.strerror(code))
    assert is_passing_trouble(None, None, Failed(data=caught.value)) is expected  # type: ignore[arg-type]


def test_each_pause_is_twice_as_long_as_the_one_before() -> None:
    pauses = RETRIES["retry_delay_seconds"](RETRY_COUNT)
    assert pauses == [FIRST_RETRY_SECONDS * 2**i for i in range(RETRY_COUNT)]
