"""Cityscapes-25k: Cityscapes with 19,998 more training scenes, whose labels a pretrained network predicted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from scenepalette.data.decoding.class_files import CITYSCAPES
from scenepalette.data.decoding.label_images import LabelValues
from scenepalette.data.decoding.label_reading import AS_FOUND, LabelSettings
from scenepalette.data.files.finding import Search, require_folders
from scenepalette.data.files.image_files import FilePair, PairedFiles
from scenepalette.data.readers import cityscapes
from scenepalette.data.readers.cityscapes import IMAGE_END, pair_by_folders
from scenepalette.data.sample import DatasetEntry

LICENCE = f"{cityscapes.LICENCE}; labels of train_extra are machine-made, predicted by a pretrained network"
EXTRA = "train_extra"
"""Folder of the additional scenes, and what the ids of their samples begin with."""
EXTRA_LABELS = "refinement_final/train_extra"
"""Where the predicted labels lie, as their archive refinement_final_v0.zip unpacks (Tao et al., 2020)."""
EXTRA_VALUES = LabelValues(ids={value: value for value in CITYSCAPES.eval_ids}, ignored=frozenset({0}))
"""Predicted are the 19 evaluated classes, as published label ids; 0 says that nothing was predicted."""


def open_cityscapes_25k(root: Path, split: str, *, labels: LabelSettings = AS_FOUND) -> PairedFiles:
    """Open a split: that of Cityscapes, and for "train" also the scenes leftImg8bit/train_extra.

    The label of leftImg8bit/train_extra/CITY/NAME_leftImg8bit.png is a file of the same name in
    refinement_final/train_extra/CITY/. It may hold the published label ids of the 19 evaluated classes and, ignored, 0
    and 255; other values, such as train ids, are refused. Labels without an image are skipped, because the
    published archive has some. The additional samples come last, their ids begin with "train_extra_", and
    `label_origins` says that their labels are machine-made. The arguments are those of `DatasetEntry.open`.
    """
    extra_images = f"leftImg8bit/{EXTRA}"
    layout = (
        "leftImg8bit/SPLIT/CITY/*_leftImg8bit.png with gtFine/SPLIT/CITY/*_gtFine_labelIds.png and, for training, "
        f"{extra_images}/CITY/*_leftImg8bit.png with {EXTRA_LABELS}/CITY/*_leftImg8bit.png"
    )
    extra_folders = [extra_images, EXTRA_LABELS] if split == "train" else []
    folders = [f"leftImg8bit/{split}", f"gtFine/{split}", *extra_folders]
    search = require_folders("cityscapes-25k", root, folders, layout)
    pairs = pair_by_folders(search, split, label_end="_gtFine_labelIds")
    origins = {split: f"{len(pairs)} samples, annotated by people"}
    if split == "train":
        extra = _machine_labelled(search, extra_images)
        pairs += extra
        origins[EXTRA] = (
            f"{len(extra)} samples, ids {EXTRA}_*: machine-made labels, predicted by a pretrained network; only the "
            f"{len(CITYSCAPES.eval_ids)} evaluated classes are annotated"
        )
    return PairedFiles(
        name="cityscapes-25k",
        split=split,
        root=root,
        table=CITYSCAPES,
        licence=LICENCE,
        pairs=pairs,
        label_origins=origins,
        problems=search.problems,
        notes=search.notes,
        labels=labels,
        other_labels=search.all_labels("gtFine", end="_gtFine_labelIds"),
    )


DATASET = DatasetEntry(
    name="cityscapes-25k",
    open=open_cityscapes_25k,
    description="Cityscapes with 19,998 more training scenes, labelled by a network",
    table=CITYSCAPES,
    takes_label_settings=True,
)


def _machine_labelled(search: Search, image_folder: str) -> list[FilePair]:
    images, labels = search.images(image_folder, end=IMAGE_END), search.labels(EXTRA_LABELS, end=IMAGE_END)
    others = [path for key, path in labels.items() if key not in images]
    search.pass_over(others, "a predicted label without an image")
    used = {key: path for key, path in labels.items() if key in images}
    pairs = search.pair(images, used, f"{EXTRA_LABELS}/{{id}}{IMAGE_END}.png")
    return [replace(pair, id=f"{EXTRA}_{pair.id}", values=EXTRA_VALUES) for pair in pairs]
