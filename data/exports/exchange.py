"""Folders that commands of users read and write: label maps and a class file in, files of the same names out."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

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


def read_given(
    contents: Mapping[str, bytes],
    names: Sequence[str],
    read: Callable[[bytes], np.ndarray],
    refusal: str,
    extensions: tuple[str, ...] = IMAGE_EXTENSIONS,
) -> np.ndarray:
    """Return what was given back for names without extension, in their order and stacked: [B, ...].

    `read` raises a DataError that says what is wrong with a file's bytes. A file has one of the extensions, in lower
    case. The message of the error begins with `refusal`.

    Raises:
        DataError: Files are missing, there twice, not asked for, or cannot be read; all problems at once.
    """
    wrong, arrays = _name_problems([*contents], names, extensions), dict[str, np.ndarray]()
    problems = list(wrong.values())
    for name, content in contents.items():
        if name not in wrong:
            try:
                arrays[Path(name).stem] = read(content)
            except DataError as error:
                problems.append(f"{name}: {error.summary}")
    if problems:
        raise DataError(refusal, problems)
    return np.stack([arrays[name] for name in names])


def check_size(image: Image.Image, size: tuple[int, int], owner: str) -> None:
    """Refuse an image that has not the height and width of its owner."""
    if (image.height, image.width) != size:
        raise DataError(
            f"it has {image.height} x {image.width} pixels (height x width); {size[0]} x {size[1]} are required, those "
            f"of its {owner}"
        )


def _name_problems(found: Sequence[str], names: Sequence[str], extensions: tuple[str, ...]) -> dict[str, str]:
    """Return which files were given back wrongly: not there, there twice, or not asked for; a text each, by name."""
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
