"""Writing files so that a reader never sees half of one, and hashing them."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

from scenepalette.common.errors import DataError, ScenepaletteError

FULL = (errno.ENOSPC, errno.EDQUOT)
READ_ONLY = (errno.EACCES, errno.EROFS, errno.EPERM)
# Of `content_hash`; a file that is written again has another time or size.
_hashes: dict[tuple[str, int, int], str] = {}
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.scenepalette-tmp")


def is_temporary(name: str) -> bool:
    """Tell whether a file of this name is one that `open_atomically` began; no other may be taken for a leftover."""
    return _TEMPORARY.fullmatch(name) is not None


@contextlib.contextmanager
def open_atomically(path: Path | str, *, durable: bool = True) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` that takes its name only if the block ends without an exception.

    Args:
        path: The final name; its folder is created.
        durable: Whether to wait until the disk has it. Without, a killed process still leaves whole files alone, a
            power failure may not; for many small files whose completion is recorded after `sync_disks`.

    Yields:
        A binary file object, which can be read back as well.

    Raises:
        ScenepaletteError: The disk is full or the folder cannot be written; nothing is left behind.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not by `tempfile`, whose files are private: a run folder is meant to be read as far as the umask allows, which
        # is the whole process's and cannot be looked up without changing it for all threads.
        name = path.with_name(f".{path.name}.{secrets.token_hex(4)}.scenepalette-tmp")
        handle = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        temporary = name
        with os.fdopen(handle, "w+b") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if durable:
            _sync_folder(path.parent)
    except OSError as error:
        raise explain_write_error(path, error) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):  # a folder that cannot be written; the first reason is the one to report
                temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make a rename durable where the system can (not on Windows)."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sync_disks() -> None:
    """Wait until the disks have everything that was written, where the system can (not on Windows)."""
    if hasattr(os, "sync"):
        os.sync()


def explain_write_error(path: Path, error: OSError) -> ScenepaletteError:
    """Turn a failed write into a message with its remedy.

    Args:
        path: The file that could not be written.
        error: What the system said.
    """
    if error.errno in FULL:
        remedy = "the disk is full. Free some space and rerun the same command; finished work is kept."
    elif error.errno in READ_ONLY:
        remedy = "the folder cannot be written. Give a writable --out folder or change its permissions."
    else:
        remedy = f"{error.strerror or error}. Fix this and rerun the same command; finished work is kept."
    return ScenepaletteError(f"Could not write {path}: {remedy}")


@contextlib.contextmanager
def writing_explained(folder: Path) -> Iterator[None]:
    """Turn what keeps a block from writing or removing files in a folder into a message with its remedy.

    Raises:
        ScenepaletteError: The disk is full, or a file of the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        path = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else folder
        if error.errno in FULL or (error.errno in READ_ONLY and path.is_relative_to(folder)):
            raise explain_write_error(path, error) from error
        raise


@contextlib.contextmanager
def temporary_folder(purpose: str) -> Iterator[Path]:
    """Make a folder for the block, where the system keeps what is temporary.

    Args:
        purpose: What it is for, in its name.

    Raises:
        ScenepaletteError: There is no place for temporary files, or it is full.
    """
    try:
        kept = tempfile.TemporaryDirectory(prefix=f"scenepalette-{purpose}-", ignore_cleanup_errors=True)
    except OSError as error:
        raise ScenepaletteError(
            f"No temporary folder can be made ({error.strerror or error}). Free some space there, or set TMPDIR to a "
            "folder that can be written, and rerun the same command."
        ) from error
    with kept as name, writing_explained(Path(name)):
        yield Path(name)


def write_atomically(path: Path | str, content: bytes | str, *, durable: bool = True) -> None:
    """Write a whole file under a temporary name, then rename it.

    Args:
        path: The final name.
        content: Bytes, or text that is encoded as UTF-8.
        durable: As in `open_atomically`.

    Raises:
        ScenepaletteError: The file cannot be written; a previous version stays as it was.
    """
    with open_atomically(path, durable=durable) as file:
        file.write(encoded(content) if isinstance(content, str) else content)


def encoded(text: str) -> bytes:
    """Return text as UTF-8; bytes of a quoted path that are no UTF-8 become backslash escapes."""
    return text.encode(errors="backslashreplace")


def read_json(path: Path | str) -> Any:
    """Read a JSON file.

    Raises:
        ScenepaletteError: The file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ScenepaletteError(f"Could not read {path}: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise ScenepaletteError(f"{path} is not valid JSON ({error}).") from error


def write_json(path: Path | str, value: Any) -> None:
    """Write JSON atomically, indented and with keys in the given order; NaN is refused with ValueError."""
    write_atomically(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def sha256_of_file(path: Path | str) -> str:
    """Return the hex SHA-256 of a file's bytes, read in bounded memory."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_files(paths: Sequence[Path]) -> list[str]:
    """Return the hex SHA-256 of each file's bytes, several read at once in bounded memory.

    Raises:
        DataError: A file cannot be read.
    """

    def hashed(path: Path) -> str:
        try:
            return sha256_of_file(path)
        except OSError as error:
            raise DataError(f"{path} can no longer be read ({error.strerror or error}). Put it back.") from error

    with ThreadPoolExecutor() as executor:
        return list(executor.map(hashed, paths))


def sha256_of_open(file: BinaryIO) -> str:
    """Return the hex SHA-256 of all bytes of an open file that can be read back."""
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def content_hash(path: Path) -> str:
    """Return the SHA-256 of a file, which is read once per process as long as its size and time do not change."""
    status = path.stat()
    key = (str(path.absolute()), status.st_size, status.st_mtime_ns)
    if key not in _hashes:
        _hashes[key] = sha256_of_file(path)
    return _hashes[key]


def sha256_of_json(value: Any) -> str:
    """Return the hex SHA-256 of a value's canonical JSON (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest with the SHA-256 of its other keys' canonical JSON as its last key."""
    rest = {key: value for key, value in content.items() if key != "sha256"}
    return {**rest, "sha256": sha256_of_json(rest)}
