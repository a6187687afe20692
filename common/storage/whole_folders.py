"""Folders that never hold half of what is written into them: filled aside, and moved into place once whole."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scenepalette.common.errors import ConfigError, ScenepaletteError
from scenepalette.common.storage.files import explain_write_error, read_json, sync_disks
from scenepalette.common.storage.locks import hold


@dataclass(frozen=True)
class WholeFolder:
    """A kind of such folders.

    Attributes:
        noun: What one is: "export". Its record, moved into place last, is NOUN.json, with a key "identity".
        doing: What another process is doing with it, for messages: "exporting into".
        other: What one with another identity is: "an export of other shards or in another form".
        option: With what a user names the folder: "--out".
    """

    noun: str
    doing: str
    other: str
    option: str = "--out"

    @property
    def record(self) -> str:
        """Name of the record."""
        return f"{self.noun}.json"

    @property
    def unfinished(self) -> str:
        """Name of the folder, within the folder, that is filled: which may be a disk of its own."""
        return f".unfinished.scenepalette-{self.noun}"

    @property
    def lock(self) -> str:
        """Name of the lock."""
        return f".{self.noun}.lock"

    def make(self, out: Path, identity: Mapping[str, Any], write: Callable[[Path], None]) -> bool:
        """Fill a folder, unless it holds the same already; what an interrupted call left is finished or made again.

        Args:
            out: The folder: empty, not there, or what an earlier call left.
            identity: What decides the content, as JSON values.
            write: Fills the folder that it is given, the record last.

        Returns:
            Whether something was written.

        Raises:
            ConfigError: The folder holds something else.
            ScenepaletteError: Another process works there, or a file cannot be written; nothing is left behind.
        """
        names = self._names_in(out)
        if not names & {self.unfinished, self.lock} and self._is_finished(out, identity):
            # Nothing is written, not even a lock: what is finished may lie on a disk that cannot be written.
            return False
        written = False
        with hold(out, self.lock, self.doing, named=self.option):
            unfinished = out / self.unfinished
            if not self._is_finished(out, identity):
                if not self._is_finished(unfinished, identity):
                    _remove(unfinished)
                    try:
                        write(unfinished)
                    except BaseException:
                        with contextlib.suppress(OSError):  # the first reason is the one to report
                            shutil.rmtree(unfinished)
                        raise
                self._publish(unfinished, out)
                written = True
            _remove(unfinished)
        # Whoever took it meanwhile finds a finished folder; Windows keeps the file for them.
        with contextlib.suppress(OSError):
            (out / self.lock).unlink(missing_ok=True)
        return written

    def _publish(self, unfinished: Path, out: Path) -> None:
        """Move all into place, the record last; a call that was killed meanwhile is continued by the next."""
        names = sorted((path.name for path in unfinished.iterdir()), key=self.record.__eq__)
        if in_the_way := [str(out / name) for name in names if (out / name).exists()]:
            raise ScenepaletteError(
                f"Files in {out} are in the way of the {self.noun}. Move them elsewhere and rerun the same command.",
                in_the_way,
            )
        try:
            for name in names:
                if name == self.record:
                    sync_disks()
                (unfinished / name).rename(out / name)
        except OSError as error:
            raise explain_write_error(out, error) from error

    def _names_in(self, out: Path) -> set[str]:
        """Return the names in a folder, none if it is not there; raises if they are those of something else."""
        try:
            names = {path.name for path in out.iterdir()}
        except FileNotFoundError:
            return set()
        except NotADirectoryError:
            names = {""}
        except OSError as error:
            raise explain_write_error(out, error) from error
        if not names & {self.record, self.unfinished} and names - {self.lock}:
            raise ConfigError(f"{out} exists and is no {self.noun}. Give an empty or a new {self.option} folder.")
        return names

    def _is_finished(self, folder: Path, identity: Mapping[str, Any]) -> bool:
        """Tell whether a folder holds this content, whole; raises if it holds another one."""
        if not (folder / self.record).is_file():
            return False
        content = read_json(folder / self.record)
        if isinstance(content, dict) and content.get("identity") == identity:
            return True
        raise ConfigError(f"{folder} holds {self.other}. Give another {self.option} folder, or remove it.")


IMPORTS = WholeFolder(
    "import",
    "importing into",
    "an import of another source, with other options, or from before the source changed",
    "--to",
)
"""Folders that `scenepalette import` makes; here, as the reader of folders knows them as well."""


def _remove(unfinished: Path) -> None:
    try:
        if unfinished.exists():
            shutil.rmtree(unfinished)
    except OSError as error:
        raise explain_write_error(unfinished, error) from error
