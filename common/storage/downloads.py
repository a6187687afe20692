"""Published weights: found in torch.hub's folder, or downloaded there with a bound on the wait."""

from __future__ import annotations

import contextlib
import http.client
import pickle
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar
from urllib.error import URLError

import torch

from scenepalette.common.errors import AbsentError

Network = TypeVar("Network")

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


def local_weights(url: str) -> Path:
    """Return where the local copy of a weights file lies, or would lie: in torch.hub's folder.

    Args:
        url: Address of the file, whose last part is its name in the folder.
    """
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]


def published_weights(url: str) -> Path:
    """Return the local copy of a weights file, downloaded into torch.hub's folder if it is missing.

    Args:
        url: Address of the file, whose last part is its name in the folder.

    Raises:
        OSError: It is not there and cannot be downloaded.
    """
    path = local_weights(url)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with _socket_timeout(TIMEOUT):
            torch.hub.download_url_to_file(url, str(path), progress=False)
    return path


def _reason(error: BaseException) -> str:
    """Return what went wrong, without the words that urllib and Python put around it."""
    if type(error) is URLError:  # an HTTPError says it with its status
        return getattr(error.reason, "strerror", None) or str(error.reason)
    return str(error)


def load_published(name: str, url: str, build: Callable[[Path], Network], path: Path | None = None) -> Network:
    """Build a network from published weights.

    Args:
        name: What the weights are called, such as "Inception".
        url: Address of the weights file.
        build: Makes the network from a file, which holds nothing but tensors and plain values.
        path: Local file in place of the published one, or None to find or download that.

    Raises:
        AbsentError: The weights cannot be downloaded or loaded.
    """
    try:
        file = path or published_weights(url)
        # Libraries unpickle the file as it is; this first reading refuses one that holds anything that could be run.
        torch.load(file, map_location="cpu", weights_only=True)
        return build(file)
    except (
        OSError,
        RuntimeError,
        ValueError,
        TypeError,
        AttributeError,
        LookupError,
        EOFError,
        pickle.UnpicklingError,
        http.client.HTTPException,
    ) as error:
        reason = _reason(error).partition("\n")[0] or type(error).__name__
        failed = f"{path} could not be loaded" if path else "could not be downloaded"
        file_name = url.rpartition("/")[2]
        raise AbsentError(f"{name} weights {failed} ({reason}); give the path of {file_name}.") from error
