"""Lists of the samples of each split, train.txt or train.csv, in the forms in which data sets and tools write them."""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from scenepalette.common.problems import ProblemKind
from scenepalette.common.storage.untrusted import read_lines, short
from scenepalette.data.decoding.image_opening import EXTENSIONS, has_image_extension
from scenepalette.data.files.finding import Search
from scenepalette.data.files.image_files import FilePair
from scenepalette.data.files.naming import composed

SPLIT_FOLDERS: dict[str, tuple[str, ...]] = {
    "train": ("train", "training", "trn"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
"""What the folder or the list of a split may be called, in any case."""
LIST_FOLDERS = (".", "ImageSets/Segmentation", "imagesets/segmentation", "splits", "split", "lists", "list")
LIST_NAMES = ("{}.txt", "{}.lst", "{}_list.txt", "{}_list.lst", "{}list.txt", "list_{}.txt")
"""What the list of a split may be called; of several the first."""
_OTHER_LISTS = (".txt", ".lst", ".list", ".csv", ".tsv", ".json")
MOST_LINE_PROBLEMS = 1000
"""Wrong lines of a list after which it is not read further: it is no such list, or all lines have the same fault."""
_SEVERAL_PATHS = re.compile(
    rf"({'|'.join(map(re.escape, sorted(EXTENSIONS)))})[\"']?[\s,;]|[\s,;][\"']?(/|[a-z]:[/\\]|file:)", re.IGNORECASE
)


def lists_of_splits(search: Search) -> dict[str, Path]:
    """Return the list of each split that has one: train.txt, in the folder or where VOC has its lists.

    Tables are lists only if there are both of training and validation: data sets of competitions have tables of others.
    """
    for folder in LIST_FOLDERS:
        files = _files_of(search.root / folder)
        found = {
            split: path
            for split, names in SPLIT_FOLDERS.items()
            for name in names
            for form in reversed(LIST_NAMES)
            if (path := files.get(form.format(name))) is not None
        }
        if found:
            return found
        tables = {
            split: path
            for split, names in SPLIT_FOLDERS.items()
            for name in reversed(names)
            if (path := files.get(f"{name}.csv")) is not None
        }
        if {"train", "val"} <= tables.keys():
            return tables
        search.pass_over(tables.values(), "no list of a split without train.csv and val.csv beside each other")
    return {}


def other_lists(search: Search, read: Iterable[str]) -> list[Path]:
    """Return files that seem to be lists, by a word of their names, where none is called as lists are.

    Args:
        search: Knows the data set's folder, in which they are looked for, and in its sub-folders.
        read: Folders of images and labels, in which there are none.
    """
    words = {"split", "splits", "trainval", *(word for names in SPLIT_FOLDERS.values() for word in names)}
    inner = {path for path in search.root.iterdir() if path.is_dir() and not path.name.startswith(".")}
    folders = [search.root, *sorted(inner.difference(search.root / folder for folder in read))]
    files = [path for folder in folders for path in _files_of(folder).values() if path.suffix.lower() in _OTHER_LISTS]
    untold = (path for path in files if not search.has_passed_over(search.name(path)))
    return [path for path in untold if not words.isdisjoint(re.split(r"[_\-. ]|(?=set\b)", path.stem.lower()))]


def _files_of(folder: Path) -> dict[str, Path]:
    """Return the files of a folder by their names in lower case, in which CVAT has capitals: Train.txt."""
    if not folder.is_dir():
        return {}
    # Capitals come first, so that of Train.txt and train.txt the latter stays.
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
    return {name.lower(): folder / name for name in names}


def listed_pairs(search: Search, lists: Mapping[str, Path], split: str, pairs: Sequence[FilePair]) -> list[FilePair]:
    """Return the pairs that a split's list names, in its order: by name, path or both paths on a line.

    Args:
        search: Takes what has to be said, and problems of lines: names of no pair, and those that come twice.
        lists: The list of each split, as `lists_of_splits` returns them.
        split: The split.
        pairs: All pairs of the folder.

    Raises:
        DataError: A list cannot be read.
    """
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
                search.refuse(lists[split], text, line, ProblemKind.LIST)
    return [pair for pair, _ in chosen[split].values()]


def _read_list(
    search: Search, path: Path, by_name: Mapping[str, Sequence[FilePair]], *, needed: bool = True
) -> dict[str, tuple[FilePair, int]]:
    """Return the pairs that a list names, with the lines that do, by id; of a table that is not needed maybe none."""
    if path.suffix.lower() == ".csv":
        entries = _entries_of_table(search, path, by_name, needed=needed)
    else:
        lines = numbered_lines(path, search.root)
        entries = ((n, text, *_named_on(text, by_name)) for n, text in lines if not text.startswith("#"))

    def pair_of(text: str, matches: Sequence[FilePair], others: Sequence[str]) -> FilePair | str:
        if len(matches) == 1:
            return _other_label(search, text, matches[0], others) or matches[0]
        why = "several images have that name" if matches else "no image with a label has that name"
        if not matches and _SEVERAL_PATHS.search(text):
            why += "; labels are found by the names of their images, not by lists: name them alike"
        return f"{short(text)}: {why}"

    lines_and_pairs = ((n, text, pair_of(text, matches, others)) for n, text, matches, others in entries)
    return pairs_of_lines(search, path, lines_and_pairs)


def numbered_lines(path: Path, root: Path) -> Iterator[tuple[int, str]]:
    """Return number and text of each line of a list that has any; errors are those of `read_lines`."""
    lines = enumerate(read_lines(path, root), start=1)
    return ((number, text) for number, line in lines if (text := line.strip()))


def pairs_of_lines(
    search: Search, path: Path, entries: Iterable[tuple[int, str, FilePair | str]]
) -> dict[str, tuple[FilePair, int]]:
    """Return the pairs that the lines of a list stand for, in their order.

    Args:
        search: Takes what is wrong: lines that stand for no pair, and those that come twice.
        path: The list. It is not read further after MOST_LINE_PROBLEMS such lines.
        entries: Number and text of each line, and its pair, or what is wrong with it.

    Returns:
        Each pair with the number of its line, by id.
    """
    found: dict[str, tuple[FilePair, int]] = {}
    wrong = 0
    for number, text, pair in entries:
        if wrong >= MOST_LINE_PROBLEMS:
            why = f"not read from here on; {MOST_LINE_PROBLEMS} lines before it are wrong"
            search.refuse(path, why, number, ProblemKind.LIST)
            break
        if isinstance(pair, FilePair) and pair.id in found:
            pair = f"{short(text)} is listed before, in line {found[pair.id][1]}"
        if isinstance(pair, FilePair):
            found[pair.id] = pair, number
        else:
            wrong += 1
            search.refuse(path, pair, number, ProblemKind.LIST)
    return found


def _entries_of_table(
    search: Search, path: Path, by_name: Mapping[str, Sequence[FilePair]], *, needed: bool
) -> Iterator[tuple[int, str, Sequence[FilePair], list[str]]]:
    """Yield line, text, pairs and further cells of each row of a table, one column of which names images.

    Names with an extension count first: row numbers may be names of images, too.
    """
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
        text = f"it is no table ({error}); list images as text, a name per line"
        return search.refuse(path, text, reader.line_num, ProblemKind.LIST)
    any_name = Counter(place for _, _, named in rows for place in named)
    with_extension = Counter(place for _, cells, named in rows for place in named if has_image_extension(cells[place]))
    columns = with_extension or any_name
    if not columns:
        if needed:
            text = "no column holds names of images that have a label; list names or paths of images in one"
            search.refuse(path, text, kind=ProblemKind.LIST)
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
            both = f"{short(cells[column])} and {short(cells[others[0]])}"
            text = f"{both} name different images in one row; keep one column of images"
            return search.refuse(path, text, line, ProblemKind.LIST)
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
    """Return which file a word of a list may mean: of a path on another machine, its last parts.

    Of one that begins at a folder above, as `data/images/a.png`, these are the file and its folder at least.
    """
    if is_url := word.lower().startswith("file:"):
        word = unquote(word[5:])
    path = re.sub("/+", "/", word.replace("\\", "/")).removeprefix("./")
    is_absolute = is_url or path.startswith("/") or re.match(r"[A-Za-z]:/", path)
    parts = path.strip("/").split("/")
    last = len(parts) if is_absolute else max(1, len(parts) - 1)
    return ["/".join(parts[place:]) for place in range(last)]


def _without_extension(path: str) -> str:
    return path[: -len(suffix)] if (suffix := PurePosixPath(path).suffix).lower() in EXTENSIONS else path


def _other_label(search: Search, text: str, pair: FilePair, words: Sequence[str]) -> str:
    """Return what is wrong if image files are named beside an image on a line, and its label is none of them."""
    label, files = pair.label, [word for word in words if has_image_extension(word)]
    if not files or not isinstance(label, Path) or any(_is_named(search, label, word) for word in files):
        return ""
    return (
        f"{short(text)}: it names {short(files[0])}, but by its name the image's label is {search.name(label)}. Rename "
        "labels as their images, or set data.label_folder or data.label_suffix"
    )


def _is_named(search: Search, label: Path, word: str) -> bool:
    paths = _listed_paths(word)
    found = next((file for path in paths if os.path.isfile(file := search.root / path)), None)
    if found is not None:
        return os.path.samefile(found, label)
    return composed(PurePosixPath(paths[-1]).stem).casefold() == composed(label.stem).casefold()
