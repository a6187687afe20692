"""Which code made a file: the package's version and, in a checkout, the commit."""

from __future__ import annotations

import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGE = "scenepalette"


@cache
def code_version() -> dict[str, str | None]:
    """Return name, version and commit of this code.

    Returns:
        "name"; "version", None if the package is not installed; "commit", None outside a checkout of it or without git.
        A commit ends in "-dirty" if files under version control were changed since.
    """
    try:
        installed = version(PACKAGE)
    except PackageNotFoundError:
        installed = None
    return {"name": PACKAGE, "version": installed, "commit": commit_of(Path(__file__).resolve().parents[1])}


def commit_of(folder: Path) -> str | None:
    """Return the commit that is checked out in a folder, or None.

    Args:
        folder: Top folder of a checkout; a folder inside one of another project, such as its virtual environment, does
            not count.
    """
    if not (folder / ".git").exists():
        return None
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None
