"""GTA-5, "Playing for Data" (Richter et al., 2016)."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from scenepalette.common.errors import DataError
from scenepalette.common.problems import ProblemKind
from scenepalette.common.storage.untrusted import LIST_BYTES, read_file
from scenepalette.data.decoding.class_files import CITYSCAPES
from scenepalette.data.decoding.label_reading import AS_FOUND, LabelSettings
from scenepalette.data.files.finding import Search, require_folders
from scenepalette.data.files.image_files import PairedFiles
from scenepalette.data.sample import DatasetEntry

LICENCE = (
    "GTA-5 (Playing for Data), frames of a commercial game, for research and education; terms: "
    "https://download.visinf.tu-darmstadt.de/data/from_games/"
)
SPLIT_FILE = "split.mat"
SPLIT_KEYS = {"train": "trainIds", "val": "valIds", "test": "testIds"}
VALIDATION_PART = 4
"""Without the split file, the last 1 of so many images is for validation."""


def open_gta5(root: Path, split: str, *, labels: LabelSettings = AS_FOUND) -> PairedFiles:
    """Open a split: images/NUMBER.png with labels/NUMBER.png, whose palette indices are Cityscapes' label ids.

    If ROOT/split.mat is there, as published with the data set's label mapping, then it says which images are for
    training and validation; its test images are left out, and its entries without files are skipped. Otherwise
    the last quarter of the images, by number, is for validation and the rest for training: neighbouring frames look
    alike, so that a cut at one place mixes least.

    Some labels were published in another size than their images, reportedly 15188, 20803 to 20834 and 20858 to 20860.
    They are listed as problems like any other; move both files of each elsewhere. The arguments are those of
    `DatasetEntry.open`.
    """
    layout = "images/NUMBER.png, labels/NUMBER.png and, if wanted, split.mat"
    search = require_folders("gta5", root, ["images", "labels"], layout)
    images, labelled = search.images("images"), search.labels("labels")
    names = sorted(images.keys() | labelled.keys())
    numbered = [name for name in names if _number(name).isdecimal()]
    for name in sorted(set(names) - set(numbered)):
        search.refuse((images | labelled)[name], "the name is not a number, as all published ones are")
    if (root / SPLIT_FILE).is_file():
        files = {name: (labelled | images)[name] for name in numbered}
        members = _published_split(search, files, split)
    else:
        first_validation = len(numbered) - len(numbered) // VALIDATION_PART
        members = set(numbered[:first_validation] if split == "train" else numbered[first_validation:])
    if split == "train" and not (root / SPLIT_FILE).is_file():
        search.note(
            f"there is no {SPLIT_FILE}: the last of {VALIDATION_PART} parts of the images, by number, is for validation"
        )
    pairs = search.pair(
        {name: path for name, path in images.items() if name in members},
        {name: path for name, path in labelled.items() if name in members},
        "labels/{id}.png",
    )
    return PairedFiles(
        name="gta5",
        split=split,
        root=root,
        table=CITYSCAPES,
        licence=LICENCE,
        pairs=pairs,
        problems=search.problems,
        notes=search.notes,
        labels=labels,
        other_labels=labelled.values(),
    )


DATASET = DatasetEntry(
    name="gta5",
    open=open_gta5,
    description="frames of a commercial game, classes of Cityscapes",
    table=CITYSCAPES,
    takes_label_settings=True,
)


def _number(key: str) -> str:
    return key.rsplit("/", 1)[-1]


def _published_split(search: Search, files: Mapping[str, Path], split: str) -> set[str]:
    """Return the names that belong to a split by the split file, which must have each file in one."""
    path = search.root / SPLIT_FILE
    try:
        file = io.BytesIO(read_file(path, LIST_BYTES, within=path.parent))
        content = loadmat(file, variable_names=list(SPLIT_KEYS.values()))
        numbers = {part: {int(value) for value in np.ravel(content[key])} for part, key in SPLIT_KEYS.items()}
    except Exception as error:
        # SciPy raises errors of many types on broken or foreign files; each of them means that this file is unusable.
        raise DataError(
            f"{path} cannot be used ({type(error).__name__}: {error}). Required is the published MATLAB file with "
            f"{', '.join(SPLIT_KEYS.values())}; copy it again, or remove it to split by number."
        ) from error
    parts_of = {name: [part for part, members in numbers.items() if int(_number(name)) in members] for name in files}
    for name, parts in parts_of.items():
        if len(parts) != 1:
            text = f"{path.name} has it in {' and '.join(parts) or 'no split'}; exactly one is required"
            search.refuse(files[name], text, kind=ProblemKind.LIST)
    return {name for name, parts in parts_of.items() if split in parts}
