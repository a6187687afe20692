"""Folders that commands of users read and write: label maps and a class file in, files of the same names out."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from scenepalette.common.errors import DataError
from scenepalette.common.storage.untrusted import read_file, short
from scenepalette.data.classes import ClassTable
from scenepalette.data.decoding.class_files import csv_text
from scenepalette.data.decoding.image_opening import MAX_FILE_BYTES

CLASS_CSV = "classes.csv"
IMAGE_EXTENSIONS = (".png", ".jpg", ".jpeg")


def class_csv(table: ClassTable) -> bytes:
    """Return a class table as the CSV file that `data/decoding/class_files.py` reads.

    The columns are id, name, red, green, blue and evaluated; there is a row per class, in the order of the ids.
    """
    rows = [
        [number, entry.name, *entry.color, str(entry.evaluated).lower()] for number, entry in enumerate(table.classes)
    ]
    return csv_text([["id", "name", "red", "green", "blue", "evaluated"], *rows]).encode()


def names_of(count: int) -> list[str]:
    """Return the names of so many files, without their extensions."""
    return [f"{number:05d}" for number in range(count)]


def contents_of(folder: Path) -> dict[str, bytes]:
    """Return the bytes of each entry of a folder by its name; of what is no readable file, none, as no image has."""
    contents = {}
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        try:
            regular = stat.S_ISREG(entry.stat().st_mode)
            contents[entry.name] = read_file(Path(entry.path), MAX_FILE_BYTES) if regular else b""
        except (OSError, DataError):
            contents[entry.name] = b""
    return contents


def name_problems(
    found: Sequence[str], names: Sequence[str], extensions: tuple[str, ...] = IMAGE_EXTENSIONS
) -> dict[str, str]:
    """Return which files are not there, there twice, or not asked for: a text each, by the name that it is about.

    Args:
        found: Names of files that were given back, with their extensions.
        names: Names that were asked for, without one.
        extensions: Those that a file may have, in lower case.
    """
    asked, problems, given = set(names), dict[str, str](), dict[str, str]()
    for name in sorted(found):
        stem, extension = Path(name).stem, Path(name).suffix.lower()
        if stem not in asked or extension not in extensions:
            problems[name] = f"{short(name)}: it was not asked for; give one file for each, named as it is, and no more"
        elif stem in given:
            problems[name] = f"{name}: {given[stem]} is there as well; give one of both"
        else:
            given[stem] = name
    lacking = {
        f"{name}{extensions[0]}": f"{name}{extensions[0]}: it is not there" for name in names if name not in given
    }
    return lacking | problems
