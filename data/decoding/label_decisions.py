"""Decides how the label images of a whole data set are to be read: from all of them, never from one.

A value of a label image means a class by what other label images hold as well: 255 is the second class where there are
only 0 and 255, and ignored where there are 0, 1 and 255. What is decided is said in a note; what cannot be decided is
a problem that names the setting which settles it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import replace
from typing import Literal

import numpy as np

from scenepalette.common.problems import Problem, ProblemKind
from scenepalette.common.wording import counted, listed
from scenepalette.data.classes import IGNORE_ID, ClassTable
from scenepalette.data.decoding.label_images import (
    NO_COLOUR,
    UNKNOWN,
    VOC_BORDER,
    LabelSummary,
    LabelValues,
    code_of,
    colour_of,
    grey_code,
    voc_colour,
)
from scenepalette.data.decoding.label_numbering import decide_numbers, shown_ids
from scenepalette.data.decoding.label_offsets import LEAST_FILES_SHIFTED
from scenepalette.data.decoding.label_places import LEAST_FILES_PLACED, at_the_top, placed
from scenepalette.data.decoding.label_reading import AS_FOUND, CHANNELS, NEARLY, LabelReading, LabelSettings

_EXAMPLES = 3
_SMOOTH_TO_BARE = 4
"""Values between their neighbours, for each border without one, from which labels seem smoothed."""
_LEAST_RAMPS = 20
"""Fewer of such values may be chance."""


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
    reading = _decide_channels(base, _of_kind(labels, "colour"), settings)
    reading = _decide_palettes(reading, _of_kind(labels, "palette"))
    reading = _decide_greys(reading, labels, settings)
    if colours is not None and settings.encoding == "auto" and not reading.greys_are_colours:
        reading = _ask_for_greys(reading, _of_kind(labels, "grey"))
    if settings.encoding == "auto":
        reading = _ask_for_exchanged(reading, labels, table)
    if settings.encoding in ("auto", "colours") and settings.offset is None:
        never = frozenset(never).difference(settings.ignore_ids)
        reading = decide_numbers(reading, labels, table, never, own=colours is not None)
    return _tell_transparent(_tell_smoothed(reading, labels), labels)


def _of_kind(labels: Mapping[str, LabelSummary], kind: Literal["grey", "palette", "colour"]) -> dict[str, LabelSummary]:
    return {name: label for name, label in labels.items() if label.kind == kind}


def _tell_smoothed(reading: LabelReading, labels: Mapping[str, LabelSummary]) -> LabelReading:
    """Say where ids lie between those of both their neighbours nearly everywhere, as interpolation leaves them."""
    ids = {name: label for name, label in _of_kind(labels, "grey").items() if reading.method(label) == "ids"}
    smoothed = [name for name, label in ids.items() if label.ramps > _SMOOTH_TO_BARE * label.steps]
    ramps, steps = sum(label.ramps for label in ids.values()), sum(label.steps for label in ids.values())
    if 2 * len(smoothed) <= len(ids) or ramps <= max(_SMOOTH_TO_BARE * steps, _LEAST_RAMPS) or reading.problems:
        return reading
    return reading.noted(
        f"In {len(smoothed)} of {len(ids)} labels (such as {smoothed[0]}), borders between ids that differ by two or "
        "more pass through the ids between them, as if the labels had been resized or smoothed. If so, these pixels "
        "have a wrong class: resize ids to the nearest pixel, without interpolation."
    )


def _tell_transparent(reading: LabelReading, labels: Mapping[str, LabelSummary]) -> LabelReading:
    """Say which labels have transparent pixels; if they have one and the same colour, what they show is lost."""
    transparent = {name: label for name, label in labels.items() if label.transparent}
    if not transparent:
        return reading
    if len({code for label in transparent.values() for code in label.values.tolist()}) > 1:
        return reading.noted(f"{_have(transparent)} transparent pixels; their colours alone are read.")
    return reading.refused(
        f"{_have(transparent)} one colour (such as {next(iter(transparent))}) and differ in transparency alone, which "
        "is not read: the masks seem to be in the alpha channel. Save that channel as a grey image"
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
    equal = bool((every == grey_code(every & 255)).all())
    if reading.by_index:
        if equal:
            return replace(reading, channels="grey")
        return reading.refused(
            f"{count} that differ (such as {next(iter(labels))}), and data.label_encoding is {encoding}. Set it to the "
            "channel that holds them (red, green or blue), or to colours"
        )
    if encoding == "auto":
        unknown = any(code not in reading.colours for code in every.tolist())
        if equal and (unknown or len(every) == 1 or _same_by_grey(reading, every)):
            return replace(reading, channels="grey").noted(f"{count}, all equal: one of them is read.")
        if unknown and not any(label.cut for label in labels.values()):
            channel = _only_channel(every)
            if channel and reading.values.allowed[every >> CHANNELS[channel] & 255].all():
                text = f"{count}, of which only {channel} changes: its values are read as class ids."
                return replace(reading, channels=channel).noted(text)
    within = f", within {settings.tolerance} of each channel" if settings.tolerance else ""
    return reading.noted(f"{count}: decoded by the classes' colours{within}.")


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
    held = {name: set((codes >> shift & 255).tolist()) for name, shift in CHANNELS.items()}
    changing = [name for name, values in held.items() if len(values) > 1]
    constant = all(values <= {0, 255} for name, values in held.items() if name not in changing)
    return changing[0] if len(changing) == 1 and constant else ""


def _decide_palettes(reading: LabelReading, labels: Mapping[str, LabelSummary]) -> LabelReading:
    """Decide by what the palettes of all files say whether their indices or their colours are read."""
    if not labels:
        return reading
    if reading.by_colour:
        return reading.noted(f"{_have(labels)} a palette: decoded by its colours.")
    if reading.by_index:
        return reading.noted(f"The palettes of {_labels(labels)} are ignored: their indices are read.")
    said: dict[str, list[str]] = {"colours": [], "grey": [], "same": [], "mixed": [], "silent": []}
    for name, label in labels.items():
        said[reading.palette_of(label)].append(name)
    mixed = (
        Problem(
            ProblemKind.LABEL_FORMAT,
            name,
            f"its palette has colours of classes at other indices ({_shown_palette(labels[name])}) and others that are "
            "no class's. Add these to the class file, or set data.label_encoding to ids, if indices are class ids",
        )
        for name in said["mixed"]
    )
    reading, silent = replace(reading, problems=(*reading.problems, *mixed)), said["silent"]
    differ = _differing({name: labels[name] for name in silent})
    explained = said["colours"] or said["grey"]
    strange = [name for name in silent if said["same"] and _is_strange(reading, labels[name])]
    if differ or (silent and explained) or strange:
        examples = listed(list(differ) or (strange or silent)[:_EXAMPLES])
        return reading.refused(
            f"the palettes of {len(labels)} labels differ between files and are not all of the classes' colours (such "
            f"as {examples}), so that an index may mean another class in each. State the classes' colours in the class "
            "file, set data.colour_tolerance if they are near to these, or data.label_encoding to ids if indices are "
            "class ids all the same"
        )
    nearly = replace(reading, tolerance=NEARLY)
    if near := [name for name in silent if nearly.palette_of(labels[name]) == "colours"]:
        return reading.refused(
            f"the palettes of {_labels(near)} (such as {near[0]}) have nearly the classes' colours, at other "
            f"indices than the classes' ids. Set data.colour_tolerance to {NEARLY} if these are the classes, or "
            "data.label_encoding to ids if indices are class ids"
        )
    if unordered := [name for name in silent if _has_greys_in_another_order(labels[name])]:
        return reading.refused(
            f"the palettes of {_labels(unordered)} (such as {unordered[0]}) hold greys in another order than their "
            f"indices ({_shown_palette(labels[unordered[0]])}), as if a tool had sorted values anew. Save the labels "
            "as grey images, of which the greys are read, or set data.label_encoding to ids if indices are class ids"
        )
    for names, text in (
        (said["colours"], "have the classes' colours at other indices than the classes' ids: decoded by colour"),
        (said["grey"], "hold greys that are class ids, at other indices: their greys are read"),
        (silent, "have other colours than the classes': their indices are read"),
    ):
        if names:
            reading = reading.noted(f"The palettes of {_labels(names)} {text} (such as {names[0]}).")
    return reading


def _decide_greys(reading: LabelReading, labels: Mapping[str, LabelSummary], settings: LabelSettings) -> LabelReading:
    """Decide whether files of one channel in a data set of colours hold greys of class colours, or ids."""
    by_colour = any(label.kind != "grey" and reading.method(label) == "colours" for label in labels.values())
    greys = {name: label for name, label in _of_kind(labels, "grey").items() if reading.has_grey_colours(label)}
    if not greys or not (settings.encoding == "colours" or (settings.encoding == "auto" and by_colour)):
        return reading
    unclear = [
        name
        for name, label in greys.items()
        if reading.values.allowed[label.values].all() and not _same_by_grey(reading, grey_code(label.values))
    ]
    if unclear and settings.encoding == "auto":
        return reading.refused(
            f"{_labels(unclear)} of one channel (such as {unclear[0]}) may hold class ids or greys of the "
            "classes' colours, which the other labels hold. Set data.label_encoding to colours if they are greys, or "
            "convert them"
        )
    text = f"{_have(greys)} one channel: read as greys of classes' colours (such as {next(iter(greys))})."
    return replace(reading, greys_are_colours=True).noted(text)


def _ask_for_greys(reading: LabelReading, greys: Mapping[str, LabelSummary]) -> LabelReading:
    """Ask where every value of files of one channel is an id of one class and the grey of another's colour."""
    ids = reading.values.ids
    held = {(value, value * label.shown) for label in greys.values() for value in label.values.tolist()}
    held = {(value, grey) for value, grey in held if value not in reading.values.all_ignored}
    by_grey = {value: reading.colours.get(grey_code(grey), UNKNOWN) for value, grey in sorted(held)}
    if len(held) < 2 or len(by_grey) < len(held) or not {UNKNOWN, IGNORE_ID}.isdisjoint(by_grey.values()):
        return reading
    if not by_grey.keys() <= ids.keys() or all(ids[value] == by_grey[value] for value in by_grey):
        return reading
    return reading.refused(
        f"the values of {_labels(greys)} (such as {next(iter(greys))}) are ids of classes, and by the class "
        f"file's colours the greys of others: {shown_ids(by_grey)} by colour. Set data.label_encoding to colours if "
        "its colours say what values mean, or to ids if its ids, or the order of its rows, do"
    )


def _ask_for_exchanged(reading: LabelReading, labels: Mapping[str, LabelSummary], table: ClassTable) -> LabelReading:
    """Ask where classes read by colour lie where images have them only with red and blue exchanged.

    OpenCV writes colours so that were not exchanged for it. Where both are colours of classes, only places tell. That
    classes lie elsewhere for another reason is noted.
    """
    colours = {code_of(reversed(colour_of(code))): entry for code, entry in reading.colours.items()}
    exchanged, expected = replace(reading, colours=colours, by_colour=True), at_the_top(table)
    by_colour = [name for name, label in labels.items() if label.kind != "grey" and reading.method(label) == "colours"]
    found, seem, elsewhere = [], set[int](), Counter[int]()
    for name in by_colour if expected else ():
        (_, wrong), (right, still_wrong) = (
            placed(LabelValues.class_ids(len(table)), _heights_of_classes(way, labels[name]), expected)
            for way in (reading, exchanged)
        )
        elsewhere.update(wrong)
        if wrong and right and not still_wrong:
            found.append(name)
            seem.update(right)
    if len(found) >= LEAST_FILES_SHIFTED:
        names = " and ".join(f"'{table.names[class_id]}'" for class_id in sorted(seem))
        return reading.refused(
            f"{len(found)} of {_labels(by_colour)} (such as {found[0]}) seem to have red and blue exchanged, as OpenCV "
            f"saves them: only so {names} would be where images have it. Exchange them in these labels or, if all are "
            "so, in the class file; or set data.label_encoding to colours to read them as they are"
        )
    misplaced = [k for k, count in sorted(elsewhere.items()) if count >= max(LEAST_FILES_PLACED, len(by_colour) / 2)]
    if not misplaced:
        return reading
    names = " and ".join(f"'{table.names[class_id]}'" for class_id in misplaced)
    return reading.noted(
        f"By their colours, {names} would be where images do not have it. Look whether each colour stands for the "
        "class that the table says."
    )


def _heights_of_classes(reading: LabelReading, label: LabelSummary) -> dict[int, float]:
    """Return the mean height of each class in a label; of none if a colour means none."""
    ids = reading.ids_of(label)
    if (ids == UNKNOWN).any():
        return {}
    here = {int(k): (ids == k) & np.isfinite(label.heights) for k in np.unique(ids[ids != IGNORE_ID])}
    return {k: float(np.average(label.heights[at], weights=label.counts[at])) for k, at in here.items() if at.any()}


def _differing(labels: Mapping[str, LabelSummary]) -> tuple[str, ...]:
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
    return replace(reading, tolerance=max(reading.tolerance, NEARLY)).palette_of(label) != "same"


def _has_greys_in_another_order(label: LabelSummary) -> bool:
    assert label.colours is not None
    seen = label.colours[label.colours != NO_COLOUR]
    steps = np.diff(seen)
    is_grey = bool((seen == grey_code(seen & 255)).all()) and len(np.unique(seen)) == len(seen)
    return is_grey and bool((steps > 0).any() and (steps < 0).any())


def _shown_palette(label: LabelSummary) -> str:
    assert label.colours is not None
    return listed([f"{value}: {colour_of(code)}" for value, code in zip(label.values, label.colours, strict=True)], 4)
