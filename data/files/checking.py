"""Checking every pair of files of a data set: on all cores, in bounded memory, watched, and only once.

Readers check their files when they are opened, wherever that is called from. What accompanies the check (a progress
bar, the memory of earlier checks, somebody who looks at the decoded samples as they pass by) is set by `checking`
around the call, so that readers need not hand it on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from PIL import Image

from scenepalette.common.errors import ScenepaletteError
from scenepalette.common.processors import map_in_order
from scenepalette.common.progress import NO_PROGRESS, Progress
from scenepalette.common.provenance import code_version
from scenepalette.common.storage.cache import cache_folder
from scenepalette.common.storage.files import sha256_of_json, write_atomically
from scenepalette.data.decoding.label_images import Sketch

_SCHEMA = 2
_KEY = 64
"""Characters of a key, before the JSON values on its line."""
UNSETTLED_SECONDS = 2.0
"""Age up to which a file's time of change may still be that of its next change: file systems keep seconds or more."""

Pair = TypeVar("Pair")
Result = TypeVar("Result")


class Look(Protocol):
    """Somebody who looks at the samples of a data set while they are checked, which spares decoding them again."""

    def begin(self, ids: Sequence[str], num_classes: int) -> None:
        """Hear which samples will come."""

    @property
    def sketch(self) -> Sketch:
        """What is to be taken down of a label as it is decoded, before it is known what its values mean.

        Labels are decoded once: those of all splits before the first image. Equal functions are one, by their hash.
        """
        ...

    def at(self, image: Image.Image, sketched: Any, ids: np.ndarray, counts: np.ndarray, /) -> Any:
        """Look at a sample; called from several threads.

        Args:
            image: The decoded image, in RGB.
            sketched: What `sketch` returned of its label and the N values of it.
            ids: The class id of each of these values, uint8 [N].
            counts: Pixels of each class id in the label, int64 [256].
        """
        ...

    def add(self, index: int, seen: Any) -> None:
        """Take what `at` returned, in the order of the samples; None for one that could not be used."""


@dataclass(frozen=True)
class _Checking:
    progress: Progress = NO_PROGRESS
    look: Look | None = None
    remembers: bool = False


_UNWATCHED = _Checking()
_CHECKING: ContextVar[_Checking] = ContextVar("checking", default=_UNWATCHED)


@contextlib.contextmanager
def checking(progress: Progress = NO_PROGRESS, look: Look | None = None) -> Iterator[None]:
    """Watch the checks of data sets that are opened in the block, and leave out what was checked before.

    What was in order is remembered in the user's cache folder, by name, size and times of each file and how its label
    is read; a pair of which any of that has changed is checked again.

    Args:
        progress: Watches the pairs.
        look: Looks at the samples of a data set of which anything has to be checked; never begun where nothing has.
    """
    token = _CHECKING.set(_Checking(progress, look, remembers=True))
    try:
        yield
    finally:
        _CHECKING.reset(token)


@dataclass(frozen=True)
class Subject:
    """What is checked.

    Attributes:
        name: Name of the data set.
        split: Its split.
        root: Its folder.
        ids: Sample ids, one a pair; none where the labels alone are checked, at which nobody looks.
        num_classes: Number of its classes.
    """

    name: str
    split: str
    root: Path
    ids: Sequence[str]
    num_classes: int


def check_all(
    subject: Subject,
    pairs: Sequence[Pair],
    check: Callable[[Pair, Look | None], tuple[Result, Any]],
    *,
    files: Callable[[Pair], Sequence[Path]],
    meaning: Callable[[Pair], Any],
    dump: Callable[[Result], Any],
    load: Callable[[Any], Result],
) -> list[Result]:
    """Check pairs of files, all cores at once.

    Args:
        subject: What they belong to.
        pairs: The pairs.
        check: Returns what is found of a pair, and what was seen by the one who looks, which it is given.
        files: Returns the files of a pair.
        meaning: Returns, as JSON values, whatever else decides what is found of a pair.
        dump: Returns a result as JSON values, or None if it is not to be remembered, as of a damaged file.
        load: Returns the result of such values.

    Returns:
        What was found of each.
    """
    now = _CHECKING.get()
    memory = _Memory(subject) if now.remembers else None
    keys = [memory.key(files(pair), meaning(pair)) if memory else None for pair in pairs]
    known = {place: line for place, key in enumerate(keys) if memory and key and (line := memory.found.get(key))}
    if len(known) == len(pairs):
        return [load(json.loads(known[place])) for place in range(len(pairs))]
    look = now.look if subject.ids else None
    if look is not None:
        look.begin(subject.ids, subject.num_classes)
    places = [place for place in range(len(pairs)) if place not in known or look is not None]
    now.progress.start(f"checking {subject.split}", len(pairs), len(pairs) - len(places))
    results: dict[int, Result] = {place: load(json.loads(line)) for place, line in known.items()}
    checked = map_in_order(lambda place: check(pairs[place], now.look), places)
    for place, (result, seen) in zip(places, checked, strict=True):
        results[place] = result
        if look is not None:
            look.add(place, seen)
        now.progress.advance()
    now.progress.finish()
    found = [results[place] for place in range(len(pairs))]
    if memory:
        memory.write(keys, map(dump, found))
    return found


class _Memory:
    """What earlier checks of a data set found, in a file of the user's cache folder."""

    def __init__(self, subject: Subject) -> None:
        folder = cache_folder()
        place = sha256_of_json([os.path.realpath(subject.root), subject.name, subject.split])
        self.path = folder / "checked" / f"{place[:32]}.jsonl" if folder else None
        self.rules = sha256_of_json([_SCHEMA, code_version(), subject.name, subject.split, subject.num_classes])
        self.settled = time.time_ns() - int(UNSETTLED_SECONDS * 1e9)
        self.found: dict[str, bytes] = {}
        # A line for each pair, read when it is asked for: as objects all of them would take ten times as much memory.
        with contextlib.suppress(OSError):
            head, _, lines = self.path.read_bytes().partition(b"\n") if self.path else (b"", b"", b"")
            if head.decode(errors="replace") == self._head(lines):
                self.found = {line[:_KEY].decode(): line[_KEY:] for line in lines.split(b"\n") if line}

    def key(self, files: Sequence[Path], meaning: Any) -> str | None:
        """Return what a pair's result is remembered by; None if a file is missing or only just written."""
        stated = []
        for path in files:
            try:
                status = path.stat()
            except (OSError, ValueError):
                return None
            if max(status.st_mtime_ns, status.st_ctime_ns) > self.settled:
                return None
            stated.append([str(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns])
        return sha256_of_json([stated, meaning])

    def write(self, keys: Sequence[str | None], values: Iterable[Any]) -> None:
        """Keep the results that can be kept, instead of all earlier ones."""
        if self.path is None:
            return
        found = zip(keys, values, strict=True)
        lines = "\n".join(key + json.dumps(value) for key, value in found if key and value is not None).encode()
        # The folder need not be writable; then nothing is remembered.
        with contextlib.suppress(ScenepaletteError):
            write_atomically(self.path, self._head(lines).encode() + b"\n" + lines, durable=False)

    def _head(self, lines: bytes) -> str:
        """Return the first line of a memory: what its lines hold for, and their checksum."""
        return f"{self.rules} {hashlib.sha256(lines).hexdigest()}"
