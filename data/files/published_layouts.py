"""Which published data set a folder holds, told by the folders and files that its layout alone has."""

from __future__ import annotations

from pathlib import Path

_MARKS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("camvid", ("train", "trainannot", "val", "valannot")),
    ("cityscapes-25k", ("leftImg8bit/train_extra", "refinement_final/train_extra")),
    ("cityscapes", ("leftImg8bit/train", "gtFine/train/**/*_gtFine_labelIds.*")),
    ("idd", ("leftImg8bit/train", "gtFine/train/**/*_gtFine_labelids.*")),
    # Without the labels that are read, the readers say where these come from. Folders of IDD are numbers, those of
    # Cityscapes are cities; the full release of ADE20K has labels of other classes.
    ("idd", ("leftImg8bit/train", "gtFine/train/[0-9]*/*_gtFine_*")),
    ("cityscapes", ("leftImg8bit/train", "gtFine/train/**/*_gtFine_*")),
    ("ade20k", ("images/training/ADE_train_*", "annotations/training/ADE_train_*")),
    ("ade20k", ("images/training/*/*/ADE_train_*_seg.png",)),
    ("ade20k", ("images/ADE/training/*/*/ADE_train_*_seg.png",)),
    ("coco-stuff", ("images/train2017", "annotations/train2017")),
    ("coco-stuff", ("images/train2017", "stuffthingmaps*/train2017")),
    ("coco-stuff", ("train2017", "stuffthingmaps*/train2017")),
    ("celebamask-hq", ("CelebA-HQ-img", "CelebAMask-HQ-mask-anno")),
    ("gta5", ("images", "labels", "split.mat")),
)


def published_layout(root: Path) -> str | None:
    """Return the name of the data set whose published layout a folder has, None for any other.

    ADE-Indoor has ADE20K's layout, and has to be named.
    """
    for name, marks in _MARKS:
        if all(next(root.glob(mark), None) is not None for mark in marks):
            return name
    return None
