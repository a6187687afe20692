"""Finding the images that annotations name, and nothing outside of the folder that they lie in."""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path
from urllib.parse import unquote

from scenepalette.common.errors import DataError
from scenepalette.common.problems import printable
from scenepalette.common.storage.untrusted import MAX_LINES, short
from scenepalette.common.wording import listed
from scenepalette.data.decoding.image_opening import has_image_extension
from scenepalette.data.files.finding import files_below
from scenepalette.data.files.naming import is_text
from scenepalette.data.imports.findings import Fault, Findings
from scenepalette.data.imports.source import is_hidden, split_of

_LONGEST_PATH = 4096
_ABSOLUTE = re.compile(r"^(/|[A-Za-z]:|[A-Za-z][\w+.-]*://)")


class ImageFolder:
    """The image files below a folder, by name."""

    def __init__(self, root: Path, *, by_last_name: bool = False) -> None:
        """List the images.

        Args:
            root: The folder; links in it are followed.
            by_last_name: Whether the last part of a stated path is enough, as the user named the folder.

        Raises:
            DataError: There are too many files to be a folder of images.
        """
        self.root = root
        self._by_last_name = by_last_name
        self._paths: dict[str, Path] = {}
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self._by_form: dict[str, list[str]] = defaultdict(list)
        self._used: set[str] = set()
        for path in _images_below(root):
            key = path.relative_to(root).as_posix()
            self._paths[key] = path
            self._by_name[key.rpartition("/")[2]].append(key)
            self._by_form[_form(key.rpartition("/")[2])].append(key)

    def find(
        self, stated: object, findings: Findings, where: str, *, beside: str = "", quiet: bool = False
    ) -> Path | None:
        """Find an image.

        A path below the root is taken as it is, seen from the folder `beside` or from the root; else the only image
        whose path ends so, capitals and the Unicode form of accents aside; or the only such image of the split that
        `where` names.

        Args:
            stated: What the annotations call it.
            findings: Takes the reason why there is none.
            where: The annotation file, for the message.
            beside: Folder of the annotation file, relative to the root; "" for the root.
            quiet: Whether nothing is said of one that is not there, as it may lie elsewhere.

        Returns:
            Its path; None where there is none.
        """
        told = f"{where}: {short(repr(stated), 80)}"
        if (
            not isinstance(stated, str)
            or not stated.strip()
            or not (is_text(stated, _LONGEST_PATH) and stated.isprintable())
        ):
            findings.fault(Fault.NAME, told)
            return None
        name = stated.strip().replace("\\", "/")
        inside = posixpath.normpath(posixpath.join(beside, name))
        if _ABSOLUTE.match(name) or inside == ".." or inside.startswith("../"):
            if not self._by_last_name:
                if not quiet:
                    findings.fault(Fault.LEAVES, told)
                return None
            inside = name = name.rpartition("/")[2]
        if inside in self._paths:
            return self._take(inside)
        tail = posixpath.normpath(name).lstrip("./")
        found = [key for key in self._by_name.get(tail.rpartition("/")[2], ()) if f"/{key}".endswith(f"/{tail}")]
        if not found and self._by_last_name:
            found = self._by_name.get(tail.rpartition("/")[2], [])
        if not found:
            alike = self._by_form.get(_form(tail.rpartition("/")[2]), ())
            found = [key for key in alike if self._by_last_name or f"/{_form(key)}".endswith(f"/{_form(tail)}")]
            if len(found) == 1:
                text = "images found under other capitals or another Unicode form of their names"
                findings.left_out(text, printable(found[0]))
        if not found and "%" in name and (plain := unquote(name)) != name:
            # Addresses, of which annotation servers write the names, have percent signs for spaces and accents.
            return self.find(plain, findings, where, beside=beside, quiet=quiet)
        if len(found) > 1 and (split := split_of(where)) is not None:
            found = [key for key in found if split_of(key) == split] or found
        if len(found) == 1:
            return self._take(found[0])
        if found:
            findings.fault(Fault.AMBIGUOUS, f"{told} ({listed(found, 2)})")
        elif not quiet:
            findings.fault(Fault.MISSING, told)
        return None

    def holds(self, name: str) -> bool:
        """Tell whether there is an image of this name in any folder."""
        return name in self._by_name

    def _take(self, key: str) -> Path:
        self._used.add(key)
        return self._paths[key]

    def tell_unused(self, findings: Findings, but: Collection[Path] = ()) -> None:
        """Note the images that no annotation file names, but for those in some folders."""
        for key in sorted(self._paths.keys() - self._used):
            if not any(self._paths[key].is_relative_to(folder) for folder in but):
                findings.left_out("images that no annotation names, skipped", printable(key))


def _images_below(root: Path) -> Iterator[Path]:
    for count, path in enumerate(files_below(root)):
        if count >= MAX_LINES:
            raise DataError(
                f"{root} holds more than {MAX_LINES} files. Name the folder of the images alone with --images."
            )
        if has_image_extension(path.name) and not is_hidden(path, root):
            yield path


def _form(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
