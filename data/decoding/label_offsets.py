"""Asks where numbers in label images seem to count classes otherwise than the table does: shifted, or some alone."""

from __future__ import annotations

from scenepalette.common.wording import counted, listed
from scenepalette.data.classes import IGNORE_ID
from scenepalette.data.decoding.label_images import LabelValues
from scenepalette.data.decoding.label_places import (
    ASK,
    BACKGROUND,
    BEYOND_CHANCE,
    EXAMPLES,
    STATE_VALUES,
    Fit,
    LabelNumbers,
    fit_of,
    placed,
)
from scenepalette.data.decoding.label_reading import LabelReading

LEAST_FILES_SHIFTED, _LEAST_PART_SHIFTED, MOST_PART_SHIFTED = 3, 0.05, 0.75
"""Fewest labels, and least and most share of all, that tell of labels shifted in part: fewer may be odd images."""
CLEARLY = 2
"""Classes that lie where images have them, of which labels are taken to be numbered otherwise."""
_STEPS = {1: "one", 2: "two"}
_FIRST_IS_0 = "If the value 0 is that of the first row of the class file, give this row ignore true"


def ask_for_offset(reading: LabelReading, numbers: LabelNumbers, never: frozenset[int]) -> LabelReading:
    """Ask where the labels look as if they counted classes otherwise than published."""
    values = reading.values
    if not numbers.seen or IGNORE_ID in values.ids or reading.snapped:
        return reading
    now = fit_of(values, numbers)
    if text := (
        question_of_shifted_files(values, numbers, beside_others=True)
        or _question_of_unpublished(values, numbers, never)
        or _question_of_offset(values, numbers, now)
    ):
        return reading.refused(text)
    if numbers.own:
        reading = _tell_last_class(_tell_first_classes(reading, numbers), numbers)
    if text := (
        _question_of_train_ids(numbers, now)
        or question_of_shifted_files(values, numbers)
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


def _question_of_unpublished(values: LabelValues, numbers: LabelNumbers, never: frozenset[int]) -> str:
    """Return what to ask where values occur that the published labels never hold, or nothing."""
    odd, last = sorted(numbers.seen & never), max(values.ids)
    as_published = "or to 0 to read them as published"
    if odd == [IGNORE_ID] and last not in numbers.seen:
        return (
            f"these labels seem reduced by one (255 occurs, which the published labels never hold, and {last} does "
            f"not). {ASK} to 1 if the first class is 0 and unlabelled is 255, {as_published} with 255 ignored"
        )
    if not odd or IGNORE_ID in odd:
        return ""
    for offset in (-1, 1):
        moved = {value + offset for value in numbers.seen - {IGNORE_ID}}
        if moved.isdisjoint(never) and all(values.allowed[value] for value in moved if 0 <= value < IGNORE_ID):
            return (
                f"these labels seem {_moved(offset)} by one: they hold {listed(odd)}, which "
                f"the published labels never do. {ASK} to {offset} if so, {as_published}"
            )
    return ""


def _moved(offset: int) -> str:
    """Return what was done to ids to which an offset is to be added."""
    return "reduced" if offset > 0 else "raised"


def _question_of_offset(values: LabelValues, numbers: LabelNumbers, now: Fit) -> str:
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
    shifts: dict[int, tuple[Fit, str]] = {}
    for offset in (1, -1, 2, -2):
        shifted = values.shifted(offset)
        # What was counted up with the classes, but is none, was unlabelled.
        beyond = {IGNORE_ID, last} if offset == 1 else {IGNORE_ID}
        if any(not shifted.allowed[value] for value in numbers.seen - beyond):
            continue
        fit = fit_of(shifted, numbers)
        # Where the values as they are contradict images, and shifted ones do not, one more class that fits is enough.
        clear = fit.score - now.score >= (1 if now.wrong else CLEARLY) and len(fit.right) >= CLEARLY
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


def _remedy_of_offset(offset: int, values: LabelValues, numbers: LabelNumbers, with_255: bool) -> str:
    """Return what to do about labels that seem shifted: 255 may have been the first class, or unlabelled."""
    if offset == 1 and _count_from_1(values, numbers):
        return (
            f"{_FIRST_IS_0}; if labels are reduced, {STATE_VALUES}; or set data.label_offset to 0 to read them as "
            "they are"
        )
    if offset != 1 or not with_255:
        return f"{ASK} to {offset} if so, or to 0 to read them as they are"
    add = (
        f"{STATE_VALUES} (255, 0, 1, ...)"
        if numbers.own
        else "save the labels with 1 added to each value, so that 255 becomes 0"
    )
    return (
        f"If 255 is the first class, {numbers.table.names[0]}, {add}; if it is unlabelled, set data.label_offset to 1; "
        "set it to 0 to read them as they are"
    )


def _tell_first_classes(reading: LabelReading, numbers: LabelNumbers) -> LabelReading:
    """Note that labels show all classes but the first or the first two, as where ids count from 1 or 2.

    A background may well be in no label. Of two, no other class may be missing up to the last one that occurs, as
    tables of many classes have others that no label shows.
    """
    ids, seen = reading.values.ids, numbers.seen
    first, last = min(seen), max(seen & ids.keys(), default=-1)  # perhaps no value is a class's
    absent = {value: numbers.table.names[ids[value]] for value in range(first) if value in ids}
    without_gap = first == 1 or (first == 2 and seen >= set(range(first, last + 1)))
    if last < 0 or len(absent) < first or not without_gap or all(n.lower() in BACKGROUND for n in absent.values()):
        return reading
    shown = " and ".join(f"{value} ({name})" for value, name in absent.items())
    classes = "the first class" if first == 1 else "the first classes"
    return reading.noted(
        f"No label shows {shown}, {classes}. If ids count from {first}, set data.label_offset to -{first}."
    )


def _count_from_1(values: LabelValues, numbers: LabelNumbers) -> bool:
    """Tell whether classes have the values from 1 as 0 is ignored, from which rows without ids then count."""
    return numbers.own and 0 in values.ignored and values.ids.keys() == set(range(1, len(numbers.table) + 1))


def _tell_last_class(reading: LabelReading, numbers: LabelNumbers) -> LabelReading:
    """Note that no label shows the last class where classes count from 1, as where 0 is the first row and ignored."""
    last = len(numbers.table)
    if not _count_from_1(reading.values, numbers) or 0 not in numbers.seen or last in numbers.seen:
        return reading
    return reading.noted(
        f"0 is ignored, so that classes count from 1, and no label shows {last} ({numbers.table.names[-1]}), the last "
        f"class. {_FIRST_IS_0}."
    )


def _question_of_train_ids(numbers: LabelNumbers, now: Fit) -> str:
    """Return what to ask where values seem to count the evaluated classes alone, as Cityscapes' train ids do."""
    evaluated = numbers.table.eval_ids
    renumbered = LabelValues(dict(enumerate(evaluated)))
    if len(evaluated) == len(numbers.table) or not all(renumbered.allowed[value] for value in numbers.seen):
        return ""
    fit = fit_of(renumbered, numbers)
    if fit.wrong or len(fit.right) < CLEARLY or fit.score - now.score < CLEARLY:
        return ""
    misplaced = f", {now.misplaced}" if now.wrong else ""
    return (
        f"these labels seem to hold train ids: only values up to {max(numbers.seen - {IGNORE_ID})} occur{misplaced}; "
        f"counting the {len(evaluated)} evaluated classes alone, {' and '.join(fit.right)} are where images have them. "
        "Set data.label_encoding to train-ids if so, or to ids to read them as published"
    )


def _question_of_files_of_train_ids(values: LabelValues, numbers: LabelNumbers) -> str:
    """Return what to ask where some files alone seem to count evaluated classes alone: made by another script."""
    renumbered = LabelValues(dict(enumerate(numbers.table.eval_ids)))
    found = []
    for name, heights in numbers.heights_of.items():
        right, wrong = placed(renumbered, heights, numbers.at_the_top)
        is_other = not placed(values, heights, numbers.at_the_top)[0]
        if is_other and not wrong and len(right) >= CLEARLY and renumbered.allowed[[*numbers.of_files[name]]].all():
            found.append(name)
    least = max(LEAST_FILES_SHIFTED, _LEAST_PART_SHIFTED * len(numbers.of_files))
    if not least <= len(found) < len(numbers.of_files):
        return ""
    return (
        f"{len(found)} of {counted(len(numbers.of_files), 'label')} (such as {listed(found, EXAMPLES)}) seem to hold "
        "train ids, the others not: only so classes in these are where images have them. Convert these if so; or set "
        "data.label_encoding to ids to read all as they are"
    )


def question_of_shifted_files(values: LabelValues, numbers: LabelNumbers, *, beside_others: bool = False) -> str:
    """Return what to ask where some files alone seem shifted by one, as where two people made labels, or nothing.

    One seems so if classes of it lie where images do not have them and, moved by one, two such classes or more lie
    where images have them and none does not. By chance, as many seem raised as reduced. Of the 468 labels of CamVid
    none seems either. If `beside_others`, it is asked only if many other files seem right, so that no offset fits all.
    """
    found: dict[int, list[str]] = {-1: [], 1: []}
    fitting = 0
    for name, heights in numbers.heights_of.items():
        right, wrong = placed(values, heights, numbers.at_the_top)
        if not wrong:
            fitting += len(right) >= CLEARLY
            continue
        for offset, names in found.items():
            right, wrong = placed(values.shifted(offset), heights, numbers.at_the_top)
            if len(right) >= CLEARLY and not wrong:
                names.append(name)
    least = max(LEAST_FILES_SHIFTED, _LEAST_PART_SHIFTED * len(numbers.of_files))
    if beside_others and fitting < max(least, (1 - MOST_PART_SHIFTED) * len(numbers.of_files)):
        return ""
    for offset, names in found.items():
        if len(names) >= max(least, BEYOND_CHANCE * len(found[-offset])):
            return (
                f"{len(names)} of {counted(len(numbers.of_files), 'label')} (such as {listed(names, EXAMPLES)}) seem "
                f"{_moved(offset)} by one, the others not: moved by one, classes in these are where images have them, "
                f"and else they are not. {'Add 1 to' if offset > 0 else 'Subtract 1 from'} the values of these files "
                "if so; or set data.label_offset to 0 to read all as they are"
            )
    return ""
