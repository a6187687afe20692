"""What comes from others: files that never end or are too large, links, and YAML and class files made to do harm."""

from __future__ import annotations

import io
import os
import socket
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import fuzzing
from labelled_folders import png_file
from scenepalette.common.errors import DataError, ScenepaletteError
from scenepalette.common.storage import untrusted
from scenepalette.common.storage.untrusted import (
    MAX_DEPTH,
    parse_xml,
    parse_yaml,
    read_file,
    read_lines,
    read_text,
    short,
)
from scenepalette.data.classes import ClassTable
from scenepalette.data.decoding.class_files import read_class_file, table_of_class_file
from scenepalette.data.decoding.image_opening import read_image
from scenepalette.data.decoding.label_images import read_label, read_mask

FUZZ = settings(fuzzing.FUZZ, deadline=5000)


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"12345")
    assert read_file(tmp_path / "x", 5) == b"12345"
    with pytest.raises(DataError, match="it has 5 bytes; at most 4"):
        read_file(tmp_path / "x", 4)


def test_a_link_to_nowhere_is_called_that(tmp_path: Path) -> None:
    (tmp_path / "x").symlink_to("store/1a2b.png")
    with pytest.raises(DataError, match=r"it is a link to store/1a2b\.png, which is not there; put a copy"):
        read_file(tmp_path / "x", 5)


@pytest.mark.parametrize("kind", ["pipe", "device", "socket", "folder", "missing", "loop"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "socket":
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(path))
        server.close()
    began = time.monotonic()
    for read in (lambda: read_file(path, 10), lambda: read_image(path), lambda: read_label(path)):
        with pytest.raises(DataError, match=r"not a regular file|cannot be read"):
            read()
    assert time.monotonic() - began < 5


def test_text_must_be_utf_8_unless_that_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\xef\xbb\xbfa\n\xff")
    with pytest.raises(DataError, match="UTF-8"):
        read_text(tmp_path / "x", 10)
    assert list(read_lines(tmp_path / "x", tmp_path)) == ["a", "�"]


def test_lines_are_read_one_by_one_and_no_more_than_a_million(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_bytes(b"a\r\nb\rc\nd")
    assert list(read_lines(tmp_path / "x", tmp_path)) == ["a", "b", "c", "d"]
    monkeypatch.setattr(untrusted, "MAX_LINES", 2)
    lines = read_lines(tmp_path / "x", tmp_path)
    assert [next(lines), next(lines)] == ["a", "b"]
    with pytest.raises(DataError, match="more than 2 lines"):
        next(lines)


def test_a_list_that_leads_out_of_the_data_set_is_refused_because_messages_would_show_it(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    root = tmp_path / "root"
    root.mkdir()
    (root / "real.txt").write_text("inside")
    (root / "train.txt").symlink_to(tmp_path / "secret.txt")
    (root / "val.txt").symlink_to(root / "real.txt")
    with pytest.raises(DataError, match="link out of the data set's folder") as caught:
        read_lines(root / "train.txt", root)
    assert "secret" not in str(caught.value).replace("secret.txt", "")
    assert list(read_lines(root / "val.txt", root)) == ["inside"]
    (tmp_path / "linked").symlink_to(root)
    assert list(read_lines(tmp_path / "linked" / "val.txt", tmp_path / "linked")) == ["inside"]


LAUGHS = "a: &a [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (LAUGHS, "multiply"),
        (f"a: &a {'x' * 100_000}\nb: [{', '.join(['*a'] * 11)}]", "multiply"),
        ("&a [*a]", "contains itself"),
        ("a: &a {b: *a}", "contains itself"),
        ("[" * 5000, "nested deeper"),
        ("{a: " * (MAX_DEPTH + 1) + "1" + "}" * (MAX_DEPTH + 1), "nested deeper"),
        ("- " * 500 + "x", "nested deeper"),
        ("a: 1\na: 2", "comes twice"),
        ('a: "\\ud800"', "no text"),
        ('a: "\\0"', "no text"),
        ("2020-13-45", "month"),
        ("!!int abc", "invalid literal"),
        ("!!timestamp x", "NoneType"),
        ("!!binary \xe9", "ascii|binary"),
        ("!!python/object/apply:os.system [true]", "could not determine a constructor"),
        ("1" + ":59" * 300 + ".0", "too large"),
        ("9" * 5000, "integer string"),
        ("? [a]\n: b", "unhashable"),
        ("*nothing", "undefined alias"),
        ("a: b: c", "mapping values"),
        ("a\0b", "special characters"),
        ("--- 1\n--- 2", "single document"),
    ],
)
def test_harmful_yaml_is_refused_in_bounded_time(text: str, why: str) -> None:
    began = time.monotonic()
    with pytest.raises(ValueError, match=why):
        parse_yaml(text)
    assert time.monotonic() - began < 5


def test_honest_yaml_is_read_as_the_library_reads_it() -> None:
    text = "a: &a {x: 1, y: [2, 3.5]}\nb: *a\nc: {<<: *a, x: 9}\nd: 2020-01-02\ne: ~\nf: 'ü'\n"
    assert parse_yaml(text) == yaml.safe_load(text)


@FUZZ
@given(st.text(max_size=200))
def test_any_text_is_yaml_or_a_value_error(text: str) -> None:
    try:
        parse_yaml(text)
    except ValueError as error:
        str(error).encode()


def test_messages_show_values_cut_and_printable() -> None:
    assert short("a") == "a" and short([1, "b"]) == "[1, 'b']"
    assert short("x" * 500, 10) == "x" * 10 + "..."
    assert short("\ud800") == "\\ud800"


def valid_or_refused(path: Path) -> ClassTable | None:
    """Return the table of a class file, or None if it is refused in words that can be printed."""
    try:
        return table_of_class_file(path, read_class_file(path))
    except ScenepaletteError as error:
        str(error).encode()
        return None


@pytest.mark.damaged
@pytest.mark.parametrize(
    ("name", "content"),
    {
        "no text": ("x.csv", b"name,red,green,blue\nr\x81,1,2,3\nb,1,2,3\n"),
        "half of a letter": ("x.csv", "name,red,green,blue\nroad,1,2,3\ncar,1,2,3\n".encode("utf-16")[:-1]),
        "empty": ("x.csv", b""),
        "header alone": ("x.csv", b"name,red,green,blue\n"),
        "a million classes": ("x.csv", b"name,red,green,blue\n" + b"c,1,2,3\n" * 10**6),
        "300 classes": ("x.csv", b"name,red,green,blue\n" + b"".join(b"c%d,1,2,3\n" % i for i in range(300))),
        "a column twice": ("x.csv", b"name,red,red,green,blue\na,1,2,3,4\nb,1,2,3,4\n"),
        "too many cells": ("x.csv", b"name,red,green,blue\na,1,2,3,true,5\nb,1,2,3\n"),
        "not a number": ("x.csv", b"name,red,green,blue\na,nan,2,3\nb,1,2,3\n"),
        "infinite": ("x.csv", b"name,red,green,blue\na,1e999,2,3\nb,1,2,3\n"),
        "out of range": ("x.csv", b"name,red,green,blue\na,256,2,3\nb,1,2,-3\n"),
        "an endless cell": ("x.csv", b"name,red,green,blue\n" + b"a" * 200_000 + b",1,2,3\nb,1,2,3\n"),
        "an open quote": ("x.csv", b'name,red,green,blue\n"a,1,2,3\nb,1,2,3\n'),
        "a control character": ("x.csv", b"name,red,green,blue\na\x1b[2J,1,2,3\nb,1,2,3\n"),
        "a zero": ("x.csv", b"name,red,green,blue\na\x00,1,2,3\nb,1,2,3\n"),
        "a name twice": ("x.csv", b"name,red,green,blue\na,1,2,3\na,1,2,3\n"),
        "no header": ("x.csv", b"a;1;2;3\nb;1;2;3\n"),
        "an id twice": ("x.csv", b"id,name,red,green,blue\n1,a,1,2,3\n1,b,1,2,3\n"),
        "an id missing": ("x.csv", b"id,name,red,green,blue\n1,a,1,2,3\n,b,1,2,3\n"),
        "an id too large": ("x.csv", b"id,name,red,green,blue\n1,a,1,2,3\n256,b,1,2,3\n"),
        "no colour": ("x.csv", b"name,color\na,grey\nb,1 2 3\n"),
        "a row without its colour": ("x.csv", b"name,red,green,blue\na,1,2,3\nb,,,\n"),
        "rows of other things": ("x.yaml", b"classes: [[a], 7]"),
        "laughs": ("x.yaml", LAUGHS.encode()),
        "deep": ("x.yaml", b"[" * 100_000),
        "NaN": ("x.yaml", b"[{name: a, red: .nan, green: 1, blue: 1}, {name: b, red: 1, green: 1, blue: 1}]"),
        "a number": ("x.yaml", b"7"),
        "nothing": ("x.yaml", b""),
        "a key twice": ("x.yaml", b"[{name: a, name: c, red: 1, green: 1, blue: 1}, {name: b, red: 1}]"),
        "code": ("x.yaml", b"!!python/object/apply:os.abort []"),
        "another kind": ("x.json", b"[]"),
        "ids ignored and used": (
            "x.yaml",
            b"{ignore_ids: [1], classes: [{name: a, red: 1, green: 1, blue: 1}, {name: b, red: 1, green: 1, blue: 1}]}",
        ),
    }.values(),
)
def test_damaged_class_files_are_refused_in_bounded_time(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    began = time.monotonic()
    assert valid_or_refused(tmp_path / name) is None
    assert time.monotonic() - began < 5


CELLS = st.one_of(st.integers(-300, 300).map(str), st.floats().map(str), st.text(max_size=8), st.just(""))


@FUZZ
@given(
    header=st.sampled_from(["name,red,green,blue", "name,red,green,blue,evaluated", "name,red", ""]),
    rows=st.lists(st.lists(CELLS, max_size=6), max_size=5),
)
def test_any_csv_is_a_class_table_or_refused(tmp_path: Path, header: str, rows: list[list[str]]) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes("\n".join([header, *(",".join(row) for row in rows)]).encode("utf-8", "surrogatepass"))
    table = valid_or_refused(path)
    assert table is None or 2 <= table.num_classes <= 255


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["name", "red", "green", "blue", "classes", "ignore_ids", "licence"]), inner)
    ),
    max_leaves=12,
)


@FUZZ
@given(VALUES)
def test_any_yaml_is_a_class_table_or_refused(tmp_path: Path, value: object) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump(value), encoding="utf-8")
    table = valid_or_refused(path)
    assert table is None or 2 <= table.num_classes <= 255


def encoded(kind: str, mode: str) -> bytes:
    """Return an image of 24 x 16 pixels of noise."""
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind)
    return buffer.getvalue()


IMAGES = [encoded("PNG", "RGB"), encoded("PNG", "L"), encoded("PNG", "P"), encoded("JPEG", "RGB")]
IMAGES += [encoded(kind, "RGB") for kind in ("TIFF", "BMP", "WEBP", "GIF", "PPM")]


@settings(FUZZ, max_examples=400)
@given(
    content=st.sampled_from(IMAGES),
    made=fuzzing.changes(4000, least=0, most=4),
    kept=st.integers(0, 4000),
    tail=st.binary(max_size=12),
)
def test_any_damaged_picture_is_read_or_refused(
    tmp_path: Path, content: bytes, made: fuzzing.Changes, kept: int, tail: bytes
) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(fuzzing.damaged(content, made, kept) + tail)
    for read, dimensions in ((read_image, 3), (lambda file: read_label(file).pixels, 2), (read_mask, 2)):
        try:
            result = read(path)
        except DataError as error:
            str(error).encode()
        else:
            assert result.ndim == dimensions and result.size <= 2**26 * 3


@pytest.mark.parametrize("seed", range(40))
def test_no_flipped_bit_in_a_png_goes_unnoticed_and_changes_pixels(tmp_path: Path, seed: int) -> None:
    whole = IMAGES[1]
    random = np.random.default_rng(seed)
    damaged = bytearray(whole)
    damaged[random.integers(len(whole))] ^= 1 << int(random.integers(8))
    path = tmp_path / "x.png"
    path.write_bytes(whole)
    before = read_label(path).pixels
    path.write_bytes(damaged)
    # Every chunk of a PNG file has a checksum; at worst the damage is outside of all of them, where it means nothing.
    try:
        after = read_label(path).pixels
    except DataError:
        return
    assert np.array_equal(before, after)


@pytest.mark.parametrize("kind", ["EPS", "PCX", "TGA", "ICO", "SGI"])
def test_formats_whose_decoders_are_not_started_are_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "x.png").write_bytes(encoded(kind, "RGB"))
    for read in (read_image, read_label, read_mask):
        with pytest.raises(DataError, match=r"read are PNG|it is damaged, cut off or not an image"):
            read(tmp_path / "x.png")


def test_a_picture_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    content = png_file((30_000, 30_000), 8, [bytes(9_999_999)], colour=True)
    (tmp_path / "x.png").write_bytes(content)
    began = time.monotonic()
    with pytest.raises(DataError, match="it is too large"):
        read_image(tmp_path / "x.png")
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "not XML"),
        (b"<a>", "not XML"),
        (b"<a></b>", "not XML"),
        (b"\xff\xfe<", "not XML"),
        (b'<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;">]><a>&c;</a>', "document type"),
        (b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "document type"),
        (b"<a>&b;</a>", "not XML"),
        (b"<a>" * 33 + b"</a>" * 33, "nested deeper than 32"),
    ],
)
def test_xml_that_could_grow_or_is_none_is_refused(content: bytes, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        parse_xml(content)


def test_xml_keeps_attributes_and_text() -> None:
    found = parse_xml("<?xml version='1.0' encoding='utf-8'?><a k='&amp;é'><b>x</b></a>".encode())
    assert (found.tag, found.get("k"), found.findtext("b")) == ("a", "&é", "x")
