"""Where the images and labels of a split lie in a folder that follows no published layout, found from the files.

What people have: splits as folders (train/images, images/train, train and train_labels), as lists (train.txt) or not at
all; labels in a folder of their own or beside their images, under the same names or with something added (x_mask.png).
Each is recognised by what is there; nothing is chosen between two that fit, and what was found is said in a note.
"""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote

from scenepalette.common.errors import DataError
from scenepalette.common.problems import Problem, ProblemKind
from scenepalette.common.storage.untrusted import read_lines, short
from scenepalette.common.wording import counted
from scenepalette.data.decoding.image_opening import ENDINGS, FORMATS
from scenepalette.data.files.finding import Search, is_litter, require_folders
from scenepalette.data.files.image_files import MOST_LINE_PROBLEMS, FilePair, not_read_further
from scenepalette.data.files.naming import composed
from scenepalette.data.sample import FolderOptions
from scenepalette.data.splits.holdout import divide_whole

SPLIT_FOLDERS: dict[str, tuple[str, ...]] = {
    "train": ("train", "training", "trn"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
"""What the folder or the list of a split may be called, in any case."""
_OF_SPLITS = frozenset(word for words in SPLIT_FOLDERS.values() for word in words)
IMAGE_FOLDERS = ("images", "image", "imgs", "img", "img_dir", "jpegimages", "photos", "inputs", "input", "rgb")
LABEL_FOLDERS = (
    "labels", "label", "masks", "mask", "annotations", "annotation", "annots", "annot", "anns", "ann", "ann_dir", "gt",
    "groundtruth", "ground_truth", "segmentationclass", "segmentations", "segmentation", "segs", "seg", "targets",
    "target",
)  # fmt: skip
LIST_FOLDERS = (".", "ImageSets/Segmentation", "imagesets/segmentation", "splits", "split", "lists", "list")
LIST_NAMES = ("{}.txt", "{}.lst", "{}_list.txt", "{}_list.lst", "{}list.txt", "list_{}.txt")
"""What the list of a split may be called; of several the first."""
_LABEL_WORDS = frozenset({*LABEL_FOLDERS, "l", "matte", "labelids", "segm", "indexlabel"})
_SEVERAL_PATHS = re.compile(
    rf"({'|'.join(map(re.escape, sorted(ENDINGS)))})[\"']?[\s,;]|[\s,;][\"']?(/|[a-z]:[/\\]|file:)", re.IGNORECASE
)
_SEPARATED = re.compile(r"[_\-. ]")
_YEAR = re.compile(r"(?<=[a-z])_?(19|20)\d\d$")
"""What COCO and others add to the names of splits: train2017."""
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar")
_ANNOTATIONS = (".json", ".xml")
_MOST_SHOWN = 4
_LEAST_SUFFIXED = 2
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
    pairs = _pairs_at(search, place, options) if place is not None else _pairs_of_whole(search, split, options)
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


def has_labelled_test(root: Path) -> bool:
    """Tell whether a folder has a test split with labels."""
    if all((root / "train" / folder).is_dir() for folder in ("images", "labels")):
        return (root / "test" / "labels").is_dir()
    if not root.is_dir():
        return False
    search, options = Search(root), FolderOptions()
    with suppress(DataError):
        if _place_of_split(search, "test", options) is not None:
            return bool(pairs_of_split(search, "test", options))
        whole, lists = _whole(search, options), _lists(search)
        if whole is not None and "test" in lists:
            return bool(_listed(search, lists, "test", _pairs_at(search, whole, options, listed=True)))
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


def _is_image_name(text: str) -> bool:
    return PurePosixPath(text).suffix.lower() in ENDINGS


def _names_of_images(names: Iterable[str]) -> list[str]:
    """Return those names of files that are of images and not hidden."""
    return [name for name in names if _is_image_name(name) and not name.startswith(".")]


def _names_in(search: Search, folder: str) -> list[str]:
    return _names_of_images(os.listdir(search.root / folder))


def _holds_images(search: Search, folder: str) -> bool:
    return any(_names_of_images(names) for _, _, names in os.walk(search.root / folder, followlinks=False))


def _one_of(search: Search, folders: Mapping[str, str], names: Sequence[str], setting: str = "") -> str | None:
    """Return the folder with one of some names: the first name's, or the only one that holds images.

    Raises:
        DataError: Several hold images.
    """
    found = [folder for name, folder in folders.items() if _YEAR.sub("", name.lower()) in names]
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
    return images, labels if (search.root / labels).is_dir() else None


def _place_of_split(search: Search, split: str, options: FolderOptions) -> _Place | None:
    """Return where a split lies that has folders of its own; None if there are none."""
    top = _folders(search, ".")
    if (own := _one_of(search, top, SPLIT_FOLDERS[split])) is not None:
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


def _require(search: Search, wanted: Sequence[str]) -> None:
    """Refuse a folder without some folders, and say what was found in it instead."""
    require_folders("folder", search.root, wanted, LAYOUT, found=_found_instead(search))


def _found_instead(search: Search) -> str:
    """Return what a folder of no layout holds, and what to do about it."""
    root, hints = search.root, list[str]()
    if not root.is_dir():
        return ""
    folders = _folders(search, ".")
    if "leftImg8bit" in folders:
        hints.append("leftImg8bit/ is part of the layouts of data.name=cityscapes and idd.")
    inner = [path for folder in folders.values() for path in (folder, *_folders(search, folder).values())]
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
    if archives := [name for name in files if name.lower().endswith(_ARCHIVES)]:
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
    if annotations := [name for name in listed if name.lower().endswith(_ANNOTATIONS)]:
        hints.append(f"Annotations such as {annotations[0]} become labels by `scenepalette import`.")
    return " ".join(hints)


def _has_layout(root: Path) -> bool:
    """Tell whether a folder has the splits of a layout, or folders of images and labels."""
    search, options = Search(root), FolderOptions()
    folders = _folders(search, ".")
    with suppress(DataError):
        images, labels = (_one_of(search, folders, words) for words in (IMAGE_FOLDERS, LABEL_FOLDERS))
        if images and labels and _holds_images(search, images) and _holds_images(search, labels):
            return True
    if not any(_YEAR.sub("", name.lower()) in _OF_SPLITS for name in folders):
        return False
    with suppress(DataError):
        places = [_place_of_split(search, split, options) for split in ("train", "val")]
        return all(place is not None and place.images != place.labels for place in places)
    return False


def _no_label_folder(search: Search, split: str, name: str) -> DataError:
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
            if word != lower and word in words and named in (None, name, word):
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
    return search.pair(images, _renamed(search, images, labels, options), wanted, alone_allowed=listed)


def _renamed(
    search: Search, images: Mapping[str, Path], labels: dict[str, Path], options: FolderOptions
) -> dict[str, Path]:
    """Return the labels by the keys of their images, where their names have something added."""
    if (suffix := options.label_suffix) is not None:
        others = [path for key, path in labels.items() if not key.endswith(suffix)]
        search.pass_over(others, f"no name like *{suffix}.*, as data.label_suffix says")
        return {key.removesuffix(suffix): path for key, path in labels.items() if key.endswith(suffix)}
    exact = images.keys() & labels.keys()
    left = labels.keys() - exact
    if not left or not images:
        return labels
    # Names that differ in the form of their accents, or in capitals, are matched when they are paired.
    shape = {composed(key): key for key in images.keys() - exact}
    names = {composed(key) for key in left}
    counts = _suffixes(shape, names)
    # What also follows names of images that have a label says something else of them.
    further = _suffixes(exact, left)
    fitting = {
        suffix: count
        for suffix, count in counts.items()
        if suffix not in further and (count >= _LEAST_SUFFIXED or _is_label_word(suffix))
    }
    are_rivals = any(sum(base + suffix in names for suffix in fitting) > 1 for base in shape)
    if len(fitting) > 1 and (are_rivals or not exact):
        best = _best_suffix(fitting, search.root)
        fitting = {best: fitting[best]}
    renamed = {key: labels[key] for key in exact}
    used: set[str] = set(exact)
    for suffix in sorted(fitting):
        for key in sorted(left):
            base = shape.get(composed(key).removesuffix(suffix), "")
            if composed(key).endswith(suffix) and base and base not in renamed:
                renamed[base] = labels[key]
                used.add(key)
        search.note(
            counted(fitting[suffix], "label is named as its image", "labels are named as their images")
            + f" with '{suffix}' added; data.label_suffix overrules it"
        )
    if not exact and not fitting:
        if {composed(key).casefold() for key in images} & {composed(key).casefold() for key in labels}:
            return labels
        return _without_affixes(search, images, labels)
    # A further file for an image that has its label, x_color.png beside x.png, is no label without an image.
    spare = {key for key in left - used if _continues(key, renamed)}
    search.pass_over((labels[key] for key in sorted(spare)), "beside a label of the same image")
    return {**renamed, **{key: labels[key] for key in left - used - spare}}


def _continues(key: str, names: Collection[str]) -> bool:
    """Tell whether a key begins with one of some names, with a separator and a word behind it."""
    return any(
        key[:end] in names and _SEPARATED.match(key[end]) and re.search(r"[^\W\d_]", key[end:])
        for end in range(1, len(key))
    )


def _suffixes(images: Iterable[str], labels: Iterable[str]) -> Counter[str]:
    """Count what labels have after the name of an image; it must have a letter, as a number is another image."""
    names = set(images)
    return Counter(
        key[end:]
        for key in labels
        for end in range(1, len(key))
        if key[:end] in names and re.match(r"(?!\d)[^/]*[^\W\d_][^/]*$", key[end:])
    )


def _best_suffix(counts: Mapping[str, int], place: Path) -> str:
    """Return the one of several additions that labels have: the only one that says so, or by far the most frequent.

    Raises:
        DataError: There is no such one.
    """
    by_word = [suffix for suffix in counts if _is_label_word(suffix)]
    first, second = sorted([*counts.values(), 0], reverse=True)[:2]
    if len(by_word) == 1 and 2 * counts[by_word[0]] > first:
        return by_word[0]
    if 2 * second < first:
        return max(counts, key=lambda suffix: counts[suffix])
    named = " or ".join(f"NAME{suffix} ({count})" for suffix, count in sorted(counts.items()))
    raise DataError(
        f"In {place}, the label of an image could be {named}. Set data.label_suffix to what the names of the right "
        "ones have after those of their images. If each is a mask of one class, merge them into one label per image."
    )


def _is_label_word(suffix: str) -> bool:
    return suffix.strip("_-. ").lower() in _LABEL_WORDS


def _without_affixes(search: Search, images: Mapping[str, Path], labels: dict[str, Path]) -> dict[str, Path]:
    """Return the labels by the keys of their images where both have something of their own: x_sat, x_mask."""
    before, behind = _affixes(images)
    label_before, label_behind = _affixes(labels)
    image_keys = {_core(key, before, behind): key for key in images}
    label_keys = {_core(key, label_before, label_behind): key for key in labels}
    both = image_keys.keys() & label_keys.keys() - {""}
    if len(both) < _LEAST_SUFFIXED or len(image_keys) < len(images) or len(label_keys) < len(labels):
        return labels
    search.note(
        f"{len(both)} images are named {before}*{behind} and their labels {label_before}*{label_behind}; what is at * "
        "pairs them"
    )
    return {image_keys.get(core, key): labels[key] for core, key in label_keys.items()}


def _affixes(keys: Iterable[str]) -> tuple[str, str]:
    """Return what all names begin and end with, cut at a separator or a number: names share parts of those too."""
    stems = [key.rsplit("/", 1)[-1] for key in keys]
    shared = _common(stems)
    before = shared[: max(shared.rfind(separator) for separator in "_-. ") + 1]
    letters = re.match(r"[^\W\d_]+(?=\d)", stems[0])
    if not before and letters is not None and shared.startswith(letters[0]):
        before = letters[0]
    shared_end = _common([stem[::-1] for stem in stems])[::-1]
    if (separator := _SEPARATED.search(shared_end)) is not None:
        return before, shared_end[separator.start() :]
    last_letters = re.search(r"(?<=\d)[^\W\d_]+$", stems[0])
    return before, last_letters[0] if last_letters is not None and shared_end.endswith(last_letters[0]) else ""


def _common(words: Sequence[str]) -> str:
    """Return what all words begin with."""
    first, last = min(words), max(words)
    return first[: next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))]


def _core(key: str, before: str, behind: str) -> str:
    folder, slash, stem = key.rpartition("/")
    return folder + slash + stem.removeprefix(before).removesuffix(behind)


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
            for added, count in _suffixes(keys, keys).items()
            if _is_label_word(added) or 2 * count == len(keys)
        }
        suffix = _best_suffix(counts, search.root / folder) if counts else None
    labelled = {
        key
        for key in keys
        if (key.endswith(suffix) if suffix is not None else _is_label_word(_SEPARATED.split(key)[-1]))
    }
    if not labelled:
        beside = [f"{path}/" for path, _ in _folders_with_images(search, ".", {folder}, _MOST_LEVELS)]
        or_set = f" If {' or '.join(beside[:_MOST_SHOWN])} has them, set data.label_folder to it." if beside else ""
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


def _lists(search: Search) -> dict[str, Path]:
    """Return the list of each split that has one: train.txt, in the folder or where VOC has its lists.

    Tables are lists only if there are both of training and validation: data sets of competitions have tables of others.
    """
    for folder in LIST_FOLDERS:
        found = {
            split: path
            for split, names in SPLIT_FOLDERS.items()
            for name in names
            for form in reversed(LIST_NAMES)
            if (path := search.root / folder / form.format(name)).is_file()
        }
        if found:
            return found
        tables = {
            split: path
            for split, names in SPLIT_FOLDERS.items()
            for name in reversed(names)
            if (path := search.root / folder / f"{name}.csv").is_file()
        }
        if {"train", "val"} <= tables.keys():
            return tables
        search.pass_over(tables.values(), "no list of a split without train.csv and val.csv beside each other")
    return {}


def _pairs_of_whole(search: Search, split: str, options: FolderOptions) -> list[FilePair]:
    """Return a split's part of a folder that is not divided: by lists, or by a rule."""
    place = _whole(search, options)
    others = [name for name in SPLIT_FOLDERS if name != split and _place_of_split(Search(search.root), name, options)]
    if options.label_folder is not None and place is None:
        raise _no_label_folder(search, split, options.label_folder)
    if place is None or others:
        _require(search, [f"{split}/images", f"{split}/labels"])
        raise DataError(f"{search.root} does not have the layout of 'folder', which is {LAYOUT}.")
    lists = _lists(search)
    pairs = _pairs_at(search, place, options, listed=bool(lists))
    if lists:
        if split not in lists:
            names = ", ".join(search.name(path) for path in lists.values())
            raise DataError(
                f"{search.root} has {names}, but no list of the split '{split}' beside it. Write {split}.txt, a name "
                "per line, or remove the lists to have the images divided."
            )
        return _listed(search, lists, split, pairs)
    if not pairs and search.problems:
        text = f"No image in {place.images}/ has a label of its name in {place.labels}/. {_found_instead(search)}"
        raise DataError(f"{search.root} cannot be read as 'folder'. {text.strip()}", search.problems)
    division = divide_whole([pair.id for pair in pairs], options.val_share, options.val_seed)
    left_out = len(pairs) - len(division.train) - len(division.test)
    gap = f"; {left_out} between them are left out" if left_out else ""
    search.note(
        f"there are no splits: {len(division.test)} of {len(pairs)} pairs are for validation "
        f"({division.how}), {len(division.train)} for training{gap}; data.val_share sets the share"
    )
    return [pairs[index] for index in (division.train if split == "train" else division.test)]


def _listed(search: Search, lists: Mapping[str, Path], split: str, pairs: Sequence[FilePair]) -> list[FilePair]:
    """Return the pairs that a split's list names, in its order: by name, path or both paths on a line."""
    by_name: dict[str, list[FilePair]] = {}
    for pair in pairs:
        stem = pair.image.relative_to(search.root).with_suffix("").as_posix()
        parts = stem.split("/")
        for name in {composed(pair.id), *(composed("/".join(parts[place:])) for place in range(len(parts)))}:
            by_name.setdefault(name, []).append(pair)
    chosen = {name: _read_list(search, path, by_name, needed=name != "test") for name, path in lists.items()}
    named = {pair.id for entries in chosen.values() for pair, _ in entries.values()}
    search.pass_over(
        (pair.image for pair in pairs if pair.id not in named),
        f"in none of the lists {', '.join(search.name(path) for path in lists.values())}",
    )
    search.note(f"the splits are those of {', '.join(search.name(path) for path in lists.values())}")
    for other, entries in chosen.items():
        for key, (pair, line) in chosen[split].items():
            if other != split and key in entries:
                text = f"{pair.id} is also in {lists[other].name}; keep it in one list"
                search.problems.append(Problem(ProblemKind.LIST, search.name(lists[split]), text, line))
    return [pair for pair, _ in chosen[split].values()]


def _read_list(
    search: Search, path: Path, by_name: Mapping[str, Sequence[FilePair]], *, needed: bool = True
) -> dict[str, tuple[FilePair, int]]:
    """Return the pairs that a list names, with the lines that do, by id; of a table that is not needed maybe none."""
    found: dict[str, tuple[FilePair, int]] = {}
    name, wrong = search.name(path), 0
    if path.suffix == ".csv":
        entries = _entries_of_table(search, path, by_name, needed=needed)
    else:
        stripped = ((number, line.strip()) for number, line in enumerate(read_lines(path, search.root), start=1))
        entries = ((n, text, *_named_on(text, by_name)) for n, text in stripped if text and not text.startswith("#"))
    for number, text, matches, others in entries:
        if wrong >= MOST_LINE_PROBLEMS:
            search.problems.append(not_read_further(path, number))
            break
        if len(matches) != 1:
            why = ": several images have that name" if matches else ": no image with a label has that name"
        elif matches[0].id in found:
            why = f" is listed before, in line {found[matches[0].id][1]}"
        else:
            why = _other_label(search, matches[0], others)
        if why:
            wrong += 1
            search.problems.append(Problem(ProblemKind.LIST, name, f"{short(text)}{why}", number))
        else:
            found[matches[0].id] = matches[0], number
    return found


def _entries_of_table(
    search: Search, path: Path, by_name: Mapping[str, Sequence[FilePair]], *, needed: bool
) -> Iterator[tuple[int, str, Sequence[FilePair], list[str]]]:
    """Yield line, text, pairs and further cells of each row of a table, one column of which names images.

    Names with an extension count first: row numbers may be names of images, too.
    """

    def refuse(text: str, line: int | None = None) -> None:
        search.problems.append(Problem(ProblemKind.LIST, search.name(path), text, line))

    lines = list(read_lines(path, search.root))
    reader = csv.reader(lines, delimiter=max(",;\t", key=lines[0].count) if lines else ",")
    rows: list[tuple[int, list[str], dict[int, Sequence[FilePair]]]] = []
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            named = {
                place: pairs for place, cell in enumerate(cells) if cell and (pairs := _named_on(cell, by_name)[0])
            }
            rows += [(reader.line_num, cells, named)] if any(cells) else []
    except csv.Error as error:
        return refuse(f"it is no table ({error}); list images as text, a name per line", reader.line_num)
    any_name = Counter(place for _, _, named in rows for place in named)
    with_extension = Counter(place for _, cells, named in rows for place in named if _is_image_name(cells[place]))
    columns = with_extension or any_name
    if not columns:
        if needed:
            refuse("no column holds names of images that have a label; list names or paths of images in one")
        else:
            search.pass_over([path], "no image with a label is named in it")
        return None
    column = min(columns, key=lambda place: (-columns[place], place))
    # The first row that names no image is the header.
    for line, cells, named in rows[0 if column in rows[0][2] else 1 :]:
        others = [
            place for place in columns if place != column and named.get(place, named.get(column)) != named.get(column)
        ]
        if others and column in named:
            return refuse(
                f"{short(cells[column])} and {short(cells[others[0]])} name different images in one row; keep one "
                "column of images",
                line,
            )
        yield line, ",".join(cells), named.get(column, ()), [*cells[:column], *cells[column + 1 :]]
    return None


def _named_on(text: str, by_name: Mapping[str, Sequence[FilePair]]) -> tuple[Sequence[FilePair], list[str]]:
    """Return the pairs that a line names, and what stands behind the name: names may have spaces, two be on a line."""
    for words in ([text], re.split(r"[,;\t]", text), text.split()):
        name, *others = (word.strip().strip("\"'") for word in words)
        # The last parts of two paths that are taken for one would be the second's.
        for path in _listed_paths(name)[: 1 if _SEVERAL_PATHS.search(name) else None]:
            if (key := composed(_without_extension(path))) in by_name:
                return by_name[key], others
    return [], []


def _listed_paths(word: str) -> list[str]:
    """Return which file a word of a list may mean: of a path on another machine, its last parts."""
    if is_url := word.lower().startswith("file:"):
        word = unquote(word[5:])
    path = re.sub("/+", "/", word.replace("\\", "/")).removeprefix("./")
    is_absolute = is_url or path.startswith("/") or re.match(r"[A-Za-z]:/", path)
    parts = path.strip("/").split("/")
    return ["/".join(parts[place:]) for place in range(len(parts) if is_absolute else 1)]


def _without_extension(path: str) -> str:
    return path[: -len(suffix)] if (suffix := PurePosixPath(path).suffix).lower() in ENDINGS else path


def _other_label(search: Search, pair: FilePair, words: Sequence[str]) -> str:
    """Return what is wrong if image files are named beside an image on a line, and its label is none of them."""
    label, files = pair.label, [word for word in words if _is_image_name(word)]
    if not files or not isinstance(label, Path) or any(_is_named(search, label, word) for word in files):
        return ""
    return (
        f": it names {short(files[0])}, but by its name the image's label is {search.name(label)}. Rename labels as "
        "their images, or set data.label_folder or data.label_suffix"
    )


def _is_named(search: Search, label: Path, word: str) -> bool:
    paths = _listed_paths(word)
    found = next((file for path in paths if os.path.isfile(file := search.root / path)), None)
    if found is not None:
        return os.path.samefile(found, label)
    return composed(PurePosixPath(paths[-1]).stem).casefold() == composed(label.stem).casefold()
