"""Cityscapes, fine annotations, in its published layout (Cordts et al. 2016)."""

from __future__ import annotations

from pathlib import Path

from scenepalette.data.class_files import CITYSCAPES
from scenepalette.data.label_reading import AS_FOUND, LabelSettings
from scenepalette.data.readers.image_files import PairedFiles, pair_by_folders, require_folders
from scenepalette.data.sample import DatasetEntry

LICENCE = "Cityscapes, non-commercial use, no redistribution; terms: https://www.cityscapes-dataset.com/license/"


def open_cityscapes(root: Path, split: str, *, labels: LabelSettings = AS_FOUND) -> PairedFiles:
    """Open a split: leftImg8bit/SPLIT/CITY/*_leftImg8bit.png with gtFine/SPLIT/CITY/*_gtFine_labelIds.png.

    Label values are the published label ids, see scenepalette.data.classes.CITYSCAPES; 255 is ignored.

    Args:
        root: Folder with leftImg8bit/ and gtFine/.
        split: "train" or "val".
        labels: What the user says of the label images.

    Returns:
        The checked data set. Checking decodes every file: some minutes for the whole training split.

    Raises:
        DataError: Something is missing or wrong; every problem is listed with its file.
    """
    layout = "leftImg8bit/SPLIT/CITY/*_leftImg8bit.png and gtFine/SPLIT/CITY/*_gtFine_labelIds.png"
    require_folders("cityscapes", root, [f"leftImg8bit/{split}", f"gtFine/{split}"], layout)
    pairs, problems = pair_by_folders(
        root, split, image_endings=["_leftImg8bit.png"], label_ending="_gtFine_labelIds.png"
    )
    return PairedFiles(
        name="cityscapes",
        split=split,
        root=root,
        table=CITYSCAPES,
        licence=LICENCE,
        pairs=pairs,
        problems=problems,
        labels=labels,
        other_labels=sorted(root.glob("gtFine/*/*/*_gtFine_labelIds.png")),
    )


DATASET = DatasetEntry(
    name="cityscapes",
    open=open_cityscapes,
    description="street scenes of European cities, 35 classes, 19 evaluated",
    table=CITYSCAPES,
    takes_label_settings=True,
)
