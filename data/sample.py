"""What every labelled data set gives, samples of one split, and how a data set is declared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from scenepalette.data.classes import ClassTable


@dataclass(frozen=True)
class Sample:
    """One image with its label map.

    Attributes:
        id: Unique in its data set and split; usable as a file name.
        image: uint8 [H, W, 3], red, green, blue.
        label: uint8 [H, W], ids 0..K-1 or IGNORE_ID.
    """

    id: str
    image: np.ndarray
    label: np.ndarray


class SegmentationDataset(Protocol):
    """A checked, labelled data set of one split; sizes may differ between samples.

    `__getitem__` depends on nothing but its index and may be called from several threads at once.
    """

    @property
    def name(self) -> str:
        """Name of the data set, such as "camvid"."""
        ...

    @property
    def split(self) -> str:
        """Either "train", "val" or "test"."""
        ...

    @property
    def table(self) -> ClassTable:
        """The classes of the labels."""
        ...

    @property
    def licence(self) -> str:
        """The terms under which the data was published, one line."""
        ...

    @property
    def label_origins(self) -> Mapping[str, str]:
        """How the labels came about, by part of the data set; empty where all of them came about alike."""
        ...

    @property
    def ids(self) -> Sequence[str]:
        """Sample ids in the order of the indices."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash that changes when the samples change, quick to take: by times of change, and where the files lie."""
        ...

    @property
    def content(self) -> str:
        """Hex SHA-256 of all that decides the samples, wherever their files lie and whenever they were copied."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...


class WrappedDataset:
    """What a data set that shows another one differently has in common with that; satisfies SegmentationDataset."""

    def __init__(self, dataset: SegmentationDataset) -> None:
        self._dataset = dataset
        self.name, self.split, self.table = dataset.name, dataset.split, dataset.table
        self.licence, self.label_origins, self.ids = dataset.licence, dataset.label_origins, dataset.ids

    @property
    def fingerprint(self) -> str:
        """That of the whole data set."""
        return self._dataset.fingerprint

    @property
    def content(self) -> str:
        """That of the whole data set."""
        return self._dataset.content

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int, /) -> Sample:
        return self._dataset[index]


Orientation = Literal["by size", "stored", "upright"]
"""How images are read that their EXIF tag turns: as the label's size says, as stored, or as viewers show them."""


@dataclass(frozen=True)
class FolderOptions:
    """What a user may say of a plain folder, where its files do not, or say it wrongly.

    Attributes:
        label_folder: Name of the folder of labels, in a split's folder or around the splits; also v2.0/labels.
        label_suffix: What a label's name has after that of its image: "_mask".
        orientation: How images are read that their EXIF tag turns.
        val_share: Of a folder without splits: the share that is for validation.
        val_seed: Of such a folder: decides the choice where images or recordings are drawn.
        undivided: Whether all of such a folder is for validation, as of an extra test set.
    """

    label_folder: str | None = None
    label_suffix: str | None = None
    orientation: Orientation = "by size"
    val_share: float = 0.2
    val_seed: int = 0
    undivided: bool = False


@dataclass(frozen=True)
class DatasetEntry:
    """A data set as `scenepalette.data.datasets` knows it; packages elsewhere declare theirs in the same way.

    Attributes:
        name: Value of `data.name`.
        open: Opens a split and checks every file of it: open(root, split) with the data set's folder and "train", "val"
            or "test". With `takes_class_file` it is also given class_file=, which is None unless the user named one,
            with `takes_options` options=, and with `takes_label_settings` labels=, what the user says of the label
            images. Raises a DataError that lists every problem with its file.
        description: One line for lists.
        takes_class_file: Whether a file of the user may say which classes there are.
        takes_options: Whether `open` takes `FolderOptions` of the user.
        takes_label_settings: Whether `open` takes a `scenepalette.data.decoding.label_reading.LabelSettings`.
        drawn: Whether samples are drawn and not read: open(split=, count=, size=, seed=). These arguments alone must
            decide them.
        table: The classes, unless files say which there are; the doctor uses it where no split can be opened.
        recordings: Whether samples may be frames of recordings, as their ids tell; False only where every image is
            independent of all others.
        has_test: Tells whether a folder has a published test split with labels, which `open` then takes as "test";
            None where none is published.
    """

    name: str
    open: Callable[..., SegmentationDataset]
    description: str
    takes_class_file: bool = False
    takes_options: bool = False
    takes_label_settings: bool = False
    drawn: bool = False
    table: ClassTable | None = None
    recordings: bool = True
    has_test: Callable[[Path], bool] | None = None
