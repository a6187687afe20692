"""Published weights: found in torch.hub's folder, or downloaded there with a bound on the wait."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import torch

# Seconds without an answer after which a download counts as out of reach.
TIMEOUT = 10.0


@contextlib.contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Bound every network wait in the block; torch.hub offers no such option."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def published_weights(url: str) -> Path:
    """Return the local copy of a weights file, downloaded into torch.hub's folder if it is missing.

    Args:
        url: Address of the file, whose last part is its name in the folder.

    Raises:
        OSError: It is not there and cannot be downloaded.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with _socket_timeout(TIMEOUT):
            torch.hub.download_url_to_file(url, str(path), progress=False)
    return path
