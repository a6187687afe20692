"""Cityscapes, fine annotations, in its published layout (Cordts et al., 2016)."""

from __future__ import annotations

from pathlib import Path

from scenepalette.common.errors import DataError
from scenepalette.data.classes import ClassTable
from scenepalette.data.decoding.class_files import CITYSCAPES
from scenepalette.data.decoding.label_reading import AS_FOUND, LabelSettings
from scenepalette.data.files.finding import Search, require_folders
from scenepalette.data.files.image_files import FilePair, PairedFiles
from scenepalette.data.sample import DatasetEntry

LICENCE = "Cityscapes, non-commercial use, no redistribution; terms: https://www.cityscapes-dataset.com/license/"
IMAGE_END = "_leftImg8bit"
LABEL_END = "_gtFine_labelIds"
BESIDE = ("_color.png", "_instanceIds.png", "_labelTrainIds.png", "_instanceTrainIds.png", "_polygons.json")
"""Ends of the names of further annotation files, as the release and its scripts write them beside the labels."""


def open_cityscapes(root: Path, split: str, *, labels: LabelSettings = AS_FOUND) -> PairedFiles:
    """Open a split: leftImg8bit/SPLIT/CITY/*_leftImg8bit.png with gtFine/SPLIT/CITY/*_gtFine_labelIds.png.

    Other formats are read too. Label values are the published label ids; 255 is ignored. The arguments are those of
    `DatasetEntry.open`. Checking decodes every file, which takes some minutes for the whole training split.
    """
    return open_by_folders(
        CITYSCAPES,
        LICENCE,
        root,
        split,
        labels,
        label_end=LABEL_END,
        layout="leftImg8bit/SPLIT/CITY/*_leftImg8bit.png and gtFine/SPLIT/CITY/*_gtFine_labelIds.png",
        remedy="Copy these, which the release has beside them; or give *_labelTrainIds.png that name and set "
        "data.label_encoding to train-ids; or make labels of *_polygons.json with `scenepalette import --from "
        "cityscapes-json`.",
    )


DATASET = DatasetEntry(
    name="cityscapes",
    open=open_cityscapes,
    description="street scenes of European cities, 35 classes, 19 evaluated",
    table=CITYSCAPES,
    takes_label_settings=True,
)


def open_by_folders(
    table: ClassTable,
    licence: str,
    root: Path,
    split: str,
    labels: LabelSettings,
    *,
    label_end: str,
    layout: str,
    remedy: str,
) -> PairedFiles:
    """Open a split of a data set in Cityscapes' layout, which is called as its class table.

    A message has the layout in words, or where there are annotations and no label, `remedy`: where labels come from.
    """
    search = require_folders(table.name, root, [f"leftImg8bit/{split}", f"gtFine/{split}"], layout)
    folder = root / "gtFine" / split
    names = [path.name.lower() for path in folder.glob("**/*_gtFine_*")]
    if names and not any(f"{label_end.lower()}." in name for name in names):
        raise DataError(f"{folder} has annotations, but no label files *{label_end}.png. {remedy}")
    return PairedFiles(
        name=table.name,
        split=split,
        root=root,
        table=table,
        licence=licence,
        pairs=pair_by_folders(search, split, label_end=label_end),
        problems=search.problems,
        notes=search.notes,
        labels=labels,
        other_labels=search.all_labels("gtFine", end=label_end),
    )


def pair_by_folders(search: Search, split: str, *, label_end: str) -> list[FilePair]:
    """Pair files in Cityscapes' layout: leftImg8bit/SPLIT/FOLDER/NAME_leftImg8bit.*, gtFine/SPLIT/FOLDER/NAME<end>.*.

    Args:
        search: Finds the files below the data set's folder.
        split: "train" or "val".
        label_end: What follows NAME in a label's file name, without its extension.

    Returns:
        The pairs, sorted by FOLDER/NAME. An id is NAME, after FOLDER and "_" if NAME does not begin with it.
    """
    images = search.images(f"leftImg8bit/{split}", end=IMAGE_END)
    labels = search.labels(f"gtFine/{split}", end=label_end, beside=BESIDE)
    return search.pair(images, labels, f"gtFine/{split}/{{id}}{label_end}.png")
