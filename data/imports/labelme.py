"""LabelMe's JSON files, one per image, with the image beside it or within it (wkentaro/labelme).

Shapes are drawn in their order, as LabelMe's own converter draws them.
"""

from __future__ import annotations

import base64
import binascii
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from scenepalette.common.errors import DataError
from scenepalette.common.storage.untrusted import short
from scenepalette.data.classes import IGNORE_ID
from scenepalette.data.decoding.image_opening import MAX_FILE_BYTES, open_image_content
from scenepalette.data.imports.drawing import LINE_WIDTH, Canvas, Point, canvas_of
from scenepalette.data.imports.findings import Fault, Findings
from scenepalette.data.imports.image_folder import ImageFolder
from scenepalette.data.imports.other_tools import none_of_form
from scenepalette.data.imports.source import (
    BACKGROUND,
    Classes,
    Drawn,
    ImportOptions,
    Item,
    Source,
    classes_of_names,
    files_named,
    read_annotations,
    relative_name,
    require_folder,
    split_of,
)

_FILE_BYTES = 2 * MAX_FILE_BYTES
_DATA_ADDRESS = re.compile(r"^data:image/[\w.+-]+;base64,")
_IGNORED, _BACKGROUND = "__ignore__", "_background_"


def read_source(source: Path, options: ImportOptions) -> Source:
    """Read a folder of LabelMe files; sub-folders may be splits.

    Args:
        source: The folder.
        options: What the user says.

    Raises:
        ConfigError: The source or an option is wrong.
        DataError: There are no annotations, or too few classes.
    """
    require_folder(source)
    findings = Findings()
    folder = ImageFolder(options.images or source, by_last_name=options.images is not None)
    files, names, found = [], set[str](), []
    for path in files_named(source, [".json"]):
        where = relative_name(path, source)
        content = _content_of(path, where, findings)
        if content is None:
            continue
        files.append(path)
        for shape in content["shapes"]:
            label = shape.get("label") if isinstance(shape, dict) else None
            if isinstance(label, str) and shape.get("shape_type") not in ("point", "points"):
                names.add(label.strip())
        beside = path.parent.relative_to(source).as_posix() if options.images is None else ""
        stored = isinstance(content.get("imageData"), str) and bool(content["imageData"])
        image = folder.find(content.get("imagePath"), findings, where, beside=beside, quiet=stored)
        if image is None and not stored:
            continue
        found.append((path, where, image))
    if not files:
        raise none_of_form(
            source, "labelme", f"{source} holds no LabelMe file: JSON with shapes and imagePath.", findings
        )
    classes = _classes_of(names, options, findings)
    items = []
    for path, where, image in found:
        if image is None:
            findings.left_out("images taken from within their annotations, as there is no file of them", where)
        read = partial(_read, path, where, image, classes, options.line_width or LINE_WIDTH)
        key = path.relative_to(source).with_suffix("").as_posix()
        items.append(Item(path.stem if image is None else image.stem, key, where, split_of(where), image, read))
    folder.tell_unused(findings)
    return Source(items, classes, files, findings)


def _classes_of(names: set[str], options: ImportOptions, findings: Findings) -> Classes:
    """Return the classes in the order of their names; LabelMe's own names for nothing and for background are known."""
    background = _BACKGROUND if _BACKGROUND in names and options.classes is None else BACKGROUND
    classes = classes_of_names(sorted(names - {_IGNORED, _BACKGROUND}), options, findings, background=background)
    known = {_IGNORED: IGNORE_ID, _BACKGROUND: classes.outside}
    return Classes(classes.table, {**known, **classes.ids}, classes.outside)


def _content_of(path: Path, where: str, findings: Findings) -> dict[str, Any] | None:
    content = read_annotations(path, where, findings, _FILE_BYTES)
    if content is None:
        return None
    if "shapes" not in content:
        findings.left_out("JSON files that are not LabelMe annotations, skipped", where)
        return None
    if not isinstance(content["shapes"], list):
        findings.fault(Fault.UNREADABLE, f"{where}: shapes are {short(repr(content['shapes']), 40)}")
        return None
    return content


def _read(
    path: Path, where: str, image: Path | bytes | None, classes: Classes, line_width: int, findings: Findings
) -> Drawn | None:
    """Read the image and draw the shapes in their order."""
    content = _content_of(path, where, findings)
    if content is None:
        return None
    data = content.get("imageData")
    if image is None:
        try:
            image = base64.b64decode(_DATA_ADDRESS.sub("", data) if isinstance(data, str) else "", validate=True)
        except (binascii.Error, ValueError) as error:
            findings.fault(Fault.IMAGE, f"{where}: imageData ({error})")
            return None
    height, width = content.get("imageHeight"), content.get("imageWidth")
    canvas = canvas_of(image, height, width, classes, findings, where)
    if canvas is None:
        return None
    for number, shape in enumerate(content["shapes"]):
        _draw(shape, f"shape {number}", line_width, canvas)
    return canvas.drawn


def _draw(shape: object, text: str, line_width: int, canvas: Canvas) -> None:
    if not isinstance(shape, dict):
        canvas.fault(Fault.SHAPE, f"{text} is {short(repr(shape), 40)}")
        return
    kind, label = shape.get("shape_type") or "polygon", shape.get("label")
    text = f"{text}, {short(str(label), 40)}"
    if kind in ("point", "points"):
        canvas.left_out("files with points, which cover no area and are left out")
        return
    value = canvas.id_of(label)
    points = canvas.points(shape.get("points"), text)
    if value is None or points is None:
        return
    if kind == "polygon":
        canvas.polygon(points, value, text)
    elif kind == "rectangle" and len(points) in (2, 4):
        canvas.rectangle(points, value)
    elif kind == "oriented_rectangle" and len(points) == 4:
        canvas.polygon(points, value, text)
    elif kind == "circle" and len(points) == 2:
        canvas.circle(points[0], points[1], value)
    elif kind in ("line", "linestrip") and len(points) > 1:
        canvas.left_out(f"files with lines, drawn {line_width} pixels wide (--line-width)")
        canvas.line(points, line_width, value)
    elif kind == "mask" and len(points) == 2:
        _draw_mask(shape.get("mask"), points[0], points[1], value, text, canvas)
    elif kind in ("rectangle", "oriented_rectangle", "circle", "line", "linestrip", "mask"):
        canvas.fault(Fault.SHAPE, f"{text}: {kind} of {len(points)} points")
    else:
        canvas.fault(Fault.KIND, f"{text}: {short(repr(kind), 40)}")


def _draw_mask(data: object, first: Point, last: Point, value: int, text: str, canvas: Canvas) -> None:
    """Draw a PNG in text, which fills the box between two pixels, both included."""
    try:
        content = base64.b64decode(data if isinstance(data, str) else "", validate=True)
        with open_image_content(content) as image:
            mask = np.asarray(image.convert("L")) > 0
    except (binascii.Error, ValueError, DataError) as error:
        reason = error.summary if isinstance(error, DataError) else str(error)
        canvas.fault(Fault.SHAPE, f"{text}: mask ({reason})")
        return
    left, top, right, bottom = (int(part) for part in (*first, *last))
    if mask.shape != (bottom - top + 1, right - left + 1):
        wanted = f"{right - left + 1} x {bottom - top + 1}"
        canvas.fault(Fault.SHAPE, f"{text}: mask of {mask.shape[1]} x {mask.shape[0]} for a box of {wanted}")
        return
    canvas.mask(mask, left, top, value)
