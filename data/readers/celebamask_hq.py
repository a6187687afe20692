"""CelebAMask-HQ: faces with a mask file per part (Lee et al., 2020)."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scenepalette.common.errors import DataError
from scenepalette.common.problems import Problem, ProblemKind
from scenepalette.data.decoding.class_files import CELEBAMASK_HQ
from scenepalette.data.decoding.label_images import read_mask
from scenepalette.data.files.finding import Search, require_folders
from scenepalette.data.files.image_files import FilePair, PairedFiles
from scenepalette.data.files.naming import name_within
from scenepalette.data.files.split_lists import numbered_lines
from scenepalette.data.sample import DatasetEntry

LICENCE = (
    "CelebAMask-HQ, non-commercial research, no redistribution; terms: https://github.com/switchablenorms/CelebAMask-HQ"
)
IMAGES = "CelebA-HQ-img"
MASKS = "CelebAMask-HQ-mask-anno"
MAPPING = "CelebA-HQ-to-CelebA-mapping.txt"
PARTITION = "list_eval_partition.txt"
MASKS_PER_FOLDER = 2000
"""The masks of the images 0 to 1999 lie in the folder 0, and so on."""
LAST_TRAIN, LAST_VAL = 162770, 182637
"""Last number of a training and of a validation image in CelebA's partition, whose splits are consecutive."""
SPLIT_CODES = {"0": "train", "1": "val", "2": "test"}

_MASK_NAME = re.compile(r"(\d{5})_(\w+)")
_PART_IDS = {name: class_id for class_id, name in enumerate(CELEBAMASK_HQ.names) if name != "background"}


@dataclass(frozen=True)
class PartMasks:
    """The masks of one face; satisfies scenepalette.data.files.image_files.LabelFiles.

    Attributes:
        root: The data set's folder; messages name files relative to it.
        name: What messages call all of them together.
        masks: Class id and file of each part, in the order of the ids.
    """

    root: Path
    name: str
    masks: tuple[tuple[int, Path], ...]

    @property
    def paths(self) -> tuple[Path, ...]:
        """Every mask file."""
        return tuple(path for _, path in self.masks)

    def read(self) -> np.ndarray:
        """Merge the masks as published: in the order of the class ids, a later part covers an earlier one.

        Returns:
            uint8 [H, W] of class ids; 0, "background", where no mask is white.

        Raises:
            DataError: A mask cannot be read or is not as large as the first; every problem is listed with its file.
        """
        problems: list[Problem] = []
        merged: np.ndarray | None = None
        for class_id, path in self.masks:
            name = name_within(path, self.root)
            try:
                mask = read_mask(path)
            except DataError as error:
                problems.append(Problem(error.kind, name, error.summary))
                continue
            if merged is None:
                merged = np.zeros(mask.shape, dtype=np.uint8)
            if mask.shape != merged.shape:
                text = (
                    f"{mask.shape[0]} x {mask.shape[1]} pixels (height x width), but another mask of the face "
                    f"has {merged.shape[0]} x {merged.shape[1]}; all must be equal"
                )
                problems.append(Problem(ProblemKind.SIZE, name, text))
                continue
            merged[mask] = class_id
        if problems or merged is None:
            raise DataError(f"{self.name} cannot be used:", problems)
        return merged


def open_celebamask_hq(root: Path, split: str) -> PairedFiles:
    """Open a split: CelebA-HQ-img/NUMBER.jpg with CelebAMask-HQ-mask-anno/FOLDER/NUMBER_PART.png for each part.

    The number of a mask has five digits; FOLDER is the number divided by 2000, rounded down. A part that a face does
    not have has no file. Masks are half as high and wide as their image (512 and 1024 as published), so each label
    pixel covers 2 x 2 image pixels and nothing is resampled.

    CelebA-HQ-to-CelebA-mapping.txt names the image of CelebA behind each face. If CelebA's list_eval_partition.txt is
    there too, then it says which split that belongs to; otherwise CelebA's published partition is taken by number: up
    to 162770 training, up to 182637 validation. Test images are left out, and lines without files are skipped. The
    arguments are those of `DatasetEntry.open`.
    """
    layout = f"{IMAGES}/NUMBER.jpg, {MASKS}/FOLDER/NUMBER_PART.png and {MAPPING}"
    search = require_folders("celebamask-hq", root, [IMAGES, MASKS], layout)
    if not (root / MAPPING).is_file():
        raise DataError(
            f"{root} has no {MAPPING}, which says which split a face belongs to. Copy it from the data set's archive."
        )
    masks = _find_masks(search)
    images: dict[int, Path] = {}
    for key, path in search.images(IMAGES).items():
        name = key.rsplit("/", 1)[-1]
        if not name.isdecimal():
            search.refuse(path, "the name is not a number, as all published ones are")
        elif int(name) in images:
            search.refuse(path, f"a second image of the face {int(name)} beside {search.name(images[int(name)])}")
        else:
            images[int(name)] = path
    split_of = _splits(search, images)

    pairs: list[FilePair] = []
    for number in sorted(images):
        if split_of.get(number) != split:
            continue
        name = _mask_name(number)
        if number in masks:
            label = PartMasks(root=root, name=name, masks=tuple(sorted(masks[number])))
            pairs.append(FilePair(id=f"{number:05d}", image=images[number], label=label))
        else:
            search.refuse(images[number], f"no mask for it, {name} is missing")
    search.problems += [
        Problem(ProblemKind.PAIRING, _mask_name(number), f"no image for it, {IMAGES}/{number}.jpg is missing")
        for number in sorted(masks.keys() - images.keys())
    ]
    return PairedFiles(
        name="celebamask-hq",
        split=split,
        root=root,
        table=CELEBAMASK_HQ,
        licence=LICENCE,
        pairs=pairs,
        label_scale=2,
        problems=search.problems,
        notes=search.notes,
    )


DATASET = DatasetEntry(
    name="celebamask-hq",
    open=open_celebamask_hq,
    description="faces with a mask per part, 19 classes",
    table=CELEBAMASK_HQ,
    recordings=False,
)


def _mask_name(number: int) -> str:
    return f"{MASKS}/{number // MASKS_PER_FOLDER}/{number:05d}_*.png"


def _find_masks(search: Search) -> dict[int, list[tuple[int, Path]]]:
    """Return class id and file of each mask, by image number; a file that is not where it belongs is a problem."""
    found: dict[int, list[tuple[int, Path]]] = defaultdict(list)
    for key, path in search.labels(MASKS).items():
        *folders, stem = key.split("/")
        match = _MASK_NAME.fullmatch(stem)
        if match is None or match[2] not in _PART_IDS:
            search.refuse(path, f"the name is not NUMBER_PART.png with one of the parts {', '.join(_PART_IDS)}")
            continue
        number, part = int(match[1]), _PART_IDS[match[2]]
        # Preparation scripts put all masks into one folder.
        if folders and folders != [str(number // MASKS_PER_FOLDER)]:
            search.refuse(path, f"it belongs into the folder {number // MASKS_PER_FOLDER}")
        elif (second := dict(found[number]).get(part)) is not None:
            search.refuse(path, f"a second mask of the same part beside {search.name(second)}; keep the right one")
        else:
            found[number].append((part, path))
    return found


def _splits(search: Search, images: dict[int, Path]) -> dict[int, str]:
    """Return the split of each face by CelebA's partition; what is wrong with the two lists is reported."""
    mapping, listing = search.root / MAPPING, search.root / PARTITION
    originals: dict[int, str] = {}
    for place, line in numbered_lines(mapping, search.root):
        words = line.split()
        if place == 1 and words[0] == "idx":
            continue
        if len(words) == 3 and words[0].isdecimal():
            originals[int(words[0])] = words[2]
        else:
            search.refuse(mapping, "required are a number, a number and the name of a file", place, ProblemKind.LIST)
    partition: dict[str, str] | None = None
    if listing.is_file():
        partition = {}
        for place, line in numbered_lines(listing, search.root):
            words = line.split()
            if len(words) == 2 and words[1] in SPLIT_CODES:
                partition[words[0]] = SPLIT_CODES[words[1]]
            else:
                search.refuse(listing, "required are the name of a file and 0, 1 or 2", place, ProblemKind.LIST)
    split_of: dict[int, str] = {}
    for number, path in sorted(images.items()):
        original, found, text = originals.get(number), None, ""
        if original is None:
            text = f"{MAPPING} does not list it"
        elif partition is not None:
            found = partition.get(original)
            text = f"{PARTITION} does not list its original {original}"
        elif Path(original).stem.isdecimal():
            place = int(Path(original).stem)
            found = "train" if place <= LAST_TRAIN else "val" if place <= LAST_VAL else "test"
        else:
            text = f"its original {original} in {MAPPING} has no number"
        if found is not None:
            split_of[number] = found
        else:
            search.refuse(path, text, kind=ProblemKind.LIST)
    return split_of
