"""Finding the files of a data set and putting images and labels together: the one way in which every reader does it.

A `Search` finds image files by their extensions in any case, in folders and sub-folders, and keeps account of what it
skips and of what it decided, so that nothing vanishes without a word.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from scenepalette.common.errors import DataError
from scenepalette.common.problems import Problem, ProblemKind, printable
from scenepalette.data.decoding.image_opening import FORMATS, UNREAD, has_image_extension
from scenepalette.data.files.image_files import FilePair
from scenepalette.data.files.naming import composed, flat_name, is_text, name_within, with_examples

_LITTER = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})
_LITTER_FOLDERS = frozenset(
    {"@eadir", "__macosx", "#recycle", "$recycle.bin", "lost+found", ".ipynb_checkpoints", ".thumbnails", ".git"}
)
_LOSSY = FORMATS["JPEG"]
_NO_IMAGE = "not an image, by its extension"
_ARRAY = "Save the array of class ids as a grey PNG file, uint8 [H, W]"
_SHAPES = "Annotations become labels by `scenepalette import`"
_OUTLINES = (
    "Outlines as YOLO writes them become labels by way of COCO's JSON: export that, and `scenepalette import` it"
)
_LABEL_FORMS = {
    **dict.fromkeys((".npy", ".npz", ".mat", ".pt"), _ARRAY),
    **dict.fromkeys((".json", ".xml"), _SHAPES),
    ".txt": _OUTLINES,
    ".gz": "Unpack it",
}
"""What to do with labels that are no images."""
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar")
"""Extensions of archives, in which no file is looked for."""


class Search:
    """Finds a data set's files below its folder, and what has to be said of it.

    Attributes:
        root: The data set's folder; names are relative to it.
        problems: What keeps the data set from being read.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.problems: list[Problem] = []
        self._notes: list[str] = []
        self._passed_over: dict[str, list[str]] = defaultdict(list)
        self._unread: dict[str, Path] = {}

    @property
    def notes(self) -> list[str]:
        """What was decided and what was skipped, a line each."""
        lines = [with_examples(names, f"skipped, {reason}") for reason, names in self._passed_over.items()]
        return [*self._notes, *lines]

    def note(self, text: str) -> None:
        """Say what was decided from the files."""
        if text not in self._notes:
            self._notes.append(text)

    def pass_over(self, paths: Iterable[Path | str], reason: str) -> None:
        """Say that files are not read.

        Args:
            paths: The files, or their names.
            reason: Why, in a few words that their number can follow.
        """
        names = [path if isinstance(path, str) else self.name(path) for path in paths]
        if names:
            self._passed_over[reason] += [name for name in names if name not in self._passed_over[reason]]

    def has_passed_over(self, name: str) -> bool:
        """Tell whether it was said of a file or folder that it is not read."""
        return any(name in names for names in self._passed_over.values())

    def refuse(self, path: Path, text: str, line: int | None = None, kind: ProblemKind = ProblemKind.PAIRING) -> None:
        """Say what is wrong with a file, or with a line of it, counted from 1."""
        self.problems.append(Problem(kind, self.name(path), text, line))

    def name(self, path: Path) -> str:
        """Return what messages call a file."""
        return name_within(path, self.root)

    def paths(self, folder: str, *, deep: bool = True, beside: Collection[str] = ()) -> list[Path]:
        """Return the image files of a folder, by their extensions in upper or lower case, in the order of their names.

        What operating systems leave behind (._NAME, .DS_Store, Thumbs.db, desktop.ini, @eaDir) is no part of a data
        set and left out. Other files are skipped with a word. Links are followed.

        Args:
            folder: The folder, relative to the root.
            deep: Whether files in sub-folders count.
            beside: Ends of the names of further files that the published layout has there; nothing is said of them.
        """
        start = self.root / folder
        found = []
        for path in files_below(start, deep=deep):
            name, hidden = path.name.lower(), [part.startswith(".") for part in path.relative_to(start).parts]
            if name in _LITTER or name.startswith("._"):
                continue
            if name.endswith(tuple(end.lower() for end in beside)):
                continue
            if not has_image_extension(path.name):
                if path.suffix.lower() in UNREAD:
                    self._unread[_stem(path.name)] = path
                # Around the splits lie class files, lists and what else tells about a data set.
                if not any(hidden) and folder != ".":
                    self.pass_over([path], _NO_IMAGE)
            elif hidden[-1]:
                self.pass_over([path], "hidden by the dot before the name")
            elif any(hidden):
                self.pass_over([path], "in a folder hidden by the dot before its name")
            elif len(path.name.splitlines()) > 1:
                self.refuse(path, "its name has a line break, which lists and logs would take for two; rename it")
            elif not is_text(path.relative_to(self.root).as_posix()):
                self.refuse(path, "its name is not text in UTF-8; rename it, for example with convmv -t utf8")
            else:
                found.append(path)
        return found

    def images(self, folder: str, *, end: str = "", deep: bool = True) -> dict[str, Path]:
        """Return a folder's images by their keys.

        Args:
            folder: The folder, relative to the root.
            end: What the names of the images end with before the extension; it is no part of their keys.
            deep: Whether files in sub-folders count.

        Returns:
            Path of each key: name without extension, after the sub-folders if any, joined by "/".
        """
        return self._by_key(folder, self._with_end(self.paths(folder, deep=deep), end), end, "image")

    def labels(self, folder: str, *, end: str = "", beside: Collection[str] = ()) -> dict[str, Path]:
        """Return a folder's label files by their keys, as `images` does; `beside` is as `paths` takes it.

        Of a JPEG beside a label of the same name in another format the JPEG is skipped: it does not keep ids.
        """
        paths = self._with_end(self.paths(folder, beside=beside), end)
        exact = {path.with_suffix("") for path in paths if path.suffix.lower() not in _LOSSY}
        shown = [path for path in paths if path.suffix.lower() in _LOSSY and path.with_suffix("") in exact]
        self.pass_over(shown, "a JPEG beside a label of the same name, which keeps ids exactly")
        return self._by_key(folder, [path for path in paths if path not in set(shown)], end, "label")

    def all_labels(self, *folders: str, end: str = "") -> list[Path]:
        """Return the label files of all splits, from which it is decided what they mean; nothing is said of others.

        Args:
            folders: Folders of label files, relative to the root; those that are not there count for nothing.
            end: As `labels` takes it.
        """
        quiet = Search(self.root)
        present = [folder for folder in folders if (self.root / folder).is_dir()]
        return [path for folder in present for path in quiet.labels(folder, end=end).values()]

    def _with_end(self, paths: list[Path], end: str) -> list[Path]:
        """Return the files whose names end so before their extensions, and skip the others."""
        others = [path for path in paths if not path.stem.lower().endswith(end.lower())]
        self.pass_over(others, f"no name like *{end}.*")
        return [path for path in paths if path not in set(others)] if others else paths

    def _by_key(self, folder: str, paths: Iterable[Path], end: str, noun: str) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for path in paths:
            below = path.relative_to(self.root / folder)
            key = (
                below.with_name(path.stem[: len(path.stem) - len(end)]).as_posix() if len(path.stem) > len(end) else ""
            )
            if not key:
                self.refuse(path, f"its name is nothing but {path.name}; put a name before it")
            elif key in found:
                text = f"a second {noun} named {key} beside {self.name(found[key])}; keep the right one"
                self.refuse(path, text)
            else:
                found[key] = path
        return found

    def _unread_of(self, key: str) -> str:
        """Return what is to be said of a file of a key whose format is not read, or nothing."""
        if (path := self._unread.get(_stem(f"{key}.".rsplit("/", 1)[-1]))) is None:
            return ""
        kind = UNREAD[path.suffix.lower()]
        return f"; {self.name(path)} is a {kind} file, which is not read. Convert it to JPEG or PNG"

    def pair(
        self, images: Mapping[str, Path], labels: Mapping[str, Path], wanted_label: str, *, alone_allowed: bool = False
    ) -> list[FilePair]:
        """Put images and labels of the same key together.

        Keys that differ in nothing but the Unicode form of accents, in upper and lower case, or in zeros before numbers
        are the same; so are names in sub-folders on one side and in none on the other. Each must be the only one. A
        file without a counterpart is a problem.

        Args:
            images: Image file of each key.
            labels: Label file of each key.
            wanted_label: Where the label of an image is looked for; "{id}" stands for the key.
            alone_allowed: Whether files without a counterpart are skipped.

        Returns:
            The pairs, sorted by key; a pair's id is its key, flattened to a file name.
        """
        label_of = {key: key for key in images if key in labels}
        for how, form in _FORMS:
            left = set(images) - set(label_of), set(labels) - set(label_of.values())
            if how == _FOLDERS and len({any("/" in key for key in keys) for keys in left}) < 2:
                continue
            if all(left):
                more = _unique_matches(*left, form)
                label_of |= more
                if more:
                    self.note(
                        with_examples((self.name(images[key]) for key in sorted(more)), f"paired, although {how}")
                    )
        alone = sorted(images.keys() - label_of.keys()), sorted(labels.keys() - set(label_of.values()))
        unread = self._unread_forms()
        if alone_allowed:
            for key in alone[0]:
                form = unread.get(_base(key))
                why = f", as theirs are in a form that is not read. {form[1]}" if form else ""
                self.pass_over([images[key]], f"without a label{why}")
            self.pass_over((labels[key] for key in alone[1]), "without an image")
            alone = [], []
        masks = _labels_by_name(alone[1])
        for key in alone[0]:
            if len(several := masks[_base(key)]) > 1:
                shown = f"{len(several)} files, such as {self.name(labels[several[0]])}, have its name"
                # Of one name and in folders of their own, they may be label maps and what is shown of them.
                or_one = len({key.rpartition("/")[2] for key in several}) == 1
                or_set = "; if one folder has label maps, set data.label_folder to it" if or_one else ""
                self.refuse(
                    images[key], f"no label for it; {shown}. If each is the mask of a class, merge them{or_set}"
                )
                continue
            if form := unread.get(_base(key)):
                self.refuse(images[key], f"its label {form[0]} is in a form that is not read. {form[1]}")
                continue
            self.refuse(images[key], f"no label for it, {wanted_label.format(id=printable(key))} is missing")
        for key in alone[1]:
            self.refuse(labels[key], f"no image for it{self._unread_of(key)}")
        return [
            FilePair(flat_name(key if label == key else composed(key)), images[key], labels[label])
            for key, label in sorted(label_of.items())
        ]

    def _unread_forms(self) -> dict[str, tuple[str, str]]:
        """Return files that were skipped and whose form holds labels elsewhere, with what to do, by image."""
        found = {}
        for name in self._passed_over.get(_NO_IMAGE, ()):
            path = PurePosixPath(name)
            if path.suffix.lower() in _LABEL_FORMS:
                stem = path.stem  # a.json, and a.png.json
                stem = PurePosixPath(stem).stem if has_image_extension(stem) else stem
                found[composed(stem)] = name, _LABEL_FORMS[path.suffix.lower()]
        return found


def _base(key: str) -> str:
    return composed(key.rsplit("/", 1)[-1])


def _labels_by_name(keys: Iterable[str]) -> defaultdict[str, list[str]]:
    """Return the labels of each name without folders and without a number behind it: road/a and sky/a, a_1 and a_2."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for key in keys:
        for name in dict.fromkeys((_base(key), re.sub(r"[_. -]\d+$", "", _base(key)))):
            found[name].append(key)
    return found


def _stem(name: str) -> str:
    return composed(name).casefold().rsplit(".", 1)[0]


def unpack_first(path: Path) -> str:
    """Return what is to be said of an archive that is given in place of a folder, after that it is none; or nothing."""
    return "; unpack it first" if path.suffix.lower() in ARCHIVES and os.path.isfile(path) else ""


def is_litter(folder: str) -> bool:
    """Tell whether a folder of this name is left behind by an operating system or a tool."""
    return folder.lower() in _LITTER_FOLDERS


def require_folders(name: str, root: Path, folders: Collection[str], layout: str, *, found: str = "") -> Search:
    """Check that a data set's folders are there, and return what finds its files.

    Args:
        name: Name of the data set.
        root: Its folder.
        folders: Required folders, relative to `root`.
        layout: The published layout in words, for the message.
        found: What there is instead, and what to do about it.

    Raises:
        DataError: The root or a folder is missing; every missing one is listed.
    """
    missing = [folder for folder in [".", *folders] if not (root / folder).is_dir()]
    if "." in missing:
        raise DataError(f"The data set '{name}' was expected in {root}, which is not a folder. Correct data.root.")
    if missing:
        raise DataError(
            f"{root} does not have the layout of '{name}', which is {layout}. Correct data.root or unpack the data set "
            f"completely. {found} Missing are:".replace("  ", " "),
            [Problem(ProblemKind.LAYOUT, "", f"{folder}/") for folder in missing],
        )
    return Search(root)


_FOLDERS = "only images or only labels lie in sub-folders"
_FORMS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("the label's name has another Unicode form", composed),
    ("the label's name has other capitals", lambda key: composed(key).casefold()),
    (_FOLDERS, lambda key: composed(key.rsplit("/", 1)[-1])),
    ("numbers have zeros before them on one side alone", lambda key: re.sub(r"(?<!\d)0+(?=\d)", "", composed(key))),
)


def _unique_matches(first: Iterable[str], second: Iterable[str], form: Callable[[str], str]) -> dict[str, str]:
    """Return which key of the second belongs to each of the first, where both are the only ones of their form."""
    by_form: tuple[defaultdict[str, list[str]], ...] = (defaultdict(list), defaultdict(list))
    for keys, place in zip((first, second), by_form, strict=True):
        for key in keys:
            place[form(key)].append(key)
    return {
        keys[0]: by_form[1][shape][0]
        for shape, keys in by_form[0].items()
        if len(keys) == 1 and len(by_form[1].get(shape, ())) == 1
    }


def files_below(folder: Path, *, deep: bool = True) -> Iterator[Path]:
    """Yield the files of a folder, then those of each sub-folder, by name.

    Links are followed, no folder is entered twice, and those that systems and tools leave behind are not entered.
    """
    entered: set[str] = set()

    def below(current: Path) -> Iterator[Path]:
        if (place := os.path.realpath(current)) in entered:
            return
        entered.add(place)
        folders = []
        with os.scandir(current) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
        for entry in listed:
            # What looks like an image is reported as one that cannot be read, even if it is a folder.
            folder_like = entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(entry))
            if folder_like and not has_image_extension(entry.name):
                if deep and entry.name.lower() not in _LITTER_FOLDERS:
                    folders.append(current / entry.name)
            else:
                yield current / entry.name
        for sub in folders:
            yield from below(sub)

    return below(folder)
