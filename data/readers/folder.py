"""Any folder of images and index masks with a class file."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import partial
from pathlib import Path

from scenepalette.common.errors import DataError
from scenepalette.common.storage.untrusted import LIST_BYTES, read_file
from scenepalette.common.storage.whole_folders import IMPORTS
from scenepalette.data.decoding.class_files import ClassFile, classes_of_class_file, read_class_file
from scenepalette.data.decoding.label_reading import AS_FOUND, LabelSettings
from scenepalette.data.files.finding import require_folders
from scenepalette.data.files.folder_layouts import (
    LAYOUT,
    has_labelled_split,
    hint_of_layout,
    labels_of_splits,
    pairs_of_split,
)
from scenepalette.data.files.image_files import PairedFiles
from scenepalette.data.sample import DatasetEntry, FolderOptions

DEFAULTS = FolderOptions()
CLASS_FILES = ("classes.csv", "classes.yaml", "classes.yml")
EXPORTED_CLASS_FILES = (
    "class_dict.csv", "_classes.csv", "train/_classes.csv", "classes.json", "class_list.json", "classes.tsv",
    "id2label.json", "labelmap.txt", "label_colors.txt", "class_names.txt", "classes.txt", "codes.txt", "labels.txt",
    "config_v2.0.json", "config_v1.2.json",
)  # fmt: skip
"""Names under which other tools write them; looked for where there is none of the above."""
SPLITS = ("train", "val", "test")


def open_folder(
    root: Path,
    split: str,
    *,
    class_file: Path | None = None,
    options: FolderOptions = DEFAULTS,
    labels: LabelSettings = AS_FOUND,
) -> PairedFiles:
    """Open a split: ROOT/SPLIT/images/NAME.png with ROOT/SPLIT/labels/NAME.png, or what else `layouts` recognises.

    `read_class_file` says what a class file holds; by default it is ROOT/classes.csv or ROOT/classes.yaml. There is a
    split "test" if it has labels. Images may differ in size. The arguments are those of `DatasetEntry.open`.
    """
    search = require_folders("folder", root, [], LAYOUT)
    path = _find_class_file(root, options) if class_file is None else Path(class_file)
    # A class file in the data set came with it; one that is named elsewhere is the user's own.
    declared = read_class_file(path, within=root if class_file is None else None)
    # Where 0 is ignored, classes without ids count from 1; with an offset they are counted before that.
    ignored_first = () if labels.offset else labels.ignore_ids
    table, values, colours = classes_of_class_file(path, declared, ignore_ids=ignored_first)

    if class_file is None and path.suffix.lower() in (".txt", ".json", ".tsv"):
        search.note(f"classes are those of {search.name(path)}; data.class_file names another")
    pairs = pairs_of_split(search, split, options)
    return PairedFiles(
        name=declared.data_set,
        split=split,
        root=root,
        table=table,
        licence=_licence_of(root, declared),
        label_origins={"all": declared.label_origin} if declared.label_origin else {},
        pairs=pairs,
        values=values,
        orientation=options.orientation,
        problems=search.problems,
        notes=[*declared.notes, *search.notes],
        labels=labels,
        label_colours=colours,
        other_labels=labels_of_splits(root, [part for part in SPLITS if part != split], options),
    )


DATASET = DatasetEntry(
    name="folder",
    open=open_folder,
    description="any folder of images and index masks with a class file",
    takes_class_file=True,
    takes_options=True,
    takes_label_settings=True,
    has_test=partial(has_labelled_split, split="test"),
)


def _licence_of(root: Path, declared: ClassFile) -> str:
    """Return the terms that the class file states, or else those that an import recorded: a CSV file has no place."""
    path = root / IMPORTS.record
    if declared.licence == ClassFile.model_fields["licence"].default and path.is_file():
        with suppress(DataError, ValueError, RecursionError):
            record = json.loads(read_file(path, LIST_BYTES, within=root))
            stated = record.get("licence") if isinstance(record, dict) else None
            if isinstance(stated, str) and stated.strip():
                return stated.strip()[:2000]
    return declared.licence


def _find_class_file(root: Path, options: FolderOptions) -> Path:
    if (root / IMPORTS.unfinished).is_dir() and not (root / IMPORTS.record).is_file():
        raise DataError(
            f"{root} holds an unfinished import. Rerun the same command, scenepalette import, to finish it."
        )
    # Windows tells no capitals apart: Classes.csv is the same file there.
    known = {*CLASS_FILES, *EXPORTED_CLASS_FILES}
    entries = sorted(entry for entry in root.iterdir() if entry.name.lower() in known and entry.is_file())
    by_name = {entry.name.lower(): entry for entry in entries}
    named = (entry for entry in entries if entry.name.lower() in CLASS_FILES)
    present = sorted(named, key=lambda entry: CLASS_FILES.index(entry.name.lower()))
    exported = [path for name in EXPORTED_CLASS_FILES if (path := by_name.get(name, root / name)).is_file()]
    if not present and exported:
        return exported[0]
    if len(present) != 1:
        found = "there is none" if not present else f"there are {', '.join(path.name for path in present)}"
        # Where images and labels are in no layout either, the folder is the wrong one, or no folder of this reader.
        hint = "" if present else hint_of_layout(root, options)
        nor = f" Nor are its images and labels where 'folder' looks for them. {hint}" if hint else ""
        if (root / "SegmentationClass").is_dir():
            nor += f" For PASCAL VOC's own classes, `scenepalette import {root} --from voc`."
        raise DataError(
            f"{root} needs exactly one class file, {' or '.join(CLASS_FILES)}; {found}.{nor} The class file names the "
            "class of each label value: columns name, red, green, blue and, if wanted, id and evaluated; without id, a "
            "row per value, in order from 0. docs/data/datasets.md (Class files) lists what of other tools is read."
        )
    return present[0]
