"""Importing annotations: read, drawn, checked and written as a folder that `data.name=folder` reads."""

from __future__ import annotations

import os
import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np

from scenepalette.common.errors import ConfigError, DataError
from scenepalette.common.png import png_of
from scenepalette.common.problems import printable
from scenepalette.common.processors import map_in_order
from scenepalette.common.progress import NO_PROGRESS, Progress
from scenepalette.common.storage.files import (
    read_json,
    sha256_of_file,
    sha256_of_files,
    sha256_of_json,
    sync_disks,
    write_atomically,
    write_json,
    writing_explained,
)
from scenepalette.common.storage.whole_folders import IMPORTS
from scenepalette.common.wording import counted
from scenepalette.data.classes import IGNORE_ID
from scenepalette.data.decoding.class_files import csv_text
from scenepalette.data.decoding.image_opening import extension_of_content
from scenepalette.data.decoding.label_reading import LARGEST_TOLERANCE, LabelEncoding
from scenepalette.data.files.finding import files_below, unpack_first
from scenepalette.data.files.naming import flat_name, is_text
from scenepalette.data.imports import cityscapes_json, coco, cvat, huggingface, labelme, masks
from scenepalette.data.imports.findings import Fault, Findings
from scenepalette.data.imports.source import Classes, ImportOptions, Item, Source, divide
from scenepalette.data.sample import Orientation

CLASS_FILE, LICENCE = "classes.csv", "LICENCE.md"
SCRATCH = ".source"
SPLITS = ("train", "val", "test")
_VERSION = 1
_LONGEST_NAME = 200
_SHOWN = 10
_LEAST_CLASSES = 2
_IGNORED_COLOURS = ((224, 224, 192), (255, 255, 255), (0, 0, 0), (1, 2, 3))


class _Format(NamedTuple):
    """A form of annotations.

    Attributes:
        read: Reads the source, with a folder for files that it needs meanwhile.
        options: Which options it takes beside those that all take.
        description: One line for lists.
        on_hub: Whether a source may be a name instead of a path.
    """

    read: Callable[[str, ImportOptions, Path], Source]
    options: frozenset[str]
    description: str
    on_hub: bool = False


def _of_path(read: Callable[[Path, ImportOptions], Source]) -> Callable[[str, ImportOptions, Path], Source]:
    """Return the reader of a format that needs no folder for files of its own."""
    return lambda source, options, scratch: read(Path(source), options)


_SHAPES = frozenset({"images", "background", "ignore", "link"})
_LABELS = frozenset({"label_offset", "ignore_ids", "colour_tolerance", "orientation"})
_FOLDERS = frozenset({"label_folder", "label_suffix", "link"})
FORMATS: Mapping[str, _Format] = {
    "coco": _Format(
        _of_path(coco.read_source), _SHAPES | {"crowds"}, "COCO: instances, stuff or panoptic, a JSON file per split"
    ),
    "voc": _Format(
        lambda source, options, scratch: masks.read_voc(Path(source), options, scratch),
        _LABELS | _FOLDERS | {"label_encoding"},
        "PASCAL VOC: JPEGImages and SegmentationClass; also as CVAT and LabelMe export it",
    ),
    "labelme": _Format(_of_path(labelme.read_source), _SHAPES | {"line_width"}, "LabelMe: a JSON file per image"),
    "cvat": _Format(_of_path(cvat.read_source), _SHAPES | {"line_width"}, "CVAT for images 1.1: annotations.xml"),
    "cityscapes-json": _Format(
        _of_path(cityscapes_json.read_source), _SHAPES, "Cityscapes' polygons: gtFine/SPLIT/CITY/*_polygons.json"
    ),
    "colours": _Format(
        _of_path(masks.read_colours), _LABELS | _FOLDERS, "images and label maps in the colours of a class file"
    ),
    "huggingface": _Format(
        huggingface.read_source,
        _LABELS | {"label_encoding", "images", "image_column", "label_column", "subset"},
        "Hugging Face: a folder or a name that the package datasets loads",
        on_hub=True,
    ),
}
_OF_ALL = frozenset({"classes", "val_share", "val_seed", "skip_problems"})


@dataclass(frozen=True)
class Imported:
    """What an import made.

    Attributes:
        folder: Where it lies.
        pairs: Number of pairs of each split.
        classes: Names of the classes.
        notes: What was decided and what was left out, a line each.
        problems: Of images that were left out, a line per kind.
        is_new: Whether it was made now; else an earlier call had finished it.
    """

    folder: Path
    pairs: Mapping[str, int]
    classes: Sequence[str]
    notes: Sequence[str]
    problems: Sequence[str]
    is_new: bool


def import_annotations(
    source: str, format_name: str, to: Path, options: ImportOptions | None = None, *, progress: Progress = NO_PROGRESS
) -> Imported:
    """Import annotations into a folder that the reader `folder` takes.

    Written are TO/SPLIT/images (copies, or links), TO/SPLIT/labels (grey PNG files of class ids, 255 for ignored),
    TO/classes.csv, TO/LICENCE.md where the source states one, and, moved into place last, TO/import.json: source,
    options, notes and problems. The same call again returns at once if that is there; after an interruption it makes
    everything again. Nothing that is there is overwritten.

    Args:
        source: A path, or for Hugging Face a name.
        format_name: One of `FORMATS`.
        to: Where to write; empty, or what an interrupted call left.
        options: What the user says of the source.
        progress: Told of the images.

    Raises:
        ConfigError: The format is unknown, an option does not belong to it, or `to` holds something else.
        DataError: There are problems, a line per kind; nothing is left behind.
        ScenepaletteError: Another process imports into `to`, or a file cannot be written; nothing is left behind.
    """
    options = options or ImportOptions()
    _check_options(source, format_name, to, options)
    identity = _identity(source, format_name, options)

    def write(unfinished: Path) -> None:
        scratch = unfinished / SCRATCH
        scratch.mkdir(parents=True)
        found = FORMATS[format_name].read(source, options, scratch)
        with writing_explained(unfinished):
            _write(unfinished, found, options, identity, progress)

    is_new = IMPORTS.make(to, identity, write)
    record = read_json(to / IMPORTS.record)
    return Imported(
        to, record["pairs"], [entry["name"] for entry in record["classes"]], record["notes"], record["problems"], is_new
    )


def _check_options(source: str, format_name: str, to: Path, options: ImportOptions) -> None:
    known = FORMATS.get(format_name)
    if known is None:
        raise ConfigError(f"--from is {format_name!r}; required is one of {', '.join(FORMATS)}.")
    problems = []
    for field in fields(options):
        if getattr(options, field.name) not in (None, False, ()) and field.name not in known.options | _OF_ALL:
            takers = ", ".join(name for name, entry in FORMATS.items() if field.name in entry.options)
            problems.append(f"--{field.name.replace('_', '-')} is for {takers} alone; leave it out")
    for name in ("images", "classes"):
        path = getattr(options, name)
        if path is not None and not (path.is_dir() if name == "images" else path.is_file()):
            problems.append(f"--{name} is {path}, which is not a {'folder' if name == 'images' else 'file'}")
    ranges = {
        "val_share": (0.01, 0.5),
        "line_width": (1, 1000),
        "colour_tolerance": (0, LARGEST_TOLERANCE),
        "label_offset": (-255, 255),
        "val_seed": (0, 2**32),
    }
    for name, (least, most) in ranges.items():
        value = getattr(options, name)
        if value is not None and not least <= value <= most:
            problems.append(f"--{name.replace('_', '-')} is {value:g}; required is {least} to {most}")
    if options.crowds not in (None, "ignore", "class", "skip"):
        problems.append(f"--crowds is {options.crowds!r}; required is ignore, class or skip")
    for name, values in (("label_encoding", get_args(LabelEncoding)), ("orientation", get_args(Orientation))):
        if (value := getattr(options, name)) not in (None, *values):
            problems.append(f"--{name.replace('_', '-')} is {value!r}; required is one of {', '.join(values)}")
    if not all(0 <= value <= IGNORE_ID for value in options.ignore_ids):
        problems.append(f"--ignore-ids is {list(options.ignore_ids)}; required are label values, 0 to 255")
    path = Path(source)
    if not source.strip() or (not known.on_hub and not path.exists()):
        problems.append(f"SOURCE is {source!r}, which does not exist")
    elif hint := unpack_first(path):
        problems.append(f"SOURCE is {source!r}, which is not a folder{hint}")
    elif path.is_dir() and (_is_inside(to, path) or _is_inside(path, to)):
        problems.append(f"--to is {to}, which lies in SOURCE or around it; give a folder elsewhere")
    if problems:
        raise ConfigError("The annotations cannot be imported like this.", problems)


def _is_inside(path: Path, folder: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _identity(source: str, format_name: str, options: ImportOptions) -> dict[str, Any]:
    """Return what decides the result: of files, their names, sizes and times of change.

    Raises:
        DataError: A folder in the source cannot be listed.
    """
    stated = {
        field.name: str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
        for field in fields(options)
        if (value := getattr(options, field.name)) not in (None, False, ())
    }
    if options.classes is not None:
        stated["class_file_sha256"] = sha256_of_file(options.classes)
    places = [Path(source), *([options.images] if options.images is not None else [])]
    return {
        "version": _VERSION,
        "format": format_name,
        "source": os.path.abspath(source) if Path(source).exists() else source,
        "options": stated,
        "files": sha256_of_json([_stamps(place) for place in places if place.exists()]),
    }


def _stamps(place: Path) -> list[list[Any]]:
    try:
        paths = sorted(files_below(place)) if place.is_dir() else [place]
    except OSError as error:
        raise DataError(
            f"{place} cannot be read: {error.filename} ({error.strerror or error}). Give the user who runs this "
            "permission to read every folder in it."
        ) from error
    found = []
    for path in paths:
        if path.exists():  # no broken link
            status = path.stat()
            found.append([os.fsencode(path.relative_to(place)).hex(), status.st_size, status.st_mtime_ns])
    return found


def _write(out: Path, source: Source, options: ImportOptions, identity: dict[str, Any], progress: Progress) -> None:
    """Draw and write all pairs, then what tells about them, the record last."""
    findings = source.findings
    placed = _placed(source.items, options, findings)
    pixels_of = {split: np.zeros(256, np.int64) for split in SPLITS}
    pairs: dict[str, int] = dict.fromkeys(SPLITS, 0)

    def work(entry: _Placed) -> tuple[np.ndarray | None, Findings]:
        return _write_pair(out, entry, source.classes, not findings or options.skip_problems, options.link)

    progress.start("import", len(placed))
    try:
        for entry, (counts, found) in zip(placed, map_in_order(work, placed), strict=True):
            findings.add(found)
            if counts is not None:
                pixels_of[entry.split] += counts
                pairs[entry.split] += 1
            progress.advance()
    finally:
        progress.finish()
    problems = findings.problems
    if problems and not options.skip_problems:
        raise DataError(
            "The annotations have problems; nothing was imported. Correct them, or leave these images out with "
            "--skip-problems:",
            problems,
            notes=findings.notes,
        )
    if not pairs["train"] or not pairs["val"]:
        said = ", ".join(f"{count} for {split}" for split, count in pairs.items())
        raise DataError(f"Too few images are left: {said}; training and validation need one each.", problems)
    if bare := [split for split in SPLITS if pairs[split] and not pixels_of[split][:IGNORE_ID].any()]:
        raise DataError(
            f"In {' and '.join(bare)}, every pixel of all images is ignored. Annotate some, ignore fewer classes, or "
            "leave out --background ignore.",
            problems,
        )
    pixels = np.sum(list(pixels_of.values()), axis=0)
    if np.count_nonzero(pixels[:IGNORE_ID]) < _LEAST_CLASSES:
        shown = source.classes.table.names[int(pixels[:IGNORE_ID].argmax())]
        raise DataError(
            f"The labels show only the class {shown}; at least {_LEAST_CLASSES} classes are required. Give what is not "
            "of the class a class of its own, such as a background.",
            problems,
        )
    _tell(source.classes, pixels, findings)
    classes = source.classes
    write_atomically(out / CLASS_FILE, _class_csv(classes, pixels))
    if source.licence:
        write_atomically(out / LICENCE, f"The source states as terms of its images:\n\n{source.licence}\n")
    shutil.rmtree(out / SCRATCH)
    sync_disks()
    write_json(
        out / IMPORTS.record,
        {
            "identity": identity,
            "pairs": {split: count for split, count in pairs.items() if count},
            "classes": [
                {"id": number, "name": entry.name, "pixels": int(pixels[number])}
                for number, entry in enumerate(classes.table.classes)
            ],
            "ignored_pixels": int(pixels[IGNORE_ID]),
            "images": "linked" if options.link else "copied",
            "licence": source.licence,
            "annotations": _told_of(source.files),
            "read_by_datasets": source.identity,
            "notes": findings.notes,
            "problems": problems,
            "left_out": list(findings.every_problem()),
        },
    )


def _told_of(files: Sequence[Path]) -> dict[str, Any]:
    """Return how many annotation files there were, some of their names, and a hash of all their bytes."""
    names = [os.path.abspath(path) for path in files]
    hashes = sha256_of_files([Path(name) for name in names])
    return {"count": len(names), "first": list(map(printable, names[:_SHOWN])), "sha256": sha256_of_json(hashes)}


class _Placed(NamedTuple):
    """An image with its place in the result."""

    item: Item
    split: str
    name: str


def _placed(items: Sequence[Item], options: ImportOptions, findings: Findings) -> list[_Placed]:
    """Return the split and the unique name of each image."""
    splits = _splits(items, options, findings)
    by_name: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, split in splits.items():
        by_name[split, items[index].id.casefold()].append(index)
    names: dict[tuple[str, str], Item] = {}
    images: dict[tuple[str, Path], Item] = {}
    placed = []
    for (split, _), indices in by_name.items():
        for index in indices:
            item = items[index]
            # Two files of LabelMe may name one image, such as a copy of one and the one.
            if item.image is not None and (same := images.setdefault((split, item.image), item)) is not item:
                findings.fault(Fault.TWICE, f"{item.where} and {same.where}")
                continue
            name = item.id if len(indices) == 1 else flat_name(item.path)
            other = names.get((split, name.casefold()))
            if other is not None and item.image is not None and other.image != item.image:
                # a.jpg and a.png in one folder
                name = f"{name}_{item.image.suffix[1:]}"
                other = names.get((split, name.casefold()))
            is_usable = name and not name.startswith(".") and not re.search(r"[\x00-\x1f/\\:]", name)
            if not is_usable or not is_text(name, _LONGEST_NAME):
                findings.fault(Fault.NAME, f"{item.where}: {name!r}")
            elif other is not None:
                findings.fault(Fault.TWICE, f"{item.where} and {other.where}")
            else:
                names[split, name.casefold()] = item
                placed.append((index, _Placed(item, split, name)))
    return [entry for _, entry in sorted(placed, key=lambda pair: pair[0])]


def _splits(items: Sequence[Item], options: ImportOptions, findings: Findings) -> dict[int, str]:
    """Return the split of each image: the source's own; where one is missing, it is taken from the other."""
    stated = {item.split for item in items} - {None}
    unstated = [index for index, item in enumerate(items) if item.split is None]
    if stated and unstated:
        of_none = counted(len(unstated), "image of no stated split trains", "images of no stated split train")
        findings.note(f"{of_none} (such as {items[unstated[0]].where}).")
    splits = {index: item.split or "train" for index, item in enumerate(items)}
    if {"train", "val"} <= set(splits.values()):
        return splits
    whole = [index for index, split in splits.items() if split != "test"] or list(splits)
    if not whole:
        return splits
    train, val = divide([items[index].path for index in whole], options, findings)
    rest = {index: "test" for index in splits if index not in set(whole)}
    return rest | {whole[k]: "train" for k in train} | {whole[k]: "val" for k in val}


def _write_pair(
    out: Path, entry: _Placed, classes: Classes, writing: bool, link: bool
) -> tuple[np.ndarray | None, Findings]:
    """Draw a pair and write it; return its pixels of each value, None after reporting why there are none."""
    findings = Findings()
    drawn = entry.item.read(findings)
    if drawn is None or findings:
        return None, findings
    if classes.ids and (drawn.label == classes.outside).all():
        findings.left_out("images on which no annotation is drawn", entry.item.where)
    if writing:
        image = entry.item.image
        extension = image.suffix.lower() if image is not None else extension_of_content(drawn.content)
        target = out / entry.split / "images" / f"{entry.name}{extension}"
        if link and image is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(image.absolute())
        else:
            write_atomically(target, drawn.content, durable=False)
        write_atomically(out / entry.split / "labels" / f"{entry.name}.png", png_of(drawn.label), durable=False)
    return np.bincount(drawn.label.ravel(), minlength=256), findings


def _tell(classes: Classes, pixels: np.ndarray, findings: Findings) -> None:
    """Note what the label maps show."""
    for number in _shown(classes, pixels):
        if not pixels[number]:
            findings.left_out("classes that no pixel shows", classes.table.names[number])
    share = 100 * pixels[IGNORE_ID] / max(1, pixels.sum())
    if pixels[IGNORE_ID]:
        findings.note(f"255 is written to {share:.1f} % of the pixels, which have no class.")
    if classes.ids and classes.outside != IGNORE_ID and pixels[classes.outside]:
        name, part = classes.table.names[classes.outside], 100 * pixels[classes.outside] / pixels.sum()
        findings.note(
            f"Pixels that no annotation covers are of the class '{name}' ({part:.1f} % of all); --background says "
            "otherwise."
        )


def _shown(classes: Classes, pixels: np.ndarray) -> Iterator[int]:
    """Yield the ids of the classes that are listed: a background that was made up only if there is some."""
    for number, entry in enumerate(classes.table.classes):
        made_up = classes.ids.get(entry.name) == classes.outside == number and classes.table.name == "import"
        if pixels[number] or not made_up or len(classes.table) < 3:
            yield number


def _class_csv(classes: Classes, pixels: np.ndarray) -> str:
    """Return a class file with ids; 255 stands in a row of its own, so that it is not taken for a class."""
    rows: list[list[object]] = [["id", "name", "red", "green", "blue", "evaluated", "ignore"]]
    for number in _shown(classes, pixels):
        entry = classes.table.classes[number]
        rows.append([number, entry.name, *entry.color, str(entry.evaluated).lower(), ""])
    taken, names = {entry.color for entry in classes.table.classes}, set(classes.table.names)
    colour = next((colour for colour in _IGNORED_COLOURS if colour not in taken), _IGNORED_COLOURS[0])
    name = next(name for name in ("ignored", "no class", "ignored pixels", "255") if name not in names)
    return csv_text([*rows, [IGNORE_ID, name, *colour, "", "true"]])
