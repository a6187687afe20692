"""Polygons as Cityscapes publishes them (`*_gtFine_polygons.json`), drawn as its scripts do (cityscapesScripts)."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

from scenepalette.common.storage.untrusted import short
from scenepalette.data.decoding.class_files import CITYSCAPES
from scenepalette.data.decoding.image_opening import EXTENSIONS
from scenepalette.data.imports.drawing import Canvas, canvas_of
from scenepalette.data.imports.findings import Fault, Findings
from scenepalette.data.imports.image_folder import ImageFolder
from scenepalette.data.imports.other_tools import none_of_form
from scenepalette.data.imports.source import (
    Classes,
    Drawn,
    ImportOptions,
    Item,
    Source,
    classes_of_table,
    files_named,
    read_annotations,
    relative_name,
    require_folder,
    split_of,
)

_END = re.compile(r"(_gt\w+)?_polygons$")
_COARSE = re.compile(r"_gtCoarse_polygons$")
_DELETED = {0: False, 1: True, "0": False, "1": True, "": False, None: False}
"""What tools write for objects that are there, and for deleted ones; false and true are 0 and 1."""
_FILE_BYTES = 2**26
_NOT_DRAWN = "license plate"
_GROUP = "group"
_OUTSIDE = "unlabeled"


def read_source(source: Path, options: ImportOptions) -> Source:
    """Read a folder in Cityscapes' layout: gtFine/SPLIT/CITY/*_polygons.json, leftImg8bit/SPLIT/CITY/*.

    Args:
        source: The folder.
        options: What the user says.

    Raises:
        ConfigError: The source or an option is wrong.
        DataError: There are no annotations.
    """
    require_folder(source)
    findings = Findings()
    classes = classes_of_table(CITYSCAPES, options, _OUTSIDE)
    paths = [
        path for path in files_named(source, ["_polygons.json"]) if _objects_of(path, source, findings) is not None
    ]
    if not paths:
        raise none_of_form(source, "cityscapes-json", f"{source} holds no file *_polygons.json with objects.", findings)
    paths = _without_dummies(_finest(paths, source, findings), source, classes, findings)
    folder = ImageFolder(options.images or source, by_last_name=options.images is not None)
    items = []
    for path in paths:
        stem, where = _END.sub("", path.stem), relative_name(path, source)
        image = _image_of(folder, stem, where, findings)
        if image is None:
            continue
        read = partial(_read, image, path, source, classes, options.classes is not None)
        key = path.relative_to(source).with_name(stem).as_posix()
        items.append(Item(stem, key, where, split_of(where), image, read))
    return Source(items, classes, paths, findings)


def _objects_of(path: Path, source: Path, findings: Findings) -> dict[str, Any] | None:
    """Read an annotation file, which has a list of objects; None after reporting why it has none."""
    where = relative_name(path, source)
    content = read_annotations(path, where, findings, _FILE_BYTES)
    if content is None or isinstance(content.get("objects"), list):
        return content
    findings.fault(Fault.UNREADABLE, f"{where}: without a list of objects")
    return None


def _finest(paths: list[Path], source: Path, findings: Findings) -> list[Path]:
    """Leave out coarse annotations of images that have fine ones."""
    fine = {_END.sub("", path.stem) for path in paths if not _COARSE.search(path.stem)}
    coarse = {path for path in paths if _COARSE.search(path.stem) and _END.sub("", path.stem) in fine}
    for path in sorted(coarse):
        findings.left_out("coarse annotations of images that have fine ones, skipped", relative_name(path, source))
    return [path for path in paths if path not in coarse]


def _without_dummies(paths: list[Path], source: Path, classes: Classes, findings: Findings) -> list[Path]:
    """Leave out a test split that shows no evaluated class: its annotations are kept by the publisher."""
    evaluated = {classes.table.names[class_id] for class_id in classes.table.eval_ids}
    tests = [path for path in paths if split_of(relative_name(path, source)) == "test"]
    for path in tests:
        content = _objects_of(path, source, findings) or {"objects": []}
        labels = (entry.get("label") for entry in content["objects"] if isinstance(entry, dict))
        if any(isinstance(label, str) and label in evaluated for label in labels):
            return paths
    for path in tests:
        findings.left_out("test annotations that show no evaluated class, skipped", relative_name(path, source))
    return [path for path in paths if path not in set(tests)]


def _image_of(folder: ImageFolder, stem: str, where: str, findings: Findings) -> Path | None:
    """Return the image; label maps beside the annotations have names of their own."""
    extensions = [".png", *sorted(EXTENSIONS - {".png"})]
    ends = [f"{stem}{end}{extension}" for end in ("_leftImg8bit", "") for extension in extensions]
    return folder.find(next((name for name in ends if folder.holds(name)), ends[0]), findings, where)


def _read(image: Path, path: Path, source: Path, classes: Classes, plates: bool, findings: Findings) -> Drawn | None:
    """Read the image and draw the objects in their order."""
    content = _objects_of(path, source, findings)
    if content is None:
        return None
    height, width, where = content.get("imgHeight"), content.get("imgWidth"), relative_name(path, source)
    canvas = canvas_of(image, height, width, classes, findings, where)
    if canvas is None:
        return None
    for number, entry in enumerate(content["objects"]):
        _draw(entry, f"object {number}", classes, plates, canvas)
    return canvas.drawn


def _draw(entry: object, text: str, classes: Classes, plates: bool, canvas: Canvas) -> None:
    if not isinstance(entry, dict):
        canvas.fault(Fault.SHAPE, f"{text} is {short(repr(entry), 40)}")
        return
    label, deleted = entry.get("label"), entry.get("deleted")
    if not isinstance(deleted, int | str | None) or deleted not in _DELETED:
        canvas.fault(Fault.SHAPE, f"{text} with deleted {short(repr(deleted), 40)}; required is 0 or 1")
        return
    if _DELETED[deleted] or (label == _NOT_DRAWN and not plates):
        return
    if isinstance(label, str) and label not in classes.ids and label != _GROUP:
        label = label.removesuffix(_GROUP)
    value = canvas.id_of(label)
    points = canvas.points(entry.get("polygon"), f"{text}, {short(str(label), 40)}")
    if value is not None and points is not None:
        canvas.polygon(points, value, text, outlined=False)
