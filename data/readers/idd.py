"""The India Driving Dataset with prepared labels (Varma et al., 2019)."""

from __future__ import annotations

from pathlib import Path

from scenepalette.data.decoding.class_files import IDD
from scenepalette.data.decoding.label_reading import AS_FOUND, LabelSettings
from scenepalette.data.files.image_files import PairedFiles
from scenepalette.data.readers.cityscapes import open_by_folders
from scenepalette.data.sample import DatasetEntry

LICENCE = "India Driving Dataset, published for research; terms: https://idd.insaan.iiit.ac.in/"


def open_idd(root: Path, split: str, *, labels: LabelSettings = AS_FOUND) -> PairedFiles:
    """Open a split: leftImg8bit/SPLIT/SEQUENCE/*_leftImg8bit.png or .jpg with gtFine/.../*_gtFine_labelids.png.

    The data set is published with polygons; its makers' script `createLabels.py --id-type id` makes the label files.

    Label values are these ids; 255 is ignored. The arguments are those of `DatasetEntry.open`.
    """
    return open_by_folders(
        IDD,
        LICENCE,
        root,
        split,
        labels,
        label_end="_gtFine_labelids",
        layout="leftImg8bit/SPLIT/SEQUENCE/*_leftImg8bit.(png|jpg) and gtFine/SPLIT/SEQUENCE/*_gtFine_labelids.png",
        remedy="Make them with the data set's own script: createLabels.py --datadir ROOT --id-type id "
        "(github.com/AutoNUE/public-code).",
    )


DATASET = DatasetEntry(
    name="idd",
    open=open_idd,
    description="street scenes of Indian cities, 40 classes, 31 evaluated",
    table=IDD,
    takes_label_settings=True,
)
