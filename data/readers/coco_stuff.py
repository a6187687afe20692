"""COCO-Stuff with its "stuffthingmaps" on COCO 2017 (Caesar et al., 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scenepalette.data.decoding.class_files import packaged_table
from scenepalette.data.decoding.label_reading import AS_FOUND, LabelSettings
from scenepalette.data.files.finding import require_folders
from scenepalette.data.files.image_files import PairedFiles
from scenepalette.data.sample import DatasetEntry

LICENCE = (
    "COCO-Stuff, annotations CC BY 4.0, images under Flickr's terms of use; terms: "
    "https://github.com/nightrome/cocostuff#licensing"
)
IMAGE_FOLDERS = ("images", ".")
LABEL_FOLDERS = ("annotations", "stuffthingmaps_trainval2017", "stuffthingmaps")


def open_coco_stuff(root: Path, split: str, *, labels: LabelSettings = AS_FOUND) -> PairedFiles:
    """Open a split: images/train2017/NUMBER.jpg with annotations/train2017/NUMBER.png, the same for val2017.

    Images may also lie in ROOT/train2017/, and labels in a folder stuffthingmaps_trainval2017/ or stuffthingmaps/
    instead of annotations/. Labels whose name is not a number are skipped. Label value v is the published class index
    v + 1 of 182; 255 ("unlabeled") is ignored. The arguments are those of `DatasetEntry.open`.
    """
    images = _first_folder(root, IMAGE_FOLDERS, f"{split}2017")
    annotations = _first_folder(root, LABEL_FOLDERS, f"{split}2017")
    layout = "images/SPLIT2017/NUMBER.jpg and annotations/SPLIT2017/NUMBER.png"
    search = require_folders("coco-stuff", root, [images, annotations], layout)
    table = packaged_table("coco-stuff")
    labelled = search.labels(annotations)
    # Converters for other libraries leave files such as 000000000009_labelTrainIds.png beside the labels.
    others = {name for name in labelled if not name.rsplit("/", 1)[-1].isdecimal()}
    search.pass_over((labelled[name] for name in others), "a label without a number for a name")
    pairs = search.pair(
        search.images(images),
        {name: path for name, path in labelled.items() if name not in others},
        f"{annotations}/{{id}}.png",
    )
    return PairedFiles(
        name="coco-stuff",
        split=split,
        root=root,
        table=table,
        licence=LICENCE,
        pairs=pairs,
        problems=search.problems,
        notes=search.notes,
        labels=labels,
        other_labels=[path for path in search.all_labels(str(Path(annotations).parent)) if path.stem.isdecimal()],
        never=[class_id for class_id, entry in enumerate(table.classes) if not entry.evaluated],
    )


DATASET = DatasetEntry(
    name="coco-stuff",
    open=open_coco_stuff,
    description="things and stuff on COCO 2017, 182 classes, 171 evaluated",
    recordings=False,
    takes_label_settings=True,
)


def _first_folder(root: Path, parents: Sequence[str], name: str) -> str:
    """Return the first of the folders PARENT/NAME that is there, or the first of all if there is none."""
    folders = [(Path(parent) / name).as_posix() for parent in parents]
    return next((folder for folder in folders if (root / folder).is_dir()), folders[0])
