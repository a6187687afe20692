"""Decides which classes the numbers in label images mean, where they are not the ids that the class table says.

Ids may have been multiplied or spread over 0 to 255 to be visible, counted from 1, or reduced by one so that 255 is
"unlabelled". That shows in which numbers occur, and in where in the images they lie: a sky below a road is none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from functools import cached_property, reduce
from math import ceil, floor, gcd
from typing import NamedTuple

import numpy as np

from scenepalette.common.wording import counted, listed
from scenepalette.data.classes import IGNORE_ID, ClassTable
from scenepalette.data.decoding.class_names import AT_THE_BOTTOM, AT_THE_TOP, plain_name
from scenepalette.data.decoding.label_images import UNKNOWN, LabelSummary, LabelValues, grey_code
from scenepalette.data.decoding.label_reading import MOST_UNCLEAR, LabelReading

_SHOWN = 8
_EXAMPLES = 3
_SMOOTHED = 16
"""Different values of labels from which, if there are twice as many as classes, borders were smoothed."""
_LEAST_PART, _MOST_NEEDED = 0.75, 5
"""Share of the classes, and number of them, of which one is enough to recognise spread ids by."""
_VISIBLE_STEP = 8
"""Smallest factor by which somebody would multiply ids to see them."""
LEAST_FILES_PLACED = 6
LEAST_FILES_SHIFTED, _LEAST_PART_SHIFTED, _MOST_PART_SHIFTED = 3, 0.05, 0.75
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
_FIRST_IS_0 = "If the value 0 is that of the first row of the class file, give this row ignore true"
_STATE_VALUES = "write the value of each class into a column id of the class file"


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
    numbers = _Numbers(reading, labels, table, own=own)
    reading = _decide_spread(reading, numbers)
    if not reading.problems:
        reading = _ask_for_offset(reading, numbers, never)
    if numbers.own and not reading.problems and (text := _question_of_unlisted(reading, numbers)):
        reading = reading.refused(text)
    return reading


class _Numbers:
    """The numbers of all files that are not read by colour, and the classes that they may mean.

    Attributes:
        table: The classes.
        own: Whether the user says which classes there are.
        of_files: The numbers of each file.
        pixels: Pixels of each number over all files, int64 [256].
        heights: Mean height of each number over all files, 0 at the top; NaN where unknown.
        heights_of: Mean heights in each file, as far as known.
        shares_of_255: Share of the pixels of each file that are 255.
        lossy: The files whose format may have changed values.
    """

    def __init__(
        self, reading: LabelReading, labels: Mapping[str, LabelSummary], table: ClassTable, *, own: bool
    ) -> None:
        self.table, self.own = table, own
        self.of_files: dict[str, frozenset[int]] = {}
        self.heights_of: dict[str, dict[int, float]] = {}
        self.shares_of_255: dict[str, float] = {}
        self.pixels = np.zeros(256, np.int64)
        summed, weights = np.zeros(256), np.zeros(256)
        for name, label in labels.items():
            if reading.method(label) == "colours":
                continue
            values = reading.numbers_of(label)
            self.of_files[name] = frozenset(values.tolist())
            np.add.at(self.pixels, values, label.counts)
            self.shares_of_255[name] = float(label.counts[values == IGNORE_ID].sum() / label.counts.sum())
            fine = np.isfinite(label.heights)
            np.add.at(summed, values[fine], label.heights[fine] * label.counts[fine])
            np.add.at(weights, values[fine], label.counts[fine])
            self.heights_of[name] = dict(zip(values[fine].tolist(), label.heights[fine].tolist(), strict=True))
        with np.errstate(invalid="ignore", divide="ignore"):
            self.heights = summed / weights
        self.lossy = frozenset(name for name in self.of_files if labels[name].lossy)

    @cached_property
    def seen(self) -> frozenset[int]:
        """Every number that occurs."""
        return frozenset(np.flatnonzero(self.pixels).tolist())

    @property
    def needed(self) -> float:
        """How many different numbers tell that ids are spread."""
        return min(_MOST_NEEDED, _LEAST_PART * len(self.table))

    @cached_property
    def at_the_top(self) -> dict[int, bool]:
        """The ids of classes of which it is known where images have them, and whether that is at the top."""
        return at_the_top(self.table)


class _Fit(NamedTuple):
    """How well classes lie where images have them: those that do, and those that do not, with how high they lie."""

    right: list[str]
    wrong: list[str]

    @property
    def score(self) -> int:
        """How many classes more lie right than wrong."""
        return len(self.right) - len(self.wrong)

    @property
    def misplaced(self) -> str:
        """What is to be said of the classes that lie wrong, or nothing."""
        return f"by their values {' and '.join(self.wrong)} would be where images do not have it" if self.wrong else ""


def _fit(values: LabelValues, numbers: _Numbers) -> _Fit:
    """Return how well classes lie in all files, of numbers that enough files hold."""
    heights = {
        number: numbers.heights[number]
        for number in sorted(numbers.seen)
        if sum(number in seen for seen in numbers.of_files.values()) >= LEAST_FILES_PLACED
    }
    right, wrong = placed(values, heights, numbers.at_the_top)
    names = numbers.table.names
    return _Fit(
        [names[values.ids[number]] for number in right],
        [f"'{names[values.ids[number]]}' (mean height {100 * (1 - heights[number]):.0f} %)" for number in wrong],
    )


def at_the_top(table: ClassTable) -> dict[int, bool]:
    """Return the ids of classes of which it is known where images have them, and whether that is at the top."""
    plain = {class_id: plain_name(name) for class_id, name in enumerate(table.names)}
    return {k: name in AT_THE_TOP for k, name in plain.items() if name in AT_THE_TOP or name in AT_THE_BOTTOM}


def placed(
    values: LabelValues, heights: Mapping[int, float], expected: Mapping[int, bool]
) -> tuple[list[int], list[int]]:
    """Return the numbers whose classes are where they are to be expected, and those whose classes are elsewhere."""
    right, wrong = [], []
    for number, height in heights.items():
        at_the_top = None if number in values.ignored else expected.get(values.ids.get(number, -1))
        if at_the_top is not None and (height < _TOP or height > _BOTTOM):  # it may be NaN
            (right if at_the_top == (height < _TOP) else wrong).append(number)
    return right, wrong


def _decide_spread(reading: LabelReading, numbers: _Numbers) -> LabelReading:
    """Recognise ids that were spread over 0 to 255 to be visible, and 255 as a class."""
    values, count = reading.values, len(numbers.table)
    seen = numbers.seen - values.ignored
    if dict(values.ids) != {class_id: class_id for class_id in range(count)} or not seen:
        return reading
    # What the class file says of greys goes before what even steps suggest.
    greys = {code & 255: entry for code, entry in reading.colours.items() if code == grey_code(code & 255)}
    classes_grey = {grey: entry for grey, entry in greys.items() if entry not in (UNKNOWN, IGNORE_ID)}
    if seen - {IGNORE_ID} <= values.ids.keys():
        if not numbers.own or IGNORE_ID not in seen:
            return reading
        if not (IGNORE_ID in classes_grey and len(seen) > 1 and seen <= classes_grey.keys()):
            return _decide_255(reading, numbers)
    if len(set(classes_grey.values())) == count and _lie_on(numbers, seen, greys, reading.tolerance):
        ignored = {grey for grey, entry in greys.items() if entry == IGNORE_ID} | values.ignored
        text = "Label values are the greys of the class file's colours, and read as these classes"
        return _spread(reading, classes_grey, ignored, seen, text)
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


def _lie_on(numbers: _Numbers, seen: frozenset[int], known: Iterable[int], tolerance: int) -> bool:
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
        f"means the same in all, {_STATE_VALUES}"
    )


def _decide_255(reading: LabelReading, numbers: _Numbers) -> LabelReading:
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
            f"ignored pixels unless the class file says otherwise. {_STATE_VALUES.capitalize()}"
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
        if np.mean([numbers.shares_of_255[name] for name in alone]) > _BEYOND_CHANCE * beside_1:
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
    if names[0].lower() in _BACKGROUND and share >= _MOSTLY_BACKGROUND:
        return reading.refused(
            f"255 takes {share:.0f} % of the labels' pixels, and no label shows {count - 1} ({names[-1]}), the last "
            f"class: these labels seem reduced by one, with 255 for '{names[0]}'. If so, {_STATE_VALUES} (255, 0, 1, "
            "...); if 255 stands for ignored pixels, set data.label_encoding to ids"
        )
    return reading.noted(
        f"255 is ignored ({share:.1f} % of the labels' pixels), and no label shows {count - 1} ({names[-1]}), the last "
        f"class. If 255 is that class, {_STATE_VALUES}."
    )


def _question_of_values(values: LabelValues, numbers: _Numbers, used: frozenset[int]) -> str:
    """Return what to ask where label values are no class ids and show no pattern that is certain, or nothing."""
    count, largest, shown = len(numbers.table), max(used), sorted(used)
    bad = used - values.ids.keys()
    with_bad = [name for name, held in numbers.of_files.items() if not held.isdisjoint(bad)]
    where = f"{len(with_bad)} of {len(numbers.of_files)} labels, such as {listed(with_bad, _EXAMPLES)}"
    one_too_many = numbers.own and bad == {count}
    # Of files that a lossy format changed, each has a problem that says so; their values suggest nothing.
    if numbers.own and numbers.lossy.issuperset(with_bad):
        return ""
    if text := _question_of_scaled_files(values, numbers, with_bad):
        return text
    few = len(with_bad) <= _MOST_PART_SHIFTED * len(numbers.of_files)
    if one_too_many and few and (text := _question_of_shifted_files(values, numbers)):
        return text
    step = reduce(gcd, used)
    if step >= 2 and len(used - {0}) >= 2 and largest // step < count:
        return (
            f"all label values are multiples of {step} ({listed(shown)}), as if ids had been multiplied, but none is "
            f"{step * (count - 1)}, the last of {count} classes. If they were, "
            + (_STATE_VALUES if numbers.own else f"divide them by {step}")
        )
    if not numbers.own:
        return ""
    if one_too_many and 0 in used and len(used) > 2 and len(with_bad) > 1:
        return _one_too_many(values, numbers, where)
    if 0 not in used and len(used) > 2 and (one_too_many or largest - min(used) == count - 1):
        first = largest - count + 1
        return (
            f"the label values run from {first} to {largest}: ids seem to count from {first}. {_ASK} to -{first}, or "
            f"{_STATE_VALUES}"
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


def _question_of_scaled_files(values: LabelValues, numbers: _Numbers, with_bad: Collection[str]) -> str:
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
        f"{len(with_bad)} of {len(numbers.of_files)} labels (such as {listed(with_bad, _EXAMPLES)}) hold "
        f"{listed(sorted(held), _SHOWN)}, as if ids had been {how} in these alone; the others hold ids. Convert these "
        "to ids if so"
    )


def _one_too_many(values: LabelValues, numbers: _Numbers, where: str) -> str:
    """Return what to ask where ids run one beyond the classes: the first or the last of them is unlabelled."""
    count = len(numbers.table)
    now, from_1 = _fit(values, numbers).score, _fit(values.shifted(-1), numbers).score
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


def _question_of_unlisted(reading: LabelReading, numbers: _Numbers) -> str:
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


def _ask_for_offset(reading: LabelReading, numbers: _Numbers, never: frozenset[int]) -> LabelReading:
    """Ask where the labels look as if they counted classes otherwise than published."""
    values = reading.values
    if not numbers.seen or IGNORE_ID in values.ids or reading.snapped:
        return reading
    now = _fit(values, numbers)
    if text := (
        _question_of_shifted_files(values, numbers, beside_others=True)
        or _question_of_unpublished(values, numbers, never)
        or _question_of_offset(values, numbers, now)
    ):
        return reading.refused(text)
    if numbers.own:
        reading = _tell_last_class(_tell_first_classes(reading, numbers), numbers)
    if text := (
        _question_of_train_ids(numbers, now)
        or _question_of_shifted_files(values, numbers)
        or _question_of_files_of_train_ids(values, numbers)
    ):
        return reading.refused(text)
    if not now.wrong:
        return reading
    where = "is where images do not have it" if len(now.wrong) == 1 else "are where images do not have them"
    return reading.noted(
        f"By their values, {' and '.join(now.wrong)} {where}. Look whether each value stands for the class that the "
        "table says."
    )


def _question_of_unpublished(values: LabelValues, numbers: _Numbers, never: frozenset[int]) -> str:
    """Return what to ask where values occur that the published labels never hold, or nothing."""
    odd, last = sorted(numbers.seen & never), max(values.ids)
    as_published = "or to 0 to read them as published"
    if odd == [IGNORE_ID] and last not in numbers.seen:
        return (
            f"these labels seem reduced by one (255 occurs, which the published labels never hold, and {last} does "
            f"not). {_ASK} to 1 if the first class is 0 and unlabelled is 255, {as_published} with 255 ignored"
        )
    if not odd or IGNORE_ID in odd:
        return ""
    for offset in (-1, 1):
        moved = {value + offset for value in numbers.seen - {IGNORE_ID}}
        if moved.isdisjoint(never) and all(values.allowed[value] for value in moved if 0 <= value < IGNORE_ID):
            return (
                f"these labels seem {_moved(offset)} by one: they hold {listed(odd)}, which "
                f"the published labels never do. {_ASK} to {offset} if so, {as_published}"
            )
    return ""


def _moved(offset: int) -> str:
    """Return what was done to ids to which an offset is to be added."""
    return "reduced" if offset > 0 else "raised"


def _question_of_offset(values: LabelValues, numbers: _Numbers, now: _Fit) -> str:
    """Return what to ask where classes lie better with all values moved by one or two, or nothing.

    Args:
        values: What numbers mean as they are.
        numbers: Those of the labels.
        now: Where classes lie as they are.
    """
    exchanged = ""
    if now.right and len(now.wrong) == 1:
        seem = f"{' and '.join(now.right)} {'seems' if len(now.right) == 1 else 'seem'} right"
        one = now.wrong[0].partition(" (")[0]
        exchanged = f". If {one} was exchanged with another class instead ({seem}), correct it"
    last = max(values.ids)
    with_255 = IGNORE_ID in numbers.seen - values.ignored
    shifts: dict[int, tuple[_Fit, str]] = {}
    for offset in (1, -1, 2, -2):
        shifted = values.shifted(offset)
        # What was counted up with the classes, but is none, was unlabelled.
        beyond = {IGNORE_ID, last} if offset == 1 else {IGNORE_ID}
        if any(not shifted.allowed[value] for value in numbers.seen - beyond):
            continue
        fit = _fit(shifted, numbers)
        # Where the values as they are contradict images, and shifted ones do not, one more class that fits is enough.
        clear = fit.score - now.score >= (1 if now.wrong else _CLEARLY) and len(fit.right) >= _CLEARLY
        last_is_255 = offset == 1 and with_255 and last not in numbers.seen
        without_last = numbers.own and last_is_255 and now.wrong and fit.score > now.score
        if fit.wrong or not (clear or without_last):
            continue
        by = _STEPS[abs(offset)]
        absent = f"255 occurs, {last} does not, and " if last_is_255 else ""
        there = f"moved by {by}, {' and '.join(fit.right)} are where images have them" if fit.right else ""
        text = (
            f"these labels seem {_moved(offset)} by {by}: {absent}{'; '.join(filter(None, [now.misplaced, there]))}. "
            f"{_remedy_of_offset(offset, values, numbers, with_255)}{exchanged}"
        )
        shifts[offset] = fit, text
    if not shifts:
        return ""
    # Of many classes, some lie where images have them by chance; and labels are seldom moved by two.
    first, *others = sorted(shifts, key=lambda offset: (abs(offset), -shifts[offset][0].score))
    also = "; ".join(f"{offset} ({' and '.join(shifts[offset][0].right)})" for offset in others)
    return shifts[first][1] + (f". Classes would be where images have them with {also} as well" if also else "")


def _remedy_of_offset(offset: int, values: LabelValues, numbers: _Numbers, with_255: bool) -> str:
    """Return what to do about labels that seem shifted: 255 may have been the first class, or unlabelled."""
    if offset == 1 and _count_from_1(values, numbers):
        return (
            f"{_FIRST_IS_0}; if labels are reduced, {_STATE_VALUES}; or set data.label_offset to 0 to read them as "
            "they are"
        )
    if offset != 1 or not with_255:
        return f"{_ASK} to {offset} if so, or to 0 to read them as they are"
    add = (
        f"{_STATE_VALUES} (255, 0, 1, ...)"
        if numbers.own
        else "save the labels with 1 added to each value, so that 255 becomes 0"
    )
    return (
        f"If 255 is the first class, {numbers.table.names[0]}, {add}; if it is unlabelled, set data.label_offset to 1; "
        "set it to 0 to read them as they are"
    )


def _tell_first_classes(reading: LabelReading, numbers: _Numbers) -> LabelReading:
    """Note that labels show all classes but the first or the first two, as where ids count from 1 or 2.

    A background may well be in no label. Of two, no other class may be missing up to the last one that occurs, as
    tables of many classes have others that no label shows.
    """
    ids, seen = reading.values.ids, numbers.seen
    first, last = min(seen), max(seen & ids.keys(), default=-1)  # perhaps no value is a class's
    absent = {value: numbers.table.names[ids[value]] for value in range(first) if value in ids}
    without_gap = first == 1 or (first == 2 and seen >= set(range(first, last + 1)))
    if last < 0 or len(absent) < first or not without_gap or all(n.lower() in _BACKGROUND for n in absent.values()):
        return reading
    shown = " and ".join(f"{value} ({name})" for value, name in absent.items())
    classes = "the first class" if first == 1 else "the first classes"
    return reading.noted(
        f"No label shows {shown}, {classes}. If ids count from {first}, set data.label_offset to -{first}."
    )


def _count_from_1(values: LabelValues, numbers: _Numbers) -> bool:
    """Tell whether classes have the values from 1 as 0 is ignored, from which rows without ids then count."""
    return numbers.own and 0 in values.ignored and values.ids.keys() == set(range(1, len(numbers.table) + 1))


def _tell_last_class(reading: LabelReading, numbers: _Numbers) -> LabelReading:
    """Note that no label shows the last class where classes count from 1, as where 0 is the first row and ignored."""
    last = len(numbers.table)
    if not _count_from_1(reading.values, numbers) or 0 not in numbers.seen or last in numbers.seen:
        return reading
    return reading.noted(
        f"0 is ignored, so that classes count from 1, and no label shows {last} ({numbers.table.names[-1]}), the last "
        f"class. {_FIRST_IS_0}."
    )


def _question_of_train_ids(numbers: _Numbers, now: _Fit) -> str:
    """Return what to ask where values seem to count the evaluated classes alone, as Cityscapes' train ids do."""
    evaluated = numbers.table.eval_ids
    renumbered = LabelValues(dict(enumerate(evaluated)))
    if len(evaluated) == len(numbers.table) or not all(renumbered.allowed[value] for value in numbers.seen):
        return ""
    fit = _fit(renumbered, numbers)
    if fit.wrong or len(fit.right) < _CLEARLY or fit.score - now.score < _CLEARLY:
        return ""
    misplaced = f", {now.misplaced}" if now.wrong else ""
    return (
        f"these labels seem to hold train ids: only values up to {max(numbers.seen - {IGNORE_ID})} occur{misplaced}; "
        f"counting the {len(evaluated)} evaluated classes alone, {' and '.join(fit.right)} are where images have them. "
        "Set data.label_encoding to train-ids if so, or to ids to read them as published"
    )


def _question_of_files_of_train_ids(values: LabelValues, numbers: _Numbers) -> str:
    """Return what to ask where some files alone seem to count evaluated classes alone: made by another script."""
    renumbered = LabelValues(dict(enumerate(numbers.table.eval_ids)))
    found = []
    for name, heights in numbers.heights_of.items():
        right, wrong = placed(renumbered, heights, numbers.at_the_top)
        is_other = not placed(values, heights, numbers.at_the_top)[0]
        if is_other and not wrong and len(right) >= _CLEARLY and renumbered.allowed[[*numbers.of_files[name]]].all():
            found.append(name)
    least = max(LEAST_FILES_SHIFTED, _LEAST_PART_SHIFTED * len(numbers.of_files))
    if not least <= len(found) < len(numbers.of_files):
        return ""
    return (
        f"{len(found)} of {counted(len(numbers.of_files), 'label')} (such as {listed(found, _EXAMPLES)}) seem to hold "
        "train ids, the others not: only so classes in these are where images have them. Convert these if so; or set "
        "data.label_encoding to ids to read all as they are"
    )


def _question_of_shifted_files(values: LabelValues, numbers: _Numbers, *, beside_others: bool = False) -> str:
    """Return what to ask where some files alone seem shifted by one, as where two people made labels, or nothing.

    One seems so if classes of it lie where images do not have them and, moved by one, two such classes or more lie
    where images have them and none does not. By chance, as many seem raised as reduced. Of the 468 labels of CamVid
    none seems either.

    Args:
        values: What numbers mean as they are.
        numbers: Those of the labels.
        beside_others: Whether to ask only if many other files seem right, so that no offset fits all.
    """
    found: dict[int, list[str]] = {-1: [], 1: []}
    fitting = 0
    for name, heights in numbers.heights_of.items():
        right, wrong = placed(values, heights, numbers.at_the_top)
        if not wrong:
            fitting += len(right) >= _CLEARLY
            continue
        for offset, names in found.items():
            right, wrong = placed(values.shifted(offset), heights, numbers.at_the_top)
            if len(right) >= _CLEARLY and not wrong:
                names.append(name)
    least = max(LEAST_FILES_SHIFTED, _LEAST_PART_SHIFTED * len(numbers.of_files))
    if beside_others and fitting < max(least, (1 - _MOST_PART_SHIFTED) * len(numbers.of_files)):
        return ""
    for offset, names in found.items():
        if len(names) >= max(least, _BEYOND_CHANCE * len(found[-offset])):
            return (
                f"{len(names)} of {counted(len(numbers.of_files), 'label')} (such as {listed(names, _EXAMPLES)}) seem "
                f"{_moved(offset)} by one, the others not: moved by one, classes in these are where images have them, "
                f"and else they are not. {'Add 1 to' if offset > 0 else 'Subtract 1 from'} the values of these files "
                "if so; or set data.label_offset to 0 to read all as they are"
            )
    return ""
