"""The India Driving Dataset with prepared labels (Varma et al., 2019)."""

from __future__ import annotations

from pathlib import Path

from scenepalette.data.decoding.class_files import IDD
from scenepalette.data.decoding.label_reading import AS_FOUND, LabelSettings
from scenepalette.data.files.finding import require_folders
from scenepalette.data.files.image_files import PairedFiles
from scenepalette.data.readers.cityscapes import pair_by_folders, require_labels
from scenepalette.data.sample import DatasetEntry

LICENCE = "India Driving Dataset, published for research; terms: https://idd.insaan.iiit.ac.in/"
LABEL_END = "_gtFine_labelids"


def open_idd(root: Path, split: str, *, labels: LabelSettings = AS_FOUND) -> PairedFiles:
    """Open a split: leftImg8bit/SPLIT/SEQUENCE/*_leftImg8bit.png or .jpg with gtFine/.../*_gtFine_labelids.png.

    The data set is published with polygons; its makers' script `createLabels.py --id-type id` makes the label files.

    Label values are these ids; 255 is ignored. The arguments are those of `DatasetEntry.open`.
    """
    layout = "leftImg8bit/SPLIT/SEQUENCE/*_leftImg8bit.(png|jpg) and gtFine/SPLIT/SEQUENCE/*_gtFine_labelids.png"
    search = require_folders("idd", root, [f"leftImg8bit/{split}", f"gtFine/{split}"], layout)
    require_labels(
        root / "gtFine" / split,
        LABEL_END,
        "Make them with the data set's own script: createLabels.py --datadir ROOT --id-type id "
        "(github.com/AutoNUE/public-code).",
    )
    return PairedFiles(
        name="idd",
        split=split,
        root=root,
        table=IDD,
        licence=LICENCE,
        pairs=pair_by_folders(search, split, label_end=LABEL_END),
        problems=search.problems,
        notes=search.notes,
        labels=labels,
        other_labels=search.all_labels("gtFine", end=LABEL_END),
    )


DATASET = DatasetEntry(
    name="idd",
    open=open_idd,
    description="street scenes of Indian cities, 40 classes, 31 evaluated",
    table=IDD,
    takes_label_settings=True,
)
