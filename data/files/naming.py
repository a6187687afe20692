"""What messages call files, and how ids are made of names."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from scenepalette.common.problems import printable
from scenepalette.common.wording import first_and_more

_SHOWN = 3
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def with_examples(names: Iterable[str], text: str) -> str:
    """Return what is said of files, their number, and three examples."""
    listed = list(names)
    return f"{text}: {len(listed)} ({first_and_more(listed, _SHOWN)})"


def name_within(path: Path, root: Path) -> str:
    """Return a file's name relative to a folder, with forward slashes, always printable and on one line."""
    name = printable(path.relative_to(root).as_posix())
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), name)


def flat_name(key: str) -> str:
    """Turn FOLDER/NAME into an id that can be a file name: NAME if it begins with FOLDER_, else FOLDER_NAME."""
    *folders, name = key.split("/")
    for folder in reversed(folders):
        name = name if name.startswith(f"{folder}_") else f"{folder}_{name}"
    return name


def is_text(name: str, most_bytes: float = math.inf) -> bool:
    """Tell whether a name is text in UTF-8, of so many bytes at most; bytes of file names need not be."""
    try:
        return len(name.encode("utf-8")) <= most_bytes
    except UnicodeEncodeError:
        return False


def composed(name: str) -> str:
    """Return a name with accents as parts of their letters (NFC), as names are compared; macOS splits them off."""
    return unicodedata.normalize("NFC", name)
