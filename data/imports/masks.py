"""Label maps that are there already, as PASCAL VOC's palette or in colours: read as the reader `folder` reads them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from scenepalette.common.errors import ConfigError, DataError
from scenepalette.common.problems import Problem, ProblemKind
from scenepalette.common.storage.files import write_atomically
from scenepalette.common.storage.untrusted import read_file
from scenepalette.data import class_tables
from scenepalette.data.decoding.class_files import ClassFile, csv_text, read_class_file
from scenepalette.data.decoding.image_opening import MAX_FILE_BYTES
from scenepalette.data.decoding.label_images import VOC_BORDER, colour_of
from scenepalette.data.decoding.label_reading import LabelEncoding, LabelSettings
from scenepalette.data.files.folder_layouts import has_labelled_split
from scenepalette.data.files.image_files import PairedFiles
from scenepalette.data.imports.findings import Fault, Findings
from scenepalette.data.imports.source import (
    Classes,
    Drawn,
    ImportOptions,
    Item,
    Source,
    as_options,
    relative_name,
    require_folder,
)
from scenepalette.data.readers.folder import open_folder
from scenepalette.data.sample import FolderOptions

VOC_FILE = Path(class_tables.__file__).with_name("voc.csv")
_LABELMAP, _CLASS_NAMES = "labelmap.txt", "class_names.txt"
_MASKS = "SegmentationClass"
_BORDER = colour_of(VOC_BORDER)
_DEEPEST = 3


def read_voc(source: Path, options: ImportOptions, scratch: Path) -> Source:
    """Read PASCAL VOC's layout: JPEGImages, SegmentationClass and ImageSets/Segmentation/{train,val}.txt.

    Classes are those of the user's class file; else of labelmap.txt (CVAT) or class_names.txt (LabelMe) beside the
    folders; else VOC's own 21. The border, 255 or its colour, is ignored.

    Args:
        source: The folder, or one around it such as VOCdevkit.
        options: What the user says.
        scratch: A folder for a class file that is made meanwhile.

    Raises:
        ConfigError: The source is no folder, or there are several such data sets in it.
        DataError: It has no label maps, or they cannot be read; every problem is listed.
    """
    require_folder(source)
    roots = [root for root in _folders_around(source) if (root / _MASKS).is_dir()]
    if not roots:
        raise DataError(
            f"{source} has no folder {_MASKS} with label maps. Boxes (Annotations/*.xml) say nothing of an object's "
            "pixels; give the folder of a data set with segmentation."
        )
    if len(roots) > 1:
        raise ConfigError(f"{' and '.join(map(str, roots[:3]))} are data sets of their own. Give one of them.")
    root, findings, files = roots[0], Findings(), list[Path]()
    class_file = options.classes
    for name in (_LABELMAP, _CLASS_NAMES):
        if class_file is None and (root / name).is_file():
            class_file, files = scratch / "classes.csv", [root / name]
            declared = read_class_file(root / name)
            if name == _LABELMAP and not declared.has_colours:
                raise DataError(
                    f"{root / name} states no colours. Required are lines such as road:128,64,128::, or a class file "
                    "(--classes)."
                )
            write_atomically(class_file, _with_border(declared))
            findings.note(f"Classes are those of {name}; --classes names others.")
    if class_file is None:
        class_file = VOC_FILE
        findings.note("Classes are PASCAL VOC's 21; --classes names others.")
    return read_folder(root, class_file, "auto", options, findings, files)


def read_colours(source: Path, options: ImportOptions) -> Source:
    """Read a folder of images and label maps in the colours of a class file.

    Args:
        source: The folder, in any layout that the reader `folder` recognises.
        options: What the user says; `classes` is required.

    Raises:
        ConfigError: The source is no folder, or there is no class file.
        DataError: Files do not belong together or have other colours; every problem is listed.
    """
    require_folder(source)
    if options.classes is None:
        raise ConfigError(
            "--from colours needs --classes FILE: a class file with the columns name, red, green and blue, that says "
            "which colour is which class (docs/data/datasets.md, Class files)."
        )
    return read_folder(source, options.classes, "colours", options, Findings(), [])


def read_folder(
    root: Path,
    class_file: Path,
    encoding: LabelEncoding,
    options: ImportOptions,
    findings: Findings,
    files: list[Path],
    *,
    source: str = "",
) -> Source:
    """Read the splits of a folder with the reader `folder`, which decides how values and colours are read.

    Args:
        root: The folder.
        class_file: Which classes there are.
        encoding: How labels are read, or "auto", unless the user says it.
        options: What the user says.
        findings: Takes what was decided.
        files: Files that were read already.
        source: What messages call the folder; by default it itself.

    Raises:
        DataError: As `scenepalette.data.readers.folder.open_folder`.
    """
    folder_options = FolderOptions(
        options.label_folder,
        options.label_suffix,
        options.orientation or "by size",
        options.share,
        options.val_seed or 0,
    )
    labels = LabelSettings(
        options.label_encoding or encoding, options.label_offset, options.ignore_ids, options.colour_tolerance or 0
    )
    splits = ["train", "val", *(["test"] if has_labelled_split(root, "test") else [])]
    opened, problems = [], list[str | Problem]()
    layout, missing = "", list[str]()
    for split in splits:
        try:
            opened.append(open_folder(root, split, class_file=class_file, options=folder_options, labels=labels))
        except DataError as error:
            if any(problem.kind is ProblemKind.LAYOUT for problem in error.found):
                layout = as_options(error.summary)
                missing += [problem.text for problem in error.found]
                continue
            # Problems of files keep their kinds, by which a message shows examples.
            told = [replace(problem, text=as_options(problem.text)) for problem in error.found]
            problems += told or map(as_options, error.problems or (error.summary,))
    if missing:
        # The names of folders say nothing without the layout and the remedy.
        problems.insert(0, f"{layout} {', '.join(missing)}")
    if problems:
        raise DataError(
            f"The label maps in {source or root} cannot be imported:", list(dict.fromkeys(problems)), hint=""
        )
    items = []
    for dataset in opened:
        for note in dataset.notes:
            findings.note(as_options(note))
        # Files come in pairs, image and label.
        for index, (name, image) in enumerate(zip(dataset.ids, dataset.files[::2], strict=True)):
            where = relative_name(image, root)
            read = partial(_read_pair, dataset, index, image, where)
            items.append(Item(name, name, where, dataset.split, image, read))
        files += dataset.files[1::2]
    files += [options.classes] if options.classes is not None else []
    licence = "" if opened[0].licence == "not stated" else opened[0].licence
    return Source(items, Classes(opened[0].table, {}, 0), files, findings, licence)


def _read_pair(dataset: PairedFiles, index: int, image: Path, where: str, findings: Findings) -> Drawn | None:
    """Read an image's bytes and its label map."""
    try:
        return Drawn(read_file(image, MAX_FILE_BYTES), dataset[index].label)
    except DataError as error:
        findings.fault(Fault.IMAGE, f"{where}: {error.summary}")
        return None


def _folders_around(source: Path) -> list[Path]:
    """Return a folder and those in it, down to VOCdevkit/VOC2012."""
    level, found = [source], [source]
    for _ in range(_DEEPEST - 1):
        level = [
            path
            for folder in level
            for path in sorted(folder.iterdir())
            if path.is_dir() and not path.name.startswith(".") and path.name not in (_MASKS, "JPEGImages")
        ]
        found += level
    return found


def _with_border(declared: ClassFile) -> str:
    """Return a class file of the same classes and, unless its colour is taken, of VOC's border, which is ignored."""
    rows = [[*(row.id or [place]), row.name, *row.color, ""] for place, row in enumerate(declared.classes)]
    if all(row.color != _BORDER for row in declared.classes) and len(rows) < 256:
        rows.append([255, "void", *_BORDER, "true"])
    return csv_text([["id", "name", "red", "green", "blue", "ignore"], *rows])
