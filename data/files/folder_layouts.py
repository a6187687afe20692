"""Where the images and labels of a split lie in a folder that follows no published layout, found from the files.

What people have: splits as folders (train/images, images/train, train and train_labels), as lists (train.txt) or not at
all; labels in a folder of their own or beside their images, under the same names or with something added (x_mask.png).
Each is recognised by what is there; nothing is chosen between two that fit, and what was found is said in a note.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from scenepalette.common.errors import DataError
from scenepalette.common.wording import counted
from scenepalette.data.decoding.image_opening import EXTENSIONS, FORMATS, READ_FORMATS, has_image_extension
from scenepalette.data.files.finding import ARCHIVES, Search, is_litter, require_folders
from scenepalette.data.files.image_files import FilePair
from scenepalette.data.files.label_names import (
    LABEL_FOLDERS,
    SEPARATED,
    best_suffix,
    count_suffixes,
    how_to_rename,
    is_label_word,
    labels_by_image,
)
from scenepalette.data.files.published_layouts import published_layout
from scenepalette.data.files.split_lists import SPLIT_FOLDERS, listed_pairs, lists_of_splits, other_lists
from scenepalette.data.sample import FolderOptions
from scenepalette.data.splits.holdout import divide_whole

_OF_SPLITS = frozenset(word for words in SPLIT_FOLDERS.values() for word in words)
IMAGE_FOLDERS = (
    "images", "image", "imgs", "img", "img_dir", "jpegimages", "photos", "inputs", "input", "rgb", "original",
)  # fmt: skip
_YEAR = re.compile(r"(?<=[a-z])_?(19|20)\d\d$")
"""What COCO and others add to the names of splits: train2017."""
_ANNOTATIONS = (".json", ".xml")
_DESCRIPTIONS = (
    "dataset.json", "meta.json", "config.json", "config_v1.2.json", "config_v2.0.json", "class_list.json",
    "classes.json", "id2label.json",
)  # fmt: skip
"""Files that tell of classes and the like, and hold no annotations."""
_TEXTS = (*_ANNOTATIONS, *ARCHIVES, ".txt", ".csv", ".tsv", ".md", ".pdf", ".yaml", ".yml", ".html", ".py")
_MOST_SHOWN = 4
_MOST_LEVELS = 3
"""Levels of folders in which images that no split reads are looked for."""


class _Place(NamedTuple):
    """Folders of images and labels, relative to the root; equal where both lie in one."""

    images: str
    labels: str
    deep: bool = True


def pairs_of_split(search: Search, split: str, options: FolderOptions) -> list[FilePair]:
    """Find the pairs of a split.

    Args:
        search: Finds files below the data set's folder, and takes what has to be said.
        split: "train", "val" or "test".
        options: What the user says of the folder.

    Raises:
        DataError: No layout is recognised, or several fit.
    """
    place = _place_of_split(search, split, options)
    if place is None:
        pairs = _pairs_of_whole(search, split, options)
    else:
        pairs = _pairs_at(search, place, options)
        search.pass_over(lists_of_splits(search).values(), "a list beside folders of splits, which decide")
    _tell_unread(search, options)
    return pairs


def labels_of_splits(root: Path, splits: Iterable[str], options: FolderOptions) -> list[Path]:
    """Return the label files of some splits, as far as they are there."""
    found: list[Path] = []
    for split in splits:
        with suppress(DataError):
            pairs = pairs_of_split(Search(root), split, options)
            found += [pair.label for pair in pairs if isinstance(pair.label, Path)]
    return found


def has_labelled_split(root: Path, split: str) -> bool:
    """Tell whether a folder has a split of its own, or a list of it, with labels."""
    if all((root / "train" / folder).is_dir() for folder in ("images", "labels")):
        return (root / split / "labels").is_dir()
    if not root.is_dir():
        return False
    search, options = Search(root), FolderOptions()
    with suppress(DataError):
        if _place_of_split(search, split, options) is not None:
            return bool(pairs_of_split(search, split, options))
        whole, lists = _whole(search, options), lists_of_splits(search)
        if whole is not None and split in lists:
            return bool(listed_pairs(search, lists, split, _pairs_at(search, whole, options, listed=True)))
    return False


def _folders(search: Search, parent: str) -> dict[str, str]:
    """Return the sub-folders of a folder: path from the root of each name."""
    place = search.root / parent
    if not place.is_dir():
        return {}
    return {
        entry.name: f"{parent}/{entry.name}" if parent != "." else entry.name
        for entry in sorted(os.scandir(place), key=lambda entry: entry.name)
        if os.path.isdir(entry.path) and not entry.name.startswith(".")  # which a link to itself does not stop
    }


def _word(name: str) -> str:
    """Return the name of a folder as lists of names have it: "Ground Truth" is ground_truth, train2017 is train."""
    return _YEAR.sub("", re.sub(r"[ -]", "_", name.lower()))


def _names_of_images(names: Iterable[str]) -> list[str]:
    """Return those names of files that are of images and not hidden."""
    return [name for name in names if has_image_extension(name) and not name.startswith(".")]


def _names_in(search: Search, folder: str) -> list[str]:
    return _names_of_images(os.listdir(search.root / folder))


def _holds_images(search: Search, folder: str) -> bool:
    return any(_names_of_images(names) for _, _, names in os.walk(search.root / folder, followlinks=False))


def _one_of(search: Search, folders: Mapping[str, str], names: Sequence[str], setting: str = "") -> str | None:
    """Return the folder with one of some names: the first name's, or the only one that holds images.

    Raises:
        DataError: Several hold images.
    """
    found = [folder for name, folder in folders.items() if _word(name) in names]
    if len(found) < 2:
        return found[0] if found else None
    holding = [folder for folder in found if _holds_images(search, folder)]
    plain = folders.get(names[0])
    if plain in holding:
        overrule = f"; {setting} overrules it" if setting else ""
        others = [f"{folder}/" for folder in holding if folder != plain]
        search.pass_over(others, f"beside {plain}/, which is read{overrule}")
        return plain
    if len(holding) > 1:
        raise _both_meant(search, holding, setting)
    return holding[0] if holding else plain or found[0]


def _may_be_images(search: Search, folder: str) -> bool:
    """Tell whether a folder of any name may be that of the images: it holds some, and is none of a split."""
    name = folder.rsplit("/", 1)[-1]
    return not is_litter(name) and _word(name) not in _OF_SPLITS and _holds_images(search, folder)


def _both_meant(search: Search, folders: Iterable[str], setting: str = "") -> DataError:
    or_set = f", or set {setting} to the right one" if setting else ""
    return DataError(
        f"In {search.root}, {' and '.join(f'{folder}/' for folder in folders)} could both be meant. Remove or rename "
        f"all but one{or_set}."
    )


def _images_and_labels(
    search: Search, folders: Mapping[str, str], options: FolderOptions
) -> tuple[str | None, str | None]:
    """Return the folder of images among some folders, and that of labels; None for one that is not there."""
    images = _one_of(search, folders, IMAGE_FOLDERS)
    if options.label_folder is None:
        return images, _one_of(search, folders, LABEL_FOLDERS, "data.label_folder")
    first, _, rest = options.label_folder.partition("/")
    if first not in folders:
        return images, None
    labels = f"{folders[first]}/{rest}" if rest else folders[first]
    if not (search.root / labels).is_dir():
        return images, None
    parent = folders[first].removesuffix(first).rstrip("/") or "."
    if images is None and not _names_in(search, parent):
        # Whatever it is called, the only other folder with images has those of the labels.
        others = [path for name, path in folders.items() if name != first and _may_be_images(search, path)]
        images = others[0] if len(others) == 1 else None
    return images, labels


def _place_of_split(search: Search, split: str, options: FolderOptions) -> _Place | None:
    """Return where a split lies that has folders of its own; None if there are none."""
    top = _folders(search, ".")
    own = _one_of(search, top, SPLIT_FOLDERS[split])
    # One that is empty may be left of folders that were moved up, to be divided.
    if own is not None and any((search.root / own).iterdir()):
        return _place_in_own_folder(search, top, split, own, options)
    images = _beside(search, top, split, IMAGE_FOLDERS, None)
    labels = _beside(search, top, split, LABEL_FOLDERS, options.label_folder)
    if images is not None and labels is not None:
        return _Place(images, labels)
    images, labels = _images_and_labels(search, top, options)
    if images is None or labels is None:
        return None
    inner = [_one_of(search, _folders(search, folder), SPLIT_FOLDERS[split]) for folder in (images, labels)]
    if inner[0] is not None and inner[1] is not None:
        return _Place(inner[0], inner[1])
    if any(inner):
        wanted = [path or f"{folder}/{split}" for path, folder in zip(inner, (images, labels), strict=True)]
        _require(search, wanted)
    return None


def _place_in_own_folder(
    search: Search, top: Mapping[str, str], split: str, own: str, options: FolderOptions
) -> _Place | None:
    """Return where a split lies that has one folder of its own, such as train/: its labels are in it, or beside it.

    Raises:
        DataError: It has no labels, or not where the user says.
    """
    images, labels = _images_and_labels(search, _folders(search, own), options)
    if images is not None and labels is not None:
        _tell_loose(search, own, {images, labels})
        return _Place(images, labels)
    if labels is not None:
        return _Place(own, labels, deep=False)
    if (beside := _beside(search, top, split, LABEL_FOLDERS, options.label_folder)) is not None:
        return _Place(images or own, beside)
    if options.label_folder is not None:
        raise _no_label_folder(search, split, options.label_folder)
    if images is None and _names_in(search, own):
        return _Place(own, own)
    _require(search, [f"{own}/images", f"{own}/labels"])
    return None


LAYOUT = (
    "SPLIT/images/NAME.png, SPLIT/labels/NAME.png and classes.csv or classes.yaml (SPLIT is train or val; "
    "docs/data/datasets.md lists what else is recognised)"
)


def _require(search: Search, wanted: Sequence[str], remedy: str = "") -> None:
    """Refuse a folder without some folders, and say what was found in it instead."""
    require_folders("folder", search.root, wanted, LAYOUT, found=f"{remedy} {_found_instead(search)}".strip())


def _how_to_pair(search: Search, place: _Place) -> str:
    """Return what to do where no image has a label: rename labels, if they have other names; else what was found."""
    images, labels = (
        {Path(problem.path).stem for problem in search.problems if problem.path.startswith(f"{folder}/")}
        for folder in (place.images, place.labels)
    )
    return how_to_rename(labels) if images and labels and images.isdisjoint(labels) else _found_instead(search)


def _how_to_divide(place: _Place | None, unlabelled: str = "") -> str:
    """Return what to do where training images have a place and those for validation have none, or no labels."""
    if place is None:
        return ""
    first = "If there are no validation images, move"
    if unlabelled:
        first = f"If there are none, move {unlabelled}/ elsewhere and"
    labels = f" and {place.labels}/ to labels/" if place.labels != place.images else ""
    return f"{first} {place.images}/ to images/{labels}: folders without splits are divided (data.val_share)."


def _found_instead(search: Search) -> str:
    """Return what a folder of no layout holds, and what to do about it."""
    root, hints = search.root, list[str]()
    if not root.is_dir():
        return ""
    folders = _folders(search, ".")
    inner = [path for folder in folders.values() for path in (folder, *_folders(search, folder).values())]
    known = {path: name for path in (".", *inner) if (name := published_layout(root / path)) is not None}
    if "." in known:
        return f"{root} has the layout of data.name={known['.']}."
    if known:
        return " ".join(
            f"{path}/ has the layout of data.name={name}: set that, and data.root to {root / path}."
            for path, name in known.items()
        )
    if part := next((path for path in inner if path.rsplit("/", 1)[-1] == "leftImg8bit"), ""):
        hints.append(f"{part}/ is part of the layouts of data.name=cityscapes and idd. Beside it belongs gtFine/.")
    # With a split in it, this folder is the right one, and what is missing is another split.
    splits = {folder for folder in folders.values() if folder.lower() in _OF_SPLITS and _has_layout(root / folder)}
    meant = [] if splits else [path for path in inner if _has_layout(root / path)]
    meant = [path for path in meant if not any(path.startswith(f"{around}/") for around in meant)]
    if len(meant) == 1:
        hints.append(f"Set data.root to {root / meant[0]}, which has such a layout.")
    elif meant:
        shown = ", ".join(f"{path}/" for path in meant[:_MOST_SHOWN])
        hints.append(f"{shown} have such a layout, each its own: put them together, or set data.root to one.")
    files = sorted(entry.name for entry in os.scandir(root) if entry.is_file())
    if archives := [name for name in files if name.lower().endswith(ARCHIVES)]:
        hints.append(f"Unpack {', '.join(archives[:_MOST_SHOWN])}.")
    holding = _folders_with_images(search, ".", splits, _MOST_LEVELS + 2)
    if holding and not meant:
        shown = ", ".join(f"{folder}/ ({count})" for folder, count in holding[:_MOST_SHOWN])
        more = f" and {counted(len(holding) - _MOST_SHOWN, 'more folder')}" if len(holding) > _MOST_SHOWN else ""
        hints.append(
            f"Images were found in {shown}{more}: move or link those of each split to SPLIT/images, and its labels to "
            "SPLIT/labels, or set data.label_folder."
        )
    listed = [*files, *(name for folder in inner for name in sorted(os.listdir(root / folder)))]
    if annotations := [
        name for name in listed if name.lower().endswith(_ANNOTATIONS) and name.lower() not in _DESCRIPTIONS
    ]:
        hints.append(f"Annotations such as {annotations[0]} become labels by `scenepalette import`.")
    known_ends = (*_TEXTS, *EXTENSIONS)
    others = [name for name in listed if re.search(r"[^.]\.\w+$", name) and not name.lower().endswith(known_ends)]
    if not holding and (volumes := [name for name in listed if name.lower().endswith(".nii.gz")] or others):
        hints.append(f"There are no images, but files such as {volumes[0]}; what is read are {READ_FORMATS}.")
    return " ".join(hints)


def hint_of_layout(root: Path, options: FolderOptions) -> str:
    """Return what a folder holds whose images and labels are in no layout, and what to do about it; or nothing."""
    search = Search(root)
    with suppress(DataError):
        if (_place_of_split(search, "train", options) or _whole(search, options)) is not None:
            return ""
    return _found_instead(search)


def _has_layout(root: Path) -> bool:
    """Tell whether a folder has the splits of a layout, or folders of images and labels."""
    search, options = Search(root), FolderOptions()
    folders = _folders(search, ".")
    with suppress(DataError):
        images, labels = (_one_of(search, folders, words) for words in (IMAGE_FOLDERS, LABEL_FOLDERS))
        if images and labels and _holds_images(search, images) and _holds_images(search, labels):
            return True
    if not any(_word(name) in _OF_SPLITS for name in folders):
        return False
    with suppress(DataError):
        places = [_place_of_split(search, split, options) for split in ("train", "val")]
        return all(place is not None and place.images != place.labels for place in places)
    return False


def _no_label_folder(search: Search, split: str, name: str) -> DataError:
    if (search.root / name).is_dir():
        return DataError(
            f"data.label_folder is {name}; beside {search.root / name} is no folder of images that is known by its "
            f"name. Rename or link it to images. {_found_instead(search)}".strip()
        )
    return DataError(
        f"data.label_folder is {name}; {search.root} has no folder of that name beside images, neither for the split "
        f"'{split}' nor for all. Correct it, or leave it out."
    )


def _beside(
    search: Search, folders: Mapping[str, str], split: str, words: Collection[str], named: str | None
) -> str | None:
    """Return the folder whose name is that of the split and one of some words: train_labels, masks-train, trainannot.

    Raises:
        DataError: There are several.
    """
    found = []
    for name, path in folders.items():
        for of_split in SPLIT_FOLDERS[split]:
            lower = name.lower()
            word = (lower.removeprefix(of_split) if lower.startswith(of_split) else lower.removesuffix(of_split)).strip(
                "_-. "
            )
            if word != lower and _word(word) in words and named in (None, name, word):
                found.append(path)
                break
    if len(found) > 1:
        raise _both_meant(search, found)
    return found[0] if found else None


def _tell_loose(search: Search, folder: str, used: Collection[str]) -> None:
    """Say which images lie in a split's folder outside of the folders that are read."""
    names = ", ".join(f"{path}/" for path in sorted(used))
    loose = [f"{folder}/{name}" for name in sorted(_names_in(search, folder))]
    search.pass_over(loose, f"outside of {names}")


def _tell_unread(search: Search, options: FolderOptions) -> None:
    """Say which folders of images no split reads: a second delivery beside the first vanishes easily."""
    told, places = [search], list[_Place]()
    for split in SPLIT_FOLDERS:
        told.append(Search(search.root))
        with suppress(DataError):
            if (place := _place_of_split(told[-1], split, options)) is not None:
                places.append(place)
    if not places:
        with suppress(DataError):
            if (place := _whole(Search(search.root), options)) is not None:
                places.append(place)
    deep = {place.labels for place in places} | {place.images for place in places if place.deep}
    deep.discard(".")
    read = deep.union(place.images for place in places)
    linked = {os.path.realpath(search.root / folder) for folder in deep}

    def is_accounted_for(folder: str) -> bool:
        # Loose images beside the folders of a split have been told; a test split may come without labels.
        return (
            any(f"{used}/".startswith(f"{folder}/") for used in read)
            or any(part.lower().startswith(SPLIT_FOLDERS["test"]) for part in folder.split("/"))
            or os.path.realpath(search.root / folder) in linked
            or any(other.has_passed_over(f"{folder}/") for other in told)
        )

    holding = _folders_with_images(search, ".", deep, _MOST_LEVELS)
    unread = [f"{folder}/ with {counted(count, 'image')}" for folder, count in holding if not is_accounted_for(folder)]
    search.pass_over(unread, "folders outside of those that are read")


def _folders_with_images(search: Search, parent: str, excluded: Collection[str], levels: int) -> list[tuple[str, int]]:
    """Return the folders below one, but for those excluded, that hold image files, with their numbers."""
    found = []
    for path in _folders(search, parent).values():
        if path in excluded or is_litter(path.rsplit("/", 1)[-1]):
            continue
        if count := len(_names_in(search, path)):
            found.append((path, count))
        if levels > 1:
            found += _folders_with_images(search, path, excluded, levels - 1)
    return found


def _pairs_at(search: Search, place: _Place, options: FolderOptions, *, listed: bool = False) -> list[FilePair]:
    """Return the pairs of two folders; where lists say which count, the rest may be without a counterpart."""
    if place.images == place.labels:
        images, labels = _told_apart(search, place.images, options)
        wanted = f"{place.labels}/{{id}}_mask.png" if place.labels != "." else "{id}_mask.png"
    else:
        images, labels = search.images(place.images, deep=place.deep), search.labels(place.labels)
        wanted = f"{place.labels}/{{id}}.png"
        if (place.images, place.labels) not in [
            (f"{parent}images", f"{parent}labels") for parent in ("", *(f"{split}/" for split in SPLIT_FOLDERS))
        ]:
            search.note(f"images are read from {place.images}/, labels from {place.labels}/")
    return search.pair(images, labels_by_image(search, images, labels, options), wanted, alone_allowed=listed)


def _told_apart(search: Search, folder: str, options: FolderOptions) -> tuple[dict[str, Path], dict[str, Path]]:
    """Tell images from labels in one folder, by what labels have after their names, or as JPEG from other formats."""
    keys: dict[str, list[Path]] = {}
    for path in search.paths(folder, deep=folder != "."):
        keys.setdefault(path.relative_to(search.root / folder).with_suffix("").as_posix(), []).append(path)
    # A label's other format comes before JPEG.
    by_format = {key: sorted(paths, key=_is_jpeg) for key, paths in keys.items()}
    suffix = options.label_suffix
    if keys and suffix is None and all([*map(_is_jpeg, paths)] == [False, True] for paths in by_format.values()):
        search.note("images are the JPEG files, labels the others of the same names")
        return {key: paths[1] for key, paths in by_format.items()}, {key: paths[0] for key, paths in by_format.items()}
    if suffix is None:
        counts = {
            added: count
            for added, count in count_suffixes(keys, keys).items()
            if is_label_word(added) or 2 * count == len(keys)
        }
        suffix = best_suffix(counts, search.root / folder) if counts else None
    labelled = {
        key for key in keys if (key.endswith(suffix) if suffix is not None else is_label_word(SEPARATED.split(key)[-1]))
    }
    if not labelled:
        found = (path for path, _ in _folders_with_images(search, ".", {folder}, _MOST_LEVELS))
        beside = [f"{path}/" for path in found if _word(path.split("/")[0]) not in _OF_SPLITS]
        or_set = f" If {' or '.join(beside[:_MOST_SHOWN])} has them, set data.label_folder to it." if beside else ""
        if _word(folder) in SPLIT_FOLDERS["val"]:  # competitions keep their labels
            or_set += f" {_how_to_divide(_place_of_split(Search(search.root), 'train', options), folder)}"
        raise DataError(
            f"{search.root / folder} has {counted(len(keys), 'image')} and nothing that tells which are labels. "
            "Put images and labels into folders images/ and labels/, or set data.label_suffix to what the labels' "
            f"names have after those of their images, such as _mask.{or_set}"
        )
    images: dict[str, Path] = {}
    labels: dict[str, Path] = {}
    for key, paths in keys.items():
        (labels if key in labelled else images)[key] = paths[0]
        for path in paths[1:]:
            search.refuse(path, f"a second file named {key} beside {search.name(paths[0])}; keep the right one")
    search.note(f"images and labels are both read from {folder}/")
    return images, labels


def _is_jpeg(path: Path) -> bool:
    return path.suffix.lower() in FORMATS["JPEG"]


def _whole(search: Search, options: FolderOptions) -> _Place | None:
    """Return where images and labels lie that no folder divides."""
    top = _folders(search, ".")
    images, labels = _images_and_labels(search, top, options)
    if images is not None and labels is not None:
        return _Place(images, labels)
    if labels is not None and _names_in(search, "."):
        return _Place(".", labels, deep=False)
    if images is not None and _names_in(search, images) and labels is None:
        return _Place(images, images)
    return _Place(".", ".") if _names_in(search, ".") else None


def _pairs_of_whole(search: Search, split: str, options: FolderOptions) -> list[FilePair]:
    """Return a split's part of a folder that is not divided: by lists, or by a rule."""
    place = _whole(search, options)
    # A folder of test images, often without labels, stands beside what is divided.
    others = {name: _place_of_split(Search(search.root), name, options) for name in ("train", "val") if name != split}
    if options.label_folder is not None and place is None and not any(others.values()):
        raise _no_label_folder(search, split, options.label_folder)
    if place is None or any(others.values()):
        remedy = _how_to_divide(others["train"]) if split == "val" else ""
        _require(search, [f"{split}/images", f"{split}/labels"], remedy)
        raise DataError(f"{search.root} does not have the layout of 'folder', which is {LAYOUT}.")
    lists = lists_of_splits(search)
    pairs = _pairs_at(search, place, options, listed=bool(lists))
    if lists:
        if split not in lists:
            names = ", ".join(search.name(path) for path in lists.values())
            raise DataError(
                f"{search.root} has {names}, but no list of the split '{split}' beside it. Write {split}.txt, a name "
                "per line, or remove the lists to have the images divided."
            )
        return listed_pairs(search, lists, split, pairs)
    if not pairs and search.problems:
        text = f"No image in {place.images}/ has a label of its name in {place.labels}/. "
        text += _how_to_pair(search, place)
        raise DataError(f"{search.root} cannot be read as 'folder'. {text.strip()}", search.problems)
    unread = other_lists(search, (place.images, place.labels))
    search.pass_over(unread, "a list by its name, but not called train.txt, val.txt or the like")
    if options.undivided:
        return pairs if split == "val" else []
    division = divide_whole([pair.id for pair in pairs], options.val_share, options.val_seed)
    left_out = len(pairs) - len(division.train) - len(division.test)
    gap = f"; {left_out} between them are left out" if left_out else ""
    search.note(
        f"there are no splits: {len(division.test)} of {len(pairs)} pairs are for validation "
        f"({division.how}), {len(division.train)} for training{gap}; data.val_share sets the share"
    )
    return [pairs[index] for index in (division.train if split == "train" else division.test)]
