"""Opening image files: what their bytes are, whatever their names say, and the pixels in them.

Only the decoders of a few common formats are started. A message says "damaged" only of a file whose bytes are; one that
is whole but of another format, a pointer or a web page is called what it is.
"""

from __future__ import annotations

import io
import logging
import re
import zlib
from dataclasses import dataclass, field
from pathlib import Path, PurePath

import numpy as np
from PIL import Image, UnidentifiedImageError, features
from PIL.Image import Transpose

from scenepalette.common.errors import DataError
from scenepalette.common.problems import ProblemKind
from scenepalette.common.storage.untrusted import is_lfs_pointer, is_web_page, read_file, short

FORMATS: dict[str, tuple[str, ...]] = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp", ".dib"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    **({"AVIF": (".avif",)} if features.check("avif") else {}),
}
"""The formats that are read, by Pillow's names, and the extensions of each; AVIF where Pillow was built with it. Other
decoders start programs (EPS) or are rarely looked at, and are never let near a file."""
EXTENSIONS = frozenset(extension for extensions in FORMATS.values() for extension in extensions)
UNREAD = {
    **{".heic": "HEIC", ".heif": "HEIC", ".avif": "AVIF", ".jxl": "JPEG XL", ".jp2": "JPEG 2000", ".tga": "TGA"},
    **{".exr": "OpenEXR", ".dcm": "DICOM", ".psd": "Photoshop"},
    **dict.fromkeys((".dng", ".nef", ".cr2", ".arw"), "raw"),
}
"""Extensions of images in formats that are not read; those of them that are in `EXTENSIONS` are."""
READ_FORMATS = f"PNG, JPEG, TIFF, BMP, WebP, GIF{', AVIF' if 'AVIF' in FORMATS else ''} and PNM"
_SHOWN_FORMATS = {"WEBP": "WebP", "PPM": "PNM", "MPO": "JPEG"}

# Of what cannot be decoded Pillow also logs a line a file, which Python prints where nobody listens.
logging.getLogger("PIL").addHandler(logging.NullHandler())

MAX_PIXELS = 2**26
"""Most pixels of an image, 8192 x 8192; Pillow only warns up to 178 million. In colour that many take 200 MB."""
MAX_FILE_BYTES = 2**28
"""Largest image file; MAX_PIXELS of noise as PNG take less."""

SIXTEEN_BITS = "read with the upper 8 of 16 bits per channel"
SEVERAL_FRAMES = "read with the first of several frames or pages"
_DARK = 16
"""Brightest of 255 that 16-bit pixels at least reach once their lower half is dropped: 12-bit values do not."""

_EXIF_ORIENTATION = 0x0112
_TURNS: dict[int, Transpose] = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
"""What makes an image upright, by its EXIF orientation; 1 is upright."""
_BACK = {**_TURNS, 6: Transpose.ROTATE_90, 8: Transpose.ROTATE_270}

_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0", "TIFF"),
    (0, b"MM\0+", "TIFF"),
    (0, b"BM", "BMP"),
    (0, b"GIF8", "GIF"),
    (8, b"WEBP", "WEBP"),
    *(((4, b"ftypavif", "AVIF"), (4, b"ftypavis", "AVIF")) if "AVIF" in FORMATS else ()),
)
_FOREIGN: tuple[tuple[int, bytes, str], ...] = (
    (4, b"ftypavi", "an AVIF image"),
    (4, b"ftyphei", "a HEIC image"),
    (4, b"ftyphev", "a HEIC image"),
    (4, b"ftypmif", "a HEIC image"),
    (4, b"ftypmsf", "a HEIC image"),
    (4, b"ftyp", "a video"),
    (4, b"jP  ", "a JPEG 2000 image"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (0, b"\xff\x0a", "a JPEG XL image"),
    (4, b"JXL ", "a JPEG XL image"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"%!PS", "a PostScript file"),
    (0, b"%PDF", "a PDF file"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"\x89HDF", "an HDF5 file"),
    (128, b"DICM", "a DICOM file"),
    (0, b"\x76\x2f\x31\x01", "an OpenEXR image"),
    (0, b"\x00\x05\x16\x07", "a file that macOS keeps beside another"),
)
_WEB_PAGE = "a web page"
_LEAST_TEXT = 16
_EIGHT_BITS = frozenset({"RGB", "RGBA", "RGBX", "RGBa", "L", "LA", "La", "P", "PA", "1", "CMYK", "YCbCr"})
_PNG_TEXT = frozenset({b"iCCP", b"tEXt", b"zTXt", b"iTXt"})


@dataclass(frozen=True)
class ImageFacts:
    """What is known of an image that can be decoded.

    Attributes:
        stored_size: Height and width as stored.
        orientation: EXIF orientation, 1 to 8; 1 where the file states none.
        remarks: What has to be said of how the file is read, in words that a number of files can follow.
    """

    stored_size: tuple[int, int]
    orientation: int = 1
    remarks: tuple[str, ...] = ()

    @property
    def upright_size(self) -> tuple[int, int]:
        """Height and width as viewers show it."""
        height, width = self.stored_size
        return (width, height) if self.orientation >= 5 else (height, width)


@dataclass(frozen=True)
class StoredImage(ImageFacts):
    """A decoded image.

    Attributes:
        pixels: uint8 [H, W, 3], as they are stored.
    """

    pixels: np.ndarray = field(kw_only=True)

    @property
    def upright(self) -> np.ndarray:
        """The pixels as viewers show them."""
        return self.pixels if self.orientation == 1 else _turned(self.pixels, _TURNS[self.orientation])


def check_image(path: Path) -> ImageFacts:
    """Find of an image what `read_stored` would, in less time: no array is made of its pixels.

    A JPEG file is read completely as well, but each block of 8 x 8 becomes one pixel, its mean: what is damaged or
    missing is found where the blocks are decoded, and making pixels of them takes longer than that.

    Args:
        path: As for `read_stored`.

    Raises:
        DataError: As `read_stored`.
    """
    return _decoded(path, reduced=True)[0]


def decode_image(path: Path) -> tuple[ImageFacts, Image.Image]:
    """Decode an image as `read_stored` does, to an RGB image of Pillow's, without the time that an array takes.

    Args:
        path: As for `read_stored`.

    Returns:
        What is known of it, and the image as stored.

    Raises:
        DataError: As `read_stored`.
    """
    facts, image = _decoded(path)
    return facts, _rgb(image)


def _decoded(path: Path, *, reduced: bool = False) -> tuple[ImageFacts, Image.Image]:
    """Return what is known of an image, and the image of 8 bits per channel, as stored and in any mode."""
    content = read_file(path, MAX_FILE_BYTES)
    image = open_image_content(content, reduced=reduced)
    orientation, size = stated_orientation(image), image.info.get(_STATED_SIZE)
    remarks, deep, black = _format_remarks(path, image), bits_of(image, content) == 16, False
    if image.format == "TIFF" and orientation != 1:  # which Pillow has turned
        image = image.transpose(_BACK[orientation])
    if image.mode.startswith("I;16") or (deep and image.mode == "I"):
        values = np.asarray(image)
        black = not values.any()
        image = Image.fromarray((values >> 8).astype(np.uint8))
    elif image.mode not in _EIGHT_BITS:
        raise DataError(
            f"its pixels are of mode {image.mode} ({_MODES.get(image.mode, 'more than 8 bits')}); save it with 8 "
            "bits per channel",
            kind=ProblemKind.IMAGE_FORMAT,
        )
    if deep:
        remarks.append(SIXTEEN_BITS)
        brightest = int(np.asarray(_rgb(image)).max())
        if brightest < _DARK and not black:
            raise DataError(
                f"it has 16 bits per channel, but no value above {(brightest + 1) * 256 - 1} of 65535, so that 8 bits "
                "of it would be nearly black. Spread its values over the whole range, or save it with 8 bits per "
                "channel",
                kind=ProblemKind.IMAGE_FORMAT,
            )
    return ImageFacts(size or (image.height, image.width), orientation, tuple(remarks)), image


def read_stored(path: Path) -> StoredImage:
    """Read an image completely, as it is stored.

    Colours, greys, palettes, black and white and CMYK become RGB; transparency is dropped. Of 16 bits per channel the
    upper 8 are taken, of several frames or pages the first.

    Args:
        path: A file in one of `FORMATS`, whatever its name.

    Raises:
        DataError: The file is missing, damaged, cut off, far too large, no such image, or its pixels cannot be brought
            to 8 bits per channel.
    """
    facts, image = _decoded(path)
    return StoredImage(facts.stored_size, facts.orientation, facts.remarks, pixels=np.array(_rgb(image)))


def read_image(path: Path, *, upright: bool = False) -> np.ndarray:
    """Read an image completely, as `read_stored` does.

    Args:
        path: The file.
        upright: Whether an image that its EXIF tag turns is turned, as viewers show it; else it is as stored.

    Returns:
        uint8 [H, W, 3].

    Raises:
        DataError: As `read_stored`.
    """
    image = read_stored(path)
    return image.upright if upright else image.pixels


def open_image(path: Path) -> Image.Image:
    """Open and decode an image file from one read of its bytes.

    Raises:
        DataError: It is missing, damaged, cut off, far too large, or in none of `FORMATS`.
    """
    return open_image_content(read_file(path, MAX_FILE_BYTES))


def open_lossless(path: Path, noun: str) -> Image.Image:
    """Open and decode a file whose values are ids, which a lossy format or a scaled grey would change.

    Args:
        path: The file.
        noun: What such files are called: "labels".

    Raises:
        DataError: As `open_image`; or it is stored with losses, or in a way in which Pillow multiplies its values.
    """
    content = read_file(path, MAX_FILE_BYTES)
    image = open_image_content(content)
    if is_lossy(image, content):
        stored = "JPEG-compressed TIFF" if image.format == "TIFF" else shown_format(image.format)
        raise DataError(
            f"it is a {stored} file; {noun} must be PNG, TIFF or BMP, which keep ids exactly",
            kind=ProblemKind.LABEL_FORMAT,
        )
    bits = bits_of(image, content)
    if image.mode == "L" and bits in (2, 4) and image.format in ("PNG", "TIFF"):
        raise DataError(
            f"it is a grey {image.format} of {bits} bits per pixel; save it with 8 bits", kind=ProblemKind.LABEL_FORMAT
        )
    return image


def is_lossy(image: Image.Image, content: bytes) -> bool:
    """Tell whether the format of an image file may have changed its values.

    Args:
        image: The opened image.
        content: The file's bytes.
    """
    if image.format == "WEBP":
        return b"VP8L" not in content[:64]
    # A TIFF holds its pixels as any of a dozen formats, JPEG and WebP among them.
    return image.format not in ("PNG", "BMP", "GIF", "TIFF", "PPM") or image.info.get("compression") in ("jpeg", "webp")


def stated_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of an image of `open_image_content`: 1 if it is not to be turned."""
    return image.info[_STATED_ORIENTATION]


def remarks_of_name(name: str, kind: str) -> list[str]:
    """Return what has to be said of a file whose name says another format than its bytes, which count.

    Args:
        name: The name.
        kind: Pillow's name of its format.
    """
    kind = "JPEG" if kind == "MPO" else kind
    if not has_image_extension(name) or PurePath(name).suffix.lower() in FORMATS.get(kind, ()):
        return []
    return [f"read as {shown_format(kind)}, whatever their extensions say"]


def _format_remarks(path: Path, image: Image.Image) -> list[str]:
    """Return what has to be said of a file's format: that its name says another one, that only a part is read."""
    remarks = remarks_of_name(path.name, image.format or "")
    # Further images of an MPO file are previews of its first.
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        remarks.append(SEVERAL_FRAMES)
    return remarks


def has_image_extension(name: str) -> bool:
    """Tell whether a file's name ends, in any case, as those of `FORMATS` do."""
    return PurePath(name).suffix.lower() in EXTENSIONS


def shown_format(kind: str | None) -> str:
    """Return a format's usual name for one of Pillow's."""
    return _SHOWN_FORMATS.get(kind or "", kind or "unknown")


_STATED_ORIENTATION = "scenepalette orientation"
_STATED_SIZE = "scenepalette size"
_BLOCK = 8
_MODES = {"F": "32-bit floating point", "I": "32-bit integers", "LAB": "the colour space L*a*b*", "HSV": "HSV"}


def open_image_content(content: bytes, *, reduced: bool = False) -> Image.Image:
    """Decode an image from a file's bytes.

    Args:
        content: The bytes.
        reduced: Whether a JPEG image may be decoded to an eighth of its height and width.

    Raises:
        DataError: They are damaged, cut off, of far too many pixels, or in none of `FORMATS`.
    """
    kind = _kind_of(content)
    if kind == "PNG":
        content = _without_text(content)
    try:
        # verify() tests checksums, which decoding skips; decoding notices missing pixels, which verify() may not.
        with _opened(content) as image:
            if (pixels := image.width * image.height) > (limit := _most_pixels()):
                raise Image.DecompressionBombError(f"{pixels} pixels, at most {limit} are decoded")
            image.verify()
        image = _opened(content)
        orientation, size = _exif_orientation(image), (image.height, image.width)
        if reduced:
            # Of a JPEG; else without effect.
            image.draft(image.mode, (max(1, image.width // _BLOCK), max(1, image.height // _BLOCK)))
        image.load()
        if getattr(image, "n_frames", 1) > 1:  # counting the pages of a TIFF file undoes its decoding
            image.load()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        stated = re.search(r"\d+", str(error))  # Pillow's own text speaks of attacks
        raise DataError(
            f"it is too large, or its header is damaged ({stated[0] if stated else 'too many'} pixels, at most "
            f"{_most_pixels()} are decoded). Scale it down, or copy it again from its source"
        ) from error
    except Exception as error:
        # Pillow's decoders raise errors of many types on broken files; each of them means that this file is unusable.
        # What another format holds may well be whole; copying it again would not help.
        foreign = kind is None and _foreign(content) not in (None, _WEB_PAGE)
        stated = ProblemKind.IMAGE_FORMAT if foreign else ProblemKind.FILE
        raise DataError(_why_not(content, kind, error), kind=stated) from error
    image.info[_STATED_ORIENTATION] = orientation
    if image.format in ("JPEG", "MPO"):
        image.info[_STATED_SIZE] = size
    return image


def _opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content), formats=tuple(FORMATS))


def _most_pixels() -> int:
    return min(MAX_PIXELS, Image.MAX_IMAGE_PIXELS or MAX_PIXELS)


def sizes_of_content(content: bytes) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return height and width of an image as stored and as viewers show it, from its header alone.

    Raises:
        DataError: The bytes are of far too many pixels, or in none of `FORMATS`.
    """
    kind = _kind_of(content)
    try:
        with _opened(_without_text(content) if kind == "PNG" else content) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(f"it has {image.width} x {image.height} pixels, at most {MAX_PIXELS} are decoded")
            stored, turned = (image.height, image.width), (image.width, image.height)
            return stored, turned if _exif_orientation(image) >= 5 else stored
    except DataError:
        raise
    except Exception as error:
        raise DataError(_why_not(content, kind, error)) from error


def extension_of_content(content: bytes) -> str:
    """Return the usual extension of an image file's name by its bytes, for example ".png"; empty if it is none."""
    kind = _kind_of(content)
    return FORMATS[kind][0] if kind else ""


def _why_not(content: bytes, kind: str | None, error: Exception) -> str:
    """Return what is wrong with a file that could not be decoded, and what to do."""
    if not content:
        return "it is empty, 0 bytes. Copy it again from its source"
    if kind is None:
        if is_lfs_pointer(content):
            return "it is a Git LFS pointer, not the image itself. Run git lfs pull in its repository"
        if (foreign := _foreign(content)) is not None:
            return f"it is {foreign}; read are {READ_FORMATS}. Convert it, or put the image in its place"
        return (
            f"it is damaged, cut off or not an image: its first bytes are those of none of {READ_FORMATS}. Copy it "
            "again from its source"
        )
    if isinstance(error, UnidentifiedImageError) and kind == "TIFF" and len(content) > 100:
        return (
            "it is a TIFF file whose kind of pixels is not read, or it is damaged. Save it as PNG or TIFF with 8 bits "
            "per channel, in grey or with the channels red, green and blue"
        )
    # That no decoder recognises it says nothing more, and a reason must not name an address in memory.
    text = re.sub(r"<[^<>]*0x[0-9a-fA-F]+>", "it", str(error))
    reason = "" if isinstance(error, UnidentifiedImageError) else f" ({short(text)})"
    file = f"{'an' if kind == 'AVIF' else 'a'} {shown_format(kind)} file"
    return f"it is damaged or cut off, by its start {file}{reason}. Copy it again from its source"


def _kind_of(content: bytes) -> str | None:
    kind = next((name for place, magic, name in _SIGNATURES if content.startswith(magic, place)), None)
    return "PPM" if kind is None and re.match(rb"P[1-6]\s", content) else kind


def _foreign(content: bytes) -> str | None:
    for place, magic, name in _FOREIGN:
        if content.startswith(magic, place):
            return name
    if is_web_page(content):
        return _WEB_PAGE
    if content[:256].lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<svg", b"<?xml")):
        return "an SVG or XML file"
    # So many letters, spaces and line breaks alone are no damaged image: an annotation, or a pointer to another file.
    is_text = len(content) >= _LEAST_TEXT and all(32 <= byte < 127 or byte in b"\t\r\n" for byte in content[:256])
    return "a text" if is_text else None


def _without_text(content: bytes) -> bytes:
    """Return a PNG file without colour profile and text, which Pillow refuses above 1 MB and nothing here needs.

    A chunk whose checksum is wrong stays, so that the damage is found.
    """
    parts, place, kept = [], 8, 0
    while place + 12 <= len(content):
        end = place + 12 + int.from_bytes(content[place : place + 4], "big")
        if end > len(content):
            break
        if content[place + 4 : place + 8] in _PNG_TEXT:
            body, checksum = content[place + 4 : end - 4], int.from_bytes(content[end - 4 : end], "big")
            if zlib.crc32(body) == checksum:
                parts.append(content[kept:place])
                kept = end
        place = end
    return b"".join([*parts, content[kept:]]) if parts else content


def bits_of(image: Image.Image, content: bytes) -> int:
    """Return the bits per channel of a PNG, TIFF or PNM file; 8 for others."""
    if image.format == "PNG":
        return content[24]
    if image.format == "TIFF":
        bits = image.tag_v2.get(258, 1)  # pyright: ignore[reportAttributeAccessIssue]
        return max(bits) if isinstance(bits, tuple) else bits
    return 16 if image.mode.startswith("I") and image.format == "PPM" else 8


def _rgb(image: Image.Image) -> Image.Image:
    # Transparency is dropped; left in, Pillow warns of it in palettes.
    image.info.pop("transparency", None)
    # Converting RGB to itself takes as long as decoding a JPEG.
    return image if image.mode == "RGB" else image.convert("RGB")


def _turned(pixels: np.ndarray, how: Transpose) -> np.ndarray:
    return np.array(Image.fromarray(pixels).transpose(how))


def _exif_orientation(image: Image.Image) -> int:
    try:
        stated = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:
        # Errors of many types mean the same: this block of the file is broken, as viewers pass over.
        return 1
    return stated if stated in _TURNS else 1
