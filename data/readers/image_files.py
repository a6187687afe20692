"""Image and label files that belong together: finding, checking and reading them. Every reader rests on this module."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from scenepalette.common.errors import DataError
from scenepalette.common.files import sha256_of_files, sha256_of_json
from scenepalette.common.problems import Problem, ProblemKind
from scenepalette.data.classes import IGNORE_ID, ClassTable
from scenepalette.data.image_opening import read_image
from scenepalette.data.label_decisions import decide
from scenepalette.data.label_images import (
    LabelImage,
    LabelSummary,
    LabelValues,
    outline_of,
    read_label,
    summarise,
    summary_of,
)
from scenepalette.data.label_reading import AS_FOUND, LabelReading, LabelSettings
from scenepalette.data.sample import Sample

MOST_LINE_PROBLEMS = 1000
"""Wrong lines of a list after which it is not read further: it is no such list, or all lines have the same fault."""
_EXAMPLES = 3
_DECODERS = 8
"""Images decoded at once, so that memory stays bounded however many cores there are."""


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
        labels: LabelSettings = AS_FOUND,
        label_colours: Mapping[int, Sequence[int]] | None = None,
        other_labels: Iterable[Path] = (),
        never: Iterable[int] = (),
        notes: Iterable[str] = (),
    ) -> None:
        """Read every file once and check it.

        A pair is in order if both files decode completely, the label is as large as its image, and every value or
        colour of it is that of a class or ignored. Pairs whose label is ignored everywhere are left out with a note.

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
            labels: What the user says of the label files.
            label_colours: Class ids, or IGNORE_ID, of each colour (see `scenepalette.data.label_images.code_of`), where
                the user says which classes there are; by default the table's.
            other_labels: Label files of the other splits, from which it is decided as well what values mean.
            never: Values that the published labels never hold; if they occur, the labels were renumbered.
            notes: What the reader has decided, a sentence each; what is decided here is added.

        Raises:
            DataError: There is no pair, or any problem; every problem is listed with its file.
        """
        self.name = name
        self.split = split
        self.table = table
        self.licence = licence
        self.label_origins = dict(label_origins or {})
        self._root = root
        self._values = LabelValues.class_ids(table.num_classes) if values is None else values
        self._label_scale = label_scale

        found = [*problems, *_repeated_ids(pairs)]
        # Decoding happens outside the interpreter lock, so threads use all cores; each holds one pair in memory.
        with ThreadPoolExecutor(min(_DECODERS, os.cpu_count() or 1)) as executor:
            self._reading = self._decide(executor, pairs, labels, label_colours, other_labels, never)
            found.extend(self._reading.problems)
            undecided = bool(self._reading.problems)
            kept: list[FilePair] = []
            ignored: list[str] = []
            for pair, (of_pair, has_classes) in zip(pairs, executor.map(self._check, pairs), strict=True):
                # What no file can be read without is said once.
                found.extend(p for p in of_pair if not (undecided and p.kind is ProblemKind.LABEL_VALUE))
                if has_classes:
                    kept.append(pair)
                else:
                    ignored.append(self._label_name(pair))
        self._pairs = tuple(kept)
        self.ids = tuple(pair.id for pair in kept)
        self.notes = (*notes, *self._reading.notes)
        if ignored:
            text = f"{len(ignored)} of {len(pairs)} labels are ignored everywhere, and left out with their images"
            self.notes += (f"{text}: {', '.join(ignored[:_EXAMPLES])}{', ...' if ignored[_EXAMPLES:] else ''}.",)
        if pairs and not kept and not found:
            text = f"every pixel of all {len(pairs)} labels is ignored; allowed are {self._reading.values}"
            found.append(Problem(ProblemKind.LABEL_VALUE, "", text, ignored=self._reading.values.all_ignored))
        if not pairs and not found:
            found.append(Problem(ProblemKind.PAIRING, "", "the split is empty: there is no image with a label"))
        if found:
            noun = "problem" if len(found) == 1 else "problems"
            raise DataError(f"The data set '{name}', split '{split}', in {root} has {len(found)} {noun}:", found)

    def _decide(
        self,
        executor: ThreadPoolExecutor,
        pairs: Sequence[FilePair],
        settings: LabelSettings,
        colours: Mapping[int, Sequence[int]] | None,
        others: Iterable[Path],
        never: Iterable[int],
    ) -> LabelReading:
        """Decide from the labels of all splits how they are read."""
        own = [pair.label for pair in pairs if isinstance(pair.label, Path) and pair.values is None]
        # In an order that does not depend on the split, so that the same is said of both.
        paths = sorted({*own, *(path for path in others if not path.name.startswith("."))})
        held = zip(paths, executor.map(_outline, paths), strict=True)
        looked_at = {self._relative(path): outline for path, outline in held if outline is not None}
        return decide(looked_at, self.table, self._values, settings, colours=colours, never=never)

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
        summary = summarise(label)
        problems = self._problems_of(pair, image.shape[:2], summary)
        if problems:
            raise DataError(f"{pair.id} in {self._root} has changed since it was checked:", problems)
        ids = self._reading_of(pair).decode(label, summary)
        if self._label_scale > 1:
            ids = ids.repeat(self._label_scale, axis=0).repeat(self._label_scale, axis=1)
        return Sample(id=pair.id, image=image, label=ids)

    @property
    def files(self) -> tuple[Path, ...]:
        """Every image and label file."""
        return tuple(path for pair in self._pairs for path in (pair.image, *_label_paths(pair)))

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
        meanings = sorted({tuple(self._reading_of(pair).values.lookup.tolist()) for pair in self._pairs})
        stated = [self.name, self.split, self.table.to_dict(), meanings, files]
        # Of labels that are numbers these are all; what is done with colours counts where there are any.
        colours = sorted({sha256_of_json(rest) for pair in self._pairs if (rest := self._meaning_of(pair)[1:])})
        return sha256_of_json([*stated, colours] if colours else stated)

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
            meaning = self._meaning_of(pair)
            pairs.append([pair.id, image, label[0][1] if isinstance(pair.label, Path) else label, *meaning])
        # Terms and origins travel on with what is made of the pairs.
        stated = [self.name, self.split, self.licence, self.label_origins, self.table.to_dict(), self._label_scale]
        return sha256_of_json([*stated, pairs])

    def _reading_of(self, pair: FilePair) -> LabelReading:
        return self._reading if pair.values is None else replace(self._reading, values=pair.values, snapped=False)

    def _meaning_of(self, pair: FilePair) -> list[object]:
        """Return what decides the class ids of a pair beside its bytes, as JSON values."""
        reading = self._reading_of(pair)
        if not isinstance(pair.label, Path):
            return [reading.values.lookup.tolist()]
        try:
            return reading.meaning(outline_of(pair.label))
        except DataError as error:
            raise DataError(f"{pair.label} can no longer be read: {error.summary}") from error

    def _label_name(self, pair: FilePair) -> str:
        return self._relative(pair.label) if isinstance(pair.label, Path) else pair.label.name

    def _relative(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    def _check(self, pair: FilePair) -> tuple[list[Problem], bool]:
        """Return what is wrong with a pair, and whether any pixel has a class, as far as that is known."""
        problems = []
        image_size: tuple[int, ...] | None = None
        label: LabelSummary | None = None
        try:
            image_size = read_image(pair.image).shape[:2]
        except DataError as error:
            problems.append(Problem(ProblemKind.FILE, self._relative(pair.image), error.summary))
        try:
            label = summary_of(pair.label) if isinstance(pair.label, Path) else summarise(_read_label_of(pair))
        except DataError as error:
            problems.extend(error.found or [Problem(error.kind, self._label_name(pair), error.summary)])
            return problems, True
        problems += self._problems_of(pair, image_size, label)
        ids = self._reading_of(pair).ids_of(label)
        return problems, bool(problems or (ids != IGNORE_ID).any())

    def _problems_of(self, pair: FilePair, image_size: tuple[int, ...] | None, label: LabelSummary) -> list[Problem]:
        """Compare the two files of a pair; an image that could not be read is None."""
        problems = []
        name, scale, reading = self._label_name(pair), self._label_scale, self._reading_of(pair)
        if image_size is not None and tuple(side * scale for side in label.shape) != tuple(image_size):
            rule = "both must be equal" if scale == 1 else f"the image must be {scale} times as high and as wide"
            text = (
                f"{label.shape[0]} x {label.shape[1]} pixels (height x width), but its image "
                f"{self._relative(pair.image)} has {image_size[0]} x {image_size[1]}; {rule}"
            )
            problems.append(Problem(ProblemKind.SIZE, name, text))
        if label.lossy and not reading.bears_loss(label):
            text = (
                "it is a JPEG file or of another format that changes values. Export labels as PNG; or, if they hold "
                "colours or 0 and 255, set data.colour_tolerance to take each pixel for the nearest of these"
            )
            problems.append(Problem(ProblemKind.LABEL_FORMAT, name, text))
        elif text := reading.unclear(label):
            kind = ProblemKind.LABEL_FORMAT if reading.method(label) == "colours" else ProblemKind.LABEL_VALUE
            problems.append(Problem(kind, name, text, ignored=reading.values.all_ignored))
        return problems


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


def _read_label_of(pair: FilePair) -> LabelImage:
    return read_label(pair.label) if isinstance(pair.label, Path) else LabelImage("grey", pair.label.read())


def _outline(path: Path) -> LabelSummary | None:
    """Return what a label file holds, or None for one that cannot be read, which its split reports."""
    try:
        return outline_of(path)
    except DataError:
        return None


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
