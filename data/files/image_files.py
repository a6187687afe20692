"""Image and label files that belong together: finding, checking and reading them. Every reader rests on this module."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from scenepalette.common.errors import DataError
from scenepalette.common.problems import Problem, ProblemKind, printable
from scenepalette.common.storage.files import sha256_of_files, sha256_of_json
from scenepalette.common.wording import counted
from scenepalette.data.classes import IGNORE_ID, ClassTable
from scenepalette.data.decoding.image_opening import ImageFacts, check_image, decode_image, read_stored, remarks_of_name
from scenepalette.data.decoding.label_decisions import decide
from scenepalette.data.decoding.label_images import (
    EVERY_ID,
    UNKNOWN,
    LabelImage,
    LabelSummary,
    LabelValues,
    Sketch,
    outline_of,
    read_label,
    summarise,
)
from scenepalette.data.decoding.label_reading import AS_FOUND, LabelReading, LabelSettings
from scenepalette.data.files.checking import Look, Subject, check_all
from scenepalette.data.files.naming import name_within, with_examples
from scenepalette.data.sample import Orientation, Sample

_MOST_REMEMBERED = 512
"""Different values of a label up to which they are remembered; photographs and smoothed colours would fill disks."""


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


@dataclass(frozen=True)
class _Looked:
    """What was seen of a pair when it was checked.

    Attributes:
        problems: What is wrong with it.
        remarks: What has to be said of how the image was read.
        stored: Height and width of the image as stored; None if it cannot be read.
        upright: The same as viewers show it.
        turned_by_tag: Whether its EXIF tag turns it.
        label_turned: Whether the label was turned by a tag of its own.
        label_remarks: What has to be said of how the label was read.
        label: Height and width of the label, in image pixels; None if it cannot be read.
        ignored: Whether every label pixel is ignored.
        method: How the label is read, as `LabelReading.method` says; "" if it cannot be.
    """

    problems: tuple[Problem, ...] = ()
    remarks: tuple[str, ...] = ()
    stored: tuple[int, int] | None = None
    upright: tuple[int, int] | None = None
    turned_by_tag: bool = False
    label_turned: bool = False
    label_remarks: tuple[str, ...] = ()
    label: tuple[int, int] | None = None
    ignored: bool = False
    method: str = ""

    def to_values(self) -> dict[str, Any] | None:
        """Return everything as JSON values; None of a pair with problems, which is looked at again each time."""
        return None if self.problems else asdict(self)

    @classmethod
    def of_values(cls, values: dict[str, Any]) -> _Looked:
        """Return what `to_values` returned values of."""
        known: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        return cls(**known)

    def turn(self) -> bool | None:
        """Tell whether the label fits the image as viewers show it; None if it fits both ways or neither."""
        fits = self.label == self.stored, self.label == self.upright
        if all(fits) and self.label_turned:
            return True  # which it was to what viewers show
        return fits[1] if fits[0] != fits[1] else None


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
        orientation: Orientation = "by size",
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
            orientation: How images are read that their EXIF tag turns.
            problems: What the reader has already found wrong, reported together with what is found here.
            labels: What the user says of the label files.
            label_colours: Class ids, or IGNORE_ID, of each colour (see
                `scenepalette.data.decoding.label_images.code_of`), where the user says which classes there
                are; by default the table's.
            other_labels: Label files of the other splits, from which it is decided as well what values mean.
            never: Values that the published labels never hold; if they occur, the labels were renumbered.
            notes: What the reader decided or skipped; `notes` adds to them what is seen here.

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

        found = [*problems, *_repeated_ids(pairs, root)]
        ids = [pair.id for pair in pairs]
        self._reading = self._decide(pairs, labels, label_colours, other_labels, never)
        decided = sha256_of_json(self._reading.decisions())
        looked = check_all(
            Subject(name, split, root, ids, table.num_classes),
            pairs,
            self._check,
            files=lambda pair: (pair.image, *_label_paths(pair)),
            meaning=lambda pair: [pair.id, decided, self._values_of(pair).to_list(), label_scale],
            dump=_Looked.to_values,
            load=_Looked.of_values,
        )
        pairs_seen = list(zip(pairs, looked, strict=True))
        self._turned, of_turns, turn_notes = self._decide_turns(pairs_seen, orientation)
        found.extend(self._reading.problems)
        undecided = bool(self._reading.problems)
        # What no file can be read without is said once.
        found.extend(
            problem
            for seen in looked
            for problem in seen.problems
            if not (undecided and problem.kind is ProblemKind.LABEL_VALUE)
        )
        found.extend(of_turns)
        if pairs and all(seen.ignored for seen in looked) and not found:
            which = "the only label" if len(pairs) == 1 else f"all {len(pairs)} labels"
            text = f"every pixel of {which} is ignored; allowed are {self._reading.values}"
            found.append(Problem(ProblemKind.LABEL_VALUE, "", text, ignored=self._reading.values.all_ignored))
        if not pairs and not found:
            text = f"the split '{split}' is empty: there is no image with a label"
            found.append(Problem(ProblemKind.PAIRING, "", text))
        self.notes = (*notes, *self._reading.notes, *turn_notes, *self._notes_of(pairs_seen))
        if found:
            many = counted(len(found), "problem")
            raise DataError(f"The data set '{name}', split '{split}', in {root} has {many}:", found, notes=self.notes)
        self._pairs = tuple(pair for pair, seen in pairs_seen if not seen.ignored)
        self._methods = {pair.id: seen.method for pair, seen in pairs_seen}
        self.ids = tuple(pair.id for pair in self._pairs)

    def _decide(
        self,
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
        outlines = check_all(
            Subject(self.name, f"labels of {self.split}", self._root, (), self.table.num_classes),
            paths,
            lambda path, look: (_outline(path, look.sketch if look else None), None),
            files=lambda path: (path,),
            meaning=lambda path: None,
            dump=lambda outline: outline.to_values() if outline and len(outline.values) <= _MOST_REMEMBERED else None,
            load=LabelSummary.of_values,
        )
        held = zip(paths, outlines, strict=True)
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
        stored_image = read_stored(pair.image)
        image = stored_image.upright if pair.id in self._turned else stored_image.pixels
        label = _read_label_of(pair)
        summary = summarise(label)
        size = self._size_of(summary)
        problems = [*self._size_problems(pair, image.shape[:2], size), *self._value_problems(pair, summary)]
        if problems:
            raise DataError(f"{pair.id} in {self._root} has changed since it was checked:", problems)
        # Samples may be changed; what a decoder holds may not.
        return Sample(id=pair.id, image=image, label=np.require(self._ids_of(pair, label, summary), requirements="W"))

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
        stated = [self.name, self.split, self.table.to_dict(), meanings, files]
        # Of labels that are numbers these are all; what is done with colours counts where there are any.
        colours = sorted({sha256_of_json(rest) for pair in self._pairs if (rest := self._meaning_of(pair)[1:])})
        turned = sorted(self._turned)
        return sha256_of_json([*stated, *([colours] if colours else []), *([turned] if turned else [])])

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
            turned = ["upright"] if pair.id in self._turned else []
            pairs.append([pair.id, image, label[0][1] if isinstance(pair.label, Path) else label, *meaning, *turned])
        # Terms and origins travel on with what is made of the pairs.
        stated = [self.name, self.split, self.licence, self.label_origins, self.table.to_dict(), self._label_scale]
        return sha256_of_json([*stated, pairs])

    def _reading_of(self, pair: FilePair) -> LabelReading:
        return self._reading if pair.values is None else replace(self._reading, values=pair.values, snapped=False)

    def _values_of(self, pair: FilePair) -> LabelValues:
        return self._reading.values if pair.values is None else pair.values

    def _meaning_of(self, pair: FilePair) -> list[object]:
        """Return what decides the class ids of a pair beside its bytes, as JSON values."""
        return self._reading_of(pair).meaning(self._methods[pair.id])

    def _label_name(self, pair: FilePair) -> str:
        return self._relative(pair.label) if isinstance(pair.label, Path) else pair.label.name

    def _relative(self, path: Path) -> str:
        return name_within(path, self._root)

    def _ids_of(self, pair: FilePair, label: LabelImage, summary: LabelSummary) -> np.ndarray:
        """Return a label's class ids at the size of its image."""
        ids = self._reading_of(pair).decode(label, summary)
        if self._label_scale > 1:
            ids = ids.repeat(self._label_scale, axis=0).repeat(self._label_scale, axis=1)
        return ids

    def _check(self, pair: FilePair, look: Look | None) -> tuple[_Looked, Any]:
        problems: list[Problem] = []
        facts: ImageFacts | None = None
        image: Image.Image | None = None
        stored: LabelImage | None = None
        label: LabelSummary | None = None
        sketched = None
        try:
            facts, image = (check_image(pair.image), None) if look is None else decode_image(pair.image)
        except DataError as error:
            problems.append(Problem(error.kind, self._relative(pair.image), error.summary))
        try:
            if isinstance(pair.label, Path):
                label, sketched = outline_of(pair.label, look.sketch if look else None)
            if label is None or label.cut:
                stored = _read_label_of(pair)
                label = summarise(stored)
        except DataError as error:
            problems.extend(error.found or [Problem(error.kind, self._label_name(pair), error.summary)])
        looked = _Looked(turned_by_tag=facts is not None and facts.orientation != 1)
        if facts is not None:
            looked = replace(looked, remarks=facts.remarks, stored=facts.stored_size, upright=facts.upright_size)
        if label is None:
            return replace(looked, problems=tuple(problems)), None
        reading, size = self._reading_of(pair), self._size_of(label)
        if facts is not None and not looked.turned_by_tag:
            problems += self._size_problems(pair, facts.stored_size, size, turned=label.turned)
        ids, unclear = reading.ids_of(label), self._value_problems(pair, label)
        looked = replace(
            looked,
            problems=(*problems, *unclear),
            label=size,
            label_turned=label.turned,
            label_remarks=_remarks_of_label(pair, label),
            ignored=not unclear and bool((ids == IGNORE_ID).all()),
            method=reading.method(label),
        )
        if looked.problems or image is None or looked.turned_by_tag or look is None:
            return looked, None  # how a tagged image is turned is decided once all were seen
        ids, counts = np.where(ids == UNKNOWN, IGNORE_ID, ids).astype(np.uint8), np.zeros(256, np.int64)
        np.add.at(counts, ids, label.counts * self._label_scale**2)
        if stored is not None:
            sketched, ids = look.sketch(self._ids_of(pair, stored, label), EVERY_ID), EVERY_ID
        return looked, look.at(image, sketched, ids, counts)

    def _decide_turns(
        self, pairs_seen: Sequence[tuple[FilePair, _Looked]], orientation: Orientation
    ) -> tuple[frozenset[str], list[Problem], list[str]]:
        """Decide which images are turned upright: those whose labels fit them so.

        Where the size cannot tell (square images, half turns), the images whose sizes tell decide, if they agree.
        """
        tagged = [(pair, seen) for pair, seen in pairs_seen if seen.turned_by_tag and seen.label is not None]
        if not tagged:
            return frozenset(), [], []
        by_size = {pair.id: seen.turn() for pair, seen in tagged}
        votes = {turn for turn in by_size.values() if turn is not None}
        problems: list[Problem] = []
        turned: set[str] = set()
        followed: list[str] = []
        for pair, seen in tagged:
            name, turn = self._relative(pair.image), by_size[pair.id]
            if orientation != "by size":
                turn = orientation == "upright"
            elif turn is None and seen.label == seen.stored:
                if len(votes) != 1:
                    text = (
                        "its EXIF tag says that viewers turn it, and its label fits it turned and unturned. Save it "
                        "without that tag; or, for data.name=folder, set data.orientation to upright if labels were "
                        "drawn on what viewers show, else to stored"
                    )
                    problems.append(Problem(ProblemKind.SIZE, name, text))
                    continue
                (turn,) = votes
                followed.append(name)
            shape = seen.upright if turn else seen.stored
            if shape is not None and seen.label is not None:
                problems += self._size_problems(pair, shape, seen.label, turned=seen.label_turned)
            if turn:
                turned.add(pair.id)
        why = (
            "as their labels' sizes ask for" if orientation == "by size" else f"as data.orientation={orientation} says"
        )
        upright = [self._relative(pair.image) for pair, _ in tagged if pair.id in turned]
        as_stored = [self._relative(pair.image) for pair, _ in tagged if pair.id not in turned]
        notes = []
        if upright:
            notes.append(with_examples(upright, f"turned upright by their EXIF tags, {why}"))
        if as_stored and not problems:
            notes.append(with_examples(as_stored, f"read as stored despite EXIF tags that would turn them, {why}"))
        if followed:
            notes.append(
                with_examples(followed, "of these, fit both ways and follow the others (data.orientation overrules it)")
            )
        return frozenset(turned), problems, notes

    def _notes_of(self, pairs_seen: Sequence[tuple[FilePair, _Looked]]) -> list[str]:
        names: defaultdict[str, list[str]] = defaultdict(list)
        for pair, seen in pairs_seen:
            for remark in seen.remarks:
                names[remark].append(self._relative(pair.image))
            for remark in seen.label_remarks:
                names[remark].append(self._label_name(pair))
            if seen.ignored:
                names["left out, because every pixel of the label is ignored"].append(self._label_name(pair))
        return [with_examples(files, text) for text, files in names.items()]

    def _size_of(self, label: LabelSummary) -> tuple[int, int]:
        """Return height and width of a label in image pixels."""
        return label.shape[0] * self._label_scale, label.shape[1] * self._label_scale

    def _size_problems(
        self, pair: FilePair, image_size: Sequence[int], size: tuple[int, int], *, turned: bool = False
    ) -> list[Problem]:
        """Return what is wrong if a label, of a size in image pixels, is not as large as its image."""
        if size == tuple(image_size):
            return []
        scale = self._label_scale
        rule = "both must be equal" if scale == 1 else f"the image must be {scale} times as high and as wide"
        text = (
            f"{size[0] // scale} x {size[1] // scale} pixels (height x width), but its image "
            f"{self._relative(pair.image)} has {image_size[0]} x {image_size[1]}; {rule}"
        )
        if turned and size[::-1] == tuple(image_size):
            text += ". It is turned by an orientation tag of its own: save it without that tag"
        return [Problem(ProblemKind.SIZE, self._label_name(pair), text)]

    def _value_problems(self, pair: FilePair, label: LabelSummary) -> list[Problem]:
        """Return what of a label stands for no class."""
        name, reading = self._label_name(pair), self._reading_of(pair)
        if label.lossy and not reading.bears_loss(label):
            text = (
                "it is a JPEG file or of another format that changes values. Export labels as PNG; or, if they hold "
                "colours or 0 and 255, set data.colour_tolerance to take each pixel for the nearest of these"
            )
            return [Problem(ProblemKind.LABEL_FORMAT, name, text)]
        if text := reading.unclear(label):
            kind = ProblemKind.LABEL_FORMAT if reading.method(label) == "colours" else ProblemKind.LABEL_VALUE
            return [Problem(kind, name, text, ignored=reading.values.all_ignored)]
        return []


def _remarks_of_label(pair: FilePair, label: LabelSummary) -> tuple[str, ...]:
    """Return what has to be said of how a label file was read."""
    if not isinstance(pair.label, Path):
        return ()
    turned = ["labels turned by orientation tags of their own, as viewers show them"] if label.turned else []
    return (*remarks_of_name(pair.label.name, label.format), *turned)


def _label_paths(pair: FilePair) -> Sequence[Path]:
    return [pair.label] if isinstance(pair.label, Path) else pair.label.paths


def _read_label_of(pair: FilePair) -> LabelImage:
    return read_label(pair.label) if isinstance(pair.label, Path) else LabelImage("grey", pair.label.read())


def _outline(path: Path, sketch: Sketch | None) -> LabelSummary | None:
    """Return what a label file holds, or None for one that cannot be read, which its split reports."""
    try:
        return outline_of(path, sketch)[0]
    except DataError:
        return None


def _repeated_ids(pairs: Iterable[FilePair], root: Path) -> list[Problem]:
    """Return the pairs whose id another has, and those whose id is no text, which nothing could be written under."""
    seen: dict[str, Path] = {}
    found: list[Problem] = []
    for pair in pairs:
        name = name_within(pair.image, root)
        if pair.id in seen:
            other = name_within(seen[pair.id], root)
            what = "keep one of them" if other == name else f"also for {other}; rename one"
            text = f"the id '{printable(pair.id)}' occurs twice, {what}"
            found.append(Problem(ProblemKind.PAIRING, name, text))
        elif printable(pair.id) != pair.id:
            text = "its name is not text in UTF-8; rename it, for example with convmv -t utf8"
            found.append(Problem(ProblemKind.PAIRING, name, text))
        seen.setdefault(pair.id, pair.image)
    return found
