"""Polygons as Cityscapes publishes them (`*_gtFine_polygons.json`), drawn as its scripts do (cityscapesScripts)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scenepalette.common.errors import DataError
from scenepalette.common.untrusted import short
from scenepalette.data.class_files import CITYSCAPES
from scenepalette.data.imports.drawing import Canvas
from scenepalette.data.imports.findings import Fault, Findings
from scenepalette.data.imports.pictures import Pictures, read_checked, stated_size
from scenepalette.data.imports.source import (
    Classes,
    Drawn,
    ImportOptions,
    Item,
    Source,
    classes_of_table,
    files_named,
    read_json_file,
    relative_name,
    require_folder,
    split_of,
)

_END = re.compile(r"(_gt\w+)?_polygons$")
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
    found = _documents(source, findings)
    if not found:
        raise DataError(f"{source} holds no file *_polygons.json with objects.", findings.problems)
    found = _without_dummies(found, classes, findings)
    pictures = Pictures(options.images or source, by_last_name=options.images is not None)
    items = []
    for path, where, content in found:
        stem = _END.sub("", path.stem)
        image = _image_of(pictures, stem, where, findings)
        if image is None:
            continue
        drawing = _Drawing(image, content, where, classes, plates=options.classes is not None)
        key = path.relative_to(source).with_name(stem).as_posix()
        items.append(Item(stem, key, where, split_of(where), image, drawing.read))
    return Source(items, classes, [path for path, _, _ in found], findings)


def _documents(source: Path, findings: Findings) -> list[tuple[Path, str, dict[str, Any]]]:
    found = []
    for path in files_named(source, ["_polygons.json"]):
        where = relative_name(path, source)
        try:
            content = read_json_file(path, _FILE_BYTES)
        except DataError as error:
            findings.fault(Fault.UNREADABLE, f"{where}: {error.summary}")
            continue
        if isinstance(content, dict) and isinstance(content.get("objects"), list):
            found.append((path, where, content))
        else:
            findings.fault(Fault.UNREADABLE, f"{where}: without a list of objects")
    return found


def _without_dummies(
    found: list[tuple[Path, str, dict[str, Any]]], classes: Classes, findings: Findings
) -> list[tuple[Path, str, dict[str, Any]]]:
    """Leave out a test split that shows no evaluated class: its annotations are kept by the publisher."""
    evaluated = {classes.table.names[class_id] for class_id in classes.table.eval_ids}
    tests = [content for _, where, content in found if split_of(where) == "test"]
    labels = {entry.get("label") for content in tests for entry in content["objects"] if isinstance(entry, dict)}
    if not tests or any(isinstance(label, str) and label in evaluated for label in labels):
        return found
    for _, where, _ in found:
        if split_of(where) == "test":
            findings.left_out("test annotations passed over that show no evaluated class", where)
    return [entry for entry in found if split_of(entry[1]) != "test"]


def _image_of(pictures: Pictures, stem: str, where: str, findings: Findings) -> Path | None:
    """Return the image; label maps beside the annotations have names of their own."""
    ends = [f"{stem}{end}{ending}" for end in ("_leftImg8bit", "") for ending in (".png", ".jpg", ".jpeg")]
    return pictures.find(next((name for name in ends if pictures.holds(name)), ends[0]), findings, where)


@dataclass(frozen=True)
class _Drawing:
    """How one file's label map is drawn."""

    image: Path
    content: dict[str, Any]
    where: str
    classes: Classes
    plates: bool

    def read(self, findings: Findings) -> Drawn | None:
        """Read the image and draw the objects in their order."""
        own = Findings()
        size = stated_size(self.content.get("imgHeight"), self.content.get("imgWidth"))
        checked = read_checked(self.image, size, own, self.where)
        label = None
        if checked is not None:
            canvas = Canvas(checked[1], self.classes.outside, own, self.where)
            for number, entry in enumerate(self.content["objects"]):
                self._draw(entry, f"object {number}", canvas, own)
            label = canvas.label
        findings.add(own)
        return None if own or checked is None or label is None else Drawn(checked[0], label)

    def _draw(self, entry: object, text: str, canvas: Canvas, findings: Findings) -> None:
        if not isinstance(entry, dict):
            canvas.fault(Fault.SHAPE, f"{text} is {short(repr(entry), 40)}")
            return
        label = entry.get("label")
        if entry.get("deleted") or (label == _NOT_DRAWN and not self.plates):
            return
        if isinstance(label, str) and label not in self.classes.ids and label.endswith(_GROUP):
            label = label.removesuffix(_GROUP)
        value = self.classes.id_of(label, findings, self.where)
        points = canvas.points(entry.get("polygon"), f"{text}, {short(str(label), 40)}")
        if value is not None and points is not None:
            canvas.plain_polygon(points, value, text)
