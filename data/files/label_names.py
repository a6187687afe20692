"""Labels whose names have something that those of their images have not: x_mask.png, or x_gt.png for x_sat.jpg."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from scenepalette.common.errors import DataError
from scenepalette.common.wording import counted
from scenepalette.data.files.finding import Search
from scenepalette.data.files.naming import composed
from scenepalette.data.sample import FolderOptions

LABEL_FOLDERS = (
    "labels", "label", "masks", "mask", "annotations", "annotation", "annots", "annot", "anns", "ann", "ann_dir", "gt",
    "groundtruth", "ground_truth", "segmentationclass", "segmentations", "segmentation", "segs", "seg", "targets",
    "target", "manual", "manual1", "1st_manual",
)  # fmt: skip
"""What the folder of labels may be called, in any case."""
_LABEL_WORDS = frozenset({*LABEL_FOLDERS, "l", "matte", "labelids", "segm", "indexlabel"})
SEPARATED = re.compile(r"[_\-. ]")
_LABEL_STUDIO = re.compile(r"task-\d+-annotation-\d+-")
_LEAST_SUFFIXED = 2
"""Labels with an addition that says nothing by itself, of which it is one; a single one may be chance."""


def labels_by_image(
    search: Search, images: Mapping[str, Path], labels: dict[str, Path], options: FolderOptions
) -> dict[str, Path]:
    """Return the labels by the keys of their images, where their names have something added.

    Labels whose image is not found keep their own keys; what is skipped and what was decided is said.

    Raises:
        DataError: Labels of one image have several such names, of which none is clearly the right one.
    """
    if (suffix := options.label_suffix) is not None:
        others = [path for key, path in labels.items() if not key.endswith(suffix)]
        search.pass_over(others, f"no name like *{suffix}.*, as data.label_suffix says")
        named = {key.removesuffix(suffix): path for key, path in labels.items() if key.endswith(suffix)}
        # Images may have an addition of their own: x_leftImg8bit beside x_gtFine_labelIds.
        return named if images.keys() & named.keys() or not named else _without_affixes(search, images, named)
    exact = images.keys() & labels.keys()
    left = labels.keys() - exact
    if not left or not images:
        return labels
    # Names that differ in the form of their accents, or in capitals, are matched when they are paired.
    shape = {composed(key): key for key in images.keys() - exact}
    names = {composed(key) for key in left}
    counts = count_suffixes(shape, names)
    # What also follows names of images that have a label says something else of them.
    further = count_suffixes(exact, left)
    fitting = {
        suffix: count
        for suffix, count in counts.items()
        if suffix not in further and (count >= _LEAST_SUFFIXED or is_label_word(suffix))
    }
    are_rivals = any(sum(base + suffix in names for suffix in fitting) > 1 for base in shape)
    if len(fitting) > 1 and (are_rivals or not (exact or all(map(is_label_word, fitting)))):
        best = best_suffix(fitting, search.root)
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
        key[:end] in names and SEPARATED.match(key[end]) and re.search(r"[^\W\d_]", key[end:])
        for end in range(1, len(key))
    )


def count_suffixes(images: Iterable[str], labels: Iterable[str]) -> Counter[str]:
    """Count what labels have after the name of an image; it must have a letter, as a number is another image."""
    names = set(images)
    return Counter(
        key[end:]
        for key in labels
        for end in range(1, len(key))
        if key[:end] in names and re.match(r"(?!\d)[^/]*[^\W\d_][^/]*$", key[end:])
    )


def best_suffix(counts: Mapping[str, int], place: Path) -> str:
    """Return the one of several additions that labels have: the only one that says so, or by far the most frequent.

    Raises:
        DataError: There is no such one.
    """
    by_word = [suffix for suffix in counts if is_label_word(suffix)]
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


def how_to_rename(names: Iterable[str]) -> str:
    """Return what to do with labels of these names, of which none is that of an image."""
    if any(map(_LABEL_STUDIO.match, names)):
        return (
            "Label Studio names masks by task, one for each class or brush: its JSON export says which image a task "
            "has. Merge those of one image into a label of class ids, and name it as the image."
        )
    return "Name each label as its image, or set data.label_suffix to what its name has behind that of the image."


def is_label_word(suffix: str) -> bool:
    """Tell whether what a name has at its end says by itself that it is a label: "_mask"."""
    return suffix.strip("_-. ").lower() in _LABEL_WORDS


def _without_affixes(search: Search, images: Mapping[str, Path], labels: dict[str, Path]) -> dict[str, Path]:
    """Return the labels by the keys of their images where both have something of their own: x_sat, x_mask.

    Raises:
        DataError: Labels of one image have several such names, of which none is clearly the right one.
    """
    label_before, label_behind = _affixes(labels)
    label_keys = {_core(key, label_before, label_behind): key for key in labels}
    for before, behind in (_affixes(images), ("", "")):  # mask_img1 is the label of img1, too
        image_keys = {_core(key, before, behind): key for key in images}
        both = image_keys.keys() & label_keys.keys() - {""}
        if len(both) < _LEAST_SUFFIXED or len(image_keys) < len(images) or len(label_keys) < len(labels):
            continue
        search.note(
            f"{len(both)} images are named {before}*{behind} and their labels {label_before}*{label_behind}; what is "
            "at * pairs them"
        )
        return {image_keys.get(core, key): labels[key] for core, key in label_keys.items()}
    _, behind = _affixes(images)
    bases = {_core(key, "", behind) for key in images}
    counts = {suffix: count for suffix, count in count_suffixes(bases, labels).items() if count >= _LEAST_SUFFIXED}
    if len(counts) > 1:  # of Cityscapes: x_leftImg8bit beside x_gtFine_labelIds and x_gtFine_color
        suffix = best_suffix(counts, search.root)
        search.note(f"{counts[suffix]} labels end with '{suffix}'; data.label_suffix overrules it")
        search.pass_over([path for key, path in labels.items() if not key.endswith(suffix)], f"without '{suffix}'")
        named = {key.removesuffix(suffix): path for key, path in labels.items() if key.endswith(suffix)}
        return _without_affixes(search, images, named)
    return labels


def named_as(images: Collection[str], labels: Collection[str]) -> list[str]:
    """Return the labels whose names say that they are of one of the images: a, a_mask, and mask_a with image_a."""
    if not images or not labels:
        return []
    (before, behind), of_labels = _affixes(images), _affixes(labels)
    names = {*images, *(_core(image, "", behind) for image in images)}
    cores = {_core(image, before, behind) for image in images} - {""}
    return [
        label
        for label in labels
        if not names.isdisjoint([label, *(label[: found.start()] for found in SEPARATED.finditer(label))])
        or _core(label, *of_labels) in cores
    ]


def _affixes(keys: Iterable[str]) -> tuple[str, str]:
    """Return what all names begin and end with, cut at a separator or a number: names share parts of those too."""
    stems = [key.rsplit("/", 1)[-1] for key in keys]
    shared = _common(stems)
    before = shared[: max(shared.rfind(separator) for separator in "_-. ") + 1]
    letters = re.match(r"[^\W\d_]+(?=\d)", stems[0])
    if not before and letters is not None and shared.startswith(letters[0]):
        before = letters[0]
    shared_end = _common([stem[::-1] for stem in stems])[::-1]
    if (separator := SEPARATED.search(shared_end)) is not None:
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
