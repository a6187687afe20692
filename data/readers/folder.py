"""Any folder of images and index masks with a class file."""

from __future__ import annotations

from pathlib import Path

from scenepalette.common.errors import DataError
from scenepalette.data.class_files import read_class_file, table_of_class_file
from scenepalette.data.label_images import LabelValues
from scenepalette.data.readers.finding import Search, require_folders
from scenepalette.data.readers.image_files import PairedFiles
from scenepalette.data.readers.layouts import LAYOUT, has_labelled_test, pairs_of_split
from scenepalette.data.sample import DatasetEntry, FolderOptions

DEFAULTS = FolderOptions()
CLASS_FILES = ("classes.csv", "classes.yaml", "classes.yml")


def open_folder(
    root: Path, split: str, *, class_file: Path | None = None, options: FolderOptions = DEFAULTS
) -> PairedFiles:
    """Open a split: ROOT/SPLIT/images/NAME.png with ROOT/SPLIT/labels/NAME.png, or what else `layouts` recognises.

    `read_class_file` says what a class file holds.

    Args:
        root: Folder of the data set.
        split: "train", "val" or, if it has labels, "test".
        class_file: The class file; by default ROOT/classes.csv or ROOT/classes.yaml.
        options: What the user says of the folder.

    Returns:
        The checked data set; images may differ in size.

    Raises:
        DataError: Something is missing or wrong; every problem is listed with its file.
    """
    require_folders("folder", root, [], LAYOUT)
    path = _find_class_file(root) if class_file is None else Path(class_file)
    # A class file in the data set came with it; one that is named elsewhere is the user's own.
    declared = read_class_file(path, within=root if class_file is None else None)
    table = table_of_class_file(path, declared)

    search = Search(root)
    pairs = pairs_of_split(search, split, options)
    return PairedFiles(
        name=declared.data_set,
        split=split,
        root=root,
        table=table,
        licence=declared.licence,
        label_origins={"all": declared.label_origin} if declared.label_origin else {},
        pairs=pairs,
        values=LabelValues.class_ids(table.num_classes, ignored=declared.ignore_ids),
        orientation=options.orientation,
        problems=search.problems,
        notes=search.notes,
    )


DATASET = DatasetEntry(
    name="folder",
    open=open_folder,
    description="any folder of images and index masks with a class file",
    takes_class_file=True,
    takes_options=True,
    has_test=has_labelled_test,
)


def _find_class_file(root: Path) -> Path:
    present = [root / name for name in CLASS_FILES if (root / name).is_file()]
    if len(present) != 1:
        found = "there is none" if not present else f"there are {', '.join(path.name for path in present)}"
        raise DataError(
            f"{root} needs exactly one class file, {' or '.join(CLASS_FILES)}; {found}. It names the class of each "
            "label id: columns name, red, green, blue and, if wanted, evaluated; one row per id, in order."
        )
    return present[0]
