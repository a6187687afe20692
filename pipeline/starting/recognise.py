"""Which data set a folder holds, told by the folders that published layouts have."""

from __future__ import annotations

from pathlib import Path

from scenepalette.data.readers.folder import CLASS_FILES, EXPORTED_CLASS_FILES

_MARKS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("camvid", ("train", "trainannot", "val", "valannot")),
    ("cityscapes-25k", ("leftImg8bit/train_extra", "refinement_final/train_extra")),
    ("cityscapes", ("leftImg8bit/train/*/*_leftImg8bit.png", "gtFine/train/*/*_gtFine_labelIds.png")),
    ("idd", ("leftImg8bit/train", "gtFine/train/*/*_gtFine_labelids.png")),
    ("ade20k", ("images/training/ADE_train_*", "annotations/training/ADE_train_*")),
    ("coco-stuff", ("images/train2017", "annotations/train2017")),
    ("celebamask-hq", ("CelebA-HQ-img", "CelebAMask-HQ-mask-anno")),
    ("gta5", ("images", "labels", "split.mat")),
)


def recognise(root: Path) -> str:
    """Return the name of the data set whose published layout a folder has; "folder" for any other.

    A class file makes it a folder of the user's own. ADE-Indoor has ADE20K's layout, and has to be named.
    """
    if any((root / name).is_file() for name in (*CLASS_FILES, *EXPORTED_CLASS_FILES)):
        return "folder"
    for name, marks in _MARKS:
        if all(next(root.glob(mark), None) is not None for mark in marks):
            return name
    return "folder"
