"""What is read from a source of annotations: images, classes, and how to draw each label map."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from scenepalette.common.errors import ConfigError, DataError
from scenepalette.common.problems import printable
from scenepalette.common.storage.untrusted import read_text, short
from scenepalette.common.wording import counted
from scenepalette.data.classes import IGNORE_ID, ClassTable, SemanticClass
from scenepalette.data.decoding.class_files import classes_of_class_file, read_class_file
from scenepalette.data.decoding.label_images import colour_of, voc_colour
from scenepalette.data.decoding.label_reading import LabelEncoding
from scenepalette.data.files.finding import files_below
from scenepalette.data.files.split_lists import SPLIT_FOLDERS
from scenepalette.data.imports.findings import Fault, Findings
from scenepalette.data.sample import FolderOptions, Orientation
from scenepalette.data.splits.holdout import divide_whole

BACKGROUND = "background"
IGNORE = "ignore"
MAX_CLASSES = 254
"""Most classes beside the background; 255 means ignored."""
JSON_BYTES = 2**31
"""Largest annotation file; COCO's of 118,287 images has 449 MB."""
_OF_SPLIT = {word: split for split, words in SPLIT_FOLDERS.items() for word in words}
_LONGEST_NAME = 100

Crowds = Literal["ignore", "class", "skip"]


@dataclass(frozen=True)
class ImportOptions:
    """What a user says of a source; None leaves the choice to the format.

    Attributes:
        images: Folder of the images; they are looked for there by the last part of their names.
        classes: A class file: which classes there are, in which order and colours.
        background: Name of the class of pixels that no annotation covers; "ignore" if they are to be ignored.
        ignore: Names of classes whose pixels are ignored.
        crowds: Of COCO: what becomes of regions marked as crowds.
        line_width: Width in pixels of lines.
        val_share: Of a source without splits: the share that is for validation.
        val_seed: Of such a source: decides the choice where images or recordings are drawn.
        image_column: Of Hugging Face: column of the images.
        label_column: Of Hugging Face: column of the label maps.
        subset: Of Hugging Face: name of the configuration.
        label_encoding: Of label maps: how they are read, as `LabelSettings.encoding`.
        label_offset: Of label maps: what is to be added to each value.
        ignore_ids: Of label maps: values without a class.
        colour_tolerance: Of label maps: largest difference of a channel from that of a class's colour.
        label_folder: Of folders of label maps: which one holds them, as `FolderOptions.label_folder`.
        label_suffix: Of such folders: what names of label maps have after those of their images.
        orientation: Of label maps: how images are read that their EXIF tag turns.
        link: Whether images are linked instead of copied.
        skip_problems: Whether images with a problem are left out.
    """

    images: Path | None = None
    classes: Path | None = None
    background: str | None = None
    ignore: tuple[str, ...] = ()
    crowds: Crowds | None = None
    line_width: int | None = None
    val_share: float | None = None
    val_seed: int | None = None
    image_column: str | None = None
    label_column: str | None = None
    subset: str | None = None
    label_encoding: LabelEncoding | None = None
    label_offset: int | None = None
    ignore_ids: tuple[int, ...] = ()
    colour_tolerance: int | None = None
    label_folder: str | None = None
    label_suffix: str | None = None
    orientation: Orientation | None = None
    link: bool = False
    skip_problems: bool = False

    @property
    def share(self) -> float:
        """The share for validation, that of the reader `folder` where the user does not say it."""
        return FolderOptions().val_share if self.val_share is None else self.val_share


class Drawn(NamedTuple):
    """An image and its label map.

    Attributes:
        content: The image file's bytes.
        label: uint8 [H, W], class ids or IGNORE_ID.
    """

    content: bytes
    label: np.ndarray


@dataclass(frozen=True)
class Item:
    """One annotated image.

    Attributes:
        id: What it is called in the result, if no other is called so.
        path: Longer name, for images whose ids are equal.
        where: What messages call it.
        split: "train", "val", "test", or None where the source does not say.
        image: Its file; None where the image lies within another file.
        read: Returns image and label map, which count only if it reports no problem; may be called in any thread.
    """

    id: str
    path: str
    where: str
    split: str | None
    image: Path | None
    read: Callable[[Findings], Drawn | None]


@dataclass(frozen=True)
class Classes:
    """The classes of an import.

    Attributes:
        table: A class's id is its place.
        ids: Class id, or IGNORE_ID, of each name that annotations may have.
        outside: Class id, or IGNORE_ID, of pixels that no annotation covers.
    """

    table: ClassTable
    ids: Mapping[str, int]
    outside: int

    def id_of(self, name: object, findings: Findings, where: str) -> int | None:
        """Return the class id of a name; None after reporting that it is none."""
        known = self.ids.get(name.strip()) if isinstance(name, str) else None
        if known is None:
            findings.fault(Fault.UNKNOWN_CLASS, f"{where}: {short(repr(name), 60)}")
        return known


@dataclass
class Source:
    """What a source holds.

    Attributes:
        items: The annotated images.
        classes: The classes.
        files: Annotation files, whose bytes identify the source.
        findings: What was found wrong or left out so far.
        licence: Terms that the source states; empty if none.
        divided: How a source without splits was divided by its reader; empty if it was not.
        identity: What identifies the source beside its files.
    """

    items: list[Item]
    classes: Classes
    files: list[Path]
    findings: Findings
    licence: str = ""
    divided: str = ""
    identity: list[str] = field(default_factory=list)


def classes_of_names(
    names: Iterable[str],
    options: ImportOptions,
    findings: Findings,
    *,
    colours: Mapping[str, tuple[int, int, int]] | None = None,
    background: str = BACKGROUND,
) -> Classes:
    """Return the classes of a source that has annotations and no label maps.

    Args:
        names: Those that the source declares or uses, in the order of their ids.
        options: What the user says.
        findings: Takes names that cannot be used.
        colours: Those that the source states; others follow PASCAL VOC's rule.
        background: Name of the class of uncovered pixels, unless the user names another.

    Raises:
        ConfigError: The class file has no such class.
        DataError: The class file cannot be used, or there are too many or too few classes.
    """
    names = list(names)
    wanted, ignored = options.background or _spelling_of(background, names), dict.fromkeys(options.ignore, IGNORE_ID)
    if options.classes is not None:
        return _classes_of_file(options.classes, wanted, ignored)
    listed = dict.fromkeys(name.strip() for name in names)
    for name in sorted(ignored.keys() - listed):
        findings.left_out("names that --ignore gives and no annotation has", short(repr(name), 60))
    kept = [name for name in listed if name not in ignored and name != wanted]
    for name in [name for name in kept if not name or len(name) > _LONGEST_NAME or not name.isprintable()]:
        findings.fault(Fault.CLASS_NAME, short(repr(name), 60))
        kept.remove(name)
    if wanted != IGNORE:
        kept.insert(0, wanted)
    for what, unsaid in (("capitals or spaces", r"[\s_-]"), ("a number at the end", r"[\s_-]*\d+$")):
        spellings: dict[str, list[str]] = {}
        for name in kept:
            spellings.setdefault(re.sub(unsaid, "", name).casefold(), []).append(name)
        for same in (names for plain, names in spellings.items() if plain and len(names) > 1):
            findings.left_out(f"names that differ in {what} alone and stay classes of their own", " / ".join(same))
    if not 2 <= len(kept) <= MAX_CLASSES + 1:
        raise DataError(
            f"The source has {counted(len(kept), 'class', 'classes')} ({short(', '.join(kept[:8]))}); 2 to "
            f"{MAX_CLASSES + 1} are required, the background counted. Name those that are wanted in a class file "
            "(--classes) and the others with --ignore.",
            findings.problems,
        )
    stated = colours or {}
    # Black, the first of VOC's colours, is for the background: figures show ignored pixels in black as well.
    first = 1 if wanted == IGNORE else 0
    colour = [colour_of(voc_colour(number)) for number in range(first, first + len(kept))]
    entries = tuple(SemanticClass(name, stated.get(name, colour[k])) for k, name in enumerate(kept))
    ids = {name: k for k, name in enumerate(kept)} | ignored
    return Classes(ClassTable("import", entries), ids, IGNORE_ID if wanted == IGNORE else 0)


def _spelling_of(background: str, names: Iterable[str]) -> str:
    """Return what the source itself calls its background: "Background" is no class beside "background"."""
    alike = {name.strip() for name in names if name.strip().casefold() == background.casefold()}
    return alike.pop() if len(alike) == 1 else background


def classes_of_table(table: ClassTable, options: ImportOptions, outside: str) -> Classes:
    """Return the classes of a source with a published table, or those of the user's class file."""
    wanted, ignored = options.background or outside, dict.fromkeys(options.ignore, IGNORE_ID)
    if options.classes is not None:
        return _classes_of_file(options.classes, wanted, ignored)
    return _named(table, {}, wanted, ignored, "The class table")


def _classes_of_file(path: Path, wanted: str, ignored: Mapping[str, int]) -> Classes:
    declared = read_class_file(path)
    table, _, _ = classes_of_class_file(path, declared)
    none = {row.name.strip(): IGNORE_ID for row in declared.classes if row.stands_for_none}
    return _named(table, none, wanted, ignored, f"The class file {path}")


def _named(table: ClassTable, none: Mapping[str, int], wanted: str, ignored: Mapping[str, int], what: str) -> Classes:
    ids = {name: k for k, name in enumerate(table.names)} | {**none, **ignored}
    if wanted != IGNORE and wanted not in ids:
        raise ConfigError(
            f"{what} has no class '{wanted}' for pixels that no annotation covers. Add it, name another class with "
            "--background NAME, or ignore these pixels with --background ignore."
        )
    return Classes(table, ids, IGNORE_ID if wanted == IGNORE else ids[wanted])


def split_of(path: str) -> str | None:
    """Return the split that a path names: a folder of it, or a word of the file's name, with a year or without.

    Args:
        path: Relative path with forward slashes: "train/a.json", "annotations/instances_val2017.json".
    """
    *folders, name = path.split("/")
    for folder in reversed(folders):
        if (found := _OF_SPLIT.get(re.sub(r"\d+$", "", folder.lower()))) is not None:
            return found
    words = re.split(r"[_\-. ]", name.rpartition(".")[0].lower())
    found = {split for word in words if (split := _OF_SPLIT.get(re.sub(r"\d+$", "", word)))}
    return found.pop() if len(found) == 1 else None


def split_named(name: str) -> str | None:
    """Return the split that a name stands for, None if it is the name of none."""
    return _OF_SPLIT.get(name.strip().lower())


def read_json_file(path: Path, limit: int) -> Any:
    """Read an annotation file.

    Raises:
        DataError: It is missing, too large, or not JSON; the text follows the file's name.
    """
    text = read_text(path, limit)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"it is not JSON ({short(str(error))})") from error


def read_annotations(path: Path, where: str, findings: Findings, limit: int = JSON_BYTES) -> dict[str, Any] | None:
    """Return the object that an annotation file holds, an empty one for other JSON; None after reporting what it is."""
    try:
        content = read_json_file(path, limit)
    except DataError as error:
        findings.fault(Fault.UNREADABLE, f"{where}: {error.summary}")
        return None
    return content if isinstance(content, dict) else {}


def require_folder(source: Path) -> None:
    """Check that a source is a folder.

    Raises:
        ConfigError: It is not.
    """
    if not source.is_dir():
        raise ConfigError(f"{source} is not a folder. Give the folder that holds the annotations.")


def files_named(root: Path, extensions: Sequence[str]) -> list[Path]:
    """Return the files below a folder whose names end so, hidden ones left out, sorted; links are followed."""
    found = (path for path in files_below(root) if path.name.lower().endswith(tuple(extensions)))
    return sorted(path for path in found if path.is_file() and not is_hidden(path, root))


def is_hidden(path: Path, root: Path) -> bool:
    """Tell whether a file below a folder, or a folder on the way to it, has a dot before its name."""
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def relative_name(path: Path, root: Path) -> str:
    """Return a path as messages show it, from the source's folder."""
    return printable(path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix())


def as_options(text: str) -> str:
    """Name the arguments of an import in place of the settings of a run: --val-seed 1 for data.val_seed=1."""
    names = (
        "label_encoding|label_offset|label_folder|label_suffix|ignore_ids|colour_tolerance|orientation|"
        "val_share|val_seed"
    )
    return re.sub(
        rf"data\.({names})(=?)",
        lambda found: f"--{found[1].replace('_', '-')}{' ' if found[2] else ''}",
        re.sub(r"data\.root\b", "SOURCE", text),
    )


def divide(names: Sequence[str], options: ImportOptions, findings: Findings) -> tuple[list[int], list[int]]:
    """Divide images of a source without splits, as the reader `folder` does.

    Args:
        names: Of the images, from which recordings are told.
        options: What the user says.
        findings: Takes how it was done.

    Returns:
        Indices of those for training and for validation; neighbours of the latter are in neither.

    Raises:
        DataError: There are too few.
    """
    try:
        divided = divide_whole(names, options.share, options.val_seed or 0)
    except DataError as error:
        raise DataError(as_options(error.summary), findings.problems) from error
    left_out = len(names) - len(divided.train) - len(divided.test)
    said = counted(len(divided.test), f"of {len(names)} images validates", f"of {len(names)} images validate")
    how = as_options(divided.how)
    findings.note(f"No split for validation is stated: {said} ({how}), {left_out} beside them left out.")
    return divided.train, divided.test
