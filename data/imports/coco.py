"""COCO's JSON files (cocodataset.org/#format-data): instances and stuff by polygons or run lengths, and panoptic PNGs.

Polygons are drawn by pycocotools, so that masks are those that everybody has of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as run_lengths

from scenepalette.common.errors import ConfigError, DataError
from scenepalette.common.storage.untrusted import short
from scenepalette.data.classes import IGNORE_ID
from scenepalette.data.decoding.image_opening import open_lossless
from scenepalette.data.imports.drawing import Canvas, canvas_of, is_number, mask_of_counts
from scenepalette.data.imports.findings import Fault, Findings
from scenepalette.data.imports.image_folder import ImageFolder
from scenepalette.data.imports.other_tools import none_of_form
from scenepalette.data.imports.source import (
    IGNORE,
    Classes,
    Drawn,
    ImportOptions,
    Item,
    Source,
    classes_of_names,
    files_named,
    read_annotations,
    relative_name,
    split_of,
)

_ROUNDING = 2
"""Largest difference, in pixels, of a side of a stated box from that of the mask in it."""
_NO_MASKS = ("captions", "person_keypoints", "image_info", "panoptic_coco_categories")


@dataclass
class _Document:
    """An annotation file."""

    path: Path
    name: str
    split: str | None
    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    categories: list[dict[str, Any]]
    licences: list[Any]

    @property
    def is_panoptic(self) -> bool:
        return any("segments_info" in entry for entry in self.annotations[:1])


def read_source(source: Path, options: ImportOptions) -> Source:
    """Read COCO annotations.

    Args:
        source: A JSON file, or a folder with one per split: annotations/*.json, or train/_annotations.coco.json.
        options: What the user says.

    Raises:
        ConfigError: The source or an option is wrong.
        DataError: There is no file with masks, or several of one split.
    """
    findings = Findings()
    root, paths = _files_of(source, findings)
    documents = [found for path in paths if (found := _document(path, root, findings)) is not None]
    if not documents:
        raise none_of_form(source, "coco", f"{source} has no COCO file with images and annotations.", findings)
    _require_one_per_split(documents)
    licence = _licence_of(documents)
    classes, named = _classes_of(documents, options, findings)
    if options.crowds is None:
        _ask_for_crowds(documents, named, options.ignore)
    folder = ImageFolder(options.images or root, by_last_name=options.images is not None)
    items = []
    for document in documents:
        items += _items(document, classes, named, folder, options, findings)
    folder.tell_unused(findings, but=[_segments_of(document) for document in documents if document.is_panoptic])
    return Source(items, classes, [document.path for document in documents], findings, licence)


def _files_of(source: Path, findings: Findings) -> tuple[Path, list[Path]]:
    """Return the folder that images lie in, and the annotation files."""
    if source.is_file():
        parent = source.absolute().parent
        return (parent.parent if parent.name.lower() in ("annotations", "annotation") else parent), [source.absolute()]
    if not source.is_dir():
        raise ConfigError(f"{source} is neither a folder nor a JSON file. Give COCO's folder, or its annotation file.")
    found = []
    for path in files_named(source, [".json"]):
        if path.name.lower().startswith(_NO_MASKS):
            findings.left_out("files without masks, skipped", relative_name(path, source))
        else:
            found.append(path)
    return source, found


def _document(path: Path, root: Path, findings: Findings) -> _Document | None:
    name = relative_name(path, root)
    content, keys = read_annotations(path, name, findings), ("images", "annotations", "categories")
    if content is None:
        return None
    if not any(key in content for key in keys):
        findings.left_out("JSON files that are not COCO annotations, skipped", name)
        return None
    missing = [key for key in keys if not isinstance(content.get(key), list)]
    if missing:
        findings.fault(Fault.UNREADABLE, f"{name}: without {' and '.join(missing)}")
        return None
    images, annotations, categories = ([entry for entry in content[key] if isinstance(entry, dict)] for key in keys)
    for key, entries in zip(keys, (images, annotations, categories), strict=True):
        if len(entries) < len(content[key]):
            findings.fault(Fault.UNREADABLE, f"{name}: {key} that are no objects")
    licences = content.get("licenses")
    stated = licences if isinstance(licences, list) else []
    return _Document(path, name, split_of(name), images, annotations, categories, stated)


def _require_one_per_split(documents: Sequence[_Document]) -> None:
    by_split: dict[str | None, list[str]] = defaultdict(list)
    for document in documents:
        by_split[document.split].append(document.name)
    several = [names for names in by_split.values() if len(names) > 1]
    if several or (None in by_split and len(by_split) > 1):
        names = several[0] if several else [document.name for document in documents]
        raise DataError(
            f"The files {', '.join(names[:4])} could be of one split, and are annotations of the same images or of "
            "others. Give one file as SOURCE, or a folder that holds one file per split with train, val or test in its "
            "name."
        )


def _licence_of(documents: Sequence[_Document]) -> str:
    """Return the licences that images refer to, and others only where no image does."""
    texts = dict[str, None]()
    for document in documents:
        used = {entry.get("license") for entry in document.images if _is_key(entry.get("license"))}
        for entry in document.licences:
            if isinstance(entry, dict) and (not used or (_is_key(entry.get("id")) and entry["id"] in used)):
                parts = [str(entry[key]).strip() for key in ("name", "url") if isinstance(entry.get(key), str)]
                if text := ", ".join(part for part in parts if part):
                    texts[text] = None
    return "; ".join(texts)


def _is_key(value: object) -> bool:
    """Tell whether a value may be an id; 3.0, as tables of numbers write it, equals 3 as a key."""
    return isinstance(value, int | str) or (isinstance(value, float) and value.is_integer())


def _classes_of(
    documents: Sequence[_Document], options: ImportOptions, findings: Findings
) -> tuple[Classes, dict[str, dict[object, str]]]:
    """Return the classes, and the name of each category id of each file."""
    named: dict[str, dict[object, str]] = {}
    colours: dict[str, tuple[int, int, int]] = {}
    listed: list[tuple[object, str]] = []
    for document in documents:
        names: dict[object, str] = {}
        for entry in document.categories:
            number, name = entry.get("id"), entry.get("name")
            if not _is_key(number) or not isinstance(name, str) or names.get(number, name) != name:
                text = f"{document.name}: category {short(repr(entry), 80)}"
                findings.fault(Fault.UNREADABLE, text)
                continue
            names[number] = name.strip()
            colour = entry.get("color")
            if isinstance(colour, list) and len(colour) == 3 and all(_is_byte(part) for part in colour):
                colours.setdefault(name.strip(), (colour[0], colour[1], colour[2]))
        for name in sorted({name for name in names.values() if [*names.values()].count(name) > 1}):
            findings.left_out("categories of one name, which are one class", name)
        named[document.name] = names
        listed += names.items()
    used = {
        named[document.name].get(number)
        for document in documents
        for entry in document.annotations
        for number in ([part.get("category_id") for part in _segments(entry)] or [entry.get("category_id")])
        if _is_key(number)
    }
    # By id, whatever the order of the list; ids of one kind can be compared.
    same_kind = len({type(number) for number, _ in listed}) == 1
    ordered = sorted(listed, key=lambda entry: entry[0]) if same_kind else listed  # type: ignore[arg-type,return-value]
    every: list[str] = list(dict.fromkeys(name for _, name in ordered))
    unused = [name for name in every if name not in used]
    if used - {None} and options.classes is None:
        for name in unused:
            findings.left_out("categories without an annotation, left out", name)
        every = [name for name in every if name in used]
    # What a panoptic file leaves open has no label; beside instances there is background.
    panoptic = all(document.is_panoptic for document in documents)
    background = {"background": IGNORE} if panoptic else {}
    return classes_of_names(every, options, findings, colours=colours, **background), named


def _ask_for_crowds(
    documents: Sequence[_Document], named: dict[str, dict[object, str]], ignored: Collection[str]
) -> None:
    """Refuse annotations that would lose a class, as all of it are crowds: exporters mark masks of single objects so.

    Raises:
        DataError: There is such a class.
    """
    kinds: dict[str, set[bool]] = defaultdict(set)
    for document in documents:
        for entry in document.annotations:
            for part in _segments(entry) or [entry]:
                if _is_key(number := part.get("category_id")) and (name := named[document.name].get(number)):
                    kinds[name].add(_is_crowd(part))
    lost = sorted(name for name, found in kinds.items() if found == {True} and name not in ignored)
    if lost:
        raise DataError(
            f"Every annotation of {short(', '.join(lost), 80)} is marked iscrowd, and would be ignored. Some tools "
            "mark all masks in run lengths so: if these are single objects, give --crowds class, which draws them, "
            "else --crowds ignore."
        )


def _is_crowd(entry: dict[str, Any]) -> bool:
    return str(entry.get("iscrowd", 0)).lower() in ("1", "1.0", "true")


def _segments_of(document: _Document) -> Path:
    """Return the folder with the segments of a panoptic file."""
    return document.path.with_suffix("")


def _segments(entry: dict[str, Any]) -> list[dict[str, Any]]:
    segments = entry.get("segments_info")
    return [part for part in segments if isinstance(part, dict)] if isinstance(segments, list) else []


def _is_byte(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255


def _items(
    document: _Document,
    classes: Classes,
    named: dict[str, dict[object, str]],
    folder: ImageFolder,
    options: ImportOptions,
    findings: Findings,
) -> list[Item]:
    by_image: dict[object, list[dict[str, Any]]] = defaultdict(list)
    for entry in document.annotations:
        by_image[entry["image_id"] if _is_key(entry.get("image_id")) else None].append(entry)
    known = {entry["id"] for entry in document.images if _is_key(entry.get("id"))}
    for number in [number for number in by_image if number not in known]:
        text = f"{document.name}: {len(by_image[number])} annotations of image {short(repr(number), 40)}"
        findings.fault(Fault.MISSING, f"{text}, which is not listed")
    items, seen = [], set()
    for entry in document.images:
        number, stated = entry.get("id"), entry.get("file_name")
        path = folder.find(stated, findings, document.name)
        if path is None:
            continue
        where = f"{document.name}, {relative_name(path, folder.root)}"
        if not _is_key(number) or number in seen:
            findings.fault(Fault.TWICE, f"{where}: image id {short(repr(number), 40)}")
            continue
        seen.add(number)
        drawing = _Drawing(
            path=path,
            size=(entry.get("height"), entry.get("width")),
            annotations=by_image.get(number, []),
            names=named[document.name],
            classes=classes,
            crowds=options.crowds or "ignore",
            segments=_segments_of(document) if document.is_panoptic else None,
            where=where,
        )
        key = path.relative_to(folder.root).with_suffix("").as_posix()
        items.append(Item(path.stem, key, where, document.split, path, drawing.read))
    return items


@dataclass(frozen=True)
class _Drawing:
    """How one image's label map is drawn."""

    path: Path
    size: tuple[object, object]
    annotations: list[dict[str, Any]]
    names: dict[object, str]
    classes: Classes
    crowds: str
    segments: Path | None
    where: str

    def read(self, findings: Findings) -> Drawn | None:
        """Read the image and draw its annotations in their order."""
        canvas = canvas_of(self.path, *self.size, self.classes, findings, self.where)
        if canvas is None:
            return None
        if self.segments is not None:
            self._fill_segments(self.segments, canvas)
        else:
            for entry in self.annotations:
                self._draw(entry, canvas)
        return canvas.drawn

    def _value(self, entry: dict[str, Any], canvas: Canvas) -> int | None:
        """Return what an annotation is drawn with; None if it is not."""
        number = entry.get("category_id")
        name = self.names.get(number) if _is_key(number) else None
        if name is None:
            canvas.fault(Fault.UNKNOWN_CLASS, f"category {short(repr(number), 40)}, which is not listed")
            return None
        value = canvas.id_of(name)
        if value is not None and _is_crowd(entry) and self.crowds != "class":
            canvas.left_out(f"images with crowds, {'left out' if self.crowds == 'skip' else 'which are ignored'}")
            return None if self.crowds == "skip" else IGNORE_ID
        return value

    def _draw(self, entry: dict[str, Any], canvas: Canvas) -> None:
        value = self._value(entry, canvas)
        if value is None:
            return
        shape, text = entry.get("segmentation"), f"annotation {short(repr(entry.get('id')), 40)}"
        if not shape:
            canvas.fault(Fault.NO_AREA, text)
            return
        if isinstance(shape, dict):
            mask = _mask_of_runs(shape, entry.get("bbox"), canvas, text)
        else:
            mask = _mask_of_polygons(shape, canvas, text)
        if mask is not None:
            canvas.mask(mask, 0, 0, value)

    def _fill_segments(self, folder: Path, canvas: Canvas) -> None:
        """Fill the segments of a panoptic PNG: each pixel has the id R + 256 G + 65536 B, 0 where there is none."""
        for entry in self.annotations:
            name = entry.get("file_name")
            if not isinstance(name, str) or not name or Path(name).name != name or "\\" in name:
                canvas.fault(Fault.LEAVES, f"segments in {short(repr(name), 60)}")
                continue
            try:
                with open_lossless(folder / name, "segments") as image:
                    pixels = np.asarray(image.convert("RGB")).astype(np.int64)
            except DataError as error:
                canvas.fault(Fault.SHAPE, f"{folder.name}/{name}: {error.summary}")
                continue
            ids = pixels @ np.array([1, 256, 65536])
            if ids.shape != canvas.size:
                canvas.fault(Fault.SIZE, f"segments {folder.name}/{name} of {ids.shape[1]} x {ids.shape[0]}")
                continue
            listed = {part["id"] for part in _segments(entry) if isinstance(part.get("id"), int)}
            if others := sorted(set(np.unique(ids).tolist()) - listed - {0}):
                canvas.fault(Fault.SHAPE, f"{folder.name}/{name}: segment {others[0]}, which is not listed")
            for part in _segments(entry):
                value = self._value(part, canvas)
                if value is not None:
                    canvas.mask(ids == part.get("id"), 0, 0, value)


def _mask_of_polygons(shape: object, canvas: Canvas, text: str) -> np.ndarray | None:
    """Return the mask of polygons; None after reporting that there are none, or what is wrong with one."""
    if isinstance(shape, list) and all(map(is_number, shape)):
        shape = [shape]  # one polygon without a list around it, as pycocotools takes it too
    polygons = []
    for part in shape if isinstance(shape, list) else [None]:
        if not isinstance(part, list) or len(part) % 2 or not all(map(is_number, part)):
            canvas.fault(Fault.SHAPE, f"{text}: {short(repr(part), 60)}")
            return None
        if canvas.has_area(len(part) // 2, text):  # pycocotools takes four numbers for a box
            if canvas.points([part[place : place + 2] for place in range(0, len(part), 2)], text) is None:
                return None
            polygons.append([float(number) for number in part])
    if not polygons:
        return None
    merged: Any = run_lengths.merge(run_lengths.frPyObjects(polygons, *canvas.size))  # type: ignore[arg-type]
    counts = _counts_of(merged["counts"].decode("ascii")) or []
    return mask_of_counts(counts, canvas.size, by_column=True)


def _mask_of_runs(shape: dict[str, Any], box: object, canvas: Canvas, text: str) -> np.ndarray | None:
    """Return the mask of run lengths, compressed or not; None after reporting that they do not fit.

    Run lengths along the rows are a mask of the right size, too, which only the stated box tells from the right one.
    """
    (height, width), stated, counts = canvas.size, shape.get("size"), shape.get("counts")
    if stated != [height, width]:
        said = f"size {short(repr(stated), 40)}, the image has [{height}, {width}]"
    else:
        counts = _counts_of(counts) if isinstance(counts, str) else counts
        if isinstance(counts, list) and all(isinstance(count, int) for count in counts):
            mask = mask_of_counts(counts, canvas.size, by_column=True)
            if mask is not None:
                by_row = mask_of_counts(counts, canvas.size, by_column=False)
                if _fills(mask, box) or not _fills(by_row, box):
                    return mask
                canvas.fault(Fault.SHAPE, f"{text}: run lengths along the rows; COCO's go down the columns")
                return None
        said = f"counts {short(repr(shape.get('counts')), 40)} are not those of {height} x {width} pixels"
    canvas.fault(Fault.SHAPE, f"{text}: run lengths that do not fit ({said})")
    return None


def _fills(mask: np.ndarray | None, box: object) -> bool:
    """Tell whether a mask reaches to the sides of a box of x, y, width and height, up to the rounding of tools."""
    if mask is None or not mask.any() or not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
        return False
    left, top, width, height = box
    across, down = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    sides = (across[0] - left, down[0] - top, across[-1] + 1 - left - width, down[-1] + 1 - top - height)
    return all(abs(side) <= _ROUNDING for side in sides)


def _counts_of(text: str) -> list[int] | None:
    """Return the run lengths that COCO's compressed text stands for; None if it is none.

    Six bits per character from 48 on, five of them of the number, the lowest first; from the fourth number on the
    difference from the last but one is written (pycocotools' rleFrString, which reads beyond the end of damaged ones).
    """
    counts: list[int] = []
    place = 0
    while place < len(text):
        number = shift = 0
        more = True
        while more:
            if place >= len(text) or shift > 30:
                return None
            digit = ord(text[place]) - 48
            if not 0 <= digit < 64:
                return None
            number |= (digit & 31) << shift
            more, place, shift = bool(digit & 32), place + 1, shift + 5
            if not more and digit & 16:
                number |= -1 << shift
        counts.append(number + counts[-2] if len(counts) > 2 else number)
    return counts
