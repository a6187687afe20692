"""ADE-Indoor: the indoor part of ADE20K with 95 classes (Azadi et al., 2019, section 4).

Its authors publish the file names of its 4,377 training and 433 validation images, which are of ten indoor scene
categories, but not which 95 of ADE20K's classes it has. Therefore these are read from a file in the data set's folder.
"""

from __future__ import annotations

from pathlib import Path

from scenepalette.common.errors import DataError
from scenepalette.common.problems import Problem, ProblemKind
from scenepalette.common.storage.untrusted import LIST_BYTES, read_text
from scenepalette.data.classes import IGNORE_ID, ClassTable
from scenepalette.data.decoding.class_files import packaged_table
from scenepalette.data.decoding.label_images import LabelValues
from scenepalette.data.decoding.label_reading import AS_FOUND, LabelSettings
from scenepalette.data.files.finding import Search
from scenepalette.data.files.image_files import FilePair, PairedFiles
from scenepalette.data.files.split_lists import numbered_lines, pairs_of_lines
from scenepalette.data.readers.ade20k import LICENCE, pair_ade20k
from scenepalette.data.sample import DatasetEntry

NUM_CLASSES = 95
CLASS_LIST = "ade_indoor_classes.txt"
SCENE_LIST = "sceneCategories.txt"
SCENES = (
    "airport_terminal", "bathroom", "bedroom", "conference_room", "corridor", "dining_room", "hotel_room", "kitchen",
    "living_room", "office",
)  # fmt: skip
"""The scene categories of the published images."""


def open_ade_indoor(
    root: Path, split: str, *, class_file: Path | None = None, labels: LabelSettings = AS_FOUND
) -> PairedFiles:
    """Open a split of the indoor images in ADE20K's folders.

    The images are those that ROOT/ade_indoor_im_info_SPLIT.txt lists, in its order, if that file, published with
    SB-GAN, is there: a path and the number of a scene category per line; of the path, only the file name is used.
    Otherwise they are all whose category in ROOT/sceneCategories.txt, published with ADE20K, is one of SCENES; these
    may be more. The class list has one class of ADE20K per line, by its name in ade20k.csv or by its number
    from 1 to 150; the line order gives the ids. Pixels of other classes are ignored. The arguments are those of
    `DatasetEntry.open`; the class list is by default ROOT/ade_indoor_classes.txt.
    """
    all_pairs, search = pair_ade20k("ade-indoor", root, split)
    if class_file is None:
        chosen = _read_class_list(root / CLASS_LIST, within=root)
    else:
        chosen = _read_class_list(Path(class_file), within=None)
    listing, scenes = root / f"ade_indoor_im_info_{split}.txt", root / SCENE_LIST
    if listing.is_file():
        pairs = _listed_pairs(search, listing, all_pairs)
    elif scenes.is_file():
        pairs = _pairs_of_scenes(search, scenes, all_pairs)
    else:
        raise DataError(
            f"{root} has neither {listing.name}, the published list of ADE-Indoor's images, nor {SCENE_LIST}, ADE20K's "
            "list of scene categories. Put one of them there; the latter comes with ADEChallengeData2016."
        )
    ade20k = packaged_table("ade20k")
    return PairedFiles(
        name="ade-indoor",
        split=split,
        root=root,
        table=ClassTable(name="ade-indoor", classes=tuple(ade20k.classes[number - 1] for number in chosen)),
        licence=LICENCE,
        pairs=pairs,
        values=LabelValues(
            ids={number: class_id for class_id, number in enumerate(chosen)},
            ignored=frozenset(range(ade20k.num_classes + 1)) - set(chosen),
        ),
        problems=search.problems,
        notes=search.notes,
        labels=labels,
        other_labels=search.all_labels("annotations"),
        never=[IGNORE_ID],
    )


DATASET = DatasetEntry(
    name="ade-indoor",
    open=open_ade_indoor,
    description="indoor scenes of ADE20K, 95 classes",
    takes_class_file=True,
    recordings=False,
    takes_label_settings=True,
)


def _read_class_list(path: Path, within: Path | None) -> list[int]:
    """Return ADE20K's numbers, 1 to 150, of the classes in a list."""
    numbers = {name: number for number, name in enumerate(packaged_table("ade20k").names, start=1)}
    try:
        lines = read_text(path, LIST_BYTES, within=within).splitlines()
    except DataError as error:
        raise DataError(
            f"The class list {path} cannot be used: {error.summary}. Which 95 of ADE20K's 150 classes ADE-Indoor has "
            "was not published, so this file must say it: one class per line, by its name in ade20k.csv or by its "
            "number from 1 to 150."
        ) from error
    chosen: list[int] = []
    problems: list[Problem] = []

    def report(text: str) -> None:
        problems.append(Problem(ProblemKind.CLASS_FILE, "", text))

    for place, line in enumerate(lines, start=1):
        text = line.strip()
        if not text:
            continue
        number = int(text) if text.isdecimal() else numbers.get(text, 0)
        if number not in numbers.values():
            report(f"line {place}: '{text}' is neither a class of ADE20K nor a number from 1 to 150")
        elif number in chosen:
            report(f"line {place}: '{text}' is listed before")
        else:
            chosen.append(number)
    if len(chosen) != NUM_CLASSES:
        report(f"{len(chosen)} different classes; {NUM_CLASSES} are required")
    if problems:
        raise DataError(f"The class list {path} cannot be used. Correct:", problems)
    return chosen


def _listed_pairs(search: Search, listing: Path, pairs: list[FilePair]) -> list[FilePair]:
    by_stem = {pair.image.stem: pair for pair in pairs}
    named = ((number, Path(line.split()[0]).stem) for number, line in numbered_lines(listing, search.root))
    missing = "{} listed, but its image or label is missing"
    entries = ((number, name, by_stem.get(name) or missing.format(name)) for number, name in named)
    return [pair for pair, _ in pairs_of_lines(search, listing, entries).values()]


def _pairs_of_scenes(search: Search, scenes: Path, pairs: list[FilePair]) -> list[FilePair]:
    lines = (line.split() for _, line in numbered_lines(scenes, search.root))
    scene_of = {words[0]: words[1] for words in lines if len(words) == 2}
    for pair in pairs:
        if pair.image.stem not in scene_of:
            search.refuse(pair.image, f"{scenes.name} states no scene category for it", kind=ProblemKind.LIST)
    return [pair for pair in pairs if scene_of.get(pair.image.stem) in SCENES]
