"""Image and label files that belong together: finding, checking and reading them. Every reader rests on this module."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from scenepalette.common.errors import DataError
from scenepalette.common.files import sha256_of_files, sha256_of_json
from scenepalette.common.problems import Problem, ProblemKind
from scenepalette.data.classes import IGNORE_ID, ClassTable
from scenepalette.data.image_opening import read_image
from scenepalette.data.label_images import LabelValues, read_label, value_counts
from scenepalette.data.readers.checking import LookAt, Subject, check_all
from scenepalette.data.sample import Sample

_SHOWN_VALUES = 8
MOST_LINE_PROBLEMS = 1000
"""Wrong lines of a list after which it is not read further: it is no such list, or all lines have the same fault."""


class LabelFiles(Protocol):
    """A label map that is put together from several files."""

    @property
    def name(self) -> str:
        """What messages call it, relative to the data set's folder."""
        ...

    @property
    def paths(self) -> Sequence[Path]:
        """Every file it is read from."""
        ...

    def read(self) -> np.ndarray:
        """Return the label map, uint8 [H, W].

        Raises:
            DataError: A file cannot be used; `found` has a problem per file.
        """
        ...


@dataclass(frozen=True)
class FilePair:
    """The files of one sample.

    Attributes:
        id: Unique in its data set and split; usable as a file name.
        image: The image.
        label: Its label map.
        values: What the label's values mean, where that differs from the rest of the data set.
    """

    id: str
    image: Path
    label: Path | LabelFiles
    values: LabelValues | None = None


class PairedFiles:
    """A data set on disk, checked file by file at construction; satisfies SegmentationDataset."""

    def __init__(
        self,
        *,
        name: str,
        split: str,
        root: Path,
        table: ClassTable,
        licence: str,
        pairs: Sequence[FilePair],
        values: LabelValues | None = None,
        label_scale: int = 1,
        label_origins: Mapping[str, str] | None = None,
        problems: Iterable[Problem] = (),
    ) -> None:
        """Read every file once and check it.

        A pair is in order if both files decode completely, the label is a single-channel PNG as large as its image,
        every label value is a class id or an ignored value, and at least one pixel has a class.

        Args:
            name: Name of the data set.
            split: "train" or "val".
            root: The data set's folder; messages name files relative to it.
            table: Its classes.
            licence: Terms of its publication.
            pairs: The files, in the order of the samples.
            values: What the label files' values mean; by default 0..K-1 are class ids.
            label_scale: Image pixels per label pixel, each way; samples repeat every label pixel so often.
            label_origins: How the labels came about, by part of the data set, where parts differ.
            problems: What the reader has already found wrong, reported together with what is found here.

        Raises:
            DataError: There is no pair, or any problem; every problem is listed with its file.
        """
        self.name = name
        self.split = split
        self.table = table
        self.licence = licence
        self.label_origins = dict(label_origins or {})
        self.ids = tuple(pair.id for pair in pairs)
        self._root = root
        self._pairs = tuple(pairs)
        self._values = LabelValues.class_ids(table.num_classes) if values is None else values
        self._label_scale = label_scale

        found = [*problems, *_repeated_ids(self._pairs)]
        checked = check_all(
            Subject(name, split, root, self.ids, table.num_classes),
            self._pairs,
            self._check,
            files=lambda pair: (pair.image, *_label_paths(pair)),
            meaning=self._meaning_of,
            dump=lambda problems: None if problems else [],
            load=list[Problem],
        )
        found.extend(problem for problems in checked for problem in problems)
        if not pairs and not found:
            found.append(
                Problem(ProblemKind.PAIRING, "", f"the split '{split}' is empty: there is no image with a label")
            )
        if found:
            noun = "problem" if len(found) == 1 else "problems"
            raise DataError(f"The data set '{name}', split '{split}', in {root} has {len(found)} {noun}:", found)

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int, /) -> Sample:
        """Read a sample.

        Raises:
            DataError: A file was changed or removed since the data set was opened.
        """
        pair = self._pairs[index]
        image = read_image(pair.image)
        label = _read_label_of(pair)
        problems = self._problems_of(pair, image.shape[:2], label)
        if problems:
            raise DataError(f"{pair.id} in {self._root} has changed since it was checked:", problems)
        return Sample(id=pair.id, image=image, label=self._ids_of(pair, label))

    @property
    def files(self) -> tuple[Path, ...]:
        """Every image and label file."""
        return tuple(path for pair in self._pairs for path in (pair.image, *_label_paths(pair)))

    @property
    def label_files(self) -> tuple[Path, ...]:
        """The label files of samples that have one each."""
        return tuple(pair.label for pair in self._pairs if isinstance(pair.label, Path))

    @property
    def fingerprint(self) -> str:
        """Hash of the class table and of each file's name, size and time of change, as they are now."""
        files = []
        for pair in self._pairs:
            for path in (pair.image, *_label_paths(pair)):
                try:
                    status = path.stat()
                except OSError as error:
                    raise DataError(f"{path} can no longer be read ({error.strerror}). Put it back.") from error
                files.append([self._relative(path), status.st_size, status.st_mtime_ns])
        meanings = sorted({tuple(self._values_of(pair).lookup.tolist()) for pair in self._pairs})
        return sha256_of_json([self.name, self.split, self.table.to_dict(), meanings, files])

    @property
    def content(self) -> str:
        """Hash of classes and terms, and of each pair's id, meaning of label values and bytes, as they are now.

        Raises:
            DataError: A file was removed since the data set was opened.
        """
        hashes = iter(sha256_of_files(self.files))
        pairs = []
        for pair in self._pairs:
            image = next(hashes)
            # What a file of several stands for is said by its name.
            label = [[path.name, next(hashes)] for path in _label_paths(pair)]
            meaning = self._values_of(pair).lookup.tolist()
            pairs.append([pair.id, image, label[0][1] if isinstance(pair.label, Path) else label, meaning])
        # Terms and origins travel on with what is made of the pairs.
        stated = [self.name, self.split, self.licence, self.label_origins, self.table.to_dict(), self._label_scale]
        return sha256_of_json([*stated, pairs])

    def _values_of(self, pair: FilePair) -> LabelValues:
        return self._values if pair.values is None else pair.values

    def _label_name(self, pair: FilePair) -> str:
        return self._relative(pair.label) if isinstance(pair.label, Path) else pair.label.name

    def _relative(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    def _meaning_of(self, pair: FilePair) -> list[Any]:
        """Return, as JSON values, what beside its files decides whether a pair is in order."""
        values = self._values_of(pair)
        return [pair.id, values.lookup.tolist(), np.flatnonzero(values.allowed).tolist(), self._label_scale]

    def _ids_of(self, pair: FilePair, label: np.ndarray) -> np.ndarray:
        """Return a label's class ids at the size of its image."""
        ids = self._values_of(pair).lookup[label]
        if self._label_scale > 1:
            ids = ids.repeat(self._label_scale, axis=0).repeat(self._label_scale, axis=1)
        return ids

    def _check(self, pair: FilePair, look_at: LookAt | None) -> tuple[list[Problem], Any]:
        problems = []
        image: np.ndarray | None = None
        label: np.ndarray | None = None
        try:
            image = read_image(pair.image)
        except DataError as error:
            problems.append(Problem(error.kind, self._relative(pair.image), error.summary))
        try:
            label = _read_label_of(pair)
        except DataError as error:
            problems.extend(error.found or [Problem(error.kind, self._label_name(pair), error.summary)])
        problems.extend(self._problems_of(pair, None if image is None else image.shape[:2], label))
        if problems or image is None or label is None or look_at is None:
            return problems, None
        return problems, look_at(image, self._ids_of(pair, label))

    def _problems_of(
        self, pair: FilePair, image_size: tuple[int, ...] | None, label: np.ndarray | None
    ) -> list[Problem]:
        """Compare the two files of a pair; what could not be read is None."""
        if label is None:
            return []
        problems = []
        name, scale, values = self._label_name(pair), self._label_scale, self._values_of(pair)
        if image_size is not None and tuple(side * scale for side in label.shape) != tuple(image_size):
            rule = "both must be equal" if scale == 1 else f"the image must be {scale} times as high and as wide"
            text = (
                f"{label.shape[0]} x {label.shape[1]} pixels (height x width), but its image "
                f"{self._relative(pair.image)} has {image_size[0]} x {image_size[1]}; {rule}"
            )
            problems.append(Problem(ProblemKind.SIZE, name, text))
        counts = value_counts(label)
        wrong = np.flatnonzero(counts * ~values.allowed)
        if wrong.size:
            shown = ", ".join(str(value) for value in wrong[:_SHOWN_VALUES])
            more = ", ..." if wrong.size > _SHOWN_VALUES else ""
            text = f"label values {shown}{more} in {counts[wrong].sum()} pixels; allowed are {values}"
        elif not counts[values.lookup != IGNORE_ID].any():
            text = "every pixel is ignored; remove this label and its image"
        else:
            return problems
        return [*problems, Problem(ProblemKind.LABEL_VALUE, name, text, ignored=values.ignored | {IGNORE_ID})]


def files_by_stem(folder: Path, suffix: str) -> dict[str, Path]:
    """Return the files of a folder by their names without the suffix, sorted; hidden files are left out."""
    return {path.stem: path for path in sorted(folder.glob(f"*{suffix}")) if not path.name.startswith(".")}


def not_read_further(listing: Path, line: int) -> Problem:
    """Say that a list was not read from a line on, as MOST_LINE_PROBLEMS lines before it are wrong."""
    text = f"not read from here on; {MOST_LINE_PROBLEMS} lines before it are wrong"
    return Problem(ProblemKind.LIST, listing.name, text, line)


def match_names(
    images: Mapping[str, Path], labels: Mapping[str, Path], *, root: Path, wanted_label: str
) -> tuple[list[FilePair], list[Problem]]:
    """Put images and labels of the same id together.

    Args:
        images: Image file of each id.
        labels: Label file of each id.
        root: Folder that messages name files relative to.
        wanted_label: Where the label of an image is looked for; "{id}" stands for the id.

    Returns:
        The pairs, sorted by id, and a problem per file that has no counterpart.
    """
    pairs = [FilePair(id=key, image=images[key], label=labels[key]) for key in sorted(images.keys() & labels.keys())]
    alone = [
        (images[key], f"no label for it, {wanted_label.format(id=key)} is missing")
        for key in sorted(images.keys() - labels.keys())
    ]
    alone += [(labels[key], "no image for it") for key in sorted(labels.keys() - images.keys())]
    return pairs, [Problem(ProblemKind.PAIRING, path.relative_to(root).as_posix(), text) for path, text in alone]


def files_by_folder(root: Path, folder: str, endings: Sequence[str]) -> tuple[dict[str, Path], list[Problem]]:
    """Find files ROOT/FOLDER/SUBFOLDER/NAME<ending>.

    Args:
        root: The data set's folder.
        folder: Folder below it.
        endings: What may follow NAME in a file name.

    Returns:
        The file of each SUBFOLDER/NAME, and a problem per file that has the name of another.
    """
    found: dict[str, Path] = {}
    problems: list[Problem] = []
    for path in sorted((root / folder).glob("*/*")):
        ending = next((ending for ending in endings if path.name.endswith(ending)), None)
        if ending is None:
            continue
        key = f"{path.parent.name}/{path.name.removesuffix(ending)}"
        if key in found:
            text = f"a second file for {key}; keep one of them"
            problems.append(Problem(ProblemKind.PAIRING, path.relative_to(root).as_posix(), text))
        found[key] = path
    return found, problems


def pair_by_folders(
    root: Path, split: str, *, image_endings: Sequence[str], label_ending: str
) -> tuple[list[FilePair], list[Problem]]:
    """Pair files in Cityscapes' layout: leftImg8bit/SPLIT/FOLDER/NAME<ending>, gtFine/SPLIT/FOLDER/NAME<ending>.

    Args:
        root: The data set's folder.
        split: "train" or "val".
        image_endings: What may follow NAME in an image's file name.
        label_ending: What follows NAME in a label's file name.

    Returns:
        The pairs, sorted by id, and the problems. An id is NAME, after FOLDER and "_" if NAME does not begin with it.
    """
    images, image_problems = files_by_folder(root, f"leftImg8bit/{split}", image_endings)
    labels, label_problems = files_by_folder(root, f"gtFine/{split}", [label_ending])
    pairs, unmatched = match_names(images, labels, root=root, wanted_label=f"gtFine/{split}/{{id}}{label_ending}")
    named = [replace(pair, id=flat_name(pair.id)) for pair in pairs]
    return named, [*image_problems, *label_problems, *unmatched]


def require_folders(name: str, root: Path, folders: Sequence[str], layout: str) -> None:
    """Check that a data set's folders are there.

    Args:
        name: Name of the data set.
        root: Its folder.
        folders: Required folders, relative to `root`.
        layout: The published layout in words, for the message.

    Raises:
        DataError: The root or a folder is missing; every missing one is listed.
    """
    missing = [folder for folder in [".", *folders] if not (root / folder).is_dir()]
    if "." in missing:
        raise DataError(f"The data set '{name}' was looked for in {root}, which is not a folder. Correct data.root.")
    if missing:
        raise DataError(
            f"{root} does not have the layout of '{name}', which is {layout}. Correct data.root or unpack the data set "
            "completely. Missing are:",
            [Problem(ProblemKind.LAYOUT, "", f"{folder}/") for folder in missing],
        )


def _label_paths(pair: FilePair) -> Sequence[Path]:
    return [pair.label] if isinstance(pair.label, Path) else pair.label.paths


def _read_label_of(pair: FilePair) -> np.ndarray:
    return read_label(pair.label) if isinstance(pair.label, Path) else pair.label.read()


def _repeated_ids(pairs: Iterable[FilePair]) -> list[Problem]:
    seen: set[str] = set()
    repeated: list[Problem] = []
    for pair in pairs:
        if pair.id in seen:
            text = f"the id '{pair.id}' occurs twice; rename one of the files"
            repeated.append(Problem(ProblemKind.PAIRING, pair.image.name, text))
        seen.add(pair.id)
    return repeated


def flat_name(key: str) -> str:
    """Turn FOLDER/NAME into an id that can be a file name: NAME if it begins with FOLDER, else FOLDER_NAME."""
    folder, name = key.split("/")
    return name if name.startswith(f"{folder}_") else f"{folder}_{name}"
