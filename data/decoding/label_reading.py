"""How label images become class ids: by number or by colour, once it is decided how those of a data set are read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from scenepalette.common.problems import Problem, ProblemKind
from scenepalette.common.wording import counted, listed
from scenepalette.data.classes import IGNORE_ID
from scenepalette.data.decoding.label_images import (
    NO_COLOUR,
    UNKNOWN,
    LabelImage,
    LabelSummary,
    LabelValues,
    code_of,
    colour_of,
    grey_code,
)

LabelEncoding = Literal["auto", "ids", "train-ids", "colours", "red", "green", "blue"]
LARGEST_TOLERANCE = 64
MOST_UNCLEAR = 0.2
"""Largest share of a label's pixels that may be farther from every colour than the tolerance."""
_SHOWN = 8
_MANY_COLOURS = 16
NEARLY = 16
"""Largest difference of a channel up to which a colour is nearly a class's."""
_PHOTOGRAPH = 0.05
"""Different colours of a photograph by its pixels, at least; where half of the pixels have them, a label is none."""
CHANNELS: Mapping[str, int] = {"red": 16, "green": 8, "blue": 0}


@dataclass(frozen=True)
class LabelSettings:
    """What a user says of the label images, which no guess overrules.

    Attributes:
        encoding: "ids" for numbers (of a palette, the indices), "train-ids" for numbers of the evaluated classes
            alone, counted from 0, "colours" for the class table's colours, "red", "green" or "blue" for ids in that
            channel; "auto" to decide by what the files hold.
        offset: What is to be added to each label value to get what the data set's published labels hold: 0 if nothing;
            None to ask where the labels look shifted.
        ignore_ids: Label values without a class beside those of the data set or its class file, as the files hold
            them.
        tolerance: Largest difference of a channel from that of a class's colour; 0 for exact colours.
    """

    encoding: LabelEncoding = "auto"
    offset: int | None = None
    ignore_ids: tuple[int, ...] = ()
    tolerance: int = 0


AS_FOUND = LabelSettings()


@dataclass(frozen=True)
class LabelReading:
    """How label images become class ids.

    Attributes:
        values: What numbers mean.
        colours: Class id of each colour, IGNORE_ID for colours without a class; UNKNOWN for one of several classes.
        places: Indices at which a palette has the class table's colour in the usual way, by colour.
        channels: What files of several channels hold: "colours", "grey" where all channels are equal, or the name of
            the channel that holds ids.
        by_index: Whether palettes are read by index whatever their colours are.
        by_colour: Whether palettes are read by colour whatever their indices are.
        greys_are_colours: Whether files of one channel hold greys of class colours, as tools that shrink files write
            them where an image has no other colours.
        tolerance: As in `LabelSettings`.
        snapped: Whether greys are taken for the nearest that means something, within the tolerance.
        notes: What was decided, a sentence each.
        problems: What could not be decided.
    """

    values: LabelValues
    colours: Mapping[int, int] = field(default_factory=dict)
    places: Mapping[int, frozenset[int]] = field(default_factory=dict)
    channels: str = "colours"
    by_index: bool = False
    by_colour: bool = False
    greys_are_colours: bool = False
    tolerance: int = 0
    snapped: bool = False
    notes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()

    def noted(self, text: str) -> LabelReading:
        """Return this reading with a further note."""
        return replace(self, notes=(*self.notes, text))

    def refused(self, text: str) -> LabelReading:
        """Return this reading with a further problem: what was found, and the setting that settles it."""
        return replace(self, problems=(*self.problems, Problem(ProblemKind.LABEL_MEANING, "", text)))

    def method(self, label: LabelSummary) -> str:
        """Return how one file is read: "ids", "colours", "grey", or the name of a channel."""
        if label.kind == "grey":
            return "colours" if self.greys_are_colours and self.has_grey_colours(label) else "ids"
        if label.kind == "colour":
            return self.channels
        if self.by_index or self.by_colour:
            return "ids" if self.by_index else "colours"
        return {"colours": "colours", "grey": "grey"}.get(self.palette_of(label), "ids")

    def has_grey_colours(self, label: LabelSummary) -> bool:
        """Whether every value of a file of one channel is the grey of a class colour."""
        return all(code in self.colours for code in _codes_of(label).tolist())

    def palette_of(self, label: LabelSummary) -> str:
        """Return what the palette of a file says of it.

        Returns:
            "same" if its used entries have the colours of the classes of their indices; "colours" if they have class
            colours at other indices; "grey" if they are greys that are ids, at other indices; "mixed" if some
            have class colours at other indices and some have none; "silent" if the colours say nothing.
        """
        assert label.colours is not None
        at_home = elsewhere = strange = 0
        seen = label.colours[label.colours != NO_COLOUR]
        if len(seen) > 1 and len(np.unique(seen)) == 1:
            return "silent"
        for value, code in zip(label.values.tolist(), self.known_of(label.colours), strict=True):
            is_ignored = value in self.values.all_ignored and self.colours.get(code, IGNORE_ID) == IGNORE_ID
            if code == NO_COLOUR or is_ignored:
                continue
            if value in self.places.get(code, ()):
                at_home += 1
            elif code in self.colours:
                elsewhere += 1
            else:
                strange += 1
        if elsewhere and not strange:
            return "colours"
        greys = seen & 255
        if len(seen) and (seen == grey_code(greys)).all() and not at_home + elsewhere:
            indices = label.values[label.colours != NO_COLOUR]
            if (greys == indices).all():
                return "same"
            return "grey" if self.values.allowed[greys].all() else "silent"
        if elsewhere:
            return "mixed"
        return "silent" if strange or not at_home else "same"

    def known_of(self, codes: np.ndarray) -> list[int]:
        """Return each colour, or the class colour that it is taken for."""
        near = _nearest(codes, {code: code for code in self.colours}, self.tolerance)
        return [known if known != UNKNOWN else code for code, known in zip(codes.tolist(), near.tolist(), strict=True)]

    def ids_of(self, label: LabelSummary) -> np.ndarray:
        """Return the class id of each value of a label: int64 [N], IGNORE_ID or UNKNOWN where there is none."""
        method = self.method(label)
        if method == "colours":
            codes = _codes_of(label)
            ids = _nearest(codes, self.colours, self.tolerance)
            if label.colours is not None:
                # An index that is ignored stays so where its colour is no class's: VOC's 255.
                for place, (value, code) in enumerate(zip(label.values.tolist(), codes.tolist(), strict=True)):
                    if ids[place] == UNKNOWN and value in self.values.all_ignored:
                        ids[place] = IGNORE_ID
                    elif code == NO_COLOUR and self.values.allowed[value]:
                        ids[place] = self.values.lookup[value]
            return ids
        numbers = self.numbers_of(label)
        if self.snapped:
            known = {grey_code(value): int(self.values.lookup[value]) for value in self.values.ids}
            ids = _nearest(grey_code(numbers), known, self.tolerance)
            return np.where((ids == UNKNOWN) & self.values.allowed[numbers], self.values.lookup[numbers], ids)
        return np.where(self.values.allowed[numbers], self.values.lookup[numbers].astype(np.int64), UNKNOWN)

    def numbers_of(self, label: LabelSummary) -> np.ndarray:
        """Return the number that each value of a label stands for, which is not read by colour."""
        method = self.method(label)
        if method == "grey":
            return (label.values if label.colours is None else label.colours) & 255
        return label.values >> CHANNELS[method] & 255 if method in CHANNELS else label.values

    def decode(self, label: LabelImage, summary: LabelSummary) -> np.ndarray:
        """Return class ids, uint8 [H, W]; what means nothing is ignored, for `unclear` to refuse."""
        ids = self.ids_of(summary)
        ids = np.where(ids == UNKNOWN, IGNORE_ID, ids).astype(np.uint8)
        if label.kind == "grey" and (ids == summary.values).all():
            return label.pixels
        if label.kind != "colour":
            lookup = np.full(256, IGNORE_ID, np.uint8)
            lookup[summary.values] = ids
            return lookup[label.pixels]
        return ids[np.searchsorted(summary.values, label.pixels)]

    def bears_loss(self, label: LabelSummary) -> bool:
        """Whether changed values can be told from others: no two known ones are nearer than twice the tolerance."""
        if self.method(label) == "colours":
            return self.tolerance > 0
        apart = np.diff(sorted(self.values.ids))
        return bool(self.tolerance and apart.min(initial=255) > 2 * self.tolerance)

    def unclear(self, label: LabelSummary) -> str:
        """Return what is wrong with a file's values, or nothing."""
        wrong = self.ids_of(label) == UNKNOWN
        pixels = int(label.counts[wrong].sum())
        by_colour = self.method(label) == "colours"
        if not pixels or (
            (self.snapped or (by_colour and self.tolerance)) and pixels <= MOST_UNCLEAR * label.counts.sum()
        ):
            return ""
        if by_colour:
            return self._unclear_colours(label, wrong, pixels)
        values = np.unique(self.numbers_of(label)[wrong])
        return f"label values {listed(values, _SHOWN)} in {counted(pixels, 'pixel')}; allowed are {self.values}"

    def _unclear_colours(self, label: LabelSummary, wrong: np.ndarray, pixels: int) -> str:
        """Return what is wrong with the colours of a file, of which some, in so many pixels, are no class's."""
        codes = _codes_of(label)
        if not self.colours:
            if len(np.unique(codes)) > _PHOTOGRAPH * label.counts.sum():
                found = f"{len(label.values)} colours, as photographs do"
                return f"it holds {found}: look whether images and labels are exchanged"
            if _are_channels(codes):
                return (
                    "it holds pure red, green or blue, as if each channel were the mask of a class. Add the columns "
                    "red, green and blue to the class file: 255,0,0 for the class of the first channel"
                )
            return (
                "it holds colours, and the class file states none. Add the columns red, green and blue to it, or set "
                "data.label_encoding to the channel that holds ids (red, green or blue)"
            )
        by_pixels = codes[wrong][np.argsort(-label.counts[wrong], kind="stable")].tolist()
        strange = [code for code in by_pixels if code != NO_COLOUR]
        shown = listed(map(colour_of, strange))
        if any(self.colours.get(code) == UNKNOWN for code in strange):
            return (
                f"colours {shown} in {counted(pixels, 'pixel')} are those of several classes; give each its own, or "
                "labels of ids"
            )
        text = f"colours {shown} in {counted(pixels, 'pixel')} are no class's"
        if self.tolerance:
            text = counted(pixels, "pixel is", "pixels are")
            text += f" farther than {self.tolerance} from the colour of every class: {shown}"
        hint = self._hint_of_colours(label, strange, mostly=2 * pixels > label.counts.sum())
        return f"{text}; colours of classes are {listed(map(colour_of, self.places))}{hint and f'. {hint}'}"

    def _hint_of_colours(self, label: LabelSummary, strange: Sequence[int], *, mostly: bool) -> str:
        """Return what may have happened to a file, some or most of whose pixels have strange colours, or nothing."""
        many = len(strange) > _PHOTOGRAPH * label.counts.sum()
        if all(code_of(reversed(colour_of(code))) in self.colours for code in strange):
            return "With red and blue exchanged they would be classes' (OpenCV saves so): exchange them"
        if not self.tolerance and (_nearest(np.array(strange), self.colours, NEARLY) != UNKNOWN).all():
            return f"All are within {NEARLY} of classes' colours: set data.colour_tolerance, if they are these"
        if many and mostly:
            return (
                "So many colours are those of photographs, or of small labels stored as JPEG: look whether images and "
                "labels are exchanged. If not, set data.colour_tolerance, or export labels again"
            )
        if _are_channels(strange):
            return "If each channel is the mask of a class, give these classes pure red, green or blue as colours"
        if self._are_segments(strange):
            return (
                "As red + 256 green they are class * 1000 + number, as panoptic files hold: `scenepalette import` "
                "reads these with the JSON file beside them (--from coco)"
            )
        codes = _codes_of(label)
        if (codes == grey_code(codes & 255)).all() and self.values.allowed[codes & 255].all():
            return "Its channels are equal, and all their values are ids: save it with one channel, if they are"
        if channel := self._channel_of_ids(codes):
            return f"If ids are in one channel, set data.label_encoding to it: all values of {channel} are ids"
        if len(strange) > _MANY_COLOURS:
            return (
                "So many colours are mostly of smoothed borders or JPEG: set data.colour_tolerance, or export labels "
                "again without smoothing"
            )
        if len(strange) > 1 and not any(code in self.colours for code in codes.tolist()):
            return "No pixel has a class's colour: look whether this class file is that of these labels"
        if not self.tolerance:
            return "A colour that stands for no class needs a row in the class file with ignore true"
        return ""

    def _channel_of_ids(self, codes: np.ndarray) -> str:
        """Return the first channel of all colours of a label that changes and holds nothing but ids, or nothing."""
        for name, shift in CHANNELS.items():
            values = np.unique(codes[codes != NO_COLOUR] >> shift & 255)
            if len(self.values.ids.keys() & set(values.tolist())) > 1 and self.values.allowed[values].all():
                return name
        return ""

    def _are_segments(self, codes: Sequence[int]) -> bool:
        """Tell whether colours are ids of segments as panoptic files hold them: class * 1000 + number."""
        numbers = [red + 256 * green + 65536 * blue for red, green, blue in map(colour_of, codes)]
        classes = {number // 1000 for number in numbers}
        return min(numbers) > 0 and max(classes) > 0 and len(classes) > 1 and classes <= self.values.ids.keys()

    def meaning(self, method: str) -> list[object]:
        """Return what decides class ids beside bytes of files read by a method: JSON values, for numbers a lookup."""
        stated: list[object] = [self.values.lookup.tolist()]
        if method == "ids":
            return [*stated, ["within", self.tolerance]] if self.snapped else stated
        if method == "colours":
            return [*stated, ["colours", sorted([code, entry] for code, entry in self.colours.items()), self.tolerance]]
        return [*stated, [method]]

    def decisions(self) -> list[object]:
        """Return, as JSON values, all that decides how any file is read, and what of it is refused."""
        return [
            self.values.to_list(),
            sorted([code, entry] for code, entry in self.colours.items()),
            sorted([code, sorted(numbers)] for code, numbers in self.places.items()),
            [self.channels, self.by_index, self.by_colour, self.greys_are_colours, self.tolerance, self.snapped],
        ]


def _are_channels(codes: Iterable[int]) -> bool:
    """Tell whether colours are those of one channel each, as masks of classes stacked as channels have."""
    seen = set(codes)
    return any(len(seen) > 1 and seen <= {0, full, full << 8, full << 16} for full in (1, 255))


def _codes_of(label: LabelSummary) -> np.ndarray:
    """Return the colour of each value of a label."""
    if label.kind == "grey":
        return grey_code(label.values * label.shown)
    return label.values if label.colours is None else label.colours


def _nearest(codes: np.ndarray, known: Mapping[int, int], tolerance: int) -> np.ndarray:
    """Return what each colour stands for: exactly, or as the nearest of the known ones within the tolerance."""
    if not tolerance or not known:
        return np.array([known.get(code, UNKNOWN) for code in codes.tolist()], np.int64)
    targets = np.array(list(known), np.int64)
    ids = np.array(list(known.values()), np.int64)
    result = np.full(len(codes), UNKNOWN, np.int64)
    channels = np.array([targets >> shift & 255 for shift in (16, 8, 0)])
    for start in range(0, len(codes), 4096):
        part = codes[start : start + 4096]
        apart = np.max([abs((part >> s & 255)[:, None] - channels[k]) for k, s in enumerate((16, 8, 0))], axis=0)
        nearest = apart.argmin(1)
        result[start : start + 4096] = np.where(apart.min(1) <= tolerance, ids[nearest], UNKNOWN)
    return np.where(codes == NO_COLOUR, UNKNOWN, result)
