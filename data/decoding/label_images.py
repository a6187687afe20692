"""Label images: reading one as it is stored, what it holds in short, and what values of class ids mean."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from PIL import Image

from scenepalette.common.errors import DataError
from scenepalette.common.problems import ProblemKind
from scenepalette.common.storage.untrusted import read_file, short
from scenepalette.data.classes import IGNORE_ID
from scenepalette.data.decoding.image_opening import (
    MAX_FILE_BYTES,
    bits_of,
    is_lossy,
    open_image_content,
    open_lossless,
    stated_orientation,
)

UNKNOWN = -1
"""Stands for the class of a value or colour that means none, or several."""
EVERY_ID = np.arange(256, dtype=np.uint8)
"""What the values of a label map are that holds class ids already."""
NO_COLOUR = -1
"""Stands for the colour of a palette's entry that the file does not state, or that padding states as well."""
_PADDING = 8
"""A colour that so many neighbouring entries of a palette have fills it up and says nothing of them."""
_MOST_VALUES = 4096
"""Most values of a label whose summary is kept; a photograph has a hundred times as many."""
_KEPT = 2**17
_MOST_SPREAD = 32
"""Most different values of 16-bit labels that are taken for spread ids; instances have more."""
_BEYOND = 10**9
"""Floating-point numbers beyond it are cut off there."""
_HEADER = 2000
"""Bytes of a PNM file in which its header ends, with comments."""
_LEAST_STEP, _MOST_ROWS = 4, 128
"""Of every fourth row and column, or of at least 128 rows, it is looked where values lie."""

Values = TypeVar("Values", int, np.ndarray)
Sketch = Callable[[np.ndarray, np.ndarray], Any]
"""What is taken down of a label's pixels, integers [H, W], and its different values, sorted, while it is decoded."""


@dataclass(frozen=True)
class LabelValues:
    """What the values in label files mean.

    Attributes:
        ids: Class id of each value, 0 to 255, that stands for a class.
        ignored: Values without a class; they win over `ids`. IGNORE_ID is one of them unless `ids` has it.
    """

    ids: Mapping[int, int]
    ignored: frozenset[int] = frozenset()

    @classmethod
    def class_ids(cls, num_classes: int, *, ignored: Iterable[int] = ()) -> LabelValues:
        """Return the plain reading: the values 0..K-1 are class ids."""
        return cls(ids={value: value for value in range(num_classes)}, ignored=frozenset(ignored))

    @cached_property
    def lookup(self) -> np.ndarray:
        """Class id of every value: uint8 [256], IGNORE_ID where there is none."""
        lookup = np.full(256, IGNORE_ID, dtype=np.uint8)
        lookup[list(self.ids)] = list(self.ids.values())
        lookup[sorted(self.ignored)] = IGNORE_ID
        return lookup

    @cached_property
    def allowed(self) -> np.ndarray:
        """Whether a value may occur: bool [256]."""
        allowed = np.zeros(256, dtype=bool)
        allowed[[*self.ids, *self.ignored, IGNORE_ID]] = True
        return allowed

    @property
    def all_ignored(self) -> frozenset[int]:
        """Every value that may occur without a class."""
        return self.ignored if IGNORE_ID in self.ids else self.ignored | {IGNORE_ID}

    def to_list(self) -> list[object]:
        """Return everything as JSON values."""
        return [sorted([value, class_id] for value, class_id in self.ids.items()), sorted(self.ignored)]

    def shifted(self, offset: int) -> LabelValues:
        """Return the meaning of values to which an offset is to be added; those that fall below 0 are ignored."""
        values = range(IGNORE_ID)
        return LabelValues(
            ids={value: self.ids[value + offset] for value in values if value + offset in self.ids},
            ignored=frozenset(v for v in values if v + offset < 0 or v + offset in self.ignored),
        )

    def __str__(self) -> str:
        ignored = f" and, as ignored, {_ranges(self.all_ignored)}" if self.all_ignored else ""
        return f"the class ids {_ranges(self.ids.keys() - self.all_ignored) or '(none)'}{ignored}"


@dataclass(frozen=True)
class LabelImage:
    """A label image as it is stored, whatever it means.

    Attributes:
        kind: "grey" for one channel, "palette" for indices into a palette, "colour" for several channels.
        pixels: Integers [H, W]: the grey value, the index, or the colour as 65536 red + 256 green + blue.
        palette: Colour of each index that the file states, in the same form.
        format: Pillow's name of the file format.
        lossy: Whether the file format may have changed values.
        transparent: Whether some pixels are not opaque, which is not looked at.
        shown: Factor by which viewers show a grey of fewer than 8 bits: 255 for 1 bit.
        turned: Whether the pixels were turned or mirrored, as an orientation tag of the file says.
    """

    kind: Literal["grey", "palette", "colour"]
    pixels: np.ndarray
    palette: tuple[int, ...] = ()
    format: str = "PNG"
    lossy: bool = False
    transparent: bool = False
    shown: int = 1
    turned: bool = False


@dataclass(frozen=True)
class LabelSummary:
    """What a label image holds in short.

    Attributes:
        kind: As in `LabelImage`.
        shape: Height and width.
        values: Its different pixels, int64 [N], sorted.
        counts: Pixels of each.
        heights: Mean height of each in the image, from 0 at the top to 1; NaN where it was not looked at.
        colours: For a palette: colour of each value, or NO_COLOUR.
        cut: Whether there are more values than are kept.
        format: As in `LabelImage`.
        lossy: As in `LabelImage`.
        transparent: As in `LabelImage`.
        shown: As in `LabelImage`.
        turned: As in `LabelImage`.
        ramps: Of a grey label, in some of its rows: ends of runs with a value behind them that lies between two others.
        steps: The same for borders between two values that differ by two or more, with nothing between them.
    """

    kind: Literal["grey", "palette", "colour"]
    shape: tuple[int, int]
    values: np.ndarray
    counts: np.ndarray
    heights: np.ndarray
    colours: np.ndarray | None = None
    cut: bool = False
    format: str = "PNG"
    lossy: bool = False
    transparent: bool = False
    shown: int = 1
    turned: bool = False
    ramps: int = 0
    steps: int = 0

    def to_values(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        stated = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in stated.items()}

    @classmethod
    def of_values(cls, values: dict[str, Any]) -> LabelSummary:
        """Return what `to_values` returned values of."""
        known = dict(values, shape=tuple(values["shape"]), heights=np.array(values["heights"], np.float64))
        for name in ("values", "counts", "colours"):
            known[name] = None if values[name] is None else np.array(values[name], np.int64)
        return cls(**known)


def code_of(colour: Iterable[int]) -> int:
    """Return a colour as one number: 65536 red + 256 green + blue."""
    red, green, blue = colour
    return red << 16 | green << 8 | blue


def colour_of(code: int) -> tuple[int, int, int]:
    """Return red, green and blue of a colour's number."""
    return int(code) >> 16 & 255, int(code) >> 8 & 255, int(code) & 255


def voc_colour(index: int) -> int:
    """Return the colour of an index in PASCAL VOC's colour map (Everingham et al.), which many tools use for any."""
    bits = [index >> place & 1 for place in range(9)]
    return code_of(sum(bits[3 * k + channel] << 7 - k for k in range(3)) for channel in range(3))


VOC_BORDER = code_of((224, 224, 192))
"""PASCAL VOC's colour of the value 255; labels in its colours use it for pixels without a class."""


def grey_code(value: Values) -> Values:
    """Return the number of the grey of a value 0 to 255, or those of an array of them."""
    return value * 0x010101


def read_label(path: Path) -> LabelImage:
    """Read a label image completely, as it is stored.

    Greys of 2 and 4 bits, which Pillow spreads over 0 to 255, are the numbers that the file holds; so are 16-bit greys
    that are 8-bit ones times 257, as converters write them, floating-point numbers that are whole, and numbers of PGM
    files, which Pillow spreads as well, and of TIFF files whose 0 is white, which it inverts.

    Args:
        path: An image file of class ids, or of colours.

    Raises:
        DataError: The file is missing, damaged, cut off, far too large, of pixels that cannot be ids or colours, or
            holds values above 255.
    """
    content = read_file(path, MAX_FILE_BYTES)
    with open_image_content(content) as image:
        if (pages := getattr(image, "n_frames", 1)) > 1 and _pages_differ(content, pages):
            raise DataError(
                f"it has {pages} pages or frames that differ, and a label has one. If each is the mask of a class, "
                "merge them into one image of class ids; else save the right one alone",
                kind=ProblemKind.LABEL_FORMAT,
            )
        bits = bits_of(image, content)
        if bits == 16 and not image.mode.startswith("I"):
            raise DataError(
                "its channels have 16 bits each, of which image libraries drop 8; save it with 8 bits per channel",
                kind=ProblemKind.LABEL_FORMAT,
            )
        stated = {
            "format": image.format or "",
            "lossy": is_lossy(image, content),
            # Pillow turns TIFF files alone.
            "turned": image.format == "TIFF" and stated_orientation(image) != 1,
        }
        if image.mode == "P":
            palette = image.getpalette("RGB") or []
            codes = tuple(code_of(palette[start : start + 3]) for start in range(0, len(palette) - 2, 3))
            return LabelImage("palette", np.asarray(image), codes, **stated)
        if image.mode in ("RGB", "RGBA", "RGBX", "LA", "CMYK", "YCbCr"):
            transparent = image.mode in ("RGBA", "LA") and image.getchannel("A").getextrema() != (255, 255)
            channels = np.asarray(image.convert("RGB")).astype(np.uint32)
            pixels = channels[..., 0] << 16 | channels[..., 1] << 8 | channels[..., 2]
            return LabelImage("colour", pixels, **stated, transparent=transparent)
        if image.mode not in ("L", "1", "F") and not image.mode.startswith("I"):
            raise DataError(
                f"its pixels are of mode {image.mode}; required are class ids or the class file's colours. Save it as "
                "a grey or RGB image with 8 bits per channel",
                kind=ProblemKind.LABEL_FORMAT,
            )
        pixels = _unscaled(np.asarray(image), image, content)
    if image.mode == "F":  # as programs for maps export ids
        if not np.isfinite(pixels).all() or (pixels != np.rint(pixels)).any():
            raise DataError(
                "its pixels are floating-point numbers that are not all whole, or no numbers (NaN); required are class "
                "ids. Save them as integers with 8 bits, 255 where there is no class",
                kind=ProblemKind.LABEL_FORMAT,
            )
        pixels = np.clip(pixels, -_BEYOND, _BEYOND).astype(np.int64)  # beyond, they are refused all the same
    shown = 255 if image.mode == "1" else 1
    if bits in (2, 4):  # which Pillow spreads over 0 to 255
        shown = 255 // (2**bits - 1)
        pixels = pixels // shown
    return LabelImage("grey", _as_bytes(pixels), **stated, shown=shown)


def _unscaled(pixels: np.ndarray, image: Image.Image, content: bytes) -> np.ndarray:
    """Return the numbers that a file holds where Pillow makes the greys of them that viewers show."""
    if image.format == "PPM" and content[:2] in (b"P2", b"P5"):
        most = int(re.sub(rb"#[^\n]*", b"", content[:_HEADER]).split()[3])
        return np.rint(pixels * (most / (255 if most < 256 else 65535))).astype(np.int64)
    if image.format == "TIFF" and image.mode == "L":
        # ImageJ stores masks of black objects on white so, with 255 for the objects. Of 16 bits Pillow inverts none.
        white_is_0 = image.tag_v2.get(262) == 0  # pyright: ignore[reportAttributeAccessIssue]
        return 255 - pixels if white_is_0 else pixels
    return pixels


def _pages_differ(content: bytes, pages: int) -> bool:
    """Tell whether further pages are as large as the first and show something else; smaller ones are previews.

    Raises:
        DataError: One of them cannot be decoded.
    """
    with open_image_content(content) as image:
        first = image.convert("RGB") if image.mode in ("P", "RGBA") else image.copy()
        for page in range(1, pages):
            try:
                image.seek(page)
                other = image.convert(first.mode) if image.mode in ("P", "RGB", "RGBA") else image
                if other.size == first.size and other.tobytes() != first.tobytes():
                    return True
            except Exception as error:  # of many types, as for the first page
                raise DataError(
                    f"page {page + 1} of its {pages} cannot be decoded ({short(str(error))}). Copy it again from its "
                    "source; or, if the first page is the label, save that alone"
                ) from error
    return False


def _as_bytes(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype in (np.bool_, np.uint8):
        return pixels.astype(np.uint8, copy=False)
    if pixels.min() >= 0 and 255 < pixels.max() <= 65535 and not (pixels % 257).any():
        pixels = pixels // 257
    if pixels.max() > 255 or pixels.min() < 0:
        raise DataError(
            f"it holds values from {pixels.min()} to {pixels.max()}; class ids must fit into 0 to 255. "
            + _remedy_of_values(pixels),
            kind=ProblemKind.LABEL_VALUE,
        )
    return pixels.astype(np.uint8)


def _remedy_of_values(pixels: np.ndarray) -> str:
    if pixels.min() < 0 and pixels.max() < IGNORE_ID:
        return "Save 255 in place of what is below 0, if it stands for no class"
    if pixels.min() >= 0 and not (pixels % 256).any():
        return "All are multiples of 256, as if ids had been shifted by 8 bits: divide them by 256 if so"
    if pixels.min() >= 0 and pixels.max() == 65535 and pixels[pixels < 65535].max(initial=0) <= IGNORE_ID:
        return "Save 255 in place of 65535, if it stands for no class"
    if pixels.min() >= 0 and pixels.max() in (65534, 65535) and len(np.unique(pixels)) <= _MOST_SPREAD:
        return (
            "They seem to be spread over 16 bits to be visible: save class ids, or values spread over 0 to 255, with 8 "
            "bits"
        )
    return "Files of instances (such as *_instanceIds.png) are no labels of classes"


def summarise(label: LabelImage) -> LabelSummary:
    """Return what a label image holds, in time that is short for images of large areas."""
    pixels = label.pixels
    step = max(_LEAST_STEP, len(pixels) // _MOST_ROWS)
    if label.kind == "colour":
        flat = pixels.ravel()
        # Areas are long runs of one colour: only their starts are sorted.
        starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
        values, places = np.unique(flat[starts], return_inverse=True)
        counts = np.bincount(places, weights=np.diff([*starts, flat.size])).astype(np.int64)
        values = values.astype(np.int64)
        heights = _mean_heights(np.searchsorted(values, pixels[::step, ::step]), len(values))
    else:
        every = value_counts(pixels)
        values = np.flatnonzero(every)
        counts = every[values]
        heights = _mean_heights(pixels[::step, ::step], 256)[values]
    ramps, steps = _ramps_and_steps(pixels[::step]) if label.kind == "grey" else (0, 0)
    return LabelSummary(
        kind=label.kind,
        shape=(pixels.shape[0], pixels.shape[1]),
        values=values,
        counts=counts,
        heights=heights,
        colours=_used_colours(label.palette, values) if label.kind == "palette" else None,
        format=label.format,
        lossy=label.lossy,
        transparent=label.transparent,
        shown=label.shown,
        turned=label.turned,
        ramps=ramps,
        steps=steps,
    )


def _mean_heights(places: np.ndarray, count: int) -> np.ndarray:
    """Return the mean height of each of the numbers below `count` in an image [H, W] of them; NaN where absent."""
    rows = np.broadcast_to(((np.arange(len(places)) + 0.5) / len(places))[:, None], places.shape)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(places.ravel(), rows.ravel(), count) / np.bincount(places.ravel(), minlength=count)
    return mean.round(4)


def _ramps_and_steps(rows: np.ndarray) -> tuple[int, int]:
    """Count the ends of runs that pass into another value step by step, and borders of two or more without a step."""
    changes = np.diff(rows.astype(np.int16), axis=1)
    before, between, behind = changes[:, :-2], changes[:, 1:-1], changes[:, 2:]
    known = rows != IGNORE_ID
    known = known[:, :-3] & known[:, 1:-2] & known[:, 2:-1] & known[:, 3:]
    # From a run on one side of it: in noise there is as much of either.
    direction = np.sign(between)
    into, out_of = (before == 0) & (np.sign(behind) == direction), (np.sign(before) == direction) & (behind == 0)
    ramps = (direction != 0) & (into | out_of)
    bare = (before == 0) & (behind == 0) & (abs(between) > 1)
    return int((ramps & known).sum()), int((bare & known).sum())


def _used_colours(palette: tuple[int, ...], values: np.ndarray) -> np.ndarray:
    stated = _without_padding(palette)
    return np.array([stated[value] if value < len(stated) else NO_COLOUR for value in values.tolist()], np.int64)


def _without_padding(palette: tuple[int, ...]) -> list[int]:
    """Return a palette's colours with NO_COLOUR in place of those that only fill it up.

    A run of one colour is padding; its first entry states that colour if no entry before it does: the black of
    (red, green, black, black, ...) is a class's, that of (black, red, green, black, ...) is not.
    """
    stated, start = list(palette), 0
    for code, run in groupby(palette):
        end = start + len(list(run))
        if end - start >= _PADDING:
            first = start if not start or code in palette[:start] else start + 1
            stated[first:end] = [NO_COLOUR] * (end - first)
        start = end
    return stated


def outline_of(path: Path, sketch: Sketch | None = None) -> tuple[LabelSummary, Any]:
    """Return what a label file holds, the values of files that have thousands of them cut.

    It is remembered while the file's size and time of change stay the same.

    Args:
        path: The file.
        sketch: What is to be taken down of its pixels while they are there.

    Returns:
        The summary, and what `sketch` returned; None without one, or of a summary that is cut.

    Raises:
        DataError: As `read_label`.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"it cannot be read ({error.strerror})") from error
    return _remembered(path, status.st_size, status.st_mtime_ns, sketch)


@lru_cache(_KEPT)
def _remembered(path: Path, size: int, changed: int, sketch: Sketch | None) -> tuple[LabelSummary, Any]:
    label = read_label(path)
    summary = summarise(label)
    if len(summary.values) <= _MOST_VALUES:
        return summary, sketch(label.pixels, summary.values) if sketch else None
    # Only colours can be so many.
    most = np.sort(np.argsort(-summary.counts, kind="stable")[:_MOST_VALUES])
    cut = replace(
        summary, values=summary.values[most], counts=summary.counts[most], heights=summary.heights[most], cut=True
    )
    return cut, None


def read_mask(path: Path) -> np.ndarray:
    """Read a black-and-white mask completely.

    Args:
        path: A PNG file with 8 bits per channel; several channels must be equal.

    Returns:
        bool [H, W], true where the mask is not black.

    Raises:
        DataError: The file is missing, damaged, cut off, far too large, not a PNG, or coloured.
    """
    with open_lossless(path, "masks") as image:
        if image.mode not in ("1", "L", "P", "RGB"):
            raise DataError(
                f"its pixels are of mode {image.mode}; a mask must be grey or RGB with 8 bits per channel",
                kind=ProblemKind.LABEL_FORMAT,
            )
        channels = np.asarray(image.convert("RGB"))
    if (channels != channels[:, :, :1]).any():
        raise DataError(
            "it is coloured; a mask must be black and white, white where its part is", kind=ProblemKind.LABEL_FORMAT
        )
    return channels[:, :, 0] > 0


def value_counts(label: np.ndarray) -> np.ndarray:
    """Return how many pixels of a label map uint8 [H, W] have each value, int64 [256]."""
    # Pillow's histogram needs no integers of 8 bytes a pixel, as numpy's does, and is twice as fast.
    return np.array(Image.fromarray(np.ascontiguousarray(label)).histogram(), np.int64)


def _ranges(values: Iterable[int]) -> str:
    """Write numbers in order, with runs of them as "a to b"."""
    # In a run, value and place differ by the same.
    runs = [[value for _, value in run] for _, run in groupby(enumerate(sorted(values)), lambda at: at[1] - at[0])]
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)
