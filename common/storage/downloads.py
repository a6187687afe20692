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
from scenepalette.common.storage.untrusted import is_lfs_pointer, is_web_page, short

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


def why_unreadable(path: Path, error: BaseException) -> str:
    """Return in a few words why a file could not be read as weights: what lies in their place, else what was said.

    Args:
        path: The file.
        error: What torch or safetensors raised.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(256)
    except OSError as problem:
        return problem.strerror or str(problem)
    if not start:
        return "it is empty, 0 bytes"
    if is_lfs_pointer(start):
        return "it is a Git LFS pointer, not the file itself: run git lfs pull in its repository"
    if is_web_page(start):
        return "it is a web page, not the file itself: download it again, logged in if need be"
    if isinstance(error, pickle.UnpicklingError):
        return "it is no file of torch.save, or holds more than tensors and plain values"
    if isinstance(error, RuntimeError) and start.startswith(b"PK") and "zip archive" in str(error):
        return "it is damaged or cut off"
    return short(str(error).partition("\n")[0]) or type(error).__name__


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
    file_name = url.rpartition("/")[2]
    try:
        file = path or published_weights(url)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        reason = _reason(error).partition("\n")[0] or type(error).__name__
        raise AbsentError(
            f"{name} weights could not be downloaded ({reason}); give the path of {file_name}."
        ) from error
    try:
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
    ) as error:
        # What was downloaded once is not again, such as the page of a network that asks for a login.
        remedy = "" if path else "remove it to have it downloaded again, or "
        raise AbsentError(
            f"{name} weights {file} could not be loaded ({why_unreadable(file, error)}); {remedy}give the path of "
            f"{file_name}."
        ) from error
