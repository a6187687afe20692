"""Class files: class tables as CSV or YAML, written by users or shipped with this package."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from scenepalette.common.errors import ConfigError, DataError
from scenepalette.common.problems import Problem, ProblemKind
from scenepalette.common.storage.untrusted import YAML_BYTES, read_file, short
from scenepalette.data import class_tables
from scenepalette.data.classes import IGNORE_ID, ClassTable, SemanticClass
from scenepalette.data.decoding.class_file_rows import NO_CLASS, decoded, plain, stated_in
from scenepalette.data.decoding.label_images import LabelValues, code_of

_Byte = Annotated[int, Field(ge=0, le=255)]


def _printable(name: str) -> str:
    if not name.strip() or not name.isprintable():
        raise ValueError("a name must have letters and no control characters")
    return name


# Names are printed, drawn into figures and written into cards.
_Name = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_printable)]


class _ClassRow(BaseModel):
    """One class as a class file states it; without ids, the row's position is the class's label value."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: _Name
    red: _Byte
    green: _Byte
    blue: _Byte
    evaluated: bool = True
    id: list[_Byte] = []
    ignore: bool = False

    @property
    def color(self) -> tuple[int, int, int]:
        """Red, green and blue, 0 to 255."""
        return self.red, self.green, self.blue

    @property
    def stands_for_none(self) -> bool:
        """Whether pixels of this row have no class."""
        return self.ignore or (self.id == [IGNORE_ID] and plain(self.name) in NO_CLASS)


class ClassFile(BaseModel):
    """A whole class file.

    Attributes:
        classes: The classes in the order of the file.
        name: Name of the class table.
        ignore_ids: Label values to ignore besides 255.
        licence: Licence of the data.
        data_set: Name of the data set, for cards and reports.
        label_origin: How the labels came about, if no human drew them.
        has_colours: Whether the file states colours; else they are made up for figures.
        notes: What was decided where it was read, a sentence each.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    classes: list[_ClassRow]
    name: _Name = "folder"
    ignore_ids: list[_Byte] = []
    licence: Annotated[str, Field(max_length=2000)] = "not stated"
    data_set: _Name = "folder"
    label_origin: Annotated[str, Field(max_length=2000)] = ""
    has_colours: bool = True
    notes: tuple[str, ...] = ()


def read_class_file(path: Path, *, within: Path | None = None) -> ClassFile:
    """Read and validate a class file.

    Args:
        path: A CSV file with a header, a YAML or JSON list of the same keys, or a text of a class per line:

                name,red,green,blue,evaluated
                road,128,64,128,true

            Without a column "id", the label values are 0, 1, ... in the order of the rows; with it, they are what it
            says: one number or several, and rows of one name are one class. "evaluated" may be left out (true);
            pixels of a row with "ignore" (true) have no class. In place of red, green and blue there may be "color"
            ("128 64 128" or "#804080"), or no colours. Commas, semicolons, tabs, UTF-16 and the usual spellings of
            the columns are understood. A YAML file may instead be a mapping with the keys "classes" (that list),
            "ignore_ids", "name", "licence", "data_set" and "label_origin".
        within: Folder that a link must not lead out of, as messages show what the file holds; None for a file that
            the user named.

    Returns:
        What the file states.

    Raises:
        DataError: It cannot be read or used; every problem is listed with its row and key.
    """
    kind = path.suffix.lower()
    if kind not in (".csv", ".tsv", ".txt", ".json", ".yaml", ".yml"):
        raise DataError(
            f"The class file {path} ends in '{path.suffix}'; required is .csv, .tsv, .txt, .json, .yaml or .yml."
        )
    notes = list[str]()
    try:
        bytes_of_file = read_file(path, YAML_BYTES, within=within)
        if bytes_of_file.startswith(b"PK\x03\x04"):
            raise DataError("it is a spreadsheet or a ZIP archive, whatever its name says; save it as CSV")
        text = decoded(bytes_of_file, notes, lenient=kind in (".csv", ".tsv", ".txt"))
    except DataError as error:
        raise DataError(f"The class file {path} cannot be used: {error.summary}. Required is text in UTF-8.") from error
    try:
        stated = stated_in(text, kind, notes, ClassFile.model_fields)
    except (csv.Error, ValueError) as error:
        fault = "cannot be used" if kind == ".txt" else f"is not valid {kind[1:].upper()}"
        raise DataError(f"The class file {path} {fault}: {' '.join(str(error).split())}") from error
    try:
        return ClassFile.model_validate({**stated, "notes": tuple(f"{path.name}: {note}" for note in notes)})
    except ValidationError as error:
        problems = [
            _problem(
                f"{short('.'.join(map(str, detail['loc'])) or 'file')}: {detail['msg']}"
                + (f", received {short(repr(detail['input']))}" if detail["type"] != "missing" else "")
            )
            for detail in error.errors()
        ]
        raise DataError(
            f"The class file {path} cannot be used. Required are the columns name and red, green, blue (0 to 255) or "
            "color; if wanted, id (the label values, 0 to 255; by default 0, 1, ... in the order of the rows), "
            "evaluated and ignore (true or false). Correct:",
            problems,
        ) from error


def _problem(text: str) -> Problem:
    return Problem(ProblemKind.CLASS_FILE, "", text)


def table_of_class_file(path: Path, declared: ClassFile) -> ClassTable:
    """Return the class table that a class file declares.

    Args:
        path: The file, for messages.
        declared: What it states.

    Raises:
        DataError: The classes do not make a table, or a label value is that of two classes, or of one and ignored.
    """
    return classes_of_class_file(path, declared)[0]


def classes_of_class_file(
    path: Path, declared: ClassFile, *, ignore_ids: Sequence[int] = ()
) -> tuple[ClassTable, LabelValues, dict[int, list[int]]]:
    """Return what a class file says of classes, of numbers and of colours in label images.

    Classes are in the order of their smallest label value. Without an id column, label values count from 0 in the order
    of the rows; from 1 if 0 is ignored and the first row stands for a class, and so on.

    Args:
        path: The file, for messages.
        declared: What it states.
        ignore_ids: Further label values without a class.

    Returns:
        The table, the meaning of label values, and the class ids (or IGNORE_ID) of each colour.

    Raises:
        DataError: As `table_of_class_file`.
    """
    rows, problems = declared.classes, list[str]()
    ignored = {*declared.ignore_ids, *ignore_ids}
    with_ids = any(row.id for row in rows)
    first = next(number for number in range(257) if number not in ignored)
    if first and rows and not with_ids:
        if rows[0].ignore:  # the row of what is ignored
            first = 0
        elif plain(rows[0].name) in {*NO_CLASS, "background"}:
            problems.append(
                f"the first row is '{rows[0].name}', and 0 is ignored (ignore_ids), so that rows without an id would "
                f"count from {first}. If '{rows[0].name}' is the value 0, remove its row or give it ignore true; else "
                "write each class's value into a column id"
            )
    groups: dict[str, tuple[list[_ClassRow], list[int]]] = {}
    for place, row in enumerate(rows):
        ids = row.id if with_ids else [first + place]
        if not ids:
            problems.append(f"classes.{place}: '{row.name}' has no id, others have; give all of them one")
        if row.stands_for_none:
            ignored.update(ids)
            continue
        # Without ids, a name that comes twice is for the table to refuse.
        same, numbers = groups.setdefault(row.name if with_ids else str(place), ([], []))
        same.append(row)
        numbers.extend(ids)
    ordered = sorted(groups.values(), key=lambda group: min(group[1], default=0))
    owner: dict[int, str] = {}
    for same, numbers in ordered:
        for number in numbers:
            if owner.setdefault(number, same[0].name) != same[0].name:
                problems.append(f"the label value {number} is that of '{owner[number]}' and of '{same[0].name}'")
    if conflicting := sorted(ignored & owner.keys()):
        problems.append(
            f"{conflicting} both as class ids and as ignored. Without a column id, ids count in the order of the "
            "classes; remove the values from what is ignored, or write each class's value into a column id"
        )
    if problems:
        raise _not_usable(path, problems)
    try:
        table = ClassTable(
            name=declared.name,
            classes=tuple(
                SemanticClass(name=same[0].name.strip(), color=same[0].color, evaluated=same[0].evaluated)
                for same, _ in ordered
            ),
        )
    except ConfigError as error:
        raise _not_usable(path, error.problems) from error
    ids = {number: class_id for class_id, (_, numbers) in enumerate(ordered) for number in numbers}
    colours: dict[int, list[int]] = {}
    if declared.has_colours:
        stated = [(row, class_id) for class_id, (same, _) in enumerate(ordered) for row in same]
        stated += [(row, IGNORE_ID) for row in rows if row.stands_for_none]
        for row, class_id in stated:
            classes = colours.setdefault(code_of(row.color), [])
            if class_id not in classes:
                classes.append(class_id)
    return table, LabelValues(ids, frozenset(ignored)), colours


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """Return the text of a CSV file as `read_class_file` reads it, of its rows with the header first."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _not_usable(path: Path, problems: Iterable[str]) -> DataError:
    return DataError(f"The class file {path} cannot be used. Correct:", [_problem(text) for text in problems])


@cache
def packaged_table(name: str) -> ClassTable:
    """Return a class table that is shipped as data/class_tables/NAME.csv.

    Args:
        name: The name, such as "ade20k".
    """
    path = Path(class_tables.__file__).with_name(f"{name}.csv")
    return table_of_class_file(path, read_class_file(path).model_copy(update={"name": name}))


CAMVID = packaged_table("camvid")
"""CamVid's 11 classes in the order and colours of the SegNet release; 11, its "unlabelled", is ignored."""
CITYSCAPES = packaged_table("cityscapes")
"""Cityscapes' 35 classes, 19 of them in the official evaluation.

Ids 0 to 33 are the published label ids. "license plate", published as -1 and therefore never drawn into the label
files, is 34. The void classes (unlabeled, ego vehicle, ...) are classes like any other, because a layout generator has
to draw them too (Le Moing et al., 2021, section 5, trains on all 35); they count in mIoU* only.
"""
IDD = packaged_table("idd")
"""The India Driving Dataset's 40 ids, as its preparation script writes them with `--id-type id`.

Evaluated are the 31 classes that the published label table does not mark as ignored in evaluation.
"""
CELEBAMASK_HQ = packaged_table("celebamask-hq")
"""CelebAMask-HQ's 19 classes in the order and colours of its face parsing code (Lee et al., 2020).

The names are those in the mask files' names: eye_g are glasses, ear_r is an earring, neck_l a necklace.
"""
