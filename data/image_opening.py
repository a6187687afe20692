"""Opening one image file that may come from anybody: bounded, with two decoders, checked to its last byte."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from scenepalette.common.errors import DataError
from scenepalette.common.problems import ProblemKind
from scenepalette.common.untrusted import read_file, short

_EXIF_ORIENTATION = 0x0112
_FORMATS = ("PNG", "JPEG")
"""Only these decoders are let near a file: others start programs (EPS) or are rarely looked at."""

MAX_PIXELS = 2**26
"""Most pixels of an image, 8192 x 8192; Pillow only warns up to 178 million. In colour that many take 200 MB."""
MAX_FILE_BYTES = 2**28
"""Largest image file; MAX_PIXELS of noise as PNG take less."""


def read_image(path: Path, *, upright: bool = False) -> np.ndarray:
    """Read an image completely.

    Args:
        path: A JPEG or PNG file with 8 bits per channel: colour, grey or palette; transparency is dropped.
        upright: Whether an image that is marked as rotated is turned as viewers show it; else it is refused.

    Returns:
        uint8 [H, W, 3].

    Raises:
        DataError: The file is missing, damaged, cut off, far too large, of more than 8 bits, or marked as rotated.
    """
    with open_image(path) as image:
        orientation = _exif_orientation(image)
        if orientation not in (0, 1) and not upright:
            raise DataError(
                f"its EXIF orientation is {orientation}, so viewers show it turned against its stored pixels and it is "
                "unclear which of the two its label fits. Save it upright, without that tag",
                kind=ProblemKind.IMAGE_FORMAT,
            )
        if image.mode not in ("RGB", "RGBA", "RGBX", "L", "LA", "P", "1", "CMYK", "YCbCr"):
            raise DataError(
                f"its pixels are of mode {image.mode}; save it with 8 bits per channel", kind=ProblemKind.IMAGE_FORMAT
            )
        turned = ImageOps.exif_transpose(image) if upright else image
        # Converting RGB to itself takes as long as decoding a JPEG.
        return np.array(turned if turned.mode == "RGB" else turned.convert("RGB"))


def open_image(path: Path) -> Image.Image:
    """Open and decode an image file from one read of its bytes.

    Raises:
        DataError: It is missing, damaged, cut off, far too large, or neither PNG nor JPEG.
    """
    content = read_file(path, MAX_FILE_BYTES)
    _refuse_scaled_grey(content)
    try:
        # verify() tests checksums, which decoding skips; decoding notices missing pixels, which verify() may not.
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            limit = min(MAX_PIXELS, Image.MAX_IMAGE_PIXELS or MAX_PIXELS)
            if (pixels := image.width * image.height) > limit:
                raise Image.DecompressionBombError(f"{pixels} pixels, at most {limit} are decoded")
            image.verify()
        image = Image.open(io.BytesIO(content), formats=_FORMATS)
        image.load()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"it is too large ({error}). Scale it down") from error
    except Exception as error:
        # Pillow's decoders raise errors of many types on broken files; each of them means that this file is unusable.
        # That no decoder recognises it says nothing more.
        reason = "" if isinstance(error, UnidentifiedImageError) else f" ({short(str(error))})"
        raise DataError(
            f"it is damaged, cut off or not an image in PNG or JPEG format{reason}. Copy it again from its source"
        ) from error
    return image


def _exif_orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception as error:
        # As with pixels, errors of many types mean the same: this block of the file is broken.
        raise DataError(f"its EXIF block is damaged ({short(str(error))}). Save it again without that block") from error


def _refuse_scaled_grey(content: bytes) -> None:
    """Refuse grey PNG files of 2 or 4 bits, whose values Pillow multiplies to fill 0..255, which destroys ids."""
    is_png = content[:8] == b"\x89PNG\r\n\x1a\n"
    if is_png and len(content) > 25 and content[25] == 0 and content[24] in (2, 4):
        raise DataError(
            f"it is a grey PNG of {content[24]} bits per pixel; save it with 8 bits", kind=ProblemKind.LABEL_FORMAT
        )
