"""What a run reads from outside its directory, identified by its content and not by where it lies."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scenepalette.common.errors import ScenepaletteError
from scenepalette.common.progress import NO_PROGRESS, Progress
from scenepalette.common.urls import is_url
from scenepalette.pipeline.run_directory.manifests import MANIFEST, UNFINISHED, content_hash, identity_in, read_record
from scenepalette.pipeline.run_directory.ownership import read_mark
from scenepalette.pipeline.units.borrowing import lender_of, lends, weights_of
from scenepalette.pipeline.units.records import BORROWED
from scenepalette.pipeline.units.workspace import Unit

ABSENT = "absent"
# A unit that has not read its source yet is recognised without it.
UNREAD = ""


@dataclass
class Sources:
    """Identities of a data set, unlabelled images and weights files.

    Attributes:
        run_dir: The run directory whose records say what was read; None to know nothing.
        look: Whether sources that lie elsewhere than those that were read are compared with these. Without, what was
            read is trusted: nothing outside the run directory is needed.
        progress: Watches the comparison.
    """

    run_dir: Path | None = None
    look: bool = True
    progress: Progress = NO_PROGRESS
    _forgotten: set[str] = field(default_factory=set)
    _compared: dict[tuple[str, ...], str] = field(default_factory=dict)

    def content(self, unit: str, paths: Mapping[str, str], read: Callable[[Progress], str]) -> str:
        """Return the identity of the data that a unit reads; `UNREAD` until the unit is finished.

        Args:
            unit: The unit's name.
            paths: Where the data lies, by field; empty for data that is drawn.
            read: Returns the identity of what lies there now.
        """
        stored = self._settings(unit, finished=True).get("content")
        if stored is None:
            return UNREAD
        assert self.run_dir is not None
        before = read_mark(self.run_dir).sources.get(unit, {})
        there = all(map(may_be_there, paths.values()))
        if not self.look or not paths or not there or _resolved(paths) == _resolved(before):
            return stored
        key = (unit, *_resolved(paths).values())
        if key not in self._compared:
            self._compared[key] = read(self.progress)
        return self._compared[key]

    def file(self, path: Path | None, unit: str, key: str) -> str | None:
        """Return the identity of a file that a unit reads, or None if none is named.

        Args:
            path: The file.
            unit: The unit.
            key: Setting under which the unit's record has the identity, which holds where the file is not there.
        """
        if path is None:
            return None
        stored = self._settings(unit).get(key)
        if not self.look and stored is not None:
            return stored
        if path.is_file():
            return content_hash(path)
        return ABSENT if unit in self._forgotten else stored or ABSENT

    def files(self, paths: Mapping[str, Path], unit: str) -> dict[str, str]:
        """Return the identities of files that a unit's settings name, as far as they are there, by `file NAME`."""
        found = {f"file {name}": self.file(path, unit, f"file {name}") for name, path in paths.items()}
        return {key: identity for key, identity in found.items() if identity is not None and identity != ABSENT}

    def borrowed(self, lender: Path, unit: Unit) -> dict[str, str] | None:
        """Return the SHA-256 of the weights that a unit takes from another run, by file; None if it takes none.

        What was taken stays, whatever the lender does with its own afterwards.
        """
        stored = self._settings(unit.name, finished=True).get(BORROWED)
        if stored is not None and (not self.look or self._lender(unit.name) == os.path.realpath(lender)):
            return stored
        found = weights_of(lender, unit.name)
        return found if found is not None and lends(lender, unit) else stored

    def runs(self, paths: Sequence[Path], unit: str, key: str, identify: Callable[[Path], str]) -> list[str]:
        """Return the identities of other runs that a unit reads; of one that is not there, what was read of it.

        Args:
            paths: Their directories.
            unit: The unit.
            key: Setting under which the unit's record has the identities.
            identify: Returns the identity of the run that lies there now.
        """
        stored = self._settings(unit, finished=True).get(key, [])
        before = stored if len(stored) == len(paths) else [ABSENT] * len(paths)
        if not self.look:
            return before
        return [identify(path) if is_there(path.is_dir) else known for path, known in zip(paths, before, strict=True)]

    def _lender(self, unit: str) -> str | None:
        assert self.run_dir is not None
        lender = lender_of(read_record(self.run_dir / unit / MANIFEST))
        return None if lender is None else os.path.realpath(lender["run"])

    def forget(self, unit: str) -> None:
        """Take what a unit's record says of files that are not there for void: it is about to be made."""
        self._forgotten.add(unit)

    def _settings(self, unit: str, finished: bool = False) -> dict[str, Any]:
        if self.run_dir is None:
            return {}
        for file in (MANIFEST,) if finished else (MANIFEST, UNFINISHED):
            path = self.run_dir / unit / file
            if path.is_file():
                try:
                    return dict(identity_in(read_record(path)).get("settings", {}))
                except ScenepaletteError:
                    return {}  # told when the unit's state is asked for
        return {}


def is_there(look: Callable[[], bool]) -> bool:
    """Tell whether a file or folder is there; False also for a name that the system does not take."""
    try:
        return look()
    except (OSError, ValueError):  # or a folder above it that is closed
        return False


def may_be_there(place: str) -> bool:
    """Tell whether a path exists; a URL may, which is not asked for here."""
    return is_url(place) or os.path.exists(place)


def _resolved(paths: Mapping[str, str]) -> dict[str, str]:
    return {name: path if is_url(path) else os.path.realpath(path) for name, path in paths.items()}
