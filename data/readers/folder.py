"""Any folder of images and index masks with a class file."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from data.classes import ClassTable, SemanticClass
from data.errors import ConfigError, DataError
from data.readers.pairs import PairedFiles, match_names, require_folders

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
CLASS_FILES = ("classes.csv", "classes.yaml", "classes.yml")

_Byte = Annotated[int, Field(ge=0, le=255)]


class _ClassRow(BaseModel):
    """One class as a class file states it; the row's position is the class's id."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: Annotated[str, Field(min_length=1)]
    red: _Byte
    green: _Byte
    blue: _Byte
    evaluated: bool = True


class _ClassFile(BaseModel):
    """A whole class file."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    classes: list[_ClassRow]
    name: str = "folder"
    ignore_ids: list[_Byte] = []
    licence: str = "not stated"


def open_folder(root: Path, split: str, *, class_file: Path | None = None) -> PairedFiles:
    """Open a split: ROOT/SPLIT/images/NAME.(png|jpg|jpeg) with ROOT/SPLIT/labels/NAME.png.

    The class file is a CSV file with a header, or a YAML list of the same keys; the row order gives the ids:

        name,red,green,blue,evaluated
        road,128,64,128,true

    "evaluated" may be left out (true). A YAML file may instead be a mapping with the keys "classes" (that list),
    "ignore_ids" (label values to ignore besides 255), "name" (of the class table) and "licence" (of the data).

    Args:
        root: Folder of the data set.
        split: "train" or "val".
        class_file: The class file; by default ROOT/classes.csv or ROOT/classes.yaml.

    Returns:
        The checked data set; images may differ in size.

    Raises:
        DataError: Something is missing or wrong; every problem is listed with its file.
    """
    layout = "SPLIT/images/NAME.(png|jpg|jpeg), SPLIT/labels/NAME.png and classes.csv or classes.yaml"
    require_folders("folder", root, [f"{split}/images", f"{split}/labels"], layout)
    path = _find_class_file(root) if class_file is None else Path(class_file)
    declared = _read_class_file(path)
    table = _make_table(path, declared)

    problems: list[str] = []
    images: dict[str, Path] = {}
    for image in sorted((root / split / "images").iterdir()):
        if image.suffix.lower() not in IMAGE_SUFFIXES or image.name.startswith("."):
            continue
        if image.stem in images:
            problems.append(f"{split}/images/{image.name}: a second image for the label {image.stem}.png; keep one")
        images[image.stem] = image
    labels = {
        label.stem: label
        for label in sorted((root / split / "labels").iterdir())
        if label.suffix.lower() == ".png" and not label.name.startswith(".")
    }
    pairs, unmatched = match_names(images, labels, root=root, wanted_label=f"{split}/labels/{{id}}.png")
    return PairedFiles(
        name="folder",
        split=split,
        root=root,
        table=table,
        licence=declared.licence,
        pairs=pairs,
        ignored_values=declared.ignore_ids,
        problems=[*problems, *unmatched],
    )


def _find_class_file(root: Path) -> Path:
    present = [root / name for name in CLASS_FILES if (root / name).is_file()]
    if len(present) != 1:
        found = "there is none" if not present else f"there are {', '.join(path.name for path in present)}"
        raise DataError(
            f"{root} needs exactly one class file, {' or '.join(CLASS_FILES)}; {found}. It names the class of each "
            "label id: columns name, red, green, blue and, if wanted, evaluated; one row per id, in order."
        )
    return present[0]


def _read_class_file(path: Path) -> _ClassFile:
    """Read and validate a class file; every problem in it is reported with its row and key."""
    if path.suffix.lower() not in (".csv", ".yaml", ".yml"):
        raise DataError(f"The class file {path} ends in '{path.suffix}'; required is .csv, .yaml or .yml.")
    try:
        # utf-8-sig: spreadsheets put a byte order mark before the first column's name.
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"The class file {path} cannot be read ({error}). It must be text in UTF-8.") from error
    try:
        content = _parse_csv(text) if path.suffix.lower() == ".csv" else yaml.safe_load(text)
    except (csv.Error, yaml.YAMLError) as error:
        raise DataError(f"The class file {path} is not valid {path.suffix[1:].upper()}: {error}") from error
    try:
        return _ClassFile.model_validate({"classes": content} if isinstance(content, list) else content)
    except ValidationError as error:
        problems = [
            f"{'.'.join(str(part) for part in detail['loc']) or 'file'}: {detail['msg']}, received {detail['input']!r}"
            for detail in error.errors()
        ]
        raise DataError(
            f"The class file {path} cannot be used. Required are the columns name, red, green, blue (0 to 255) and, if "
            "wanted, evaluated (true or false); classes are counted from 0. Correct:",
            problems,
        ) from error


def _parse_csv(text: str) -> list[dict[str, Any]]:
    rows = csv.DictReader(io.StringIO(text), skipinitialspace=True, restkey="too many values", strict=True)
    # An empty or absent cell is a key that is not there, so that its default or its absence is what counts.
    return [{key.strip(): value for key, value in row.items() if value not in (None, "")} for row in rows]


def _make_table(path: Path, declared: _ClassFile) -> ClassTable:
    classes = tuple(
        SemanticClass(name=row.name.strip(), color=(row.red, row.green, row.blue), evaluated=row.evaluated)
        for row in declared.classes
    )
    conflicting = [value for value in declared.ignore_ids if value < len(classes)]
    if conflicting:
        raise DataError(
            f"The class file {path} lists {conflicting} both as class ids and as ignored. Ids count from 0 in the "
            "order of the classes; remove the values from 'ignore_ids' or move those classes out."
        )
    try:
        return ClassTable(name=declared.name, classes=classes)
    except ConfigError as error:
        raise DataError(f"The class file {path} cannot be used. Correct:", error.problems) from error
