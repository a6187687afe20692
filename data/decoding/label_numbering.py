"""Decides which classes the numbers in label images mean, where they are not the ids that the class table says.

Ids may have been multiplied or spread over 0 to 255 to be visible, counted from 1, or reduced by one so that 255 is
"unlabelled". That shows in which numbers occur, and in where in the images they lie: a sky below a road is none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from functools import reduce
from math import ceil, floor, gcd

import numpy as np

from scenepalette.common.wording import counted, listed
from scenepalette.data.classes import IGNORE_ID, ClassTable
from scenepalette.data.decoding.label_images import UNKNOWN, LabelSummary, LabelValues, colour_of, grey_code
from scenepalette.data.decoding.label_offsets import MOST_PART_SHIFTED, ask_for_offset, question_of_shifted_files
from scenepalette.data.decoding.label_places import (
    ASK,
    BACKGROUND,
    BEYOND_CHANCE,
    EXAMPLES,
    STATE_VALUES,
    LabelNumbers,
    fit_of,
)
from scenepalette.data.decoding.label_reading import MOST_UNCLEAR, LabelReading

_SHOWN = 8
_SMOOTHED = 16
"""Different values of labels from which, if there are twice as many as classes, borders were smoothed."""
_VISIBLE_STEP = 8
"""Smallest factor by which somebody would multiply ids to see them."""
_MOSTLY_BACKGROUND = 25
"""Percentage of the pixels from which 255 is taken for the background and not for borders or what nobody labelled."""
_LEAST_CHANCE = 0.001
"""Chance below which it is none that all values are the brightness of a class's colour."""
_BRIGHTNESS = "the brightness of the class file's colours, as converting these to grey leaves it"


def decide_numbers(
    reading: LabelReading,
    labels: Mapping[str, LabelSummary],
    table: ClassTable,
    never: frozenset[int] = frozenset(),
    *,
    own: bool,
) -> LabelReading:
    """Decide what the numbers of labels mean, for a user who has said nothing of it.

    Args:
        reading: What was decided so far, also of which labels hold numbers.
        labels: What each of them holds, of all splits, by name.
        table: The classes.
        never: Values that the published labels never hold; if they occur, the labels were renumbered.
        own: Whether the user says which classes there are; else the table is a published one.

    Returns:
        The reading, with other values where these are certain, and with a problem where something has to be asked.
    """
    numbers = LabelNumbers(reading, labels, table, own=own)
    reading = _decide_spread(reading, numbers)
    if not reading.problems:
        reading = ask_for_offset(reading, numbers, never)
    if numbers.own and not reading.problems and (text := _question_of_unlisted(reading, numbers)):
        reading = reading.refused(text)
    return reading


def _decide_spread(reading: LabelReading, numbers: LabelNumbers) -> LabelReading:
    """Recognise ids that were spread over 0 to 255 to be visible, and 255 as a class."""
    values, count = reading.values, len(numbers.table)
    seen = numbers.seen - values.ignored
    if dict(values.ids) != {class_id: class_id for class_id in range(count)} or not seen:
        return reading
    # What the class file says of greys goes before what even steps suggest.
    greys = {code & 255: entry for code, entry in reading.colours.items() if code == grey_code(code & 255)}
    classes_grey = {grey: entry for grey, entry in greys.items() if entry not in (UNKNOWN, IGNORE_ID)}
    bright = _brightness(reading, seen)
    if seen - {IGNORE_ID} <= values.ids.keys():
        if numbers.own and IGNORE_ID not in bright and any(values.ids[value] != bright[value] for value in bright):
            return reading.refused(
                f"the values {listed(sorted(seen))} are class ids, and all of them are {_BRIGHTNESS}. Set "
                "data.label_encoding to ids if they are ids; else export the labels in colours, or as ids"
            )
        if not numbers.own or IGNORE_ID not in seen:
            return reading
        if not (IGNORE_ID in classes_grey and len(seen) > 1 and seen <= classes_grey.keys()):
            return _decide_255(reading, numbers)
    if len(set(classes_grey.values())) == count and _lie_on(numbers, seen, greys, reading.tolerance):
        ignored = {grey for grey, entry in greys.items() if entry == IGNORE_ID} | values.ignored
        text = "Label values are the greys of the class file's colours, and read as these classes"
        return _spread(reading, classes_grey, ignored, seen, text)
    if shared := [value for value, entry in sorted(bright.items()) if entry == UNKNOWN]:
        return reading.refused(
            f"the values {listed(sorted(seen))} are {_BRIGHTNESS}, and several classes have the brightness "
            f"{listed(shared)}. Export the labels in colours, or as class ids"
        )
    if bright:
        ids = {value: entry for value, entry in bright.items() if entry != IGNORE_ID}
        text = f"Label values are {_BRIGHTNESS}, and read as these classes"
        return _spread(reading, ids, values.ignored | (bright.keys() - ids.keys()), seen, text)
    if text := _scaled_by_file(numbers, values.ignored):
        return reading.refused(text)
    for grid in _grids(count):
        if len(seen) >= numbers.needed and _lie_on(numbers, seen, grid, reading.tolerance):
            ids = {value: class_id for class_id, value in enumerate(grid)}
            text = f"Label values are {count} ids spread over 0 to 255 to be visible, and read as such"
            return _spread(reading, ids, values.ignored, seen, text)
    if IGNORE_ID in seen and len(seen) > 2 and _are_evenly_spread(seen):
        return reading.refused(
            f"the values {listed(sorted(seen))} are {len(seen)} evenly spread over 0 to 255, but the "
            f"class file has {count} classes: name the missing ones, or write the value of each class into a column id"
        )
    used = seen - {IGNORE_ID}
    largest = max(used)
    # Data sets that count "unlabelled" after their classes have one more number.
    for last in [count - 1, count] if count in values.ignored else [count - 1]:
        step = largest // last
        settled = step >= _VISIBLE_STEP and step * last == largest and all(value % step == 0 for value in used)
        if settled and len(used) >= numbers.needed:
            ids = {class_id * step: class_id for class_id in range(count)}
            text = f"Label values are class ids times {step}, and read as such"
            ignored = {value * step for value in values.ignored if value * step < IGNORE_ID}
            return _spread(reading, ids, ignored, seen, text)
    text = _question_of_values(values, numbers, used)
    return reading.refused(text) if text else reading


def _spread(
    reading: LabelReading, ids: Mapping[int, int], ignored: Iterable[int], seen: frozenset[int], text: str
) -> LabelReading:
    """Read numbers by other ids than those of the table, and say so."""
    # What the user ignores stays ignored.
    kept = {value: class_id for value, class_id in ids.items() if value not in reading.values.ignored}
    values = LabelValues(kept, frozenset(ignored) - kept.keys())
    exact = seen <= ids.keys() | values.all_ignored
    within = "" if exact else f" Values are taken for the nearest of these within {reading.tolerance}."
    return replace(reading, values=values, snapped=not exact).noted(f"{text} ({shown_ids(ids)}).{within}")


def _brightness(reading: LabelReading, seen: Collection[int]) -> dict[int, int]:
    """Return the classes that values have if they are the greys that Pillow makes of colours; none if that is chance.

    Of several classes the entry is UNKNOWN. 255 need not be one of them.
    """
    known: dict[int, int] = {}
    for code, entry in reading.colours.items():
        red, green, blue = colour_of(code)
        value = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16  # ITU-R 601
        known[value] = entry if known.get(value, entry) == entry else UNKNOWN
    used = {value for value in seen if value in known or value != IGNORE_ID}
    chance = (len(known) / 256) ** len(used)
    return {value: known[value] for value in used} if used <= known.keys() and chance < _LEAST_CHANCE else {}


def _lie_on(numbers: LabelNumbers, seen: frozenset[int], known: Iterable[int], tolerance: int) -> bool:
    """Tell whether values are known ones; with a tolerance, whether most pixels are near to two of them or more."""
    if seen.issubset(known):
        return True
    if not tolerance:
        return False
    values = np.array(sorted(seen))
    apart = abs(values[:, None] - np.array(sorted(known)))
    near = apart.min(1) <= tolerance
    pixels = numbers.pixels[values]
    enough = pixels[near].sum() >= (1 - MOST_UNCLEAR) * pixels.sum()
    return bool(enough and len(np.unique(apart[near].argmin(1))) > 1)


def _grids(count: int) -> list[list[int]]:
    """Return `count` numbers, two or more, evenly spread over 0 to 255, rounded in each of the usual ways."""
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


def shown_ids(ids: Mapping[int, int]) -> str:
    """Write which class id each value is, of many the first few."""
    return listed(f"{value} is {class_id}" for value, class_id in sorted(ids.items()))


def _scaled_by_file(numbers: LabelNumbers, ignored: Iterable[int]) -> str:
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
        f"means the same in all, {STATE_VALUES}"
    )


def _decide_255(reading: LabelReading, numbers: LabelNumbers) -> LabelReading:
    """Decide whether 255 is a class where all other values are class ids."""
    values, names, count = reading.values, numbers.table.names, len(numbers.table)
    classes = (numbers.seen - values.ignored) & values.ids.keys()
    if count == 2 and classes == {0}:
        text = "255 is the second class: the labels hold only 0 and 255, which are read as the ids 0 and 1"
        of_two = LabelValues({0: 0, IGNORE_ID: 1}, values.ignored)
        return replace(reading, values=of_two).noted(f"{text} ({names[0]}, {names[1]}).")
    if len(classes) < 2:
        other = f"only {listed(classes)} and 255" if classes else "only 255"
        return reading.refused(
            f"255 is the second class, or the labels show fewer than two: they hold {other}, and 255 stands for "
            f"ignored pixels unless the class file says otherwise. {STATE_VALUES.capitalize()}"
        )
    with_1 = [name for name, seen in numbers.of_files.items() if 1 in seen]
    # A label of nothing but 255 is an empty tile: it says nothing of what 255 is in others.
    with_255 = [name for name, seen in numbers.of_files.items() if IGNORE_ID in seen and len(seen) > 1]
    if count == 2 and with_255 and with_1 and set(with_255).isdisjoint(with_1):
        return reading.refused(
            f"{counted(len(with_1), 'label has', 'labels have')} 0 and 1 (such as {with_1[0]}), {len(with_255)} 0 and "
            f"255 (such as {with_255[0]}), none has both 1 and 255: 255 seems to be the second class in these. Convert "
            "them to 0 and 1, or set data.label_encoding to ids, if 255 stands for ignored pixels"
        )
    if count == 2 and (alone := [name for name in with_255 if name not in with_1]):
        beside_1 = np.mean([numbers.shares_of_255[name] for name in with_255 if name in with_1])
        if np.mean([numbers.shares_of_255[name] for name in alone]) > BEYOND_CHANCE * beside_1:
            return reading.refused(
                f"{counted(len(alone), 'label has', 'labels have')} 0 and 255 alone (such as {alone[0]}), and far more "
                "of 255 than those with 0, 1 and 255: it seems to be the second class in these. Convert them to 0 and "
                "1, or set data.label_encoding to ids, if 255 stands for ignored pixels"
            )
        reading = reading.noted(
            "255 is ignored, as some labels have 0, 1 and 255; "
            f"{counted(len(alone), 'label has', 'labels have')} 0 and 255 alone (such as {alone[0]}). If 255 is the "
            "second class in these, convert them to 0 and 1."
        )
    if count - 1 in classes:
        return reading
    share = 100 * numbers.pixels[IGNORE_ID] / numbers.pixels.sum()
    if names[0].lower() in BACKGROUND and share >= _MOSTLY_BACKGROUND:
        return reading.refused(
            f"255 takes {share:.0f} % of the labels' pixels, and no label shows {count - 1} ({names[-1]}), the last "
            f"class: these labels seem reduced by one, with 255 for '{names[0]}'. If so, {STATE_VALUES} (255, 0, 1, "
            "...); if 255 stands for ignored pixels, set data.label_encoding to ids"
        )
    return reading.noted(
        f"255 is ignored ({share:.1f} % of the labels' pixels), and no label shows {count - 1} ({names[-1]}), the last "
        f"class. If 255 is that class, {STATE_VALUES}."
    )


def _question_of_values(values: LabelValues, numbers: LabelNumbers, used: frozenset[int]) -> str:
    """Return what to ask where label values are no class ids and show no pattern that is certain, or nothing."""
    count, largest, shown = len(numbers.table), max(used), sorted(used)
    bad = used - values.ids.keys()
    with_bad = [name for name, held in numbers.of_files.items() if not held.isdisjoint(bad)]
    where = f"{len(with_bad)} of {len(numbers.of_files)} labels, such as {listed(with_bad, EXAMPLES)}"
    one_too_many = numbers.own and bad == {count}
    # Of files that a lossy format changed, each has a problem that says so; their values suggest nothing.
    if numbers.own and numbers.lossy.issuperset(with_bad):
        return ""
    if text := _question_of_scaled_files(values, numbers, with_bad):
        return text
    few = len(with_bad) <= MOST_PART_SHIFTED * len(numbers.of_files)
    if one_too_many and few and (text := question_of_shifted_files(values, numbers)):
        return text
    step = reduce(gcd, used)
    if step >= 2 and len(used - {0}) >= 2 and largest // step < count:
        return (
            f"all label values are multiples of {step} ({listed(shown)}), as if ids had been multiplied, but none is "
            f"{step * (count - 1)}, the last of {count} classes. If they were, "
            + (STATE_VALUES if numbers.own else f"divide them by {step}")
        )
    if not numbers.own:
        return ""
    if one_too_many and 0 in used and len(used) > 2 and len(with_bad) > 1:
        return _one_too_many(values, numbers, where)
    if 0 not in used and len(used) > 2 and (one_too_many or largest - min(used) == count - 1):
        first = largest - count + 1
        return (
            f"the label values run from {first} to {largest}: ids seem to count from {first}. {ASK} to -{first}, or "
            f"{STATE_VALUES}"
        )
    if 2 * len(with_bad) <= len(numbers.of_files):
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


def _question_of_scaled_files(values: LabelValues, numbers: LabelNumbers, with_bad: Collection[str]) -> str:
    """Return what to ask where some files alone hold ids that were multiplied or spread over 0 to 255, or nothing."""
    held = frozenset[int]().union(*(numbers.of_files[name] for name in with_bad)) - values.ignored
    used = held - {IGNORE_ID}
    step = gcd(*used)
    if len(with_bad) == len(numbers.of_files) or len(held - {0}) < 2:
        return ""
    if any(held <= {*grid} for grid in _grids(len(numbers.table))):
        how = "spread over 0 to 255"
    elif step >= 2 and max(used) // step < len(numbers.table) and len(used - values.ids.keys()) > 1:
        how = f"multiplied by {step}"
    else:
        return ""
    return (
        f"{len(with_bad)} of {len(numbers.of_files)} labels (such as {listed(with_bad, EXAMPLES)}) hold "
        f"{listed(sorted(held), _SHOWN)}, as if ids had been {how} in these alone; the others hold ids. Convert these "
        "to ids if so"
    )


def _one_too_many(values: LabelValues, numbers: LabelNumbers, where: str) -> str:
    """Return what to ask where ids run one beyond the classes: the first or the last of them is unlabelled."""
    count = len(numbers.table)
    now, from_1 = fit_of(values, numbers).score, fit_of(values.shifted(-1), numbers).score
    first, last = "0 seems to be unlabelled, and ids to count from 1", f"{count} seems to be unlabelled"
    if from_1 == now:
        said, listed_ids = f"{first}, or {last}", f"[0] or to [{count}]"
    else:
        said, listed_ids = (first, "[0]") if from_1 > now else (last, f"[{count}]")
    return (
        f"the label values run from 0 to {count} (in {where}), but there are {count} classes: {said}. Set "
        f"data.ignore_ids to {listed_ids} (or ignore_ids in a YAML class file) if so, or name the missing class in the "
        "class file"
    )


def _question_of_unlisted(reading: LabelReading, numbers: LabelNumbers) -> str:
    """Return what to ask where most labels hold, beside others, a value that the class file lacks; or nothing."""
    odd = numbers.seen - reading.values.ids.keys() - reading.values.all_ignored
    with_odd = [name for name, held in numbers.of_files.items() if odd <= held]
    is_common = len(odd) == 1 and 2 * len(with_odd) > len(numbers.of_files)
    if not is_common or reading.snapped or numbers.lossy or len(numbers.seen & reading.values.ids.keys()) < 2:
        return ""
    where = f"{len(with_odd)} of {len(numbers.of_files)} labels (such as {with_odd[0]})"
    return (
        f"{where} hold the value {listed(odd)}, which the class file does not list; allowed are {reading.values}. If "
        f"it stands for no class, set data.ignore_ids to {sorted(odd)} (or ignore_ids in a YAML class file), else name "
        "its class in the class file"
    )
