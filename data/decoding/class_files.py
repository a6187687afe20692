"""Class files: class tables as CSV or YAML, written by users or shipped with this package."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from scenepalette.common.errors import ConfigError, DataError
from scenepalette.common.problems import Problem, ProblemKind
from scenepalette.common.storage.untrusted import YAML_BYTES, parse_yaml, read_file, short
from scenepalette.common.wording import counted
from scenepalette.data import class_tables
from scenepalette.data.classes import IGNORE_ID, ClassTable, SemanticClass
from scenepalette.data.decoding.image_opening import has_image_extension
from scenepalette.data.decoding.label_images import LabelValues, code_of, colour_of, voc_colour

_Byte = Annotated[int, Field(ge=0, le=255)]


def _printable(name: str) -> str:
    if not name.strip() or not name.isprintable():
        raise ValueError("a name must have letters and no control characters")
    return name


# Names are printed, drawn into figures and written into cards.
_Name = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_printable)]


# Spreadsheets, label tools and data sets call their columns so; names are compared without case, spaces and _ or -.
_COLUMNS = {
    "name": (
        "name", "names", "class", "classes", "classname", "classnames", "label", "labels", "labelname", "category",
        "categoryname", "semanticclass", "title",
    ),
    "id": (
        "id", "ids", "classid", "labelid", "categoryid", "pixelvalue", "maskvalue", "labelvalue", "value", "index",
        "idx", "classindex", "gray", "grey", "grayvalue", "greyvalue", "graylevel", "greylevel",
    ),
    "red": ("red", "r"),
    "green": ("green", "g"),
    "blue": ("blue", "b"),
    "color": ("color", "colour", "rgb", "hex", "colorrgb", "colourrgb", "colorhex", "colourhex"),
    "evaluated": ("evaluated", "evaluate", "eval"),
    "ignore": ("ignore", "ignored"),
}  # fmt: skip
_KEY_OF = {spelling: key for key, spellings in _COLUMNS.items() for spelling in spellings}
_CHANNELS = ("red", "green", "blue")
_COLOUR = frozenset(_CHANNELS)
_NO_CLASS = frozenset({"void", "ignore", "ignored", "unlabeled", "unlabelled", "dontcare", "border", "none"})
"""Names under which 255 is listed where it stands for no class."""
_MOST_NOTED = 4
_LIST_KEYS = ("names", "labels", "categories", "id2label", "label2id", "CLASSES")
"""What tools call their classes: YOLO, Mapillary, COCO, Hugging Face, mmsegmentation of old."""
_GAP = r"[ ,;\t]+"
_RED_GREEN_BLUE = rf"\d{{1,3}}{_GAP}\d{{1,3}}{_GAP}\d{{1,3}}"
_IN_BRACKETS = rf"[(\[]\s*({_RED_GREEN_BLUE})\s*[)\]]"
_HEXADECIMAL = r"#[0-9a-fA-F]{6}"
_COLOURED_LINES = (
    rf"(?P<name>[^:]+):\s*(?P<color>{_RED_GREEN_BLUE})\s*(:.*)?",
    rf"(?P<color>{_HEXADECIMAL})[ ,;:\t]+(?P<name>\S.*)",
    rf"(?P<name>.*[^\s,;:=])[ ,;:=\t]+(?P<color>{_HEXADECIMAL})",
    rf"(?P<id>\d{{1,3}}){_GAP}(?P<color>{_RED_GREEN_BLUE}){_GAP}[\d.]+({_GAP}[01]{_GAP}[01])?{_GAP}"
    rf"\"?(?P<name>[^\d\s\"][^\"]*)\"?",
    rf"(?P<name>\d+{_GAP}[^\d\s].*[^\d\s,;]){_GAP}(?P<color>{_RED_GREEN_BLUE}){_GAP}(0|255)",
    rf"(?P<color>{_RED_GREEN_BLUE}){_GAP}(?P<name>\S.*)",
    rf"(?P<name>.*[^\s,;:=])[ ,;:=\t]+(?P<color>{_RED_GREEN_BLUE})",
)
"""Lines of class files without a header, the first that all lines have."""
_NO_CLASS_LINE = rf"(?!{_HEXADECIMAL}[ ,:\t])#|//|__ignore__$|INTERPOLATION:"
"""Comments, and lines that tools write beside those of classes."""
_NUMBER_BEFORE = r"[\[(]?(?P<id>\d{1,3})(\s*[:=,;.)\]]\s*|\s+(-\s+)?)(?P<name>\S.*)"
_NUMBER_BEHIND = r"(?P<name>.*?\S)(\s*[:=,;(\[]\s*|\s+([-(\[]\s*)?)(?P<id>\d{1,3})[\])]?"
"""Names with a label value, if all have one."""


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
        return self.ignore or (self.id == [IGNORE_ID] and _plain(self.name) in _NO_CLASS)


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
    is_csv, notes = kind in (".csv", ".tsv", ".txt"), list[str]()
    try:
        bytes_of_file = read_file(path, YAML_BYTES, within=within)
        if bytes_of_file.startswith(b"PK\x03\x04"):
            raise DataError("it is a spreadsheet or a ZIP archive, whatever its name says; save it as CSV")
        text = _decoded(bytes_of_file, notes, lenient=is_csv)
    except DataError as error:
        raise DataError(f"The class file {path} cannot be used: {error.summary}. Required is text in UTF-8.") from error
    try:
        if kind == ".txt" and not _has_name(next((line for line in text.splitlines() if line.strip()), "")):
            content: Any = _parse_lines(text)
        else:
            content = _parse_csv(text, notes) if is_csv else _parse_json(text) if kind == ".json" else parse_yaml(text)
        stated = _sections(content, notes) if isinstance(content, dict) else {"classes": content}
        if isinstance(stated.get("classes"), list | dict):
            stated["classes"], stated["has_colours"] = _normalised(stated["classes"], notes)
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


def _decoded(content: bytes, notes: list[str], *, lenient: bool) -> str:
    """Decode text as spreadsheets write it: UTF-8 or UTF-16 with or without a byte order mark, or Windows-1252."""
    try:
        if content[:4] in (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE):
            return content.decode("utf-32")
        if content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            return content.decode("utf-16")
        # Of the first two letters of a text in UTF-16, one byte of each is 0.
        if len(content) % 2 == 0 and content[:4].count(0) == 2 and content[0] != content[1]:
            return content.decode("utf-16-be" if content[0] == 0 else "utf-16-le")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if lenient and b"\0" not in content:
            with suppress(UnicodeDecodeError):
                text = content.decode("cp1252")
                notes.append("it is no UTF-8 and was read as Windows-1252; look at its names.")
                return text
        raise DataError(f"it cannot be read as text in UTF-8 ({error})") from error


def _parse_json(text: str) -> Any:
    """Read JSON of any indentation, with the bounds of YAML, of which it is a part."""
    json.loads(text)
    return parse_yaml(re.sub(r"^[ \t]+", "", text, flags=re.MULTILINE))


def _parse_lines(text: str) -> list[dict[str, Any]]:
    """Return the classes of a text without a header, a line each.

    Read are names in the order of their label values, "3 car", "3: car" or "car 3", "0 0 142 car", "car 0 0 142" or
    "3 car 0 0 142", also with an opacity of 0 or 255 behind it, as FreeSurfer writes, "car (0, 0, 142)", "car #00008e",
    the "car:0,0,142::" of CVAT's labelmap.txt, the "3,0,0,142,255,car" of QGIS, with opacity, and the '3 0 0 142 1 1 1
    "car"' of ITK-SNAP, also with what is shown. LabelMe's "__ignore__" stands for no class.
    """
    lines = [line.strip() for line in text.splitlines()]
    lines = [re.sub(_IN_BRACKETS, r" \1 ", line).strip() for line in lines if not re.match(_NO_CLASS_LINE, line)]
    lines = [line for line in lines if line]
    if files := [line for line in lines if has_image_extension(line)]:
        raise ValueError(f"it lists image files (such as {short(files[0])}), not classes")
    if lines and "name" in (keys := [_key_of(word) for word in lines[0].split()]) and {*keys} <= _COLUMNS.keys():
        raise ValueError(
            f"its first line ({short(lines[0], 60)}) names columns that only spaces separate. Separate all by commas, "
            "semicolons or tabs, or leave the first line out"
        )
    if len(lines) == 1:
        raise ValueError(f"it has one line ({short(lines[0], 60)}); required is a line for each class")
    for pattern in _COLOURED_LINES:
        found = [re.fullmatch(pattern, line) for line in lines]
        if lines and all(found):
            stated = [line.groupdict() for line in found if line]
            return _numbered([{key: value.strip() for key, value in row.items()} for row in stated])
    for pattern in _COLOURED_LINES:
        if (others := [line for line in lines if not re.fullmatch(pattern, line)]) and len(others) < len(lines):
            raise ValueError(
                f"{short(repr(others[0]), 60)} is no class as on other lines, which have a name and a colour, such "
                "as road:128,64,128 or road 128 64 128. Write all lines so"
            )
    return _numbered([{"name": line} for line in lines])


def _numbered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows with the label values that all their names have before or behind them: "3 car", "car 3"."""
    for pattern in (_NUMBER_BEFORE, _NUMBER_BEHIND):
        found = [match for row in rows if (match := re.fullmatch(pattern, row["name"]))]
        names, numbers = {match["name"] for match in found}, {int(match["id"]) for match in found}
        # "zone 1" and "zone 2" are names, and so are "Airbus 380" and "Boeing 747".
        differ = len(names) == len(numbers) == len(rows) and max(numbers, default=0) <= IGNORE_ID
        if found and len(found) == len(rows) and (differ or pattern == _NUMBER_BEFORE):
            return [{**row, "id": match["id"], "name": match["name"]} for row, match in zip(rows, found, strict=True)]
    return rows


def _sections(content: dict[Any, Any], notes: list[str]) -> dict[str, Any]:
    """Return the keys of a class file for a mapping of classes alone, or for what other tools call the classes."""
    if (
        len(content) == 1
        and isinstance(inner := next(iter(content.values())), dict)
        and inner.keys() & {"classes", *_LIST_KEYS}
    ):
        content = inner  # METAINFO: {classes: ..., palette: ...}
    key = next((key for key in ("classes", *_LIST_KEYS) if isinstance(content.get(key), list | dict)), None)
    if key is not None and isinstance(palette := content.get("palette"), list):
        names = content[key]
        if not isinstance(names, list) or len(palette) != len(names) or not all(isinstance(n, str) for n in names):
            raise ValueError(
                f"its palette has {len(palette)} colours, its {key} {len(names)}; both must be equal lists"
            )
        rows = [{"name": name, "color": colour} for name, colour in zip(names, palette, strict=True)]
        content = {**{name: value for name, value in content.items() if name != "palette"}, key: rows}
    if key is not None and key != "classes":
        others = sorted(map(str, content.keys() - ClassFile.model_fields.keys() - {key}))
        if others and key != "names":
            notes.append(f"beside '{key}', {_quoted(others)} are not read.")
        return {"classes": content[key], **{name: content[name] for name in content.keys() & ClassFile.model_fields}}
    rows = content.get("classes")
    if isinstance(rows, list) and "tags" in content and all(isinstance(row, dict) and "title" in row for row in rows):
        notes.append("the ids of its classes are Supervisely's own and no label values, which count in their order.")
        return {"classes": [{key: value for key, value in row.items() if key != "id"} for row in rows]}
    if "classes" in content:
        return dict(content)
    numbered = all(str(key).isdecimal() for key in content) or all(type(value) is int for value in content.values())
    described = all(isinstance(value, dict) or _is_colour(value) for value in content.values())
    coloured = all(_is_colour(key) for key in content)
    return {"classes": content} if content and (numbered or described or coloured) else dict(content)


def _is_colour(value: object) -> bool:
    return isinstance(value, list) or (isinstance(value, str) and value.startswith("#"))


def _parse_csv(text: str, notes: list[str]) -> list[dict[str, Any]]:
    lines = text.replace("\r\n", "\n").replace("\r", "\n").lstrip("\n").split("\n")
    # Before the header, Excel has a line that names the delimiter, and people have comments; NumPy makes it one.
    comment = ""
    while lines[1:] and (re.fullmatch(r"sep=.", lines[0].strip()) or _is_comment(lines[0])):
        comment = lines.pop(0).lstrip("# ")
    if _has_name(comment) and not _has_name(lines[0]):
        lines.insert(0, comment)
    delimiter = max(",;\t|", key=lines[0].count)
    rows = csv.DictReader(
        io.StringIO("\n".join(lines).lstrip("\n")),
        skipinitialspace=True,
        restkey="too many values",
        strict=True,
        delimiter=delimiter,
    )
    columns = [name.strip() for name in rows.fieldnames or ()]
    repeated = sorted({name for name in columns if columns.count(name) > 1 and name})
    if repeated:
        raise ValueError(f"the columns {', '.join(map(repr, repeated))} come twice")
    if columns and "name" not in map(_key_of, columns):
        raise ValueError(
            f"its first line ({short(', '.join(columns))}) names no column 'name'. Required is a header such as "
            "name,red,green,blue, or id,name,red,green,blue, before the classes"
        )
    # An empty or absent cell is a key that is not there, so that its default or its absence is what counts.
    filled = ({key: _stripped(value) for key, value in row.items()} for row in rows)
    kept = ({key.strip(): value for key, value in row.items() if value not in (None, "")} for row in filled)
    # Spreadsheets leave empty rows behind; people comment on rows, or leave them out so.
    comments, classes = list[str](), list[dict[str, Any]]()
    for row in filter(None, kept):
        start = str(row.get(columns[0], ""))
        if start.startswith("#") and _key_of(columns[0]) != "color":
            comments.append(start)
        else:
            classes.append(row)
    if comments:
        stated = any(_key_of(column) == "id" for column in columns)
        order = "" if stated else " There is no column id, so label values count the other rows."
        text = counted(len(comments), "line that begins with # is", "lines that begin with # are")
        notes.append(f"{text} not read (such as {short(comments[0])}).{order}")
    return classes


def _is_comment(line: str) -> bool:
    return not line.strip() or (line.startswith("#") and not _has_name(line))


def _has_name(line: str) -> bool:
    """Return whether a line can be the header: one of its cells is a spelling of "name"."""
    return "name" in map(_key_of, re.split(r"[,;\t|]", line))


def _stripped(value: Any) -> Any:
    if isinstance(value, list):  # of cells beyond the header's
        return [cell for cell in value if cell.strip()] or None
    return value.strip() if isinstance(value, str) else value


def _plain(name: object) -> str:
    return re.sub(r"[\s_()/-]", "", str(name)).lower()


def _key_of(name: object) -> str:
    return _KEY_OF.get(_plain(name), str(name).strip())


def _keys_of(rows: Sequence[dict[Any, Any]]) -> dict[Any, str]:
    """Return the key of each column: "name" and not "category", where there are both, "color" and not "hex".

    Raises:
        ValueError: Several columns may say the same, or label values, of which a wrong one would be read in silence.
    """
    columns = list(dict.fromkeys(column for row in rows for column in row))
    keys = {column: _key_of(column) for column in columns}
    for key in dict.fromkeys(keys.values()):
        same = [column for column in columns if keys[column] == key]
        exact = [column for column in same if _plain(column) == key]
        if all(len(row.keys() & same) < 2 for row in rows):  # rows of YAML may each have a spelling of their own
            continue
        if key == "id" or len(exact) != 1:
            listed = " and ".join(short(repr(column)) for column in same)
            raise ValueError(f"the columns {listed} both say '{key}' of a class. Keep the right one")
        keys |= {column: str(column) for column in same if column not in exact}
    return keys


def _normalised(classes: Any, notes: list[str]) -> tuple[list[Any], bool]:
    """Return the rows with the keys of `_ClassRow`, and whether they state colours."""
    rows = _listed_rows(classes)
    if not all(isinstance(row, dict) for row in rows):
        return rows, True
    keys = _keys_of(rows)
    rows = [{keys[key]: value for key, value in row.items()} for row in rows]
    for row in rows:
        if "color" in row and row.keys().isdisjoint(_COLOUR):
            row |= dict(zip(_CHANNELS, _channels_of(row.pop("color")), strict=True))
        if "id" in row:
            row["id"] = _ids_of(row["id"])
        row |= {channel: _whole(row[channel]) for channel in row.keys() & _COLOUR}
    rows = _without_minus_one(rows, notes)
    notes += _notes_of_names(rows)
    has_colours = not all(row.keys().isdisjoint(_COLOUR) for row in rows)
    known = {"name", "id", "evaluated", "ignore", "too many values", *_CHANNELS}
    others = {key for row in rows for key in row.keys() - known}
    _refuse_unread_numbers(rows, {"name", *others})
    if others and (not has_colours or all(row.keys() >= _COLOUR for row in rows)):
        notes.append(f"the columns {_quoted(sorted(others, key=repr))} are not read.")
        rows = [{key: value for key, value in row.items() if key not in others} for row in rows]
    if not has_colours:
        for number, row in enumerate(rows):
            row |= dict(zip(_CHANNELS, colour_of(voc_colour(number % 256)), strict=True))
    return rows, has_colours


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:_MOST_NOTED]))


def _notes_of_names(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return what is to be said of names that differ in capitals alone, and of those of several rows."""
    stated, notes = [str(row["name"]) for row in rows if row.get("name")], list[str]()
    spellings: defaultdict[str, set[str]] = defaultdict(set)
    for name in stated:
        spellings[name.strip().casefold()].add(name)
    if alike := sorted(name for same in spellings.values() if len(same) > 1 for name in same):
        notes.append(f"{_quoted(alike)} differ in capitals alone and are different classes.")
    repeated = sorted({name for name in stated if stated.count(name) > 1})
    if repeated and any("id" in row for row in rows):
        notes.append(f"{_quoted(repeated)} of several rows: their label values are one class.")
    return notes


def _listed_rows(classes: Any) -> list[Any]:
    """Return a list of rows for [road, car], and for the mappings of which `_row_of` takes an entry."""
    if isinstance(classes, dict):
        return [_row_of(key, value) for key, value in classes.items()]
    for place, row in enumerate(classes):
        if isinstance(row, bool):
            raise ValueError(
                f"the name of class {place} is read as {str(row).lower()}; put names such as yes, no, on and off into "
                "quotes"
            )
    return [{"name": str(row)} if isinstance(row, str | int | float) else row for row in classes]


def _row_of(key: object, value: Any) -> dict[Any, Any]:
    """Return the row of {road: 0}, {0: road}, {road: [128, 64, 128]}, {0: {name: road}} or {road: {id: 0}}.

    A2D2 has {#804080: road}.
    """
    if isinstance(value, dict):
        is_number = str(key).isdecimal() and "id" not in map(_key_of, value)
        return {"id" if is_number else "name": key, **value}
    if _is_colour(value):
        return {"name": key, "color": value}
    if _is_colour(key):
        return {"name": value, "color": key}
    return {"id": value, "name": key} if type(value) is int else {"id": key, "name": value}


def _without_minus_one(rows: Sequence[dict[str, Any]], notes: list[str]) -> list[dict[str, Any]]:
    """Return the rows without those that state -1 for no class; with 255 in its place where they state a colour."""
    in_none = [row for row in rows if row.get("id") in ([-1], ["-1"]) and _plain(row.get("name")) in _NO_CLASS]
    if not in_none:
        return list(rows)
    names = ", ".join(short(str(row.get("name"))) for row in in_none[:_MOST_NOTED])
    notes.append(f"no label holds the id -1: {names} stands for no class.")
    # A label of 8 bits holds -1 as 255; one of colours may show the row's colour all the same.
    is_free = not any(str(IGNORE_ID) in map(str, row.get("id", ())) for row in rows)
    kept = []
    for row in rows:
        if row not in in_none:
            kept.append(row)
        elif is_free and row.keys() >= _COLOUR:
            kept.append({**row, "id": [IGNORE_ID]})
    return kept


def _refuse_unread_numbers(rows: Sequence[dict[str, Any]], columns: Iterable[str]) -> None:
    """Refuse a column that seems to say the label value of each class under another name than "id".

    Numbers that count the rows, from any first one, say nothing but their order, in which label values are read. -1
    and 255 stand for no class, of which there may be several.

    Raises:
        ValueError: There is such a column, and none that is read.
    """
    if any("id" in row for row in rows):
        return
    for column in sorted(columns):
        texts = [str(row.get(column, "")).strip() for row in rows]
        if not all(re.fullmatch(r"-1|\d{1,3}", text) and int(text) <= IGNORE_ID for text in texts):
            continue
        numbers = [int(text) for text in texts if int(text) not in (-1, IGNORE_ID)]
        counted = {number - place for place, number in enumerate(map(int, texts))}
        if len(numbers) > 1 and len(set(numbers)) == len(numbers) and len(counted) > 1:
            raise ValueError(
                f"its column {short(repr(column))} has another number for each class "
                f"({', '.join(texts[:_MOST_NOTED])}, ...), and there is no column id. Add one: with these numbers if "
                "they are the label values, else with 0, 1, ... if label values are in the order of the rows"
            )


def _whole(value: Any) -> Any:
    """Return a number as a German or French spreadsheet writes whole ones, "70,0", without its decimals."""
    return re.sub(r",0+$", "", value) if isinstance(value, str) else value


def _channels_of(stated: Any) -> tuple[Any, Any, Any]:
    """Return red, green and blue of "128 64 128", "(128, 64, 128)", "#804080" or [128, 64, 128]."""
    value = stated
    if isinstance(value, str):
        text = value.strip().strip("()[]")
        if re.fullmatch(r"#[0-9a-fA-F]{3}", text):
            text = "".join(2 * digit for digit in text[1:])
        # Opacity, a fourth number, says nothing of which class a colour is.
        if hexadecimal := re.fullmatch(r"(?:#|0[xX])?([0-9a-fA-F]{6})(?:[0-9a-fA-F]{2})?", text):
            return tuple(bytes.fromhex(hexadecimal[1]))  # type: ignore[return-value]
        value = re.split(r"[\s,;/]+", re.sub(r"^rgba?\s*\(", "", text, flags=re.IGNORECASE).strip())
    if isinstance(value, list | tuple) and len(value) in (3, 4):
        return value[0], value[1], value[2]
    raise ValueError(
        f"the colour {short(repr(stated))} cannot be read; required are three numbers from 0 to 255, such as "
        "128 64 128, or six hexadecimal digits, such as #804080"
    )


def _ids_of(value: Any) -> Any:
    """Return the label values of a cell such as "7" or "7 8 9"."""
    if isinstance(value, str):
        parts = [part for part in re.split(r"[\s,;/|]+", value.strip()) if part]
        return [int(part, 16) if re.fullmatch(r"0[xX][0-9a-fA-F]{1,2}", part) else part for part in parts]
    return value if isinstance(value, list) else [value]


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
        elif _plain(rows[0].name) in {*_NO_CLASS, "background"}:
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
