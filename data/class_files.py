"""Class files: class tables as CSV or YAML, written by users or shipped with this package."""

from __future__ import annotations

import csv
import io
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from scenepalette.common.errors import ConfigError, DataError
from scenepalette.common.problems import Problem, ProblemKind
from scenepalette.common.untrusted import YAML_BYTES, parse_yaml, read_text, short
from scenepalette.data.classes import ClassTable, SemanticClass

_Byte = Annotated[int, Field(ge=0, le=255)]


def _printable(name: str) -> str:
    if not name.strip() or not name.isprintable():
        raise ValueError("a name must have letters and no control characters")
    return name


# Names are printed, drawn into figures and written into cards.
_Name = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_printable)]


class _ClassRow(BaseModel):
    """One class as a class file states it; the row's position is the class's id."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: _Name
    red: _Byte
    green: _Byte
    blue: _Byte
    evaluated: bool = True


class ClassFile(BaseModel):
    """A whole class file.

    Attributes:
        classes: The classes in the order of their ids.
        name: Name of the class table.
        ignore_ids: Label values to ignore besides 255.
        licence: Licence of the data.
        data_set: Name of the data set, for cards and reports.
        label_origin: How the labels came about, if no human drew them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    classes: list[_ClassRow]
    name: _Name = "folder"
    ignore_ids: list[_Byte] = []
    licence: Annotated[str, Field(max_length=2000)] = "not stated"
    data_set: _Name = "folder"
    label_origin: Annotated[str, Field(max_length=2000)] = ""


def read_class_file(path: Path, *, within: Path | None = None) -> ClassFile:
    """Read and validate a class file.

    Args:
        path: A CSV file with a header, or a YAML list of the same keys; the row order gives the ids:

                name,red,green,blue,evaluated
                road,128,64,128,true

            "evaluated" may be left out (true). A YAML file may instead be a mapping with the keys "classes" (that
            list), "ignore_ids", "name", "licence", "data_set" and "label_origin".
        within: Folder that a link must not lead out of, as messages show what the file holds; None for a file that
            the user named.

    Returns:
        What the file states.

    Raises:
        DataError: It cannot be read or used; every problem is listed with its row and key.
    """
    if path.suffix.lower() not in (".csv", ".yaml", ".yml"):
        raise DataError(f"The class file {path} ends in '{path.suffix}'; required is .csv, .yaml or .yml.")
    try:
        # Spreadsheets put a byte order mark before the first column's name; it is left out.
        text = read_text(path, YAML_BYTES, within=within)
    except DataError as error:
        raise DataError(f"The class file {path} cannot be used: {error.summary}. It must be text in UTF-8.") from error
    try:
        content = _parse_csv(text) if path.suffix.lower() == ".csv" else parse_yaml(text)
    except (csv.Error, ValueError) as error:
        raise DataError(f"The class file {path} is not valid {path.suffix[1:].upper()}: {error}") from error
    try:
        return ClassFile.model_validate({"classes": content} if isinstance(content, list) else content)
    except ValidationError as error:
        problems = [
            _problem(
                f"{short('.'.join(map(str, detail['loc'])) or 'file')}: {detail['msg']}, "
                f"received {short(repr(detail['input']))}"
            )
            for detail in error.errors()
        ]
        raise DataError(
            f"The class file {path} cannot be used. Required are the columns name, red, green, blue (0 to 255) and, if "
            "wanted, evaluated (true or false); classes are counted from 0. Correct:",
            problems,
        ) from error


def _problem(text: str) -> Problem:
    return Problem(ProblemKind.CLASS_FILE, "", text)


def _parse_csv(text: str) -> list[dict[str, Any]]:
    rows = csv.DictReader(io.StringIO(text), skipinitialspace=True, restkey="too many values", strict=True)
    columns = [name.strip() for name in rows.fieldnames or ()]
    repeated = sorted({name for name in columns if columns.count(name) > 1})
    if repeated:
        raise ValueError(f"the columns {', '.join(map(repr, repeated))} come twice")
    # An empty or absent cell is a key that is not there, so that its default or its absence is what counts.
    return [{key.strip(): value for key, value in row.items() if value not in (None, "")} for row in rows]


def table_of_class_file(path: Path, declared: ClassFile) -> ClassTable:
    """Return the class table that a class file declares.

    Args:
        path: The file, for messages.
        declared: What it states.

    Raises:
        DataError: The classes do not make a table, or an ignored value is also a class id.
    """
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
        raise DataError(
            f"The class file {path} cannot be used. Correct:", [_problem(text) for text in error.problems]
        ) from error


@cache
def packaged_table(name: str) -> ClassTable:
    """Return a class table that is shipped as NAME.csv beside this module.

    Args:
        name: The name, such as "ade20k".
    """
    path = Path(__file__).with_name(f"{name}.csv")
    return table_of_class_file(path, read_class_file(path).model_copy(update={"name": name}))


CAMVID = packaged_table("camvid")
"""CamVid's 11 classes in the order and colours of the SegNet release; 11, its "unlabelled", is ignored."""

CITYSCAPES = packaged_table("cityscapes")
"""Cityscapes' 35 classes, 19 of them in the official evaluation.

Ids 0 to 33 are the published label ids. "license plate", published as -1 and therefore never drawn into the label
files, is 34. The void classes (unlabeled, ego vehicle, ...) are classes like any other, because a layout generator has
to draw them too (Semantic Palette, section 5, trains on all 35); they count in mIoU* only.
"""

IDD = packaged_table("idd")
"""The India Driving Dataset's 40 ids, as its preparation script writes them with `--id-type id`.

Evaluated are the 31 classes that the published label table does not mark as ignored in evaluation.
"""

CELEBAMASK_HQ = packaged_table("celebamask-hq")
"""CelebAMask-HQ's 19 classes in the order and colours of its face parsing code (Lee et al. 2020).

The names are those in the mask files' names: eye_g are glasses, ear_r is an earring, neck_l a necklace.
"""
