"""Copies of folders at URLs in the cache folder: each file is fetched once, and again when it has changed there."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TextIO

from scenepalette.common.errors import ConfigError
from scenepalette.common.progress import NO_PROGRESS, Progress
from scenepalette.common.remote.store import Entry, Store, StoreError
from scenepalette.common.storage.cache import VARIABLE, cache_folder
from scenepalette.common.storage.files import FULL, explain_write_error, is_temporary, sha256_of_file
from scenepalette.common.storage.locks import hold

INDEX = "index.jsonl"
_LOCK = ".lock"
_THREADS = 8
# Another process fetches the same folder; what it has fetched is not fetched twice.
_LONGEST_WAIT = 24 * 3600.0


class Mirror:
    """The copy of a folder at a URL, as its files were when the mirror was opened.

    A file counts as fetched once it lies whole under its name and is recorded with the size and stamp (etag) that it
    had at the URL; an interrupted download leaves a temporary file that counts for nothing.

    Attributes:
        url: The URL.
        folder: Where the copies lie.
        entries: All files at the URL, by name.
    """

    def __init__(self, url: str) -> None:
        """List a folder at a URL.

        Raises:
            ConfigError: The URL cannot be used, or there is no cache folder.
            StoreError: The folder cannot be listed, or holds nothing.
        """
        self._store = Store.open(url)
        self.url = self._store.url
        above = cache_folder()
        if above is None:
            raise ConfigError(
                f"{self.url} has to be copied to this machine, and there is no cache folder. Name one in the "
                f"environment variable {VARIABLE}."
            )
        self._home = above / "remote" / hashlib.sha256(self.url.encode()).hexdigest()[:16]
        last = self.url.rpartition("/")[2]
        self.folder = self._home / ("files" if last in ("", ".", "..") else last)
        self.entries: dict[str, Entry] = self._store.files()
        if not self.entries:
            raise StoreError(f"There are no files at {self.url}. Check the URL, and that it names a folder.")

    def fetch(
        self,
        names: Iterable[str] | None = None,
        hashes: Mapping[str, str] | None = None,
        progress: Progress = NO_PROGRESS,
    ) -> Path:
        """Copy files that are not here yet, or have changed; return the folder of the copies.

        Args:
            names: Which ones; None for all. What is no longer at the URL is removed here.
            hashes: SHA-256 that files must have, by name.
            progress: Watches the files.

        Raises:
            StoreError: A file is not at the URL, cannot be read, or has another content than its hash says.
            ScenepaletteError: A copy cannot be written.
        """
        wanted = list(self.entries) if names is None else list(names)
        if absent := [name for name in wanted if name not in self.entries]:
            raise StoreError(f"{self.url} is not whole: files are missing. Copy or push it again.", absent)
        with hold(self._home, _LOCK, "copying into", wait=_LONGEST_WAIT, named=VARIABLE):
            try:
                known = self._known()
                for leftover in self._home.glob(".*"):
                    if is_temporary(leftover.name):
                        leftover.unlink()
                self._prune()
                todo = [name for name in wanted if not self._is_fetched(name, known)]
                if todo:
                    progress.start(f"fetch {self.url}", len(wanted), done=len(wanted) - len(todo))
                    self._fetch_all(todo, known, hashes or {}, progress)
                    progress.finish()
            except OSError as error:
                raise explain_write_error(self.folder, error) from error
        return self.folder

    def _fetch_all(
        self, names: list[str], known: dict[str, object], hashes: Mapping[str, str], progress: Progress
    ) -> None:
        with open(self._home / INDEX, "a", encoding="utf-8") as index, ThreadPoolExecutor(_THREADS) as pool:
            if index.tell() and not _ends_line(self._home / INDEX):
                index.write("\n")  # the last line of a process that was killed
            for name in names:
                if name in known:  # what is about to be replaced no longer counts
                    _record(index, name, None)
            index.flush()
            left, waiting, errors = iter(names), dict[Future[list[object]], str](), list[Exception]()
            try:
                while True:
                    while not errors and len(waiting) < 2 * _THREADS and (name := next(left, None)) is not None:
                        waiting[pool.submit(self._fetch_one, name, hashes.get(name))] = name
                    if not waiting:
                        break
                    for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                        name = waiting.pop(future)
                        try:
                            _record(index, name, future.result())
                            progress.advance(1)
                        except (StoreError, OSError) as error:
                            errors.append(error)
                    index.flush()
            finally:
                for future in waiting:
                    future.cancel()
            if errors:
                raise errors[0]

    def _fetch_one(self, name: str, sha256: str | None) -> list[object]:
        """Fetch a file and return what is recorded of it."""
        entry, path = self.entries[name], self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._home / f".fetch.{secrets.token_hex(4)}.scenepalette-tmp"
        try:
            try:
                self._store.fetch(name, temporary)
            except StoreError as error:
                if isinstance(error.__cause__, OSError) and error.__cause__.errno in FULL:
                    raise error.__cause__ from None
                raise
            size = temporary.stat().st_size
            if size != entry.size:
                raise StoreError(
                    f"{self.url}/{name} came with {size} bytes, {entry.size} were announced: it was cut off, or is "
                    "being written. Rerun the same command; what was copied whole is kept."
                )
            if sha256 is not None and (found := sha256_of_file(temporary)) != sha256:
                raise StoreError(
                    f"{self.url}/{name} has SHA-256 {found}, its manifest says {sha256}: it is damaged, or the folder "
                    "is being written. Push or copy it there again."
                )
            os.replace(temporary, path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        return [entry.size, entry.stamp, path.stat().st_mtime_ns]

    def _is_fetched(self, name: str, known: Mapping[str, object]) -> bool:
        entry, path = self.entries[name], self.folder / name
        try:
            status = path.stat()
        except OSError:
            return False
        return status.st_size == entry.size and known.get(name) == [entry.size, entry.stamp, status.st_mtime_ns]

    def _known(self) -> dict[str, object]:
        """Return what was recorded of each file; a line that was cut off counts for nothing."""
        known = dict[str, object]()
        with contextlib.suppress(FileNotFoundError), open(self._home / INDEX, encoding="utf-8") as lines:
            for line in lines:
                with contextlib.suppress(ValueError, TypeError, KeyError):
                    content = json.loads(line)
                    known[content["name"]] = content["is"]
        return known

    def _prune(self) -> None:
        """Remove copies of files that are no longer at the URL."""
        for parent, _, names in os.walk(self.folder):
            for path in (Path(parent, name) for name in names):
                if path.relative_to(self.folder).as_posix() not in self.entries:
                    path.unlink(missing_ok=True)


def local_copy(url: str, progress: Progress = NO_PROGRESS) -> Path:
    """Return a folder of this machine with all files of a folder at a URL, as they are there now.

    Raises:
        ConfigError: The URL cannot be used.
        StoreError: It cannot be read.
        ScenepaletteError: A copy cannot be written.
    """
    return Mirror(url).fetch(progress=progress)


def _record(index: TextIO, name: str, content: list[object] | None) -> None:
    print(json.dumps({"name": name, "is": content}), file=index)


def _ends_line(path: Path) -> bool:
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
