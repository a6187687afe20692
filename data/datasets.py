"""Opening a labelled data set by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from scenepalette.common.errors import ConfigError, DataError
from scenepalette.data.sample import SegmentationDataset

SPLITS: tuple[Literal["train"], Literal["val"]] = ("train", "val")


@dataclass(frozen=True)
class _Request:
    """The arguments of `open_dataset`, as an opener receives them."""

    name: str
    split: Literal["train", "val"]
    root: Path | None
    class_file: Path | None
    count: int | None
    size: tuple[int, int] | None
    seed: int

    def folder(self) -> Path:
        """Return the root, or say that one is required."""
        if self.root is None:
            raise ConfigError(
                f"The data set '{self.name}' needs the folder it lies in; no root was given. "
                "Set data.root to that folder."
            )
        return Path(self.root)


# Readers and the street scenes import Sample from this module, so the openers import them when they are called.


def _open_streets(request: _Request) -> SegmentationDataset:
    from scenepalette.data.streets.dataset import Streets

    problems = []
    if request.count is None or request.count < 1:
        problems.append(f"count is {request.count}; the number of scenes to draw, 1 or more, is required")
    if request.size is None or min(request.size) < 1:
        problems.append(f"size is {request.size}; height and width in pixels are required")
    if request.root is not None:
        problems.append(f"root is {request.root}; street scenes are drawn, not read: leave root out")
    if request.count is None or request.size is None or problems:
        raise ConfigError("The data set 'streets' cannot be opened:", problems)
    return Streets(split=request.split, count=request.count, size=request.size, seed=request.seed)


def _open_camvid(request: _Request) -> SegmentationDataset:
    from scenepalette.data.readers.camvid import open_camvid

    return open_camvid(request.folder(), request.split)


def _open_cityscapes(request: _Request) -> SegmentationDataset:
    from scenepalette.data.readers.cityscapes import open_cityscapes

    return open_cityscapes(request.folder(), request.split)


def _open_idd(request: _Request) -> SegmentationDataset:
    from scenepalette.data.readers.idd import open_idd

    return open_idd(request.folder(), request.split)


def _open_cityscapes_25k(request: _Request) -> SegmentationDataset:
    from scenepalette.data.readers.cityscapes_25k import open_cityscapes_25k

    return open_cityscapes_25k(request.folder(), request.split)


def _open_ade20k(request: _Request) -> SegmentationDataset:
    from scenepalette.data.readers.ade20k import open_ade20k

    return open_ade20k(request.folder(), request.split)


def _open_ade_indoor(request: _Request) -> SegmentationDataset:
    from scenepalette.data.readers.ade_indoor import open_ade_indoor

    return open_ade_indoor(request.folder(), request.split, class_list=request.class_file)


def _open_coco_stuff(request: _Request) -> SegmentationDataset:
    from scenepalette.data.readers.coco_stuff import open_coco_stuff

    return open_coco_stuff(request.folder(), request.split)


def _open_celebamask_hq(request: _Request) -> SegmentationDataset:
    from scenepalette.data.readers.celebamask_hq import open_celebamask_hq

    return open_celebamask_hq(request.folder(), request.split)


def _open_gta5(request: _Request) -> SegmentationDataset:
    from scenepalette.data.readers.gta5 import open_gta5

    return open_gta5(request.folder(), request.split)


def _open_folder(request: _Request) -> SegmentationDataset:
    from scenepalette.data.readers.folder import open_folder

    return open_folder(request.folder(), request.split, class_file=request.class_file)


_OPENERS: dict[str, Callable[[_Request], SegmentationDataset]] = {
    "streets": _open_streets,
    "camvid": _open_camvid,
    "cityscapes": _open_cityscapes,
    "cityscapes-25k": _open_cityscapes_25k,
    "idd": _open_idd,
    "ade20k": _open_ade20k,
    "ade-indoor": _open_ade_indoor,
    "coco-stuff": _open_coco_stuff,
    "celebamask-hq": _open_celebamask_hq,
    "gta5": _open_gta5,
    "folder": _open_folder,
}
DATASET_NAMES = tuple(_OPENERS)
WITH_CLASS_FILE = ("folder", "ade-indoor")


def open_dataset(
    name: str,
    split: Literal["train", "val"],
    root: Path | None,
    *,
    class_file: Path | None = None,
    count: int | None = None,
    size: tuple[int, int] | None = None,
    seed: int = 0,
) -> SegmentationDataset:
    """Open one split of a data set and check every file of it.

    Args:
        name: One of DATASET_NAMES.
        split: "train" or "val".
        root: The folder of the data set in its published layout; None for "streets", which is drawn.
        class_file: For "folder": the class file, where it is not ROOT/classes.csv or ROOT/classes.yaml. For
            "ade-indoor": the class list, where it is not ROOT/ade_indoor_classes.txt.
        count: For "streets": number of scenes. Data sets on disk are read whole.
        size: For "streets": height and width in pixels. Data sets on disk keep their files' sizes.
        seed: For "streets": which scenes are drawn.

    Returns:
        The checked data set.

    Raises:
        ConfigError: An argument is missing, unknown, or would be without effect in a way that hides a mistake.
        DataError: Something is wrong with the files; every problem is listed with its file.
    """
    if name not in _OPENERS:
        raise ConfigError(f"There is no data set '{name}'; known are {', '.join(DATASET_NAMES)}.")
    if split not in SPLITS:
        raise ConfigError(f"There is no split '{split}'; known are {', '.join(SPLITS)}.")
    if class_file is not None and name not in WITH_CLASS_FILE:
        raise ConfigError(
            f"A class file ({class_file}) was given for '{name}', whose classes are fixed. Leave it out, or use the "
            "data set 'folder'."
        )
    request = _Request(name=name, split=split, root=root, class_file=class_file, count=count, size=size, seed=seed)
    try:
        return _OPENERS[name](request)
    except OSError as error:
        # Files have errors of their own; this is a folder that cannot be listed, or a path the system does not take.
        raise DataError(
            f"The data set '{name}' in {root} cannot be read: {error.filename} ({error.strerror or error}). Give the "
            "user who runs this permission to read every folder in it."
        ) from error
