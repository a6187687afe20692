"""Decides how the label images of a whole data set are to be read: from all of them, never from one.

A value of a label image means a class by what other label images hold as well: 255 is the second class where there are
only 0 and 255, and ignored where there are 0, 1 and 255. What is decided is said in a note; what cannot be decided is
a problem that names the setting which settles it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from functools import reduce
from math import ceil, floor, gcd

import numpy as np

from scenepalette.common.problems import Problem, ProblemKind
from scenepalette.common.wording import counted
from scenepalette.data.classes import IGNORE_ID, ClassTable
from scenepalette.data.decoding.class_names import AT_THE_BOTTOM, AT_THE_TOP, plain_name
from scenepalette.data.decoding.label_images import (
    NO_COLOUR,
    UNKNOWN,
    LabelSummary,
    LabelValues,
    code_of,
    colour_of,
    grey_code,
    grey_codes,
    voc_colour,
)
from scenepalette.data.decoding.label_reading import (
    AS_FOUND,
    CHANNELS,
    MOST_UNCLEAR,
    LabelReading,
    LabelSettings,
    listed,
)

_SHOWN = 8
_EXAMPLES = 3
_NEARLY = 16
"""Largest difference of a channel up to which a palette's colour is nearly a class's."""
_SMOOTHED = 16
"""Different values of labels from which, if there are twice as many as classes, borders were smoothed."""
_LEAST_PART, _MOST_NEEDED = 0.75, 5
"""Share of the classes, and number of them, of which one is enough to recognise spread ids by."""
_SMOOTH_TO_BARE = 4
"""Values between their neighbours, for each border without one, from which labels seem smoothed."""
_LEAST_RAMPS = 20
"""Fewer of such values may be chance."""
_VISIBLE_STEP = 8
"""Smallest factor by which somebody would multiply ids to see them."""
_LEAST_FILES_PLACED = 6
_LEAST_FILES_SHIFTED, _LEAST_PART_SHIFTED, _MOST_PART_SHIFTED = 3, 0.05, 0.75
"""Fewest labels, and least and most share of all, that tell of labels shifted in part: fewer may be odd images."""
_BEYOND_CHANCE = 4
"""How many times as many files seem shifted one way as the other, where that is no chance."""
_CLEARLY = 2
"""Classes that lie where images have them, of which labels are taken to be numbered otherwise."""
_TOP, _BOTTOM = 0.4, 0.6
_STEPS = {1: "one", 2: "two"}
_BACKGROUND = frozenset({"background", "bg", "back", "other", "others", "unlabeled", "unlabelled", "void", "none"})
_MOSTLY_BACKGROUND = 25
"""Percentage of the pixels from which 255 is taken for the background and not for borders or what nobody labelled."""
_ASK = "Set data.label_offset"
VOC_BORDER = code_of((224, 224, 192))
"""PASCAL VOC's colour of the value 255; labels in its colours use it for pixels without a class."""


def decide(
    labels: Mapping[str, LabelSummary],
    table: ClassTable,
    values: LabelValues,
    settings: LabelSettings = AS_FOUND,
    *,
    colours: Mapping[int, Sequence[int]] | None = None,
    never: Iterable[int] = (),
) -> LabelReading:
    """Decide how the label images of a data set are read.

    Args:
        labels: What each of them holds, of all splits, by name; those that have a meaning of their own left out.
        table: The classes.
        values: What numbers mean as published, or as the class file says.
        settings: What the user says of them.
        colours: Class ids (or IGNORE_ID) of each colour, as `code_of` writes it, where the user says which classes
            there are; None for a published table, whose colours are known and in which 255 is ignored.
        never: Values that the published labels never hold; if they occur, the labels were renumbered.

    Returns:
        The reading. Its problems have names of `labels` as paths.
    """
    if settings.encoding == "train-ids":
        values = LabelValues(dict(enumerate(table.eval_ids)))
    if settings.offset:
        values = values.shifted(settings.offset)
    values = replace(values, ignored=values.ignored | set(settings.ignore_ids))
    stated = _colours_of(table) if colours is None else colours
    places = {
        code: frozenset(number for number, class_id in values.ids.items() if class_id in classes)
        for code, classes in stated.items()
    }
    known = {code: _class_of(classes, table, published=colours is None) for code, classes in stated.items()}
    if known:
        known.setdefault(VOC_BORDER, IGNORE_ID)
    base = LabelReading(
        values=values,
        colours=known,
        places=places,
        tolerance=settings.tolerance,
        by_index=settings.encoding in ("ids", "train-ids"),
        by_colour=settings.encoding == "colours",
    )
    coloured = {name: label for name, label in labels.items() if label.kind == "colour"}
    reading = _decide_channels(base, coloured, settings)
    reading = _decide_palettes(reading, {name: label for name, label in labels.items() if label.kind == "palette"})
    reading = _decide_greys(reading, labels, settings)
    if colours is not None and settings.encoding == "auto" and not reading.greys_are_colours:
        reading = _ask_for_greys(reading, labels)
    numbered = _numbers(reading, labels)
    if settings.encoding in ("auto", "colours"):
        reading = _decide_spread(reading, numbered, table, settings, own=colours is not None)
    if not reading.problems:
        reading = _ask_for_offset(reading, numbered, table, settings, frozenset(never), own=colours is not None)
    reading = _tell_smoothed(reading, labels)
    if transparent := [name for name, label in labels.items() if label.transparent]:
        if len({code for name in transparent for code in labels[name].values.tolist()}) == 1:
            return _refused(
                reading,
                f"{_have(transparent)} one colour (such as {transparent[0]}) and differ in "
                "transparency alone, which is not read: the masks seem to be in the alpha channel. Save that channel "
                "as a grey image",
            )
        reading = _noted(reading, f"{_have(transparent)} transparent pixels; their colours alone are read.")
    return reading


def _tell_smoothed(reading: LabelReading, labels: Mapping[str, LabelSummary]) -> LabelReading:
    """Say where ids lie between those of both their neighbours nearly everywhere, as interpolation leaves them."""
    ids = {name: label for name, label in labels.items() if label.kind == "grey" and reading.method(label) == "ids"}
    smoothed = [name for name, label in ids.items() if label.ramps > _SMOOTH_TO_BARE * label.steps]
    ramps, steps = (sum(getattr(ids[name], part) for name in ids) for part in ("ramps", "steps"))
    if 2 * len(smoothed) <= len(ids) or ramps <= max(_SMOOTH_TO_BARE * steps, _LEAST_RAMPS) or reading.problems:
        return reading
    return _noted(
        reading,
        f"In {len(smoothed)} of {len(ids)} labels (such as {smoothed[0]}), borders between ids that differ by two or "
        "more pass through the ids between them, as if the labels had been resized or smoothed. If so, these pixels "
        "have a wrong class: resize ids to the nearest pixel, without interpolation.",
    )


def _colours_of(table: ClassTable) -> dict[int, list[int]]:
    """Return the classes of each colour of a table."""
    classes: dict[int, list[int]] = {}
    for class_id, entry in enumerate(table.classes):
        classes.setdefault(code_of(entry.color), []).append(class_id)
    return classes


def _class_of(classes: Sequence[int], table: ClassTable, *, published: bool) -> int:
    """Return the class of a colour; of several that nothing evaluates the first, else UNKNOWN.

    In a published table the only evaluated one counts: Cityscapes draws licence plates in the colour of cars.
    """
    evaluated = [class_id for class_id in classes if class_id != IGNORE_ID and table.classes[class_id].evaluated]
    if published and len(evaluated) == 1:
        return evaluated[0]
    return UNKNOWN if len(classes) > 1 and evaluated else classes[0]


def _labels(labels: Sized) -> str:
    return counted(len(labels), "label")


def _have(labels: Sized) -> str:
    return counted(len(labels), "label has", "labels have")


def _noted(reading: LabelReading, *notes: str) -> LabelReading:
    return replace(reading, notes=(*reading.notes, *notes))


def _refused(reading: LabelReading, *texts: str) -> LabelReading:
    found = (Problem(ProblemKind.LABEL_MEANING, "", text) for text in texts)
    return replace(reading, problems=(*reading.problems, *found))


def _decide_channels(
    reading: LabelReading, labels: Mapping[str, LabelSummary], settings: LabelSettings
) -> LabelReading:
    """Decide what files of several channels hold."""
    if not labels:
        return reading
    encoding, count = settings.encoding, f"{_have(labels)} several channels"
    if encoding in CHANNELS:
        return replace(reading, channels=encoding)
    every = np.unique(np.concatenate([label.values for label in labels.values()]))
    equal = bool((every == grey_codes(every & 255)).all())
    if encoding in ("ids", "train-ids") and equal:
        return replace(reading, channels="grey")
    unknown = [code for code in every.tolist() if code not in reading.colours]
    if encoding == "auto":
        if equal and (unknown or len(every) == 1 or _same_by_grey(reading, every)):
            return _noted(replace(reading, channels="grey"), f"{count}, all equal: one of them is read.")
        if unknown and not any(label.cut for label in labels.values()):
            channel = _only_channel(every)
            if channel and reading.values.allowed[every >> CHANNELS[channel] & 255].all():
                text = f"{count}, of which only {channel} changes: its values are read as class ids."
                return _noted(replace(reading, channels=channel), text)
    if encoding in ("ids", "train-ids"):
        return _refused(
            reading,
            f"{count} that differ (such as {next(iter(labels))}), and data.label_encoding is {encoding}. Set it to the "
            "channel that holds them (red, green or blue), or to colours",
        )
    within = f", within {settings.tolerance} of each channel" if settings.tolerance else ""
    return _noted(reading, f"{count}: decoded by the classes' colours{within}.")


def _same_by_grey(reading: LabelReading, codes: np.ndarray) -> bool:
    """Tell whether greys mean the same as numbers and as colours of classes."""
    greys = codes & 255
    if not reading.values.allowed[greys].all():
        return False
    return all(
        int(reading.values.lookup[grey]) == reading.colours[int(code)] for grey, code in zip(greys, codes, strict=True)
    )


def _only_channel(codes: np.ndarray) -> str:
    """Return the channel that changes where both others are 0 or 255 everywhere, or nothing."""
    changing = [name for name, shift in CHANNELS.items() if len(np.unique(codes >> shift & 255)) > 1]
    constant = all(
        set(np.unique(codes >> shift & 255).tolist()) <= {0, 255}
        for name, shift in CHANNELS.items()
        if name not in changing
    )
    return changing[0] if len(changing) == 1 and constant else ""


def _decide_palettes(reading: LabelReading, labels: Mapping[str, LabelSummary]) -> LabelReading:
    """Decide by what the palettes of all files say whether their indices or their colours are read."""
    if not labels:
        return reading
    if reading.by_colour:
        return _noted(reading, f"{_have(labels)} a palette: decoded by its colours.")
    if reading.by_index:
        return _noted(reading, f"The palettes of {_labels(labels)} are ignored: their indices are read.")
    said: dict[str, list[str]] = {}
    for name, label in labels.items():
        said.setdefault(reading.palette_of(label), []).append(name)
    problems = [
        Problem(
            ProblemKind.LABEL_FORMAT,
            name,
            f"its palette has colours of classes at other indices ({_shown_palette(labels[name])}) and others that are "
            "no class's. Add these to the class file, or set data.label_encoding to ids, if indices are class ids",
        )
        for name in said.get("mixed", ())
    ]
    silent = said.get("silent", [])
    differ = _differing(reading, {name: labels[name] for name in silent})
    explained = len(said.get("colours", ())) + len(said.get("grey", ()))
    strange = [name for name in silent if said.get("same") and _is_strange(reading, labels[name])]
    if differ or (silent and explained) or strange:
        examples = listed(list(differ) or (strange or silent)[:_EXAMPLES])
        text = (
            f"the palettes of {len(labels)} labels differ between files and are not all of the classes' colours (such "
            f"as {examples}), so that an index may mean another class in each. State the classes' colours in the class "
            "file, set data.colour_tolerance if they are near to these, or data.label_encoding to ids if indices are "
            "class ids all the same"
        )
        return replace(reading, problems=(*reading.problems, *problems, Problem(ProblemKind.LABEL_MEANING, "", text)))
    nearly = replace(reading, tolerance=_NEARLY)
    if near := [name for name in silent if nearly.palette_of(labels[name]) == "colours"]:
        return _refused(
            replace(reading, problems=(*reading.problems, *problems)),
            f"the palettes of {_labels(near)} (such as {near[0]}) have nearly the classes' colours, at other "
            f"indices than the classes' ids. Set data.colour_tolerance to {_NEARLY} if these are the classes, or "
            "data.label_encoding to ids if indices are class ids",
        )
    if unordered := [name for name in silent if _has_greys_in_another_order(labels[name])]:
        return _refused(
            replace(reading, problems=(*reading.problems, *problems)),
            f"the palettes of {_labels(unordered)} (such as {unordered[0]}) hold greys in another order than their "
            f"indices ({_shown_palette(labels[unordered[0]])}), as if a tool had sorted values anew. Save the labels "
            "as grey images, of which the greys are read, or set data.label_encoding to ids if indices are class ids",
        )
    if by_colour := said.get("colours", ()):
        text = "have the classes' colours at other indices than the classes' ids: decoded by colour"
        reading = _noted(reading, f"The palettes of {_labels(by_colour)} {text} (such as {by_colour[0]}).")
    if by_grey := said.get("grey", ()):
        text = "hold greys that are class ids, at other indices: their greys are read"
        reading = _noted(reading, f"The palettes of {_labels(by_grey)} {text} (such as {by_grey[0]}).")
    if silent:
        text = "have other colours than the classes': their indices are read"
        reading = _noted(reading, f"The palettes of {_labels(silent)} {text} (such as {silent[0]}).")
    return replace(reading, problems=(*reading.problems, *problems))


def _decide_greys(reading: LabelReading, labels: Mapping[str, LabelSummary], settings: LabelSettings) -> LabelReading:
    """Decide whether files of one channel in a data set of colours hold greys of class colours, or ids."""
    by_colour = any(label.kind != "grey" and reading.method(label) == "colours" for label in labels.values())
    greys = {
        name: label
        for name, label in labels.items()
        if label.kind == "grey" and reading.colours and reading.has_grey_colours(label)
    }
    if not greys or not (by_colour or settings.encoding == "colours") or settings.encoding not in ("auto", "colours"):
        return reading
    unclear = [
        name
        for name, label in greys.items()
        if reading.values.allowed[label.values].all() and not _same_by_grey(reading, grey_codes(label.values))
    ]
    if unclear and settings.encoding == "auto":
        return _refused(
            reading,
            f"{_labels(unclear)} of one channel (such as {unclear[0]}) may hold class ids or greys of the "
            "classes' colours, which the other labels hold. Set data.label_encoding to colours if they are greys, or "
            "convert them",
        )
    text = f"{_have(greys)} one channel: read as greys of classes' colours (such as {next(iter(greys))})."
    return _noted(replace(reading, greys_are_colours=True), text)


def _ask_for_greys(reading: LabelReading, labels: Mapping[str, LabelSummary]) -> LabelReading:
    """Ask where every value of files of one channel is an id of one class and the grey of another's colour."""
    greys = {name: label for name, label in labels.items() if label.kind == "grey"}
    held = {(value, value * label.shown) for label in greys.values() for value in label.values.tolist()}
    held = {(value, grey) for value, grey in held if value not in reading.values.all_ignored}
    by_grey = {value: reading.colours.get(grey_code(grey), UNKNOWN) for value, grey in sorted(held)}
    if len(held) < 2 or len(by_grey) < len(held) or any(entry in (UNKNOWN, IGNORE_ID) for entry in by_grey.values()):
        return reading
    if not by_grey.keys() <= reading.values.ids.keys() or all(reading.values.ids[v] == by_grey[v] for v in by_grey):
        return reading
    return _refused(
        reading,
        f"the values of {_labels(greys)} (such as {next(iter(greys))}) are ids of classes, and by the class "
        f"file's colours the greys of others: {_shown_ids(by_grey)} by colour. Set data.label_encoding to colours if "
        "its colours say what values mean, or to ids if its ids, or the order of its rows, do",
    )


def _differing(reading: LabelReading, labels: Mapping[str, LabelSummary]) -> tuple[str, ...]:
    """Return the names of two files whose palettes contradict each other, or none."""
    indices: dict[int, tuple[int, str]] = {}
    codes: dict[int, tuple[int, str]] = {}
    for name, label in labels.items():
        assert label.colours is not None
        used, counts = np.unique(label.colours, return_counts=True)
        once = {int(code) for code, count in zip(used, counts, strict=True) if count == 1 and code != NO_COLOUR}
        for value, code in zip(label.values.tolist(), label.colours.tolist(), strict=True):
            if code not in once or code == voc_colour(value):
                continue
            for found, key, entry in ((indices, value, code), (codes, code, value)):
                before, other = found.setdefault(key, (entry, name))
                if before != entry:
                    return other, name
    return ()


def _is_strange(reading: LabelReading, label: LabelSummary) -> bool:
    """Tell whether a palette says something that is neither of the classes' colours nor usual for its indices."""
    assert label.colours is not None
    known = label.colours != NO_COLOUR
    seen = label.colours[known]
    if not len(seen) or (len(seen) > 1 and len(np.unique(seen)) == 1):
        return False
    if all(code == voc_colour(value) for value, code in zip(label.values[known].tolist(), seen.tolist(), strict=True)):
        return False
    return replace(reading, tolerance=max(reading.tolerance, _NEARLY)).palette_of(label) != "same"


def _has_greys_in_another_order(label: LabelSummary) -> bool:
    assert label.colours is not None
    seen = label.colours[label.colours != NO_COLOUR]
    steps = np.diff(seen)
    is_grey = bool((seen == grey_codes(seen & 255)).all()) and len(np.unique(seen)) == len(seen)
    return is_grey and bool((steps > 0).any() and (steps < 0).any())


def _shown_palette(label: LabelSummary) -> str:
    assert label.colours is not None
    return listed([f"{value}: {colour_of(code)}" for value, code in zip(label.values, label.colours, strict=True)], 4)


@dataclass(frozen=True)
class _Numbers:
    """The numbers that some labels hold.

    Attributes:
        of_files: Those of each file.
        pixels: Pixels of each number over all files, int64 [256].
        heights: Mean height of each number over all files, 0 at the top; NaN where unknown.
        heights_of: Mean heights in each file, as far as known.
        lossy: The files whose format may have changed values.
    """

    of_files: Mapping[str, frozenset[int]]
    pixels: np.ndarray
    heights: np.ndarray
    heights_of: Mapping[str, Mapping[int, float]]
    lossy: frozenset[str] = frozenset()

    @property
    def seen(self) -> frozenset[int]:
        return frozenset(np.flatnonzero(self.pixels).tolist())


def _numbers(reading: LabelReading, labels: Mapping[str, LabelSummary]) -> _Numbers:
    """Gather the numbers of all files that are not read by colour."""
    of_files: dict[str, frozenset[int]] = {}
    heights_of: dict[str, dict[int, float]] = {}
    pixels = np.zeros(256, np.int64)
    summed, weights = np.zeros(256), np.zeros(256)
    for name, label in labels.items():
        if reading.method(label) == "colours":
            continue
        values = reading.numbers_of(label)
        of_files[name] = frozenset(values.tolist())
        np.add.at(pixels, values, label.counts)
        fine = np.isfinite(label.heights)
        np.add.at(summed, values[fine], label.heights[fine] * label.counts[fine])
        np.add.at(weights, values[fine], label.counts[fine])
        heights_of[name] = dict(zip(values[fine].tolist(), label.heights[fine].tolist(), strict=True))
    with np.errstate(invalid="ignore", divide="ignore"):
        heights = summed / weights
    return _Numbers(of_files, pixels, heights, heights_of, frozenset(name for name in of_files if labels[name].lossy))


def _decide_spread(
    reading: LabelReading, numbers: _Numbers, table: ClassTable, settings: LabelSettings, *, own: bool
) -> LabelReading:
    """Recognise ids that were spread over 0 to 255 to be visible, and 255 as a class."""
    values, count = reading.values, table.num_classes
    plain = all(values.ids.get(value) == value for value in range(count)) and len(values.ids) == count
    seen = numbers.seen - values.ignored
    if not plain or not seen or settings.offset is not None:
        return reading
    # What the class file says of greys goes before what even steps suggest.
    greys = {code & 255: entry for code, entry in reading.colours.items() if code == grey_code(code & 255)}
    classes_grey = {grey: entry for grey, entry in greys.items() if entry not in (UNKNOWN, IGNORE_ID)}
    if seen - {IGNORE_ID} <= values.ids.keys():
        if not own or IGNORE_ID not in seen or IGNORE_ID in values.ids:
            return reading
        if not (IGNORE_ID in classes_grey and len(seen) > 1 and seen <= classes_grey.keys()):
            return _decide_255(reading, numbers, table)
    if len(set(classes_grey.values())) == count and _lie_on(numbers, seen, greys, settings.tolerance):
        ignored = {grey for grey, entry in greys.items() if entry == IGNORE_ID} | values.ignored
        text = "Label values are the greys of the class file's colours, and read as these classes"
        return _spread(reading, classes_grey, ignored, settings, seen, f"{text} ({_shown_ids(classes_grey)}).")
    if text := _scaled_by_file(numbers, values.ignored):
        return _refused(reading, text)
    enough = len(seen) >= min(_MOST_NEEDED, _LEAST_PART * count)
    for grid in _grids(count):
        if enough and _lie_on(numbers, seen, grid, settings.tolerance):
            ids = {value: class_id for class_id, value in enumerate(grid)}
            text = f"Label values are {count} ids spread over 0 to 255 to be visible, and read as such"
            return _spread(reading, ids, values.ignored, settings, seen, f"{text} ({_shown_ids(ids)}).")
    if IGNORE_ID in seen and len(seen) > 2 and _are_evenly_spread(seen):
        return _refused(
            reading,
            f"the values {listed(list(map(str, sorted(seen))))} are {len(seen)} evenly spread over 0 to 255, but the "
            f"class file has {count} classes: name the missing ones, or write the value of each class into a column id",
        )
    used = seen - {IGNORE_ID}
    largest = max(used)
    # Data sets that count "unlabelled" after their classes have one more number.
    for last in (count - 1, *(value for value in (count,) if value in values.ignored)):
        step = largest // last if last else 0
        settled = step >= _VISIBLE_STEP and step * last == largest and all(value % step == 0 for value in used)
        if settled and len(used) >= min(_MOST_NEEDED, _LEAST_PART * count):
            ids = {class_id * step: class_id for class_id in range(count)}
            text = f"Label values are class ids times {step}, and read as such"
            ignored = frozenset(value * step for value in values.ignored if value * step < IGNORE_ID)
            return _spread(reading, ids, ignored, settings, seen, f"{text} ({_shown_ids(ids)}).")
    text = _question_of_values(values, numbers, table, used, own=own)
    return _refused(reading, text) if text else reading


def _question_of_values(
    values: LabelValues, numbers: _Numbers, table: ClassTable, used: frozenset[int], *, own: bool
) -> str:
    """Return what to ask where label values are no class ids and show no pattern that is certain, or nothing."""
    count, largest, shown = table.num_classes, max(used), list(map(str, sorted(used)))
    bad = used - values.ids.keys()
    with_bad = [name for name, held in numbers.of_files.items() if not held.isdisjoint(bad)]
    where = f"{len(with_bad)} of {len(numbers.of_files)} labels, such as {listed(with_bad, _EXAMPLES)}"
    # Of files that a lossy format changed, each has a problem that says so; their values suggest nothing.
    if own and set(with_bad) <= numbers.lossy:
        return ""
    few = len(with_bad) <= _MOST_PART_SHIFTED * len(numbers.of_files)
    if own and bad == {count} and few and (text := _question_of_shifted_files(values, numbers, table)):
        return text
    step = reduce(gcd, used)
    if step >= 2 and len(used - {0}) >= 2 and largest // step < count:
        return (
            f"all label values are multiples of {step} ({listed(shown)}), as if ids had been multiplied, but none is "
            f"{step * (count - 1)}, the last of {count} classes. If they were, write the value of each class into a "
            "column id of the class file"
        )
    if own and bad == {count} and 0 in used and len(used) > 2 and len(with_bad) > 1:
        return _one_too_many(values, numbers, table, where)
    if own and 0 not in used and len(used) > 2 and (bad == {count} or largest - min(used) == count - 1):
        first = largest - count + 1
        return (
            f"the label values run from {first} to {largest}: ids seem to count from {first}. Set data.label_offset to "
            f"-{first}, or write the value of each class into a column id of the class file"
        )
    if not own or 2 * len(with_bad) <= len(numbers.of_files):
        return ""
    if (different := len(numbers.seen - values.ignored)) > max(_SMOOTHED, 2 * count):
        return (
            f"the labels hold {different} different values, of {count} classes (in {where}), as smoothing or resizing "
            "leaves at borders, or as labels of more classes have. Export them again without smoothing; or set "
            "data.colour_tolerance, if they hold 0 and 255 or the greys of the class file, to take each pixel for the "
            "nearest of these; or name all classes in the class file"
        )
    return (
        f"the label values are {listed(shown, _SHOWN)} (in {where}), but by the class file, allowed are {values}. Add "
        "a column id to it that says the value of each class, and list what is no class under data.ignore_ids"
    )


def _one_too_many(values: LabelValues, numbers: _Numbers, table: ClassTable, where: str) -> str:
    """Return what to ask where ids run one beyond the classes: the first or the last of them is unlabelled."""
    count = table.num_classes
    now, from_1 = (_fit(meaning, numbers, table)[0] for meaning in (values, values.shifted(-1)))
    first, last = "0 seems to be unlabelled, and ids to count from 1", f"{count} seems to be unlabelled"
    said, listed_ids = {1: (first, "[0]"), -1: (last, f"[{count}]")}.get(
        (from_1 > now) - (from_1 < now), (f"{first}, or {last}", f"[0] or to [{count}]")
    )
    return (
        f"the label values run from 0 to {count} (in {where}), but there are {count} classes: {said}. Set "
        f"data.ignore_ids to {listed_ids} (or ignore_ids in a YAML class file) if so, or name the missing class in the "
        "class file"
    )


def _scaled_by_file(numbers: _Numbers, ignored: Iterable[int]) -> str:
    """Return what to ask where each file's values are spread over 0 to 255 on their own, or nothing."""
    by_count: dict[int, list[str]] = {}
    for name, held in numbers.of_files.items():
        seen = held.difference(ignored)
        if len(seen) > 1:
            if not _are_evenly_spread(seen):
                return ""
            by_count.setdefault(len(seen), []).append(name)
    if len(by_count) < 2:
        return ""
    shown = ", ".join(f"{len(names)} with {count} values, such as {names[0]}" for count, names in by_count.items())
    return (
        f"the values of each label are evenly spread over 0 to 255 ({shown}), as if each had been scaled by its own "
        "largest id: 255 would be another class in each. Export the labels again without scaling; or, if a value "
        "means the same in all, write the value of each class into a column id of the class file"
    )


def _decide_255(reading: LabelReading, numbers: _Numbers, table: ClassTable) -> LabelReading:
    """Decide whether 255 is a class where all other values are class ids."""
    classes = (numbers.seen - reading.values.ignored) & reading.values.ids.keys()
    share = 100 * numbers.pixels[IGNORE_ID] / max(1, numbers.pixels.sum())
    count, settle = table.num_classes, "write the value of each class into a column id of the class file"
    if count == 2 and classes == {0}:
        text = "255 is the second class: the labels hold only 0 and 255, which are read as the ids 0 and 1"
        ids = {0: 0, IGNORE_ID: 1}
        values = LabelValues(ids, reading.values.ignored)
        return _noted(replace(reading, values=values), f"{text} ({table.names[0]}, {table.names[1]}).")
    if len(classes) < 2:
        other = f"only {listed([str(v) for v in sorted(classes)])} and 255" if classes else "only 255"
        return _refused(
            reading,
            f"255 is the second class, or the labels show fewer than two: they hold {other}, and 255 stands for "
            f"ignored pixels unless the class file says otherwise. {settle.capitalize()}",
        )
    with_255 = [name for name, seen in numbers.of_files.items() if IGNORE_ID in seen and 1 not in seen]
    with_1 = [name for name, seen in numbers.of_files.items() if 1 in seen]
    both = any(IGNORE_ID in seen and 1 in seen for seen in numbers.of_files.values())
    if count == 2 and not both and with_255 and with_1:
        return _refused(
            reading,
            f"{_have(with_1)} 0 and 1 (such as {with_1[0]}), {len(with_255)} 0 and 255 (such as {with_255[0]}), none "
            "has both 1 and 255: 255 seems to be the second class in these. Convert them to 0 and 1, or set "
            "data.label_encoding to ids, if 255 stands for ignored pixels",
        )
    first = table.names[0].lower()
    if count - 1 not in classes and first in _BACKGROUND and share >= _MOSTLY_BACKGROUND:
        return _refused(
            reading,
            f"255 takes {share:.0f} % of the labels' pixels, and no label shows {count - 1} ({table.names[-1]}), the "
            f"last class: these labels seem reduced by one, with 255 for '{table.names[0]}'. If so, {settle} (255, 0, "
            "1, ...); if 255 stands for ignored pixels, set data.label_encoding to ids",
        )
    if count - 1 not in classes:
        return _noted(
            reading,
            f"255 is ignored ({share:.1f} % of the labels' pixels), and no label shows {count - 1} "
            f"({table.names[-1]}), the last class. If 255 is that class, {settle}.",
        )
    return reading


def _spread(
    reading: LabelReading,
    ids: Mapping[int, int],
    ignored: Iterable[int],
    settings: LabelSettings,
    seen: frozenset[int],
    note: str,
) -> LabelReading:
    # What the user ignores stays ignored.
    kept = {value: class_id for value, class_id in ids.items() if value not in reading.values.ignored}
    values = LabelValues(kept, frozenset(ignored) - kept.keys())
    exact = seen <= ids.keys() | values.all_ignored
    within = "" if exact else f" Values are taken for the nearest of these within {settings.tolerance}."
    return _noted(replace(reading, values=values, snapped=not exact), note + within)


def _lie_on(numbers: _Numbers, seen: frozenset[int], known: Iterable[int], tolerance: int) -> bool:
    """Tell whether values are known ones; with a tolerance, whether most pixels are near to two of them or more."""
    known = np.array(sorted(known))
    if seen <= set(known.tolist()):
        return True
    if not tolerance:
        return False
    values = np.array(sorted(seen))
    apart = abs(values[:, None] - known)
    near = apart.min(1) <= tolerance
    pixels = numbers.pixels[values]
    enough = pixels[near].sum() >= (1 - MOST_UNCLEAR) * pixels.sum()
    return bool(enough and len(np.unique(apart[near].argmin(1))) > 1)


def _grids(count: int) -> list[list[int]]:
    """Return `count` numbers evenly spread over 0 to 255, rounded in each of the usual ways."""
    if count < 2:
        return []
    exact = [255 * place / (count - 1) for place in range(count)]
    rounded = [
        [floor(value) for value in exact],
        [floor(value + 0.5) for value in exact],
        [ceil(value) for value in exact],
    ]
    # 0, 64, 128, 192, 255: steps of 256.
    steps = [min(255, 256 * place // (count - 1)) for place in range(count)]
    return [grid for grid in (*rounded, steps) if len(set(grid)) == count]


def _are_evenly_spread(values: Collection[int]) -> bool:
    return any(set(values) == set(grid) for grid in _grids(len(values)))


def _shown_ids(ids: Mapping[int, int]) -> str:
    return listed([f"{value} is {class_id}" for value, class_id in sorted(ids.items())])


def _ask_for_offset(
    reading: LabelReading,
    numbers: _Numbers,
    table: ClassTable,
    settings: LabelSettings,
    never: frozenset[int],
    *,
    own: bool,
) -> LabelReading:
    """Ask where the labels look as if they counted classes otherwise than published."""
    if settings.offset is not None or settings.encoding not in ("auto", "colours") or not numbers.seen:
        return reading
    if IGNORE_ID in reading.values.ids or reading.snapped:
        return reading
    never = never - set(settings.ignore_ids)
    odd = sorted(numbers.seen & never)
    as_published = "or to 0 to read them as published"
    last = max(reading.values.ids)
    if odd == [IGNORE_ID] and last not in numbers.seen:
        return _refused(
            reading,
            f"these labels seem reduced by one (255 occurs, which the published labels never hold, and {last} does "
            f"not). {_ASK} to 1 if the first class is 0 and unlabelled is 255, {as_published} with 255 ignored",
        )
    if odd and IGNORE_ID not in odd:
        for offset in (-1, 1):
            moved = {value + offset for value in numbers.seen - {IGNORE_ID}}
            if not moved & never and all(reading.values.allowed[v] for v in moved if 0 <= v < IGNORE_ID):
                return _refused(
                    reading,
                    f"these labels seem {'raised' if offset < 0 else 'reduced'} by one: they hold "
                    f"{listed([str(value) for value in odd])}, which the published labels never do. {_ASK} to "
                    f"{offset} if so, {as_published}",
                )
    now, right, against = _fit(reading.values, numbers, table)
    exchanged = ""
    if right and len(against) == 1:
        seem = f"{' and '.join(right)} {'seems' if len(right) == 1 else 'seem'} right"
        exchanged = (
            f". If {against[0].partition(' (')[0]} was exchanged with another class instead ({seem}), correct it"
        )
    with_255 = IGNORE_ID in numbers.seen - reading.values.ignored
    shifts: list[tuple[int, str]] = []
    for offset in (1, -1, 2, -2):
        shifted = reading.values.shifted(offset)
        # What was counted up with the classes, but is none, was unlabelled.
        beyond = {IGNORE_ID, last} if offset == 1 else {IGNORE_ID}
        if any(not shifted.allowed[value] for value in numbers.seen - beyond):
            continue
        fit, named, otherwise = _fit(shifted, numbers, table)
        # Where the values as they are contradict images, and shifted ones do not, one more class that fits is enough.
        clear = fit - now >= (1 if against else _CLEARLY) and len(named) >= _CLEARLY
        without_last = own and offset == 1 and with_255 and last not in numbers.seen and bool(against) and fit > now
        if not otherwise and (clear or without_last):
            absent = (
                f"255 occurs, {last} does not, and " if offset == 1 and with_255 and last not in numbers.seen else ""
            )
            by = _STEPS[abs(offset)]
            moved = f"moved by {by}, {' and '.join(named)} are where images have them" if named else ""
            odd = f"by their values {' and '.join(against)} would be where images do not have it" if against else ""
            text = (
                f"these labels seem {'reduced' if offset > 0 else 'raised'} by {by}: {absent}"
                f"{'; '.join(filter(None, [odd, moved]))}. {_remedy_of_offset(offset, table, own, with_255)}{exchanged}"
            )
            shifts.append((fit, text))
    if shifts:
        return _refused(reading, max(shifts, key=lambda shift: shift[0])[1])
    if own:
        reading = _tell_first_classes(reading, numbers, table)
    reading = _ask_for_train_ids(reading, numbers, table, against)
    if not reading.problems and (text := _question_of_shifted_files(reading.values, numbers, table)):
        reading = _refused(reading, text)
    if against and not reading.problems:
        where = "is where images do not have it" if len(against) == 1 else "are where images do not have them"
        text = f"By their values, {' and '.join(against)} {where}."
        reading = _noted(reading, f"{text} Look whether each value stands for the class that the table says.")
    return reading


def _tell_first_classes(reading: LabelReading, numbers: _Numbers, table: ClassTable) -> LabelReading:
    """Note that labels show all classes but the first or the first two, as where ids count from 1 or 2.

    A background may well be in no label. Of two, no other class may be missing up to the last one that occurs, as
    tables of many classes have others that no label shows.
    """
    ids, seen = reading.values.ids, numbers.seen
    first, last = min(seen), max(seen & ids.keys(), default=-1)  # perhaps no value is a class's
    absent = {value: table.names[ids[value]] for value in range(first) if value in ids}
    without_gap = first == 1 or (first == 2 and seen >= set(range(first, last + 1)))
    if last < 0 or len(absent) < first or not without_gap or all(name.lower() in _BACKGROUND for name in absent.values()):
        return reading
    shown = " and ".join(f"{value} ({name})" for value, name in absent.items())
    classes = "the first class" if first == 1 else "the first classes"
    text = f"No label shows {shown}, {classes}. If ids count from {first}, set data.label_offset to -{first}."
    return _noted(reading, text)


def _remedy_of_offset(offset: int, table: ClassTable, own: bool, with_255: bool) -> str:
    """Return what to do about labels that seem shifted: 255 may have been the first class, or unlabelled."""
    if offset != 1 or not with_255:
        return f"{_ASK} to {offset} if so, or to 0 to read them as they are"
    add = (
        "write the value of each class into a column id of the class file (255, 0, 1, ...)"
        if own
        else "save the labels with 1 added to each value, so that 255 becomes 0"
    )
    return (
        f"If 255 is the first class, {table.names[0]}, {add}; if it is unlabelled, set data.label_offset to 1; set it "
        "to 0 to read them as they are"
    )


def _ask_for_train_ids(
    reading: LabelReading, numbers: _Numbers, table: ClassTable, against: Sequence[str]
) -> LabelReading:
    """Ask where values seem to count the evaluated classes alone, as Cityscapes' train ids do."""
    renumbered = LabelValues(dict(enumerate(table.eval_ids)))
    if len(table.eval_ids) == len(table) or any(not renumbered.allowed[value] for value in numbers.seen):
        return reading
    before, _, _ = _fit(reading.values, numbers, table)
    fit, named, otherwise = _fit(renumbered, numbers, table)
    if otherwise or len(named) < _CLEARLY or fit - before < _CLEARLY:
        return reading
    moved = f", by their values {' and '.join(against)} would be where images do not have it" if against else ""
    return _refused(
        reading,
        f"these labels seem to hold train ids: only values up to {max(numbers.seen - {IGNORE_ID})} occur{moved}; "
        f"counting the {len(table.eval_ids)} evaluated classes alone, {' and '.join(named)} are where images have "
        "them. Set data.label_encoding to train-ids if so, or to ids to read them as published",
    )


def _fit(values: LabelValues, numbers: _Numbers, table: ClassTable) -> tuple[int, list[str], list[str]]:
    """Return how well classes lie where they are to be expected: a score, and who is where it should and should not."""
    heights = {
        number: numbers.heights[number]
        for number in sorted(numbers.seen)
        if sum(number in seen for seen in numbers.of_files.values()) >= _LEAST_FILES_PLACED
    }
    right, wrong = _placed(values, heights, _expected(table))
    fine = [table.names[values.ids[number]] for number in right]
    odd = [f"'{table.names[values.ids[n]]}' (mean height {100 * (1 - heights[n]):.0f} %)" for n in wrong]
    return len(fine) - len(odd), fine, odd


def _expected(table: ClassTable) -> dict[int, bool]:
    """Return the ids of classes of which it is known where images have them, and whether that is at the top."""
    plain = {class_id: plain_name(name) for class_id, name in enumerate(table.names)}
    return {k: name in AT_THE_TOP for k, name in plain.items() if name in AT_THE_TOP or name in AT_THE_BOTTOM}


def _placed(
    values: LabelValues, heights: Mapping[int, float], expected: Mapping[int, bool]
) -> tuple[list[int], list[int]]:
    """Return the numbers whose classes are where they are to be expected, and those whose classes are elsewhere."""
    right, wrong = [], []
    for number, height in heights.items():
        at_the_top = None if number in values.ignored else expected.get(values.ids.get(number, -1))
        if at_the_top is not None and (height < _TOP or height > _BOTTOM):  # it may be NaN
            (right if at_the_top == (height < _TOP) else wrong).append(number)
    return right, wrong


def _question_of_shifted_files(values: LabelValues, numbers: _Numbers, table: ClassTable) -> str:
    """Return what to ask where some files alone seem shifted by one, as where two people made labels, or nothing.

    One seems so if classes of it lie where images do not have them and, moved by one, two such classes or more lie
    where images have them and none does not. By chance, as many seem raised as reduced. Of the 468 labels of CamVid
    none seems either.
    """
    expected = _expected(table)
    found: dict[int, list[str]] = {-1: [], 1: []}
    for name, heights in numbers.heights_of.items():
        if not _placed(values, heights, expected)[1]:
            continue
        for offset, names in found.items():
            right, wrong = _placed(values.shifted(offset), heights, expected)
            if len(right) >= _CLEARLY and not wrong:
                names.append(name)
    least = max(_LEAST_FILES_SHIFTED, _LEAST_PART_SHIFTED * len(numbers.of_files))
    for offset, names in found.items():
        if len(names) >= max(least, _BEYOND_CHANCE * len(found[-offset])):
            return (
                f"{len(names)} of {_labels(numbers.of_files)} (such as {listed(names, _EXAMPLES)}) seem "
                f"{'reduced' if offset > 0 else 'raised'} by one, the others not: moved by one, classes in these are "
                f"where images have them, and else they are not. {'Add 1 to' if offset > 0 else 'Subtract 1 from'} the "
                "values of these files if so; or set data.label_offset to 0 to read all as they are"
            )
    return ""
