"""What an image file is, whatever its name says, and the pixels that are read of it."""

from __future__ import annotations

import io
import re
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps, features

from labelled_folders import png_chunk, png_of_16_bits
from scenepalette.common.errors import DataError
from scenepalette.common.problems import ProblemKind
from scenepalette.data.decoding.image_opening import (
    FORMATS,
    SEVERAL_FRAMES,
    SIXTEEN_BITS,
    StoredImage,
    check_image,
    decode_image,
    open_lossless,
    read_image,
    read_stored,
)
from scenepalette.data.decoding.label_images import read_label

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 10, 3), dtype=np.uint8)
LOSSLESS = {"PNG": {}, "TIFF": {}, "BMP": {}, "WEBP": {"lossless": True}, "PPM": {}}


def encoded(kind: str, pixels: np.ndarray = PIXELS, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def read_and_checked(path: Path) -> StoredImage:
    """Read an image, after a look at whether the check that makes no array of it finds the same."""
    try:
        facts = check_image(path)
    except DataError as error:
        with pytest.raises(DataError, match=f"^{re.escape(str(error))}$"):
            read_stored(path)
        raise
    image = read_stored(path)
    assert facts.stored_size == image.stored_size == image.pixels.shape[:2]
    assert (facts.orientation, facts.remarks) == (image.orientation, image.remarks)
    return image


@pytest.mark.parametrize("ending", [ending for endings in FORMATS.values() for ending in endings])
@pytest.mark.parametrize("kind", LOSSLESS)
def test_the_content_decides_how_a_file_is_read_and_another_ending_is_told(
    tmp_path: Path, kind: str, ending: str
) -> None:
    path = tmp_path / f"x{ending}"
    path.write_bytes(encoded(kind, **LOSSLESS[kind]))
    image = read_and_checked(path)
    assert np.array_equal(image.pixels, PIXELS)
    shown = {"WEBP": "WebP", "PPM": "PNM"}.get(kind, kind)
    wanted = () if ending in FORMATS[kind] else (f"read as {shown}, whatever their extensions say",)
    assert image.remarks == wanted


@pytest.mark.parametrize("kind", ["JPEG", "GIF"])
def test_lossy_formats_are_read_as_images(tmp_path: Path, kind: str) -> None:
    smooth = np.add.outer(np.arange(40), np.arange(60)).astype(np.uint8)[:, :, None].repeat(3, axis=2)
    (tmp_path / "x.jpg").write_bytes(encoded(kind, smooth))
    assert np.abs(read_image(tmp_path / "x.jpg").astype(int) - smooth).max() < 8


@pytest.mark.parametrize("mode", ["L", "LA", "P", "PA", "1", "RGBA", "CMYK", "YCbCr", "RGBX"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_every_kind_of_pixel_of_8_bits_becomes_rgb(tmp_path: Path, mode: str, kind: str) -> None:
    wanted = Image.fromarray(PIXELS).convert("LA" if mode == "PA" else mode)
    wanted = wanted.convert("PA") if mode == "PA" else wanted
    try:
        wanted.save(tmp_path / f"x.{kind.lower()}")
    except OSError:
        pytest.skip(f"Pillow writes no {kind} of mode {mode}")
    image = read_and_checked(tmp_path / f"x.{kind.lower()}")
    assert np.array_equal(image.pixels, np.asarray(wanted.convert("RGB"))) and image.remarks == ()


def test_a_palette_with_transparency_keeps_its_colours(tmp_path: Path) -> None:
    image = Image.fromarray(PIXELS).quantize(16)
    image.save(tmp_path / "x.png", transparency=bytes(range(16)))
    assert np.array_equal(read_image(tmp_path / "x.png"), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_grey_image_of_few_bits_spans_black_to_white(tmp_path: Path, bits: int) -> None:
    header = struct.pack(">IIBBBBB", 8 // bits, 1, bits, 0, 0, 0, 0)
    values = list(range(min(8 // bits, 2**bits)))
    packed = sum(value << (8 - bits * (place + 1)) for place, value in enumerate(values))
    body = png_chunk(b"IDAT", zlib.compress(bytes([0, packed])))
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + body + png_chunk(b"IEND", b""))
    first = read_image(tmp_path / "x.png")[0, : len(values), 0].tolist()
    assert first == [value * 255 // (2**bits - 1) for value in values]


@pytest.mark.parametrize("colour", [True, False], ids=["rgb", "grey"])
def test_of_16_bits_the_upper_8_are_read_in_grey_and_colour_alike(tmp_path: Path, colour: bool) -> None:
    pixels = PIXELS if colour else PIXELS[:, :, 0]
    (tmp_path / "x.png").write_bytes(png_of_16_bits(pixels.astype(np.uint16) * 256 + 255))
    image = read_and_checked(tmp_path / "x.png")
    assert np.array_equal(image.pixels, PIXELS if colour else np.repeat(PIXELS[:, :, :1], 3, axis=2))
    assert image.remarks == (SIXTEEN_BITS,)


def test_a_tiff_of_16_bits_is_read_as_a_png_is(tmp_path: Path) -> None:
    Image.fromarray(PIXELS[:, :, 0].astype(np.uint16) * 257).save(tmp_path / "x.tif")
    image = read_and_checked(tmp_path / "x.tif")
    assert np.array_equal(image.pixels[:, :, 1], PIXELS[:, :, 0]) and image.remarks == (SIXTEEN_BITS,)


def test_a_tiff_of_other_pixels_is_told_which_are_read_and_pillow_prints_nothing(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "x.tif")
    photometric, unknown = (struct.pack("<HHII", 262, 3, 1, value) for value in (2, 99))
    content = (tmp_path / "x.tif").read_bytes()
    assert photometric in content
    (tmp_path / "x.tif").write_bytes(content.replace(photometric, unknown))
    with pytest.raises(DataError, match="in grey or with the channels red, green and blue"):
        read_and_checked(tmp_path / "x.tif")
    program = (
        "import sys, pathlib; from scenepalette.data.decoding.image_opening import open_image_content; "
        "open_image_content(pathlib.Path(sys.argv[1]).read_bytes())"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path / "x.tif"], capture_output=True, text=True)
    assert done.stderr.startswith("Traceback")


@pytest.mark.parametrize("colour", [True, False], ids=["rgb", "grey"])
@pytest.mark.parametrize("most", [255, 1023, 4095])
def test_fewer_bits_in_16_are_not_read_as_night(tmp_path: Path, most: int, colour: bool) -> None:
    pixels = (PIXELS if colour else PIXELS[:, :, 0]).astype(np.uint16)
    (tmp_path / "x.png").write_bytes(png_of_16_bits(pixels * (most // 255)))
    with pytest.raises(DataError, match=r"nearly black\. Spread its values"):
        read_and_checked(tmp_path / "x.png")


@pytest.mark.parametrize("mode", ["F", "I"])
def test_pixels_of_32_bits_are_refused(tmp_path: Path, mode: str) -> None:
    Image.fromarray(PIXELS[:, :, 0]).convert(mode).save(tmp_path / "x.tif")
    with pytest.raises(DataError, match=f"mode {mode} .* save it with 8 bits per channel"):
        read_and_checked(tmp_path / "x.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_a_turned_image_is_given_as_stored_and_upright(tmp_path: Path, kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "x"
    path.write_bytes(encoded(kind, exif=exif, **LOSSLESS[kind]))
    image = read_and_checked(path)
    assert np.array_equal(image.pixels, PIXELS) and image.orientation == orientation
    tagged = Image.fromarray(PIXELS)
    tagged.getexif()[0x0112] = orientation
    assert np.array_equal(image.upright, np.asarray(ImageOps.exif_transpose(tagged)))
    assert image.upright_size == image.upright.shape[:2] and image.stored_size == (6, 10)
    assert np.array_equal(read_image(path, upright=True), image.upright)


@pytest.mark.parametrize("stated", [0, 9, 60000])
def test_an_orientation_that_is_none_counts_as_upright(tmp_path: Path, stated: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = stated
    (tmp_path / "x.jpg").write_bytes(encoded("JPEG", exif=exif))
    assert read_and_checked(tmp_path / "x.jpg").orientation == 1


def test_a_broken_exif_block_says_nothing_of_the_pixels(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(encoded("PNG", exif=b"Exif\0\0II*\0" + b"\xff" * 12))
    image = read_and_checked(tmp_path / "x.png")
    assert image.orientation == 1 and np.array_equal(image.pixels, PIXELS)


@pytest.mark.parametrize("kind", [b"iCCP", b"zTXt", b"iTXt", b"tEXt"])
def test_a_large_profile_or_text_in_a_png_is_passed_over(tmp_path: Path, kind: bytes) -> None:
    large = zlib.compress(b"\0" * 3_000_000)
    body = {
        b"iCCP": b"Adobe\0\0" + large,
        b"zTXt": b"Comment\0\0" + large,
        b"iTXt": b"Comment\0\1\0\0\0" + large,
        b"tEXt": b"Comment\0" + b"x" * 3_000_000,
    }[kind]
    png = encoded("PNG")
    (tmp_path / "x.png").write_bytes(png[:33] + png_chunk(kind, body) + png[33:])
    assert np.array_equal(read_image(tmp_path / "x.png"), PIXELS)
    damaged = bytearray(png[:33] + png_chunk(kind, body) + png[33:])
    damaged[60] ^= 1
    (tmp_path / "x.png").write_bytes(damaged)
    with pytest.raises(DataError, match="damaged"):
        read_image(tmp_path / "x.png")


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP"])
def test_of_several_frames_the_first_is_read_and_told(tmp_path: Path, kind: str) -> None:
    frames = [Image.fromarray(np.full((6, 10, 3), value, np.uint8)) for value in (10, 200)]
    frames[0].save(
        tmp_path / "x", kind, save_all=True, append_images=frames[1:], **({"lossless": True} if kind == "WEBP" else {})
    )
    image = read_and_checked(tmp_path / "x")
    assert (image.pixels == 10).all() and image.remarks == (SEVERAL_FRAMES,)


def test_previews_in_an_mpo_file_are_not_worth_a_word(tmp_path: Path) -> None:
    image = Image.fromarray(PIXELS)
    image.save(tmp_path / "x.jpg", "MPO", save_all=True, append_images=[image])
    assert read_and_checked(tmp_path / "x.jpg").remarks == ()


HEADERS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "it is empty, 0 bytes"),
    "heic": (b"\0\0\0\x18ftypheic" + bytes(40), "it is a HEIC image; read are PNG, JPEG, TIFF, BMP, WebP, GIF"),
    "heif": (b"\0\0\0\x18ftypmif1" + bytes(40), "it is a HEIC image"),
    "jpeg 2000": (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40), "it is a JPEG 2000 image"),
    "jpeg xl": (b"\xff\x0a" + bytes(40), "it is a JPEG XL image"),
    "photoshop": (b"8BPS" + bytes(40), "it is a Photoshop file"),
    "pdf": (b"%PDF-1.4" + bytes(40), "it is a PDF file"),
    "zip": (b"PK\3\4" + bytes(40), "it is a ZIP archive"),
    "gzip": (b"\x1f\x8b" + bytes(40), "it is a gzip archive"),
    "numpy": (b"\x93NUMPY" + bytes(40), "it is a NumPy array"),
    "video": (b"\0\0\0\x18ftypisom" + bytes(40), "it is a video"),
    "web page": (b"\n<!DOCTYPE html><html><body>404</body></html>", "it is a web page"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "it is an SVG or XML file"),
    "git lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0",
        "it is a Git LFS pointer, .* git lfs pull",
    ),
    "dicom": (bytes(128) + b"DICM" + bytes(40), "it is a DICOM file"),
    "exr": (b"\x76\x2f\x31\x01" + bytes(40), "it is an OpenEXR image"),
    "json": (b'{"shapes": [], "imagePath": "x.png"}', "it is a text"),
    "mac": (b"\0\5\x16\7" + bytes(40), "it is a file that macOS keeps beside another"),
    "noise": (bytes(range(100, 200)), "it is damaged, cut off or not an image"),
    "zeros": (bytes(4000), "it is damaged, cut off or not an image"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_what_is_no_image_is_called_what_it_is(tmp_path: Path, name: str) -> None:
    content, message = HEADERS[name]
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_and_checked(tmp_path / "x.png")
    assert "damaged" not in str(caught.value) or name in ("noise", "zeros")


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "WEBP", "PPM"])
def test_a_file_that_is_cut_off_is_damaged_and_no_address_in_memory_is_shown(
    tmp_path: Path, kind: str, kept: float
) -> None:
    content = encoded(kind, np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    (tmp_path / "x.png").write_bytes(content[: int(kept * len(content))])
    with pytest.raises(DataError, match="damaged") as caught:
        read_and_checked(tmp_path / "x.png")
    assert not re.search(r"0x[0-9a-f]{6}|object at", str(caught.value))


needs_avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow was built without AVIF")


@needs_avif
def test_avif_is_read_where_pillow_can(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "x.avif", quality=100, subsampling="4:4:4")
    image = read_and_checked(tmp_path / "x.avif")
    assert image.pixels.shape == PIXELS.shape and np.abs(image.pixels.astype(int) - PIXELS).mean() < 3
    assert image.remarks == ()
    shutil.copy(tmp_path / "x.avif", tmp_path / "x.jpg")
    assert read_and_checked(tmp_path / "x.jpg").remarks == ("read as AVIF, whatever their extensions say",)
    with pytest.raises(DataError, match="AVIF file; labels must be PNG, TIFF or BMP"):
        open_lossless(tmp_path / "x.avif", "labels")
    (tmp_path / "x.avif").write_bytes((tmp_path / "x.avif").read_bytes()[:-40])
    with pytest.raises(DataError, match="damaged or cut off, by its start an AVIF file"):
        read_and_checked(tmp_path / "x.avif")


@needs_avif
def test_labels_as_avif_are_taken_for_lossy(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "x.avif")
    assert read_label(tmp_path / "x.avif").lossy


def lossy(path: Path) -> None:
    Image.fromarray(PIXELS[:, :, 0]).save(path, "JPEG")


def lossy_webp(path: Path) -> None:
    Image.fromarray(PIXELS).save(path, "WEBP", quality=80)


def lossy_tiff(path: Path) -> None:
    Image.fromarray(PIXELS).save(path, "TIFF", compression="jpeg")


@pytest.mark.parametrize("make", [lossy, lossy_webp, lossy_tiff])
def test_ids_are_not_read_from_a_lossy_format(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "x.png")
    with pytest.raises(DataError, match="labels must be PNG, TIFF or BMP, which keep ids exactly") as caught:
        open_lossless(tmp_path / "x.png", "labels")
    assert caught.value.kind is ProblemKind.LABEL_FORMAT


@pytest.mark.parametrize("ending", ["png", "tif", "bmp", "gif"])
def test_ids_are_read_from_every_lossless_format_of_one_channel(tmp_path: Path, ending: str) -> None:
    ids = PIXELS[:, :, 0] % 7
    Image.fromarray(ids).save(tmp_path / f"x.{ending}")
    with open_lossless(tmp_path / f"x.{ending}", "labels") as image:
        assert image.mode in ("L", "P") and np.array_equal(np.asarray(image), ids)


@pytest.mark.parametrize("sides", [(60000, 60000), (2**31 - 1, 2**31 - 1), (9000, 9000)])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_header_of_too_many_pixels_is_told_without_being_believed(tmp_path: Path, sides: tuple[int, int]) -> None:
    path = tmp_path / "a.png"
    Image.new("L", (8, 8)).save(path)
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", *sides)
    content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
    path.write_bytes(content)
    pixels = sides[0] * sides[1]
    with pytest.raises(DataError, match=rf"header is damaged \({pixels} pixels, at most 67108864 are decoded\)"):
        check_image(path)


def verdict_of(read: Callable[[Path], object], path: Path) -> str:
    try:
        read(path)
    except DataError as error:
        return error.summary
    return ""


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_check_by_blocks_finds_what_decoding_every_pixel_finds(tmp_path: Path, mode: str, progressive: bool) -> None:
    random = np.random.default_rng(0)
    noise = Image.fromarray(random.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((180, 131)).convert(mode)
    buffer = io.BytesIO()
    noise.save(buffer, "JPEG", progressive=progressive, restart_marker_blocks=random.integers(0, 5))
    content, path, found = buffer.getvalue(), tmp_path / "a.jpg", set()
    for trial in range(60):
        place, length = random.integers(2, len(content)), random.integers(1, 60)
        damaged = {
            0: content[:place],
            1: content[:place] + bytes([content[place] ^ 1 << random.integers(8)]) + content[place + 1 :],
            2: content[:place] + content[place + length :],
        }[trial % 3]
        path.write_bytes(damaged)
        verdicts = verdict_of(check_image, path), verdict_of(read_stored, path)
        assert verdicts[0] == verdicts[1]
        found.add(bool(verdicts[0]))
    assert found == {False, True}


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (7, 700), (131, 180)])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_check_by_blocks_states_the_size_of_the_file(tmp_path: Path, size: tuple[int, int], orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (size[1], size[0])).save(tmp_path / "a.jpg", exif=exif)
    facts, stored = check_image(tmp_path / "a.jpg"), read_stored(tmp_path / "a.jpg")
    assert facts.stored_size == stored.stored_size == size == stored.pixels.shape[:2]
    assert (facts.orientation, facts.upright_size) == (orientation, stored.upright_size)


@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_a_decoded_page_of_several_can_be_used(tmp_path: Path, mode: str, compression: str) -> None:
    page = Image.fromarray(PIXELS).convert(mode)
    page.save(tmp_path / "a.tif", save_all=True, append_images=[page.resize((2, 2))], compression=compression)
    facts, image = decode_image(tmp_path / "a.tif")
    assert facts.remarks == (SEVERAL_FRAMES,)
    np.testing.assert_array_equal(np.asarray(image), np.asarray(page.convert("RGB")))


def test_further_pages_that_cannot_be_found_are_damage(tmp_path: Path) -> None:
    content = encoded("TIFF", PIXELS, save_all=True, append_images=[Image.fromarray(PIXELS)])
    place_of_strips = struct.pack("<HH", 273, 4)
    start, second = content.index(place_of_strips), content.rindex(place_of_strips)
    assert start < second
    (tmp_path / "a.tif").write_bytes(content[:second] + struct.pack("<HH", 9, 4) + content[second + 4 :])
    with pytest.raises(DataError, match="damaged or cut off, by its start a TIFF file"):
        read_and_checked(tmp_path / "a.tif")
    with pytest.raises(DataError, match="damaged or cut off, by its start a TIFF file"):
        read_label(tmp_path / "a.tif")


def test_a_label_with_a_damaged_further_page_is_refused(tmp_path: Path) -> None:
    label = np.arange(60, dtype=np.uint8).reshape(6, 10)
    path = tmp_path / "a.tif"
    pages = [Image.fromarray(label)] * 2
    pages[0].save(path, save_all=True, append_images=pages[1:], compression="tiff_adobe_deflate")
    with Image.open(path) as image:
        image.seek(1)
        (start,) = image.tag_v2[273]  # type: ignore[attr-defined]
    content = bytearray(path.read_bytes())
    content[start : start + 8] = b"\xff" * 8
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"page 2 of its 2 cannot be decoded .* save that alone"):
        read_label(path)
