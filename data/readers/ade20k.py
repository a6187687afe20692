"""ADE20K in the layout of the scene parsing benchmark SceneParse150 (Zhou et al., 2017)."""

from __future__ import annotations

from pathlib import Path

from scenepalette.data.classes import IGNORE_ID
from scenepalette.data.decoding.class_files import packaged_table
from scenepalette.data.decoding.label_images import LabelValues
from scenepalette.data.decoding.label_reading import AS_FOUND, LabelSettings
from scenepalette.data.files.finding import Search, require_folders
from scenepalette.data.files.image_files import FilePair, PairedFiles
from scenepalette.data.sample import DatasetEntry

LICENCE = (
    "ADE20K, images for non-commercial research and education, annotations BSD-3; terms: "
    "https://groups.csail.mit.edu/vision/datasets/ADE20K/terms/"
)
UNLABELLED = 0
"""The label files' value for pixels of none of the 150 classes."""
FOLDERS = {"train": "training", "val": "validation"}


def open_ade20k(root: Path, split: str, *, labels: LabelSettings = AS_FOUND) -> PairedFiles:
    """Open a split: images/training/NAME.jpg with annotations/training/NAME.png, or validation instead of training.

    Other formats and sub-folders are read too. Label value v is class v - 1 of 150; 0 is ignored. The arguments are
    those of `DatasetEntry.open`; the root is a folder such as ADEChallengeData2016.
    """
    table = packaged_table("ade20k")
    pairs, search = pair_ade20k("ade20k", root, split)
    return PairedFiles(
        name="ade20k",
        split=split,
        root=root,
        table=table,
        licence=LICENCE,
        pairs=pairs,
        values=LabelValues(
            ids={class_id + 1: class_id for class_id in range(table.num_classes)}, ignored=frozenset({UNLABELLED})
        ),
        problems=search.problems,
        notes=search.notes,
        labels=labels,
        other_labels=search.all_labels("annotations"),
        never=[IGNORE_ID],
    )


DATASET = DatasetEntry(
    name="ade20k",
    open=open_ade20k,
    description="scenes of all kinds, 150 classes",
    recordings=False,
    takes_label_settings=True,
)


def pair_ade20k(name: str, root: Path, split: str) -> tuple[list[FilePair], Search]:
    """Pair the files of a split of ADE20K.

    Args:
        name: Name of the data set, for messages.
        root: Folder with images/ and annotations/.
        split: "train" or "val".

    Returns:
        The pairs, sorted by key, and what was found on the way.

    Raises:
        DataError: A folder is missing.
    """
    folder = FOLDERS[split]
    layout = "images/(training|validation)/NAME.jpg and annotations/(training|validation)/NAME.png"
    found = ""
    if next(root.glob("images/**/ADE_*_seg.png"), None) is not None:
        found = (
            "ADE_*_seg.png are labels of ADE20K's full release, which has other classes; required is the scene parsing "
            "benchmark, ADEChallengeData2016."
        )
    search = require_folders(name, root, [f"images/{folder}", f"annotations/{folder}"], layout, found=found)
    images, labels = search.images(f"images/{folder}"), search.labels(f"annotations/{folder}")
    return search.pair(images, labels, f"annotations/{folder}/{{id}}.png"), search
