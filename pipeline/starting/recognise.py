"""Which data set a folder holds."""

from __future__ import annotations

from pathlib import Path

from scenepalette.data.files.published_layouts import published_layout
from scenepalette.data.readers.folder import CLASS_FILES, EXPORTED_CLASS_FILES


def recognise(root: Path) -> str:
    """Return the name of the data set whose published layout a folder has; "folder" for any other.

    A class file makes it a folder of the user's own.
    """
    if any((root / name).is_file() for name in (*CLASS_FILES, *EXPORTED_CLASS_FILES)):
        return "folder"
    return published_layout(root) or "folder"
