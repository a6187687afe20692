"""From the text of a class file, whatever tool or person wrote it, to rows with the keys of `class_files.py`."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from typing import Any

from scenepalette.common.errors import DataError
from scenepalette.common.storage.untrusted import parse_yaml, short
from scenepalette.common.wording import counted
from scenepalette.data.classes import IGNORE_ID
from scenepalette.data.decoding.image_opening import has_image_extension
from scenepalette.data.decoding.label_images import colour_of, voc_colour

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
NO_CLASS = frozenset({"void", "ignore", "ignored", "unlabeled", "unlabelled", "dontcare", "border", "none"})
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


def decoded(content: bytes, notes: list[str], *, lenient: bool) -> str:
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


def stated_in(text: str, kind: str, notes: list[str], known: Collection[str]) -> dict[str, Any]:
    """Return the values of `ClassFile`, whose keys are known, that a text of a kind, such as ".csv", states.

    Raises:
        csv.Error: It is not valid CSV.
        ValueError: It is not valid, or cannot be understood.
    """
    content: Any
    if kind == ".txt" and not _has_name(next((line for line in text.splitlines() if line.strip()), "")):
        content = _parse_lines(text)
    elif kind in (".csv", ".tsv", ".txt"):
        content = _parse_csv(text, notes)
    elif kind == ".json":
        json.loads(text)
        # JSON of any indentation is read with the bounds of YAML, of which it is a part.
        content = parse_yaml(re.sub(r"^[ \t]+", "", text, flags=re.MULTILINE))
    else:
        content = parse_yaml(text)
    stated = _sections(content, notes, known) if isinstance(content, dict) else {"classes": content}
    if isinstance(stated.get("classes"), list | dict):
        stated["classes"], stated["has_colours"] = _normalised(stated["classes"], notes)
    return stated


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


def _sections(content: dict[Any, Any], notes: list[str], known: Collection[str]) -> dict[str, Any]:
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
        others = sorted(map(str, content.keys() - set(known) - {key}))
        if others and key != "names":
            notes.append(f"beside '{key}', {_quoted(others)} are not read.")
        return {"classes": content[key], **{name: content[name] for name in content.keys() & set(known)}}
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


def plain(name: object) -> str:
    """Return a name in small letters, without spaces and separators."""
    return re.sub(r"[\s_()/-]", "", str(name)).lower()


def _key_of(name: object) -> str:
    return _KEY_OF.get(plain(name), str(name).strip())


def _keys_of(rows: Sequence[dict[Any, Any]]) -> dict[Any, str]:
    """Return the key of each column: "name" and not "category", where there are both, "color" and not "hex".

    Raises:
        ValueError: Several columns may say the same, or label values, of which a wrong one would be read in silence.
    """
    columns = list(dict.fromkeys(column for row in rows for column in row))
    keys = {column: _key_of(column) for column in columns}
    for key in dict.fromkeys(keys.values()):
        same = [column for column in columns if keys[column] == key]
        exact = [column for column in same if plain(column) == key]
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
    in_none = [row for row in rows if row.get("id") in ([-1], ["-1"]) and plain(row.get("name")) in NO_CLASS]
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
