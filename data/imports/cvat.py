"""CVAT's XML ("CVAT for images 1.1"): shapes drawn by z_order, and in their order where it is equal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from xml.etree.ElementTree import Element

from scenepalette.common.errors import ConfigError, DataError
from scenepalette.common.storage.untrusted import parse_xml, read_file, short
from scenepalette.data.imports.drawing import LINE_WIDTH, Canvas, Point, canvas_of, is_number, mask_of_counts, turned
from scenepalette.data.imports.findings import Fault, Findings
from scenepalette.data.imports.image_folder import ImageFolder
from scenepalette.data.imports.other_tools import none_of_form
from scenepalette.data.imports.source import (
    Classes,
    Drawn,
    ImportOptions,
    Item,
    Source,
    classes_of_names,
    files_named,
    relative_name,
    split_named,
    split_of,
)

XML_BYTES = 2**29
"""Largest XML file."""
_NO_AREA = ("points", "tag", "skeleton")
_SHAPES = ("polygon", "box", "ellipse", "polyline", "mask", "cuboid", *_NO_AREA)


def read_source(source: Path, options: ImportOptions) -> Source:
    """Read CVAT annotations.

    Args:
        source: annotations.xml, or a folder with one or, per split, several.
        options: What the user says.

    Raises:
        ConfigError: The source or an option is wrong.
        DataError: There are no annotations of images, or too few classes.
    """
    if not source.exists():
        raise ConfigError(f"{source} does not exist. Give CVAT's annotations.xml, or the folder that it lies in.")
    root = source if source.is_dir() else source.absolute().parent
    findings = Findings()
    documents = []
    for path in files_named(root, [".xml"]) if source.is_dir() else [source.absolute()]:
        where = relative_name(path, root)
        document = _document(path, where, findings)
        if document is not None:
            documents.append((path, where, document))
    if not documents:
        raise none_of_form(source, "cvat", f"{source} has no annotations in CVAT's XML for images.", findings)
    names, colours = _labels_of([document for _, _, document in documents])
    classes = classes_of_names(names, options, findings, colours=colours)
    folder = ImageFolder(options.images or root, by_last_name=options.images is not None)
    items = []
    for _, where, document in documents:
        for element in document.iter("image"):
            path = folder.find(element.get("name"), findings, where)
            if path is None:
                continue
            told = f"{where}, {relative_name(path, folder.root)}"
            read = partial(_read, path, element, told, classes, options.line_width or LINE_WIDTH)
            key = path.relative_to(folder.root).with_suffix("").as_posix()
            split = split_named(element.get("subset", "")) or split_of(where) or split_of(key)
            items.append(Item(path.stem, key, told, split, path, read))
    folder.tell_unused(findings)
    return Source(items, classes, [path for path, _, _ in documents], findings)


def _document(path: Path, where: str, findings: Findings) -> Element | None:
    try:
        document = parse_xml(read_file(path, XML_BYTES))
    except (DataError, ValueError) as error:
        reason = error.summary if isinstance(error, DataError) else str(error)
        findings.fault(Fault.UNREADABLE, f"{where}: {reason}")
        return None
    if document.tag != "annotations":
        findings.left_out("XML files that are not CVAT annotations, skipped", where)
        return None
    if document.find("track") is not None:
        findings.fault(Fault.UNREADABLE, f"{where}: tracks of a video; export it as CVAT for images")
        return None
    return document


def _labels_of(documents: Sequence[Element]) -> tuple[list[str], dict[str, tuple[int, int, int]]]:
    """Return the declared labels in their order, then others that occur, and the declared colours."""
    names: dict[str, None] = {}
    colours: dict[str, tuple[int, int, int]] = {}
    for document in documents:
        meta = document.find("meta")
        for label in meta.iter("label") if meta is not None else ():
            name, colour = (label.findtext("name") or "").strip(), (label.findtext("color") or "").strip()
            if name and label.findtext("type") not in ("points", "skeleton", "tag"):
                names[name] = None
                if re.fullmatch(r"#[0-9a-fA-F]{6}", colour):
                    red, green, blue = bytes.fromhex(colour[1:])
                    colours[name] = (red, green, blue)
    for document in documents:
        if not names:
            names = {
                shape.get("label", "").strip(): None
                for image in document.iter("image")
                for shape in image
                if shape.tag in _SHAPES and shape.tag not in _NO_AREA
            }
    return list(names), colours


def _read(
    path: Path, element: Element, where: str, classes: Classes, line_width: int, findings: Findings
) -> Drawn | None:
    """Read the image and draw its shapes, those with a higher z_order above."""
    height, width = _number(element.get("height")), _number(element.get("width"))
    canvas = canvas_of(path, height, width, classes, findings, where)
    if canvas is None:
        return None
    shapes = [shape for shape in element if shape.tag != "attribute"]
    for shape in sorted(shapes, key=lambda shape: _number(shape.get("z_order", "0")) or 0):
        _draw(shape, line_width, canvas)
    return canvas.drawn


def _draw(shape: Element, line_width: int, canvas: Canvas) -> None:
    text = f"{shape.tag} {short(shape.get('label', ''), 40)}"
    if shape.tag in _NO_AREA:
        canvas.left_out(f"images with {shape.tag}, which cover no area and are left out")
        return
    if shape.tag not in _SHAPES or shape.tag == "cuboid":
        canvas.fault(Fault.KIND, text)
        return
    value = canvas.id_of(shape.get("label"))
    if value is None:
        return
    if shape.tag == "mask":
        _draw_mask(shape, value, text, canvas)
    elif shape.tag in ("polygon", "polyline"):
        points = canvas.points(_points(shape.get("points", "")), text)
        if points is None:
            return
        if shape.tag == "polygon":
            canvas.polygon(points, value, text)
        else:
            canvas.left_out(f"images with lines, drawn {line_width} pixels wide (--line-width)")
            canvas.line(points, line_width, value)
    else:
        _draw_round_or_square(shape, value, text, canvas)


def _draw_round_or_square(shape: Element, value: int, text: str, canvas: Canvas) -> None:
    keys = ("xtl", "ytl", "xbr", "ybr") if shape.tag == "box" else ("cx", "cy", "rx", "ry")
    found = [_number(shape.get(key)) for key in (*keys, "rotation")]
    a, b, c, d = (number if number is not None else float("nan") for number in found[:4])
    if any(number is None for number in found[:4]) or (shape.tag == "ellipse" and min(c, d) <= 0):
        canvas.fault(Fault.SHAPE, f"{text}: {short(repr(dict(shape.attrib)), 80)}")
        return
    degrees = found[4] or 0.0
    if shape.tag == "ellipse":
        if canvas.points([(a - c, b - d), (a + c, b + d)], text) is not None:
            canvas.ellipse((a, b), (c, d), degrees, value)
        return
    corners: list[Point] = [(a, b), (c, b), (c, d), (a, d)]
    if canvas.points(corners, text) is None:
        return
    if degrees:
        canvas.polygon(turned(corners, ((a + c) / 2, (b + d) / 2), degrees), value, text)
    else:
        canvas.rectangle(corners, value)


def _draw_mask(shape: Element, value: int, text: str, canvas: Canvas) -> None:
    """Draw run lengths along the rows of a box, which begin with pixels outside."""
    places = [_number(shape.get(key)) for key in ("left", "top", "width", "height")]
    counts = [_number(part) for part in shape.get("rle", "").split(",")]
    whole = [int(number) for number in (*places, *counts) if number is not None and number == int(number)]
    mask = None
    if len(whole) == len(places) + len(counts):
        left, top, width, height = whole[:4]
        if min(left, top) >= 0 and 0 < width <= canvas.size[1] - left and 0 < height <= canvas.size[0] - top:
            mask = mask_of_counts(whole[4:], (height, width), by_column=False)
    if mask is None:
        box = ", ".join(f"{key} {shape.get(key)}" for key in ("left", "top", "width", "height"))
        canvas.fault(Fault.SHAPE, f"{text}: run lengths that do not fit ({short(box, 80)})")
        return
    canvas.mask(mask, int(places[0] or 0), int(places[1] or 0), value)


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if is_number(number) else None


def _points(text: str) -> list[list[float | None]]:
    """Return the points of "1.5,2;3,4"."""
    return [[_number(part) for part in pair.split(",")] for pair in text.split(";") if pair.strip()]
