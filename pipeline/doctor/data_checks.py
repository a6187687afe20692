"""Checks of a labelled data set: each a function of what a scan gathered, with its rule in its docstring."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from math import comb, gcd
from pathlib import Path

import numpy as np
from PIL import Image

from scenepalette.common.errors import SHOWN_OF_KIND, DataError, ScenepaletteError
from scenepalette.common.problems import Problem, ProblemKind
from scenepalette.common.storage.untrusted import is_within
from scenepalette.common.wording import counted, listed
from scenepalette.data.classes import ClassTable
from scenepalette.data.datasets import Split
from scenepalette.data.sample import SegmentationDataset
from scenepalette.data.sequences import evenly_spread
from scenepalette.data.similarity import (
    ADJACENT,
    NEARLY,
    SimilarPair,
    are_copies,
    candidates,
    comparable,
    similar_pairs,
)
from scenepalette.pipeline.doctor.findings import Check, Status
from scenepalette.pipeline.doctor.label_guesses import guess, read_raw_label
from scenepalette.pipeline.doctor.scan import Scan
from scenepalette.pipeline.stages.inputs.opened_splits import notes_of

FEW_TRAINING, FEW_VALIDATION = 100, 20
STRETCHED, STRONGLY_STRETCHED = 1.05, 1.35
RARE_IMAGES, RARE_SHARE = 10, 0.005
TINY_PIXELS = 16
SHARES_APART = 0.4
"""Total variation of the class shares of both splits from which they are told to differ."""
FLAT = 2.0
FIT_SAMPLES, FIT_SHARE = 20, 0.75
LOOKED_AT = 20
LEAST_SCALED, BY_CHANCE = 3, 0.01
"""Fewest classes beside 0 that tell scaled ids, and most probability of such classes in a table."""
MOST_LAID_OVER = 300
"""Most pairs of images that are read again to be laid over each other, the most alike first."""

_FINE_AND_WRONG: dict[ProblemKind, tuple[str, str]] = {
    ProblemKind.LIST: ("", "Lines of lists that cannot be used"),
    ProblemKind.PAIRING: (
        "Every image has its label, and every label its image.",
        "Images and labels that cannot be paired",
    ),
    ProblemKind.FILE: (
        "Every file decodes completely.",
        "Files that are damaged, not readable, or not what their names say",
    ),
    ProblemKind.IMAGE_FORMAT: ("", "Files in a format, or of pixels, that cannot be read as they are meant"),
    ProblemKind.SIZE: ("Every label is as large as its image.", "Labels that are not as large as their images"),
    ProblemKind.LABEL_FORMAT: (
        "Every label holds class ids, or colours of classes.",
        "Labels that hold neither class ids nor colours of classes",
    ),
    ProblemKind.LABEL_MEANING: ("", "Labels can be read in several ways, so that they were not read"),
    ProblemKind.LABEL_VALUE: (
        "Every label value is a class id or an ignored value.",
        "Label values that stand for no class",
    ),
}
_OF_READ_LABELS = (ProblemKind.LABEL_FORMAT, ProblemKind.LABEL_VALUE)


def check_opening(
    errors: Mapping[Split, ScenepaletteError], root: Path | None, table: ClassTable | None
) -> list[Check]:
    """Report what the readers found when both splits were opened: every file was decoded and compared.

    Args:
        errors: What a split could not be opened for; empty if all could.
        root: The data set's folder.
        table: Its classes, if known.
    """
    problems: dict[ProblemKind, list[Problem]] = {kind: [] for kind in _FINE_AND_WRONG}
    checks: dict[str, Check] = {}
    for error in errors.values():
        found = error.found if isinstance(error, DataError) else ()
        if found and found[0].kind in problems:
            for problem in found:
                # What concerns the labels of all splits is found in each of them.
                if problem.kind is not ProblemKind.LABEL_MEANING or problem not in problems[problem.kind]:
                    problems[problem.kind].append(problem)
            continue
        # A class file, list or folder that cannot be used keeps files from being looked at.
        remedy = found[0].kind.remedy if found else "Correct that and check again."
        checks[error.summary] = Check("data set", "problem", error.summary, remedy, error.problems)
    looked_at = not checks
    result = list(checks.values())
    for kind, (fine, wrong) in _FINE_AND_WRONG.items():
        listed = problems[kind]
        if listed:
            guesses = [f"It seems that {text}." for text in _guesses(listed, root, table)]
            remedy = " ".join([kind.remedy, *guesses])
            details = tuple(str(problem) for problem in listed)
            result.append(Check(kind.title, "problem", f"{wrong}: {len(listed)}.", remedy, details, SHOWN_OF_KIND))
        elif looked_at and fine and not (kind in _OF_READ_LABELS and problems[ProblemKind.LABEL_MEANING]):
            result.append(Check(kind.title, "ok", fine))
    return result


def check_notes(
    datasets: Mapping[Split, SegmentationDataset], errors: Mapping[Split, ScenepaletteError]
) -> Check | None:
    """Say what the readers decided from the files, and what they skipped."""
    notes = notes_of(datasets.values())
    notes += [f"{split}: {note}" for split, error in errors.items() for note in getattr(error, "notes", ())]
    if not notes:
        return None
    summary = f"Left open by the files and decided, or skipped: {counted(len(notes), 'thing')}."
    return Check("reading of files", "note", summary, "", tuple(notes))


def _guesses(problems: Sequence[Problem], root: Path | None, table: ClassTable | None) -> list[str]:
    """Return what the label files of some problems seem to be."""
    labels = []
    for problem in problems[:LOOKED_AT]:
        if root is not None and problem.kind in (ProblemKind.LABEL_FORMAT, ProblemKind.LABEL_VALUE):
            with suppress(DataError):
                labels.append(read_raw_label(root / problem.path))
    return guess(labels, table, ignored=frozenset().union(*(problem.ignored for problem in problems)))


def check_label_encoding(datasets: Sequence[SegmentationDataset], scans: Sequence[Scan]) -> Check | None:
    """Look into labels that were accepted: scaled ids, ids of another numbering.

    Looked at are 20 label files of each split, evenly spread, for the ids of Cityscapes' train ids alone; and the
    classes that occur in all labels of all splits, for ids that are all multiples of one number, where chance would
    give such classes in fewer than 1 of 100 tables. What the reader decided from all labels, such as to read palettes
    by their colours, is in its notes.
    """
    table = datasets[0].table
    raw = []
    for dataset in datasets:
        files = [path for path in getattr(dataset, "label_files", ()) if isinstance(path, Path)]
        for place in evenly_spread(len(files), LOOKED_AT):
            with suppress(DataError):  # changed since it was scanned, which is reported elsewhere
                raw.append(read_raw_label(files[place]))
    single = [label for label in raw if label.values.ndim == 1]
    # Values beyond the classes were accepted, so they are ignored ones.
    known = [replace(label, values=label.values[label.values < table.num_classes]) for label in single]
    guesses = guess(known, table) if known else []
    remedy = "Check some labels against their images."
    if scaled := _scaled_ids(table, np.sum([scan.pixels[:, :-1].sum(axis=0) for scan in scans], axis=0)):
        guesses, remedy = [scaled[0]], scaled[1]
    if guesses:
        return Check("label encoding", "warning", f"In the labels {'; '.join(guesses)}.", remedy)
    if not raw:
        return None
    held = counted(len(raw), "label examined holds", "labels examined hold")
    return Check("label encoding", "ok", f"{held} class ids, as it should be.")


def _scaled_ids(table: ClassTable, pixels: np.ndarray) -> tuple[str, str] | None:
    """Say if the classes that occur are those of ids that were multiplied, and what to do; pixels are by class, [K]."""
    used = [int(index) for index in np.flatnonzero(pixels) if index]
    factor = gcd(*used)
    if factor < 2 or len(used) < LEAST_SCALED:
        return None
    chance = comb((table.num_classes - 1) // factor, len(used)) / comb(table.num_classes - 1, len(used))
    if chance > BY_CHANCE:
        return None
    text = f"every class id that occurs is a multiple of {factor} ({listed(used)})"
    remedy = (
        f"Compare some labels with their images. If ids were multiplied so that they can be seen, divide them by "
        f"{factor}; if these very classes are meant, nothing has to be done."
    )
    return text, remedy


def check_amount(train: Scan, validation: Scan) -> Check:
    """Warn of fewer than 100 training or 20 validation samples."""
    counts = f"{len(train)} training and {counted(len(validation), 'validation sample')}"
    few = [
        f"{counted(len(scan), f'{name} sample')}; generators and intervals ask for at least {least}"
        for scan, name, least in ((train, "training", FEW_TRAINING), (validation, "validation", FEW_VALIDATION))
        if len(scan) < least
    ]
    remedy = "Label more, or expect generators that repeat what they saw, and wide intervals in the report."
    return _none_of(few, f"{counts}.", Check("amount", "warning", f"Only {counts}.", remedy))


def _none_of(found: Sequence[str], fine: str, check: Check) -> Check:
    """Return a check with what was found as its details, or that all is well if nothing was."""
    return replace(check, details=tuple(found)) if found else Check(check.name, "ok", fine)


def check_scaling(scans: Sequence[Scan], size: tuple[int, int], field: str = "data.size") -> Check:
    """Compare the images' sizes with `data.size`: beyond 5 % stretched is a note, beyond 35 % or enlarged a warning.

    Args:
        scans: Scans of the splits.
        size: Height and width that segmenters work at.
        field: The field of the configuration that it comes from.
    """
    sizes = np.concatenate([scan.sizes[scan.sizes[:, 0] > 0] for scan in scans])
    counts = Counter(map(tuple, sizes.tolist()))
    details = [f"{counted(count, 'image')} of {height} x {width}" for (height, width), count in counts.most_common()]
    stretch = (sizes[:, 1] / sizes[:, 0]) / (size[1] / size[0])
    strongest = float(np.max(np.maximum(stretch, 1 / stretch), initial=1.0))
    stretched = int((np.maximum(stretch, 1 / stretch) > STRETCHED).sum())
    small = int(((sizes[:, 0] < size[0]) | (sizes[:, 1] < size[1])).sum())
    target = f"{field} {size[0]} x {size[1]}"
    texts, remedies = [], []
    status: Status = "ok"
    if small:
        status = "warning"
        texts.append(
            f"{counted(small, 'image is', 'images are')} smaller than {target} and enlarged, which adds no detail"
        )
        remedies.append(f"Choose a smaller {field}.")
    if stretched:
        status = "warning" if strongest > STRONGLY_STRETCHED else "note" if status == "ok" else status
        texts.append(
            f"{counted(stretched, 'image has', 'images have')} another aspect ratio than {target} and "
            f"{'is' if stretched == 1 else 'are'} stretched up to {strongest:.2f} x"
        )
        remedies.append(f"Choose a {field} of their aspect ratio, or data.fit=crop or tile, which do not stretch.")
    if not texts:
        texts.append(f"Images of {counted(len(counts), 'size')} fit {target}")
    return Check("scaling", status, f"{'; '.join(texts)}.", " ".join(remedies), tuple(details))


def check_class_table(table: ClassTable, train: Scan, validation: Scan) -> Check:
    """Compare the classes with the labels: a class that training never shows, or validation cannot measure.

    An evaluated class that training shows and validation does not, or the reverse, is a warning; a class in neither is
    a note, as is a class that is not evaluated. Class shares of both splits whose total variation is above 0.4, and
    above that of 99 random splits of the same samples, are a warning: ids may mean other classes in one of them.
    (CamVid's are 0.17 apart, with ids that were permuted in one split mostly above 0.4.)
    """
    in_train, in_validation = train.pixels[:, :-1].sum(0) > 0, validation.pixels[:, :-1].sum(0) > 0
    warnings, notes, remedies = [], [], []
    for class_id, entry in enumerate(table.classes):
        if in_train[class_id] and in_validation[class_id]:
            continue
        if not in_train[class_id] and not in_validation[class_id]:
            notes.append(f"{entry.name} ({class_id}): in no label")
            continue
        text = (
            "only in training: its IoU cannot be measured"
            if in_train[class_id]
            else "only in validation: it cannot be learned, and counts as 0"
        )
        (warnings if entry.evaluated else notes).append(f"{entry.name} ({class_id}): {text}")
    if warnings:
        remedies.append("Split the data so that both parts show these classes, or mark them as not evaluated.")
    ignored = train.pixels[:, -1].sum() / max(1, train.pixels.sum())
    if ignored > 0.3:
        warnings.append(f"{100 * ignored:.0f} % of training pixels are ignored")
        remedies.append("Make sure that no value that is ignored stands for a class: look at some labels.")
    shares = _shares(train.pixels), _shares(validation.pixels)
    distance = _distance(*shares)
    differ = distance > SHARES_APART and distance > _distance_by_chance(train.pixels, validation.pixels)
    if differ:
        farthest = np.argsort(-np.abs(shares[0] - shares[1]), kind="stable")[:3]
        most = ", ".join(
            f"{table.names[i]} {100 * shares[0][i]:.0f} % and {100 * shares[1][i]:.0f} %" for i in farthest
        )
        warnings.insert(
            0, f"{100 * distance:.0f} % of the pixels are of other classes: in training and validation {most}"
        )
    used = int((in_train | in_validation).sum())
    summary = f"{used} of {table.num_classes} classes occur; {100 * ignored:.1f} % of training pixels are ignored."
    if differ:
        summary = f"Training and validation have very different shares of the classes. {summary}"
    if not warnings and not notes:
        return Check("class table", "ok", summary)
    status: Status = "warning" if warnings else "note"
    if differ:
        remedies.insert(
            0, "Look at some labels of both: the same ids must mean the same classes. If they do, split again."
        )
    return Check("class table", status, summary, " ".join(remedies), (*warnings, *notes))


def _shares(pixels: np.ndarray) -> np.ndarray:
    """Return the share of each class in labelled pixels, [K], from [N, K + 1] pixels, the last of them ignored."""
    counts = pixels[:, :-1].sum(0)
    return counts / max(1, counts.sum())


def _distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return the total variation of two lists of shares, 0 to 1."""
    return float(np.abs(first - second).sum() / 2)


def _distance_by_chance(train: np.ndarray, validation: np.ndarray) -> float:
    """Return the largest distance of class shares in 99 random splits of the samples, of the same sizes."""
    both, random = np.concatenate([train, validation]), np.random.default_rng(0)
    largest = 0.0
    for _ in range(99):
        order = random.permutation(len(both))
        largest = max(largest, _distance(_shares(both[order[: len(train)]]), _shares(both[order[len(train) :]])))
    return largest


def check_rare_classes(table: ClassTable, train: Scan, size: tuple[int, int], *, tiled: bool = False) -> Check:
    """Name classes that are too rare to learn.

    A class in fewer than 10 training images, or of fewer than 16 pixels in half of its images at `data.size`, is a
    warning. A class of less than 0.5 % of the labelled pixels is a note: expect a low IoU.

    Args:
        table: The classes.
        train: Scan of the training split.
        size: Height and width that samples are resized to.
        tiled: Whether samples are tiles of the images; `resized_pixels` are then those of all tiles of an image.
    """
    where = f"in tiles of {size[0]} x {size[1]}" if tiled else f"at {size[0]} x {size[1]}"
    counts, resized = train.pixels[:, :-1], train.resized_pixels[:, :-1]
    total = max(1, counts.sum())
    warnings, notes = [], []
    shares = counts.sum(0) / total
    for class_id in np.argsort(shares, kind="stable"):
        images = int((counts[:, class_id] > 0).sum())
        if images == 0:
            continue
        median = float(np.median(resized[counts[:, class_id] > 0, class_id]))
        text = (
            f"{table.names[class_id]}: {100 * shares[class_id]:.3g} % of the pixels, in {images} of "
            f"{len(train)} images; half of these show {median:.0f} pixels of it or fewer {where}"
        )
        if images < min(RARE_IMAGES, len(train)) or median < TINY_PIXELS:
            warnings.append(text)
        elif shares[class_id] < RARE_SHARE:
            notes.append(text)
    if not warnings and not notes:
        return Check("rare classes", "ok", "Every class that occurs has enough images and pixels to be learned.")
    if not warnings:
        share = f"under {100 * RARE_SHARE:g} % of the pixels"
        have = counted(len(notes), f"class has {share}: its", f"classes have {share} each: their")
        summary = f"{have} IoU will be low."
        return Check("rare classes", "note", summary, "", tuple(notes))
    return Check(
        "rare classes",
        "warning",
        f"{len(warnings)} of {table.num_classes} classes {'is' if len(warnings) == 1 else 'are'} too rare to learn: "
        f"in fewer than {RARE_IMAGES} training images, or of fewer than {TINY_PIXELS} pixels in half of theirs.",
        f"Add images that show them, choose {'smaller tiles' if tiled else 'a larger data.size'}, or merge them with "
        "related classes.",
        (*warnings, *notes),
    )


def check_leakage(
    train: Scan,
    validation: Scan,
    images: tuple[SegmentationDataset, SegmentationDataset] | None = None,
    *,
    name: str = "leakage",
    noun: str | None = None,
) -> Check:
    """Look for validation images, or those of another split, in the training split.

    Identical pixels are a problem. Copies are a warning: images whose thumbnails correlate above 0.9985, also
    mirrored, and of those whose thumbnails correlate above 0.9, also mirrored or upside down, the ones that still are
    alike in all and in detail once one is laid over the other. Thumbnails above 0.985 are a note: frames next to each
    other in a video. So is a sequence, by the files' names, that both splits have a part of.

    Args:
        train: Scan of the training split.
        validation: Scan of the validation split, or of another one that is evaluated.
        images: Both splits, from which images are read that are laid over each other; None to go by thumbnails.
        name: Name of the check.
        noun: What the evaluated images are called; by default after their split.
    """
    noun = noun or {"val": "validation"}.get(validation.split, validation.split)
    places = {digest: index for index, digest in enumerate(train.hashes) if digest}
    same = [(places[digest], j) for j, digest in enumerate(validation.hashes) if digest in places]
    named = {(j, i) for i, j in same}
    alike = [
        pair
        for pair in similar_pairs(validation.thumbnails, train.thumbnails, threshold=ADJACENT)
        if (pair.first, pair.second) not in named
    ]
    copies = [pair for pair in alike if pair.correlation >= NEARLY]
    details = [f"identical: {validation.ids[j]} ({validation.split}) and {train.ids[i]} (train)" for i, j in same]
    details += [f"nearly identical: {_named(pair, validation, train)}" for pair in copies]
    named |= {(pair.first, pair.second) for pair in copies}
    changed, left_out = _changed_copies(train, validation, images, named)
    details += [f"the same, laid over each other: {_named(pair, validation, train)}" for pair in changed]
    told = {j for j, _ in named} | {pair.first for pair in changed}
    neighbours = [pair for pair in alike if pair.first not in told]
    shared = _shared_sequences(train, validation)
    notes = []
    if neighbours:
        adjacent = len({pair.first for pair in neighbours})
        look = counted(adjacent, f"{noun} image looks like a neighbour", f"{noun} images look like neighbours")
        notes.append(f"{look} of training images in a video")
        details += [f"alike: {_named(pair, validation, train)}" for pair in neighbours[:3]]
    if shared:
        names = ", ".join(list(shared)[:3])
        of = counted(sum(shared.values()), f"{noun} image is", f"{noun} images are")
        notes.append(f"{of} of recordings that training has as well ({names})")
    if left_out:
        more = counted(left_out, "more pair that looks alike was", "more pairs that look alike were")
        details.append(f"{more} compared by thumbnails alone")
    remedy = "Split by recording, so that no scene is in both." if notes else ""
    if same or copies or changed:
        summary = (
            f"{noun.capitalize()} images are in training: {len(same)} identical, {len(copies)} nearly identical, "
            f"{len(changed)} that were changed (such as shifted, cropped, mirrored or lightened)."
        )
        remedy = "Remove them from one split: scores on images that were trained on mean nothing."
        return Check(name, "problem" if same else "warning", summary, remedy, (*details, *notes))
    if notes:
        summary = f"No copy of a training image was found in {noun}, but {'; '.join(notes)}. "
        return Check(name, "note", f"{summary}Scores may be flattering.", remedy, tuple(details))
    summary = f"No copy of a training image was found in {noun}, by pixels and by what images look like."
    return Check(name, "ok", summary, "", tuple(details))


def check_duplicates(train: Scan) -> Check:
    """Look for training images that are there more than once: identical is a warning, nearly identical a note."""
    groups: dict[str, list[str]] = {}
    for name, digest in zip(train.ids, train.hashes, strict=True):
        if digest:
            groups.setdefault(digest, []).append(name)
    repeated = [names for names in groups.values() if len(names) > 1]
    near = [pair for pair in similar_pairs(train.thumbnails) if train.hashes[pair.first] != train.hashes[pair.second]]
    details = [
        *(f"identical: {listed(names, 6)}" for names in repeated),
        *(f"nearly identical: {_named(pair, train, train)}" for pair in near),
    ]
    if repeated:
        extra = sum(len(names) - 1 for names in repeated)
        exact = counted(extra, "training image repeats", "training images repeat")
        summary = f"{exact} others exactly, {counted(len(near), 'pair is', 'pairs are')} nearly identical."
        remedy = "Keep one of each. Where their labels differ, find the right one first: none may be left out unseen."
        return Check("duplicates", "warning", summary, remedy, tuple(details))
    if near:
        summary = (
            f"{counted(len(near), 'pair of training images is', 'pairs of training images are')} nearly identical."
        )
        return Check("duplicates", "note", summary, "", tuple(details))
    return Check("duplicates", "ok", "No training image was found twice, by pixels and by thumbnails.")


def check_constant(scans: Sequence[Scan]) -> Check:
    """Name images without content: grey values whose standard deviation is below 2 of 255."""
    flat = [
        f"{scan.split}: {scan.ids[index]}"
        for scan in scans
        for index in np.flatnonzero((scan.spread < FLAT) & (scan.sizes[:, 0] > 0))
    ]
    summary = f"{counted(len(flat), 'image is', 'images are')} of one colour, or nearly so."
    remedy = (
        "Look at them. Where a camera failed or a copy was cut off, remove them with their labels; images of what is "
        "really so even can stay."
    )
    return _none_of(flat, "Every image has content.", Check("empty images", "warning", summary, remedy))


def check_fit(scans: Sequence[Scan]) -> Check | None:
    """Test whether labels belong to their images: images change more at the borders of their own label.

    Each image's mean change at its own label's borders is compared with that at another sample's label's. Of labels
    that belong to other images, half would do better; a share below 75 % of 20 samples or more is a warning.
    """
    edges = np.concatenate([scan.edges for scan in scans])
    edges = edges[np.isfinite(edges).all(axis=1)]
    if len(edges) < FIT_SAMPLES:
        return None
    share = float((edges[:, 0] > edges[:, 1]).mean())
    text = (
        f"In {100 * share:.0f} % of the samples the image changes more at the borders of its own label than at "
        "those of another"
    )
    if share >= FIT_SHARE:
        return Check("labels fit images", "ok", f"{text}.")
    return Check(
        "labels fit images",
        "warning",
        f"{text}; {100 * FIT_SHARE:.0f} % are expected where labels belong to their images.",
        "Lay some labels over their images: they may be shifted, mirrored, or paired with the wrong files.",
    )


def check_links(datasets: Sequence[SegmentationDataset], root: Path | None) -> Check | None:
    """Name links to images outside of the data set's folder, which are followed.

    Data sets are often made of links into a store, so this is no problem; but whoever made the data set chose which
    images of this machine are learned from and may appear in what is passed on.
    """
    if root is None:
        return None
    files = dict.fromkeys(path for dataset in datasets for path in getattr(dataset, "files", ()))
    leading = [path.relative_to(root).as_posix() for path in files if not is_within(path, root)]
    summary = f"{counted(len(leading), 'file is a link to an image', 'files are links to images')} outside of {root}."
    remedy = "If you did not make these links yourself, copy the images that you want into the folder."
    return _none_of(leading, "Every file lies in the data set's folder.", Check("links", "warning", summary, remedy))


def _changed_copies(
    train: Scan,
    validation: Scan,
    images: tuple[SegmentationDataset, SegmentationDataset] | None,
    named: set[tuple[int, int]],
) -> tuple[list[SimilarPair], int]:
    """Return the pairs that are the same once laid over each other, and how many there was no time to lay so."""
    if images is None:
        return [], 0
    looked_for = [
        pair for pair in candidates(validation.thumbnails, train.thumbnails) if (pair.first, pair.second) not in named
    ]

    @cache
    def turned(split: int, index: int, mirrored: bool = False, upside_down: bool = False) -> Image.Image:
        return comparable(images[split][index].image[:: -1 if upside_down else 1, :: -1 if mirrored else 1])

    found = []
    for pair in looked_for[:MOST_LAID_OVER]:
        with suppress(DataError):  # changed since it was scanned, which is reported elsewhere
            if are_copies(turned(1, pair.first, pair.mirrored, pair.upside_down), turned(0, pair.second)):
                found.append(pair)
    return found, max(0, len(looked_for) - MOST_LAID_OVER)


def _named(pair: SimilarPair, first: Scan, second: Scan) -> str:
    names = [f"{first.ids[pair.first]} ({first.split})", f"{second.ids[pair.second]} ({second.split})"]
    turned = ", mirrored" * pair.mirrored + ", upside down" * pair.upside_down
    return f"{' and '.join(names)}{turned} ({pair.correlation:.4f})"


def _shared_sequences(train: Scan, validation: Scan) -> dict[str, int]:
    """Return recordings in both splits with their validation images: names that differ in the last number alone.

    Only names with a digit before that number count: 0016E5_07959 is frame 7959 of the recording 0016E5.
    """

    def of(scan: Scan) -> Counter[str]:
        names = (re.fullmatch(r"(.*\d.*?)[_\-.]\D*\d+\D*", name) for name in scan.ids)
        return Counter(match[1] for match in names if match)

    recorded = of(train)
    return {name: count for name, count in of(validation).items() if name in recorded}
